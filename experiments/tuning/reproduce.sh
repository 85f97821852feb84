#!/bin/sh
# Pretrains RedLLM and DecLLM, tunes them and DecLLM + BiAttn, and asks all five of the held-out clusters.
#   DATA=FOLDER sh experiments/tuning/reproduce.sh [FOLDER] [SIZE ...]
# Each command goes on where it was stopped. PREPARE, PRETRAIN, TUNE and EVALUATE add
# flags to the commands of their stage (PREPARE to that of the text).
set -eu
folder=${1:-runs/tuning}
[ $# -eq 0 ] || shift
here=experiments/tuning
triarch=${TRIARCH:-.venv/bin/triarch}
python=${PYTHON:-.venv/bin/python}
rows=$folder/rows

"$python" $here/rows.py --data="$DATA/instruct" --output="$rows"
# shellcheck disable=SC2086
if [ ! -d "$folder/text" ]; then
    # Prose alone; held-out tasks are not in it.
    "$triarch" prepare --task=files --files="$DATA/text/british_fiction" --files="$DATA/text/brown" \
        --files="$DATA/text/c4_demo" --files="$DATA/text/wiki_demo" --files="$DATA/text/speeches" \
        --documents=paragraph --vocabulary_size=2048 --window=256 --validation_fraction=0.02 \
        --output="$folder/text" ${PREPARE:-}
fi
if [ ! -d "$folder/pairs" ]; then
    "$triarch" prepare --task=instructions --files="$rows/train.jsonl" --vocabulary_from="$folder/text" \
        --max_inputs=256 --max_targets=64 --output="$folder/pairs"
fi
# shellcheck disable=SC2086
for size in ${*:-laptop_xs}; do
    for family in redllm decllm; do
        "$triarch" train --gin_file=runs/$family.gin --gin_file=models/$family/"$size".gin \
            --gin_file=$here/pretraining.gin --gin.DataConfig.store="'$folder/text'" \
            --workdir="$folder/$size/$family" ${PRETRAIN:-}
    done
    for recipe in redllm decllm decllm_biattn; do
        family=${recipe%_biattn}
        "$triarch" train --gin_file=runs/tune/$recipe.gin --gin_file=models/$family/"$size".gin \
            --gin_file=$here/settings.gin --gin.DataConfig.store="'$folder/pairs'" \
            --gin.RunConfig.init_from="'$folder/$size/$family'" --workdir="$folder/$size/tuned_$recipe" ${TUNE:-}
    done
    for one in "redllm tuned_redllm" "decllm tuned_decllm tuned_decllm_biattn"; do
        models=
        for name in $one; do models="$models --model=$folder/$size/$name"; done
        output="$folder/$size/ranks_${one%% *}"
        # A model that was asked is not asked again: delete its folder to do so.
        [ -f "$output.json" ] || "$triarch" evaluate $models --rank_file="$rows/held_out.jsonl" \
            --output="$output" --json="$output.json" ${EVALUATE:-}
    done
done
