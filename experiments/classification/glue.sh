#!/bin/bash
# GLUE from local files: every task over peaks and seeds, as ModernBERT was evaluated (arXiv 2412.13663). Run again, it
# goes on where it was; at the end it prints mean and spread over seeds.
#
#   DATA=glue MODEL=exports/modernbert OUT=study/glue SEEDS="1618 42 6033" bash experiments/classification/glue.sh
#
# DATA holds the published folders (CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE) with their TSV files. RTE, MRPC and STS-B
# begin from the first MNLI run. TASKS and PEAKS (each task's own if empty) narrow or widen the grid; WINDOW is 256.
set -euo pipefail
: "${DATA:?folder of the tasks}" "${MODEL:?an import}" "${OUT:?folder to make}"
TASKS=${TASKS:-"mnli cola sst2 qqp qnli mrpc stsb rte"} SEEDS=${SEEDS:-"1618 42 6033"} PEAKS=${PEAKS:-""} WINDOW=${WINDOW:-256}
mkdir -p "$OUT/stores" "$OUT/runs" "$OUT/results"

prepare() { # TASK FOLDER DEV TEXT PAIR LABEL FLAGS...
  local task=$1 folder=$2 dev=$3 text=$4 pair=$5 label=$6
  shift 6
  [ -d "$OUT/stores/$task" ] || triarch prepare --task=files --layout=labelled --files="$DATA/$folder/train.tsv" \
    --split_files="validation=$DATA/$folder/$dev" --text_field="$text" ${pair:+--pair_field="$pair"} \
    --label_field="$label" --vocabulary="$MODEL" --window="$WINDOW" --output="$OUT/stores/$task" "$@"
}

store() {
  case $1 in
  cola) prepare cola CoLA dev.tsv text "" label --columns=source,label,mark,text ;;
  sst2) prepare sst2 SST-2 dev.tsv sentence "" label --label_names=negative,positive ;;
  mrpc) prepare mrpc MRPC dev.tsv "#1 String" "#2 String" Quality ;;
  stsb) prepare stsb STS-B dev.tsv sentence1 sentence2 score --regression --skip_bad_records ;;
  qqp) prepare qqp QQP dev.tsv question1 question2 is_duplicate --skip_bad_records ;;
  mnli) prepare mnli MNLI dev_matched.tsv sentence1 sentence2 gold_label \
    --split_files="mismatched=$DATA/MNLI/dev_mismatched.tsv" --label_names=entailment,neutral,contradiction ;;
  qnli) prepare qnli QNLI dev.tsv question sentence label ;;
  rte) prepare rte RTE dev.tsv sentence1 sentence2 label ;;
  *) echo "$1: no task of GLUE" >&2; exit 1 ;;
  esac
}

epochs() { case $1 in mnli) echo 2 ;; sst2 | rte) echo 3 ;; qqp) echo 5 ;; *) echo 10 ;; esac; }
batch() { case $1 in mnli) echo 64 ;; cola | mrpc | stsb) echo 32 ;; *) echo 16 ;; esac; }
peak() { case $1 in mnli | cola) echo 5e-5 ;; mrpc) echo 8e-5 ;; qnli | rte) echo 1e-5 ;; *) echo 3e-5 ;; esac; }

for task in $TASKS; do
  store "$task"
  rows=$(python3 -c "import json, sys; print(json.load(open(sys.argv[1]))['splits']['train']['examples'])" "$OUT/stores/$task/manifest.json")
  steps=$((rows * $(epochs "$task") / $(batch "$task"))); steps=$((steps > 10 ? steps : 10))
  begin=$MODEL
  case $task in rte | mrpc | stsb) for run in "$OUT"/runs/mnli_*; do [ -d "$run" ] && begin=$run && break; done ;; esac
  for rate in ${PEAKS:-$(peak "$task")}; do
    for seed in $SEEDS; do
      name=${task}_${rate}_$seed
      [ -f "$OUT/results/$name.json" ] && continue
      triarch train --workdir="$OUT/runs/$name" --gin_file="runs/glue/$task.gin" --gin_file="$MODEL/model.gin" \
        --gin.RunConfig.init_from="'$begin'" --gin.DataConfig.store="'$OUT/stores/$task'" --gin.DataConfig.window="$WINDOW" \
        --gin.RunConfig.steps=$steps --gin.RunConfig.eval_every=$((steps / 10)) --gin.CheckpointConfig.every=$((steps / 10)) \
        --gin.Trapezoid.peak="$rate" --gin.Trapezoid.warmup_steps=$((steps / 10)) \
        --gin.Trapezoid.decay_steps=$((steps - steps / 10)) --gin.RunConfig.seed="$seed" --gin.CheckpointConfig.keep_last=1
      [ "$task" = mnli ] && triarch evaluate --model="$OUT/runs/$name" --step=best --classification="$OUT/stores/mnli@mismatched" \
        --json="$OUT/results/mnli-mm_${rate}_$seed.json"
      triarch evaluate --model="$OUT/runs/$name" --step=best --classification="$OUT/stores/$task" --json="$OUT/results/$name.json"
    done
  done
done
python3 "$(dirname "$0")/table.py" "$OUT/results"
