#!/bin/sh
# Pretrains an encoder and a decoder, makes each into the other, and asks all four what they are good for.
#   DATA=FOLDER sh experiments/ettin/reproduce.sh [FOLDER] [SIZE] [SEEDS]
# Each command goes on where it was stopped. ROWS, PREPARE, PRETRAIN, CROSS, TUNE, RETRIEVE and EVALUATE add flags to the
# commands of their stage (PREPARE to that of the text).
set -eu
folder=${1:-runs/ettin}
size=${2:-laptop_xs}
seeds=${3:-"1 2 3"}
here=experiments/ettin
triarch=${TRIARCH:-.venv/bin/triarch}
python=${PYTHON:-.venv/bin/python}
rows=$folder/rows
encoder=models/ettin_encoder/$size.gin
decoder=$here/decoder_$size.gin

# shellcheck disable=SC2086
[ -d "$rows" ] || "$python" $here/rows.py --data="$DATA" --output="$rows" ${ROWS:-}
# shellcheck disable=SC2086
[ -d "$folder/text" ] || "$triarch" prepare --task=files --files="$DATA/text/british_fiction" --files="$DATA/text/brown" \
    --files="$DATA/text/wiki_demo" --files="$DATA/text/c4_demo" --documents=paragraph --vocabulary_size=4096 --window=256 \
    --output="$folder/text" ${PREPARE:-}
[ -d "$folder/pairs" ] || "$triarch" prepare --task=groups --files="$rows/pairs.jsonl" --vocabulary_from="$folder/text" \
    --max_query=32 --max_passage=160 --validation_fraction=0 --output="$folder/pairs"

for seed in $seeds; do
    of_seed=$folder/$size/$seed
    results=$of_seed/results
    mkdir -p "$results"

    pretrain() { # NAME RECIPE MODEL
        # shellcheck disable=SC2086
        "$triarch" train --gin_file="runs/$2.gin" --gin_file="$3" --gin_file=$here/pretraining.gin \
            --gin.DataConfig.store="'$folder/text'" --gin.RunConfig.seed="$seed" --workdir="$of_seed/$1" ${PRETRAIN:-}
    }
    cross() { # NAME FROM RECIPE OBJECTIVE MODEL
        # shellcheck disable=SC2086
        "$triarch" train --gin_file="runs/$3.gin" --gin_file="objectives/$4.gin" --gin_file="$5" --gin_file=$here/cross.gin \
            --gin.DataConfig.store="'$folder/text'" --gin.RunConfig.seed="$((seed + 1000))" \
            --gin.RunConfig.init_from="'$of_seed/$2'" --workdir="$of_seed/$1" ${CROSS:-}
    }
    pretrain encoder ettin_encoder "$encoder"
    pretrain decoder ettin_decoder "$decoder"
    cross encoder_from_decoder decoder ettin_encoder mntp "$encoder"
    cross decoder_from_encoder encoder ettin_decoder causal_lm "$decoder"

    for name in encoder decoder encoder_from_decoder decoder_from_encoder; do
        run=$of_seed/$name
        # shellcheck disable=SC2086
        [ -f "$results/loss_$name.json" ] || "$triarch" evaluate --model="$run" --in_domain="$folder/text" \
            --json="$results/loss_$name.json" ${EVALUATE:-}
        case $name in decoder*)
            # shellcheck disable=SC2086
            [ -f "$results/lambada_$name.json" ] || "$triarch" evaluate --model="$run" --tasks=lambada \
                --task_data="$DATA/eval" --json="$results/lambada_$name.json" ${LAMBADA:-} ;;
        esac
        pooling=mean model=$encoder
        case $name in decoder*) pooling=last model=$decoder ;; esac
        # shellcheck disable=SC2086
        "$triarch" train --gin_file=$here/retrieval.gin --gin_file="$model" --gin.RunConfig.init_from="'$run'" \
            --gin.DataConfig.store="'$folder/pairs'" --gin.Contrast.pooling="'$pooling'" --gin.RunConfig.seed="$seed" \
            --workdir="$of_seed/retriever_$name" ${RETRIEVE:-}
        [ -f "$results/retrieval_$name.json" ] || "$triarch" evaluate --model="$of_seed/retriever_$name" \
            --retrieval="$DATA/retrieval/cranfield" --json="$results/retrieval_$name.json"
    done
    # shellcheck disable=SC2086
    "$triarch" sweep --study=$here/classification.gin --gin.LabelSuite.data="'$rows'" --gin.LabelSuite.seeds="($seed,)" \
        --gin.LabelSuite.models="('$of_seed/encoder','$of_seed/decoder','$of_seed/encoder_from_decoder','$of_seed/decoder_from_encoder')" \
        --output="$of_seed/classification" ${TUNE:-}
done
"$python" $here/table.py "$folder/$size"
