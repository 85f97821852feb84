#!/usr/bin/env bash
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/slices.sh"

SUMMARY='Keeps a pool of slices of one host, each of which runs the same command, as a rule a sweep: sweeps of one study in one
folder share its runs. A slice that was taken away is asked for again, set up, and runs the command again; one whose
command is complete is deleted, and so is one that failed as often as it may. Ends when no slice is left. The folder of
a sweep needs a file system that all slices see and that has locks (Filestore, NFS); --prepare mounts it. May itself be
stopped and started again at any time. Each slice costs money from the moment it is ACTIVE until it is deleted.'
EXAMPLE='  pool.sh --name=study --size=4 --zone=us-central2-b --accelerator-type=v4-8 --spot \
    --wheel=dist/triarch-0.2.0-py3-none-any.whl --done-file=/mnt/studies/first/results.parquet \
    --prepare="sudo apt-get install -y nfs-common && sudo mkdir -p /mnt/studies && sudo mount 10.0.0.2:/studies /mnt/studies" -- \
    triarch sweep --study=/mnt/studies/first.gin --output=/mnt/studies/first'

TAKES_COMMAND=yes
source "$HERE/setup_flags.sh"
slice_flags
shape_flags
tier_flags
run_flags
setup_flags
flag size value required 'slices to keep; they are called NAME-1, NAME-2, ...'
flag prepare value '' 'command line for each slice before the command: mounts a shared file system, say'
flag done-file value '' 'file that a slice sees once all is done; by default the exit status 0 of the command counts'
flag retries value 2 'how often the command may fail on a slice'
flag poll value 60 'seconds between looks'
parse_flags "$@"
check_shape
check_setup
seconds poll
whole_number size 1
whole_number retries 0
need gcloud "$INSTALL_GCLOUD"
((OPTION[slices] == 1)) || misuse '--slices: a pool is of single slices; its number of them is --size'
(($(num_workers) == 1)) ||
  misuse "--accelerator-type=${OPTION[accelerator-type]}: expected a slice of one host (v4-8, v5p-8, v5litepod-8, v6e-8); watch.sh minds a larger one"

pool=${OPTION[name]} run=${OPTION[run-name]}
declare -A failures=() left=()
if_interrupted "the slices of $pool stay, and cost; the same command again goes on with them"

main() {
  local index
  for ((index = 1; index <= OPTION[size]; index++)); do left[$index]=yes; done
  while ((${#left[@]})); do
    for ((index = 1; index <= OPTION[size]; index++)); do
      [[ -n ${left[$index]-} ]] || continue
      OPTION[name]=$pool-$index
      mind "$index"
    done
    ! dry_run || return 0
    ((${#left[@]} == 0)) || pause "${OPTION[poll]}"
  done
  say "$pool: no slice is left"
  for index in "${!failures[@]}"; do
    ((failures[$index] <= OPTION[retries])) || die "$pool-$index failed for good; the others went on"
  done
}

# mind INDEX: looks at the slice whose name is set, and does what is due.
mind() {
  find_state NOT_FOUND
  case $STATE in
    NOT_FOUND) ask "$1" ;;
    SUSPENDING | SUSPENDED | FAILED) replace "$1" ;;
    ACTIVE) look "$1" ;;
    *) ;; # On its way.
  esac
  ! dry_run || look "$1"
}

ask() {
  local status=0
  given_flags name zone project internal-ips accelerator-type spot reserved runtime-version network subnetwork \
    valid-until-duration
  other_script create.sh "${GIVEN[@]}" --no-wait || status=$?
  case $status in
    0) ;;
    3) give_up "$1" 'was refused' ;; # Asking again is of no use; create.sh has said why.
    *) failed "$1" 'could not be asked for' ;;
  esac
}

replace() {
  local why=''
  [[ $STATE != FAILED ]] || why=$(failure_reason)
  say "${OPTION[name]} is $STATE${why:+ ($why)}: deleting it, to ask for another"
  delete_slice || return 0 # Tried again at the next look.
  ! is_refusal "$why" || give_up "$1" "was refused: $why"
}

# Asks the slice how its command is; a slice that does not answer may just have been taken away, which the next look tells.
look() {
  ssh_command all all "$(quoted bash "$ON_WORKER" status "$run" "${OPTION[done-file]:-/nonexistent}")"
  query 'worker 0: absent' "${SSH[@]}" || true
  if [[ $ANSWER == *"$ON_WORKER: No such file"* ]]; then
    launch "$1"
  elif [[ $ANSWER =~ worker\ [^:]*:\ (complete|running|exited|lost|absent)\ ?([0-9]*) ]]; then
    case ${BASH_REMATCH[1]} in
      complete) done_with "$1" 'is done' ;;
      running) ;;
      exited) if [[ ${BASH_REMATCH[2]} == 0 ]]; then done_with "$1" 'is done'; else again "$1"; fi ;;
      *) launch "$1" ;;
    esac
  else
    say "${OPTION[name]} did not answer: $(error_line "$ANSWER")"
  fi
}

again() {
  failed "$1" "$run failed (exit status ${BASH_REMATCH[2]})"
  [[ -z ${left[$1]-} ]] || start "$1"
}

launch() {
  given_flags name zone project internal-ips wheel lock repository ref extras copy bucket mount
  if other_script setup.sh "${GIVEN[@]}" && prepare; then start "$1"; else failed "$1" 'could not be set up'; fi
}

prepare() { [[ -z ${OPTION[prepare]} ]] || on_all "${OPTION[prepare]}"; }

start() {
  given_flags name zone project internal-ips accelerator-type run-name bucket mount env
  other_script run.sh "${GIVEN[@]}" -- "${COMMAND[@]}" || failed "$1" "$run could not be started"
}

failed() {
  failures[$1]=$((${failures[$1]-0} + 1))
  if ((failures[$1] > OPTION[retries])); then
    give_up "$1" "$2, ${failures[$1]} times"
  else
    say "${OPTION[name]}: $2: trying again (${failures[$1]} of ${OPTION[retries]})"
  fi
}

give_up() {
  failures[$1]=$((OPTION[retries] + 1))
  done_with "$1" "$2"
}

# done_with INDEX REASON: deletes the slice and no longer minds it.
done_with() {
  find_state NOT_FOUND
  say "${OPTION[name]} $2$([[ $STATE == NOT_FOUND ]] || printf ': deleting it')"
  [[ $STATE == NOT_FOUND ]] || delete_slice || { say "${OPTION[name]} may still be there, and cost"; return 0; }
  unset "left[$1]"
}

main
