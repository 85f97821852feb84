"""The parameter counts that papers and released checkpoints state, beside those of gin_configs/models.

Sources: RedLLM and DecLLM, arXiv 2510.26622, figure 2 (right); Ettin, arXiv 2507.11412, table 1, with the prediction
head of the released checkpoints; all others, the released checkpoints for language modelling on Hugging Face
(`BertForMaskedLM`, `GPT2LMHeadModel`, `LlamaForCausalLM`, `T5ForConditionalGeneration`, ...), shared tensors counted
once; of Gemma 3 the text side. T5Gemma "large" and "2b" are published rounded (arXiv 2504.06225).
"""

from __future__ import annotations

from triarch.cli.gin import files as gin_files

COUNTS = {
    "redllm/150m": 146_800_640,
    "redllm/1b": 1_124_073_472,
    "redllm/2b": 2_207_252_480,
    "redllm/4b": 3_498_049_536,
    "redllm/8b": 8_589_934_592,
    "decllm/150m": 167_772_160,
    "decllm/1b": 1_140_850_688,
    "decllm/2b": 2_181_038_080,
    "decllm/4b": 3_724_541_952,
    "decllm/8b": 8_724_152_320,
    "ettin_encoder/17m": 16_913_600,
    "ettin_encoder/32m": 32_081_344,
    "ettin_encoder/68m": 68_457_664,
    "ettin_encoder/150m": 149_655_232,
    "ettin_encoder/400m": 395_881_664,
    "ettin_encoder/1b": 1_031_314_112,
    "ettin_decoder/17m": 16_913_600,
    "ettin_decoder/32m": 32_081_344,
    "ettin_decoder/68m": 68_457_664,
    "ettin_decoder/150m": 149_655_232,
    "ettin_decoder/400m": 395_881_664,
    "ettin_decoder/1b": 1_031_314_112,
    "bert/base": 109_514_298,
    "bert/large": 335_174_458,
    "roberta/base": 124_697_433,
    "roberta/large": 355_412_057,
    "distilbert/base": 66_985_530,
    "modernbert/base": 149_655_232,
    "modernbert/large": 395_881_664,
    "gpt2/small": 124_439_808,
    "gpt2/medium": 354_823_168,
    "gpt2/large": 774_030_080,
    "gpt2/xl": 1_557_611_200,
    "pythia/70m": 70_426_624,
    "pythia/160m": 162_322_944,
    "pythia/410m": 405_334_016,
    "pythia/1b": 1_011_781_632,
    "pythia/1.4b": 1_414_647_808,
    "pythia/2.8b": 2_775_208_960,
    "pythia/6.9b": 6_857_302_016,
    "pythia/12b": 11_846_072_320,
    "llama3/1b": 1_235_814_400,
    "llama3/3b": 3_212_749_824,
    "llama3/8b": 8_030_261_248,
    "olmo2/1b": 1_484_916_736,
    "olmo2/7b": 7_298_617_344,
    "olmo2/13b": 13_716_198_400,
    "olmo2/32b": 32_234_279_936,
    "mixtral/8x7b": 46_702_792_704,
    "olmoe/1b_7b": 6_919_161_856,
    "mamba2/130m": 128_989_632,
    "mamba2/370m": 368_346_624,
    "mamba2/780m": 780_161_280,
    "mamba2/1.3b": 1_343_757_312,
    "mamba2/2.7b": 2_702_599_680,
    "bamba/9b": 9_780_235_392,
    "rwkv/169m": 169_342_464,
    "rwkv/430m": 430_397_440,
    "rwkv/1.5b": 1_515_106_304,
    "rwkv/3b": 2_984_627_200,
    "rwkv/7b": 7_392_649_216,
    "rwkv/14b": 14_148_597_760,
    "qwen3/0.6b": 596_049_920,
    "qwen3/1.7b": 1_720_574_976,
    "qwen3/4b": 4_022_468_096,
    "qwen3/8b": 8_190_735_360,
    "qwen3/14b": 14_768_307_200,
    "qwen3/32b": 32_762_123_264,
    "gemma3/270m": 268_098_176,
    "gemma3/1b": 999_885_952,
    "gemma3/4b": 3_880_263_168,
    "gemma3/12b": 11_766_034_176,
    "gemma3/27b": 27_009_346_304,
    "smollm2/135m": 134_515_008,
    "smollm2/360m": 361_821_120,
    "smollm2/1.7b": 1_711_376_384,
    "switch/base_8": 619_339_008,
    "t5/small": 60_506_624,
    "t5/base": 222_903_552,
    "t5/large": 737_668_096,
    "t5/3b": 2_851_598_336,
    "t5/11b": 11_307_321_344,
    "t5_v1_1/small": 76_961_152,
    "t5_v1_1/base": 247_577_856,
    "t5_v1_1/large": 783_150_080,
    "t5_v1_1/xl": 2_849_757_184,
    "t5_v1_1/xxl": 11_135_332_352,
    "bart/base": 139_420_416,
    "bart/large": 406_291_456,
    "t5gemma/small": 312_517_632,
    "t5gemma/base": 591_490_560,
    "t5gemma/large": 1_240_000_000,
    "t5gemma/xl": 3_766_980_608,
    "t5gemma/2b": 5_600_000_000,
    "t5gemma/9b": 20_333_401_088,
    "t5gemma/9b_2b": 12_292_375_296,
}


def table() -> list[dict]:
    """Returns one row a published size: `model`, `architecture`, `num_params`, `published` and whether they `agree`."""
    rows = []
    for name, published in COUNTS.items():
        gin_files.parse([f"models/{name}.gin"], [])
        config = gin_files.build("ModelConfig")
        config.validate()
        ours = config.num_params()
        rows.append(
            {
                "model": name,
                "architecture": config.architecture,
                "num_params": ours,
                "published": published,
                "agree": _rounded_like(ours, published) == published,
            }
        )
    return rows


def lines(rows: list[dict]) -> list[str]:
    """Returns the table as text."""
    text = [f"{'model':20} {'architecture':16} {'parameters':>14} {'published':>14}"]
    for row in rows:
        verdict = "" if row["agree"] else "  DIFFERS"
        text.append(
            f"{row['model']:20} {row['architecture']:16} {row['num_params']:14,} {row['published']:14,}{verdict}"
        )
    agreeing = sum(row["agree"] for row in rows)
    return [*text, f"{agreeing} of {len(rows)} agree (numbers ending in seven or more zeros are published rounded)"]


def _rounded_like(count: int, published: int) -> int:
    """Rounds to as many places as the published number shows, if it was published rounded."""
    zeros = len(str(published)) - len(str(published).rstrip("0"))
    unit = 10**zeros if zeros >= 7 else 1
    return (count + unit // 2) // unit * unit
