"""Values of a run, a model and a slice that are out of range or do not go together, as `describe` and `plan` meet
them."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bad_input.case import Case, case

# Field of ModelConfig, values that make no network.
MODEL = (
    ("vocab_size", ("0", "-5", "1.5", "'32k'", "None", "True")),
    ("d_model", ("0", "-16", "16.0", "[16]", "'wide'")),
    ("d_ff", ("-1", "None")),
    ("num_heads", ("0", "-2", "2.5", "3+1")),
    ("head_dim", ("0", "7", "'64'")),
    ("num_decoder_layers", ("-1", "0", "1.0", "(2,)")),
    ("num_encoder_layers", ("-3", "'two'")),
    ("num_kv_heads", ("0", "-1", "7", "'all'")),
    ("activation", ("'swiglu'", "'gelu2'", "7", "None")),
    ("norm", ("'rms_norm'", "'batchnorm'", "None")),
    ("norm_scale", ("'gains'", "True")),
    ("norm_position", ("'before'", "1")),
    ("norm_eps", ("0.0", "-1e-6", "'small'", "float")),
    ("qk_norm", ("'perhead'", "True")),
    ("parallel_residual", ("1", "'yes'")),
    ("rope_fraction", ("0.0", "1.5", "'half'", "0.01")),
    ("decoder_d_model", ("16", "0", "'wide'")),
    ("decoder_num_heads", ("2", "1.5")),
    ("rope_base", ("0.0", "-10000.0", "'1e4'")),
    ("sliding_window", ("-1", "-128", "12.5")),
    ("global_every", ("0", "-1", "'every'")),
    ("first_global", ("-1", "5")),
    ("position_encoding", ("'rope'", "'absolute'", "None")),
    ("decoder_positions", ("'continue'",)),
    ("attention_output_norm", ("'perhead'", "True")),
    ("tied_embeddings", ("1", "'yes'", "None")),
    ("gated_mlp", ("0", "'no'")),
    ("logits_softcap", ("0.0", "-30.0", "'none'")),
    ("attention_softcap", ("0.0", "-1.0")),
    ("kernel_init", ("'xavier'",)),
    ("init_std", ("-0.02", "'0.02'")),
    ("token_types", ("-1", "'two'")),
    ("pad_id", ("-1", "1.5")),
    ("learned_positions", ("-1", "'many'")),
)
# Class and field of a run, values out of range.
RUN = (
    ("RunConfig.steps", ("0", "-1", "1e3", "'all'", "None")),
    ("RunConfig.batch_size", ("0", "-4", "4.0", "'large'")),
    ("RunConfig.microbatches", ("0", "3", "-1")),
    ("RunConfig.seed", ("-1", "1.5", "'random'")),
    ("RunConfig.z_loss", ("-1.0", "'small'")),
    ("RunConfig.loss_chunk", ("-1", "2.5", "True")),
    ("RunConfig.log_every", ("0", "-10", "None")),
    ("RunConfig.eval_every", ("0", "-1", "'never'")),
    ("RunConfig.eval_batches", ("0", "None")),
    ("RunConfig.tensorboard", ("1", "'on'")),
    ("RunConfig.init_from", ("7", "True")),
    ("RunConfig.frozen", ("('embeding',)", "'embedding'", "('*',)", "(1,)")),
    ("RunConfig.train_only", ("('kernels',)", "True")),
    ("RunConfig.objective", ("'causal'", "None", "@ModelConfig()", "@CausalLM")),
    ("RunConfig.optimizer", ("'adamw'", "1e-3", "@AdamW")),
    ("RunConfig.model", ("'decllm'", "None", "@CausalLM()")),
    ("DataConfig.window", ("0", "-32", "'long'", "32.0")),
    ("DataConfig.store", ("7", "['store']")),
    ("DataConfig.num_threads", ("0", "-2")),
    ("DataConfig.prefetch", ("0", "'some'")),
    ("CheckpointConfig.every", ("0", "-5", "'hourly'")),
    ("CheckpointConfig.keep_last", ("0", "None")),
    ("CheckpointConfig.keep_every", ("0", "-1")),
    ("AdamW.learning_rate", ("1e-3", "None", "'cosine'")),
    ("Constant.peak", ("-1e-3", "'high'", "None")),
    ("Constant.warmup_steps", ("-1", "5", "0.5")),
    ("AdamW.b1", ("1.0", "-0.1", "'most'")),
    ("AdamW.b2", ("2", "-1")),
    ("AdamW.weight_decay", ("-0.1", "'none'")),
    ("Execution.remat", ("'all'", "7")),
    ("Execution.compute_dtype", ("'fp8'", "16")),
    ("MeshConfig.data", ("-3", "'all'", "1.5")),
)
SLICES = (
    ("v5p:4x4x5", "v5p"),
    ("v5p:4x4", "v5p"),
    ("v5e:3x3", "v5e"),
    ("v7x:4x4x4", "v7x"),
    ("h100:8", "h100"),
    ("v5p", "v5p"),
    ("v5p:", "v5p"),
    ("v5p:axb", "v5p"),
    ("v5p-0", "v5p"),
    ("v5p:-4x4x4", "v5p"),
    ("v4:0x0x0", "v4"),
    ("v4-9999999999999999999999", "v4"),
    ("4x4x4", "4x4x4"),
    ("", "--topology"),
)
PLANS = (
    ("--slices=0", "--slices"),
    ("--slices=-2", "--slices"),
    ("--batch_size=0", "--batch_size"),
    ("--batch_size=-8", "--batch_size"),
    ("--packed --program=decode", "--packed"),
    ("--prompt_length=64", "--prompt_length"),
    ("--search --most=0", "--most"),
    ("--search --hlo=program.txt", "--hlo"),
)


def cases() -> Iterator[Case]:
    """Yields the cases."""
    for field, values in MODEL:
        for value in values:
            command = f'describe --gin_file=run.gin "--gin.ModelConfig.{field}={value}"'
            yield case(f"model: {field} = {value}", command, takes="run.gin")
    for name, values in RUN:
        for value in values:
            command = f'describe --gin_file=run.gin "--gin.{name}={value}"'
            yield case(f"run: {name} = {value}", command, takes="run.gin")
    for number, (name, says) in enumerate(SLICES):
        command = f"plan --gin_file=models/redllm/1b.gin --topology='{name}'"
        yield case(f"slice {number}: {name}", command, says)
    for flags, says in PLANS:
        yield case(f"plan: {flags}", f"plan --gin_file=models/redllm/1b.gin --topology=v5p:2x2x1 {flags}", says)
