#!/usr/bin/env bash
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/slices.sh"

SUMMARY='Sees a run through: creates the slice, sets it up, starts the command and minds it until it is complete. After a
preemption all of that is done again, and the run goes on from its newest checkpoint. May itself be stopped and
started again at any time. At the end the logs are collected and the slice is deleted.'
EXAMPLE='  watch.sh --name=redllm --zone=us-central2-b --accelerator-type=v4-64 --spot --bucket=my-bucket \
    --wheel=dist/triarch-0.2.0-py3-none-any.whl -- \
    triarch train --workdir=/mnt/triarch/runs/first --gin_file=runs/redllm.gin --gin_file=models/redllm/1b.gin'

TAKES_COMMAND=yes
source "$HERE/setup_flags.sh"
slice_flags
shape_flags
tier_flags
run_flags
setup_flags
flag done-file value '' 'file that says the run is complete; by default summary.json in the --workdir of the command'
flag retries value 2 'how often to start again after a worker failed, or the slice could not be had or set up'
flag stall value 3600 'start again when no worker has said anything for this many seconds; 0 for never'
flag poll value 60 'seconds between looks'
flag logs value '' 'folder for the logs of all workers; by default logs/NAME'
flag keep switch '' 'do not delete the slice at the end, nor stop paying for it'
parse_flags "$@"
check_shape
check_setup
seconds poll
whole_number retries 0
whole_number stall 0
need gcloud "$INSTALL_GCLOUD"

name=${OPTION[name]} run=${OPTION[run-name]} logs=${OPTION[logs]:-logs/${OPTION[name]}}
done_file=$(done_file)
address=$(bucket_address "$done_file")
if [[ -z $address ]]; then
  say "note: $done_file is not on a bucket: a preemption would lose the run, and the slice is kept at the end"
  OPTION[keep]=yes
fi
failures=0 unreachable=0 partial=0 expected=NOT_FOUND

main() {
  while true; do
    find_state "$expected"
    case $STATE in
      ACTIVE) look ;;
      NOT_FOUND)
        ! is_saved || finish
        create
        ;;
      SUSPENDING | SUSPENDED | FAILED) replace "$name is $STATE" ;;
      *) say "$name is $STATE" ;;
    esac
    pause "${OPTION[poll]}"
  done
}

# Whether the bucket already has the result, which needs no slice to be seen.
is_saved() {
  [[ -n $address ]] && query '' gcloud storage ls "$address" && ! dry_run
}

create() {
  local status=0
  given_flags name zone project internal-ips accelerator-type slices spot reserved runtime-version network subnetwork \
    valid-until-duration poll
  other_script create.sh "${GIVEN[@]}" || status=$?
  if ((status == 0)); then
    launch
  elif ((status == 3)); then
    exit 1 # It has said in one line why asking again is of no use.
  else
    count_failure "$name could not be had"
  fi
}

launch() {
  expected=ACTIVE unreachable=0 partial=0
  given_flags name zone project internal-ips wheel lock repository ref extras copy bucket mount
  # Without a wheel, --lock and without a repository, --ref say nothing.
  if ! other_script setup.sh "${GIVEN[@]}"; then
    setback "$name could not be set up"
    return
  fi
  given_flags name zone project internal-ips accelerator-type slices run-name bucket mount env
  other_script run.sh "${GIVEN[@]}" -- "${COMMAND[@]}" || setback "$run could not be started"
}

# What failed may have done so because the slice went away: that is for the next look to see, and no failure.
setback() {
  find_state ACTIVE
  [[ $STATE != ACTIVE ]] || any_node_gone || count_failure "$1"
}

