"""Time `generate` of Hugging Face's Llama or T5 1.1 on the CPU, greedy, and print the result as one JSON line.

The peer of generation_throughput.py. It needs `torch` and `transformers`, which triarch doesn't, so it stands alone.
Seconds are of whole calls: of one new token (which is the prefill), and of all of them.

    python benchmarks/hf_generate.py --kind=llama
"""

from __future__ import annotations

import argparse
import json
import time

import torch
import transformers


def main() -> None:
    """Builds the model with random weights, and times calls."""
    args = _flags()
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    model = {"llama": _llama, "t5": _t5}[args.kind](args).to(torch.float32).eval()
    prompts = torch.randint(2, args.vocab, (args.batch, args.prompt))
    seconds: dict[str, list[float]] = {"prefill": [], "total": []}
    for number in range(1 + args.calls):
        for name, count in (("prefill", 1), ("total", args.new_tokens)):
            started = time.perf_counter()
            _generate(model, prompts, count)
            if number:
                seconds[name].append(time.perf_counter() - started)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(json.dumps(seconds | {"parameters": parameters}))


@torch.inference_mode()
def _generate(model: torch.nn.Module, prompts: torch.Tensor, count: int) -> None:
    mask = torch.ones_like(prompts)
    new = model.generate(prompts, attention_mask=mask, do_sample=False, max_new_tokens=count, min_new_tokens=count)
    skipped = 1 if model.config.is_encoder_decoder else prompts.shape[1]
    assert new.shape[1] - skipped == count


def _llama(args: argparse.Namespace) -> torch.nn.Module:
    config = transformers.LlamaConfig(
        hidden_size=args.d_model,
        intermediate_size=args.d_ff,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        vocab_size=args.vocab,
        max_position_embeddings=args.prompt + args.new_tokens,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return transformers.LlamaForCausalLM(config)


def _t5(args: argparse.Namespace) -> torch.nn.Module:
    config = transformers.T5Config(
        d_model=args.d_model,
        d_kv=args.d_model // args.heads,
        d_ff=args.d_ff,
        num_layers=args.layers,
        num_decoder_layers=args.layers,
        num_heads=args.heads,
        vocab_size=args.vocab,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=True,
        decoder_start_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(config)


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("llama", "t5"), required=True)
    for name, default in (("d_model", 512), ("layers", 8), ("heads", 8), ("d_ff", 2048), ("vocab", 8192)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("batch", 8), ("prompt", 128), ("new_tokens", 128), ("calls", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


if __name__ == "__main__":
    main()
