"""transformers' parts of `on_gpu.py`: a training step with torch.compile, or `generate`; prints a line of JSON.

Parameters are float32 and products bfloat16, by autocast, as triarch has them; AdamW is fused. It needs torch and
transformers, which triarch doesn't, so it stands alone. Without a GPU nothing is compiled, and all is float32.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from typing import Any

import torch
import transformers

PROMPT, NEW, TOY_PROMPT, TOY_NEW = 512, 128, 16, 8


def main() -> None:
    """Runs one part."""
    args = _flags()
    if not torch.cuda.is_available() and not args.toy:
        raise SystemExit(f"torch {torch.__version__} sees no GPU")
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = True
    transformers.logging.set_verbosity_error()
    shape = argparse.Namespace(**json.loads(args.shape))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = BUILDERS[args.kind](shape).to(device)
    row = {"train": _train, "decode": _decode}[args.part](args.kind, model, shape, device, args.toy)
    row |= {"kind": args.part, "model": shape.name, "side": "transformers"}
    versions = {"peer_versions": f"torch {torch.__version__}, transformers {transformers.__version__}"}
    print(json.dumps(versions | {"rows": [row]}))


def _train(kind: str, model: Any, shape: argparse.Namespace, device: str, toy: bool) -> dict[str, Any]:
    model.train()
    compiled = device == "cuda"
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1, fused=True)
    length = shape.window // 2 if kind == "t5" else shape.window
    tokens = torch.randint(3, shape.vocab_size, (shape.batch, length), device=device)
    losses, seconds = [], []
    for _ in range(4 if toy else 10):
        started = time.perf_counter()
        with _narrow(device):
            loss = forward(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds[2:])
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "batch": f"{shape.batch} x {shape.window:,}",
        "seconds": median,
        "all_seconds": seconds[2:],
        "tokens_per_second": shape.batch * shape.window / median,
        "losses": f"{losses[0]:.2f} to {losses[-1]:.2f}",
        "how": "torch.compile, autocast" if compiled else "eager, float32",
    }


@torch.inference_mode()
def _decode(kind: str, model: Any, shape: argparse.Namespace, device: str, toy: bool) -> dict[str, Any]:
    prompt, new = (TOY_PROMPT, TOY_NEW) if toy else (PROMPT, NEW)
    model = model.eval().to(torch.bfloat16 if device == "cuda" else torch.float32)
    prompts = torch.randint(3, shape.vocab_size, (shape.batch, prompt), device=device)
    seconds = {}
    for count in (1, new):

        def call(count: int = count) -> float:
            started = time.perf_counter()
            mask = torch.ones_like(prompts)
            kept = {"attention_mask": mask, "do_sample": False, "max_new_tokens": count, "min_new_tokens": count}
            model.generate(prompts, **kept).cpu()
            return time.perf_counter() - started

        call()
        seconds[count] = min(call() for _ in range(2))
    return {
        "batch": f"{shape.batch} x {prompt} + {new}",
        "prefill": seconds[1],
        "tokens_per_second": shape.batch * new / seconds[new],
    }


def _narrow(device: str) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()


def _common(shape: argparse.Namespace) -> dict[str, Any]:
    special = dict(bos_token_id=None, eos_token_id=None, pad_token_id=0)
    return dict(vocab_size=shape.vocab_size, hidden_size=shape.d_model, tie_word_embeddings=True) | special


def _llama(shape: argparse.Namespace) -> torch.nn.Module:
    config = transformers.LlamaConfig(
        **_common(shape),
        intermediate_size=shape.d_ff,
        num_hidden_layers=shape.num_decoder_layers,
        num_attention_heads=shape.num_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.window,
    )
    return transformers.LlamaForCausalLM(config)


def _t5(shape: argparse.Namespace) -> torch.nn.Module:
    config = transformers.T5Config(
        vocab_size=shape.vocab_size,
        d_model=shape.d_model,
        d_kv=shape.head_dim,
        d_ff=shape.d_ff,
        num_layers=shape.num_encoder_layers,
        num_decoder_layers=shape.num_decoder_layers,
        num_heads=shape.num_heads,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=True,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(config)


def _modernbert(shape: argparse.Namespace) -> torch.nn.Module:
    special = dict(cls_token_id=None, sep_token_id=None)
    config = transformers.ModernBertConfig(
        **_common(shape) | special,
        intermediate_size=shape.d_ff,
        num_hidden_layers=shape.num_encoder_layers,
        num_attention_heads=shape.num_heads,
        max_position_embeddings=shape.window,
        attn_implementation="sdpa",
    )
    return transformers.ModernBertForMaskedLM(config)


def _mamba2(shape: argparse.Namespace) -> torch.nn.Module:
    config = transformers.Mamba2Config(
        **_common(shape),
        num_hidden_layers=shape.num_decoder_layers,
        num_heads=shape.num_heads,
        head_dim=shape.head_dim,
        state_size=128,
        n_groups=1,
        chunk_size=min(256, shape.window),
        use_cache=False,
    )
    return transformers.Mamba2ForCausalLM(config)


BUILDERS = {"llama": _llama, "t5": _t5, "modernbert": _modernbert, "mamba2": _mamba2}


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("train", "decode"))
    parser.add_argument("--kind", choices=BUILDERS, required=True)
    parser.add_argument("--shape", required=True, help="JSON: of the model, its batch and window")
    parser.add_argument("--toy", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
