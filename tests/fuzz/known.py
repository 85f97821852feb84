"""Targets that fail still, by name, each with what happens; empty when all is well."""

KNOWN: dict[str, str] = {
    "store manifest": "nested and misshapen JSON",
    "store token_bytes.npy": "numpy raises SyntaxError and TokenError for a header",
    "export manifest": "nested and misshapen JSON",
    "export files.json": "a size that is null",
    "run config.json": "a model that is null",
    "hf config.json": "65,536 layers take longer than 20 s",
    "tokenizer_config.json": "nested JSON",
    "special_tokens_map.json": "nested JSON",
    "spiece.model": "a piece that is not UTF-8",
    "documents of lines.jsonl": "an integer of 5,000 digits",
    "study metrics.jsonl": "nested JSON",
    "study study.json": "nested JSON",
    "ledger.jsonl": "nested JSON",
}