# Asks every worker how the run is, and does what follows from it.
look() {
  local line workers
  workers=$(num_workers)
  ssh_command all all "$(quoted bash "$ON_WORKER" status "$run" "$done_file")"
  query 'worker 0: complete' "${SSH[@]}" || true
  local -A seen=()
  while IFS= read -r line; do
    [[ $line =~ ^worker\ ([^:]+):\ (complete|running|exited|lost|absent)\ ?([0-9]*)$ ]] || continue
    seen[${BASH_REMATCH[1]}]="${BASH_REMATCH[2]} ${BASH_REMATCH[3]}"
  done <<<"$ANSWER"
  ! dry_run || workers=1
  if [[ $ANSWER == *"$ON_WORKER: No such file"* ]]; then
    say "$name is not set up"
    launch
  elif ((${#seen[@]} < workers)); then
    not_reached "${#seen[@]} of $workers workers answered: $(error_line "$ANSWER")"
  else
    unreachable=0
    judge
  fi
}

# Decides by what every worker said (in `seen`, which look has filled).
judge() {
  local worker state detail quiet=-1 failed='' ended=''
  local -A count=([complete]=0 [running]=0 [exited]=0 [lost]=0 [absent]=0)
  for worker in "${!seen[@]}"; do
    read -r state detail <<<"${seen[$worker]}"
    count[$state]=$((count[$state] + 1))
    [[ $state != exited || $detail == 0 ]] || failed+=" $worker (exit status $detail)"
    [[ $state == running ]] || ended+=" $worker"
    if [[ $state == running ]] && ((quiet < 0 || detail < quiet)); then quiet=$detail; fi
  done
  if [[ -n $failed ]]; then
    failure "failed on worker$failed"
  elif ((count[running] == 0 && count[complete] > 0)); then
    finish
  elif ((count[running] == 0 && count[exited] == 0)); then
    launch
  elif ((count[running] == 0)); then
    failure "ended on every worker and left no $done_file"
  elif ((count[running] < ${#seen[@]})); then
    # Workers do not end at the very same moment: one more look before it counts.
    ((++partial < 2)) || failure "ended on worker$ended while others go on"
  elif ((OPTION[stall] > 0 && quiet > OPTION[stall])); then
    failure "has said nothing for $quiet s"
  else
    partial=0
  fi
}

not_reached() {
  if any_node_gone; then
    replace "$name was taken away"
    return
  fi
  say "$1"
  ((++unreachable < 10)) || die "$name could not be reached $unreachable times; it is still there, and costs"
}

# A queued resource may be ACTIVE for some minutes after one of its nodes was taken away.
any_node_gone() {
  local node
  for ((node = 0; node < OPTION[slices]; node++)); do
    place
    query READY gcloud compute tpus tpu-vm describe "$name-$node" "${PLACE[@]}" '--format=value(state)' || continue
    case ${ANSWER##*$'\n'} in
      PREEMPTED | TERMINATED | DELETING) return 0 ;;
    esac
  done
  return 1
}

replace() {
  local reason=''
  [[ $STATE != FAILED ]] || reason=$(failure_reason)
  say "$1${reason:+ ($reason)}: deleting it, to ask for another"
  delete_slice || return 0 # Tried again at the next look.
  if is_refusal "$reason"; then die "$name was refused: $reason; nothing is left behind"; fi
}

failure() {
  say "$run $1"
  collect
  count_failure "$run $1"
  given_flags name zone project internal-ips run-name
  other_script stop.sh "${GIVEN[@]}" --grace=30 || true
  launch
}

# Ends this script when that was one failure too many.
count_failure() {
  ((++failures > OPTION[retries])) || { say "$1: trying again ($failures of ${OPTION[retries]})"; return; }
  find_state ACTIVE
  if [[ -z ${OPTION[keep]} && $STATE != NOT_FOUND ]]; then
    delete_slice || say "$name may still be there, and cost"
  fi
  die "$1; given up after $failures tries${collected:+; logs are in $collected}"
}

collect() {
  given_flags name zone project internal-ips accelerator-type slices run-name
  other_script logs.sh "${GIVEN[@]}" "--collect=$logs" || true
  collected=$logs
}

finish() {
  [[ $STATE != ACTIVE ]] || {
    collect
    [[ -n ${OPTION[keep]} ]] || delete_slice || die "$name may still be there, and cost"
  }
  say "$run is complete${address:+: $address}"
  [[ -z ${OPTION[keep]} || $STATE != ACTIVE ]] || say "$name is still there, and costs: delete.sh deletes it"
  exit 0
}

if_interrupted "$name may be there, and cost; the same command again goes on with it"
main
