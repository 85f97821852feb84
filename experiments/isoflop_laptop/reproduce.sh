#!/bin/sh
# Says what the study costs, runs or resumes it, fits its laws and writes its report.
#   sh experiments/isoflop_laptop/reproduce.sh [FOLDER]
set -eu
folder=${1:-runs/isoflop_laptop}
study=experiments/isoflop_laptop/study.gin
triarch=${TRIARCH:-.venv/bin/triarch}

"$triarch" describe --gin_file="$study"
"$triarch" sweep --study="$study" --output="$folder"

# N without the embedding; FLOPs in the train convention. Losses of RedLLM and DecLLM are on the same target tokens after
# the same prefix; the encoder's is its own masked one, and is compared with nobody's.
fit() {
    columns="--params_column=num_params_non_embedding --tokens_column=train_tokens --flops_column=flops_train"
    law=$1 name=$2
    shift 2
    # shellcheck disable=SC2086
    "$triarch" fit "$folder/results.csv" --law="$law" $columns --output="$folder/fits/$name" "$@"
}
for law in isoflop chinchilla; do
    # The parabolas have too few minima inside their sizes, which `fit` says in a line; the other law is fitted all the same.
    fit "$law" "${law}_redllm_decllm" --loss_column=in_domain_loss --where=scoring=paired --group_column=family || true
    fit "$law" "${law}_encoder" --loss_column=validation_loss --where=family=ettin_encoder || true
done
"$triarch" report --study="$folder" --output="$folder/report.html" --figures="$folder/figures"
