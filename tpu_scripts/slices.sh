# shellcheck shell=bash
# Slices of TPU VMs held by queued resources: their names and sizes, and every call of gcloud. Sourced after lib.sh.
# shellcheck disable=SC2034  # Some of it is used only by the scripts that source this.

readonly INSTALL_GCLOUD='install the Google Cloud CLI, then run gcloud init'
readonly ON_WORKER=triarch_on_worker.sh # in the home folder of each worker
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
declare -a LIST_env=() LIST_copy=()

slice_flags() {
  flag name value required 'name of the queued resource; its nodes are NAME-0, NAME-1, ...'
  flag zone value required 'zone of the slice, for example us-central2-b'
  flag project value '' 'Google Cloud project; by default the one gcloud is set to'
  flag internal-ips switch '' 'workers without external addresses: reached through IAP'
}

shape_flags() {
  flag accelerator-type value required 'v4-N, v5p-N (N tensor cores, two a chip), v5litepod-N (v5e) or v6e-N (N chips)'
  flag slices value 1 'slices of that type, joined over the data-centre network (multislice)'
}

tier_flags() {
  flag spot switch '' 'cheaper, and may be taken away at any moment: see watch.sh; without it, on demand'
  flag reserved switch '' 'from a reservation of the project'
  flag runtime-version value '' 'image of the workers; by default the one Google names for the generation'
  flag network value '' 'network of the workers'
  flag subnetwork value '' 'subnetwork of the workers'
  flag valid-until-duration value '' 'give up waiting for a slice after this long, for example 6h'
}

accelerator_types() {
  local n
  for n in 8 16 32 64; do printf 'v4-%d\nv5p-%d\n' "$n" "$n"; done
  for ((n = 128; n <= 4096; n += 128)); do printf 'v4-%d\n' "$n"; done
  for ((n = 128; n <= 12288; n += 128)); do printf 'v5p-%d\n' "$n"; done
  for n in 1 4 8 16 32 64 128 256; do printf 'v5litepod-%d\nv6e-%d\n' "$n" "$n"; done
}

check_shape() {
  local type=${OPTION[accelerator-type]} known
  whole_number slices 1
  mapfile -t known < <(accelerator_types)
  [[ " ${known[*]} " != *" $type "* ]] || return 0
  # What the generation is called and what Google calls the type differ only for v5e.
  [[ $type != v5e-* ]] || misuse "--accelerator-type=$type: no such type (did you mean 'v5litepod-${type#v5e-}'?)"
  misuse "--accelerator-type=$type: no such type$(nearest_type "$type" "${known[@]}")"
}

# nearest_type TYPE KNOWN...: the generation that is spelt most like it, then the size nearest in number.
nearest_type() {
  local type=$1 known generation best='' size=${1##*-} least=-1 between
  [[ $size =~ ^[0-9]{1,6}$ ]] || { nearest "$@"; return; }
  generation=$(nearest "${type%-*}" v4 v5p v5litepod v6e | cut -d"'" -f2)
  for known in "${@:2}"; do
    [[ $known == "${generation:-none}"-* ]] || continue
    between=$((10#$size - ${known##*-}))
    between=${between#-}
    if ((least < 0 || between < least)); then
      least=$between
      best=$known
    fi
  done
  if [[ -n $best ]]; then printf " (did you mean '%s'?)" "$best"; else nearest "$@"; fi
}

# The name xla_flags.txt and `triarch plan` use: v4, v5e, v5p or v6e.
generation() {
  local type=${OPTION[accelerator-type]}
  type=${type%-*}
  printf '%s' "${type/v5litepod/v5e}"
}

# Machines of all slices together.
num_workers() {
  local type=${OPTION[accelerator-type]} slices=${OPTION[slices]} hosts
  local size=${type##*-}
  case $type in
    v4-* | v5p-*) hosts=$((size / 8)) ;;
    *) hosts=$((size <= 8 ? 1 : size / 4)) ;;
  esac
  printf '%d' $((hosts * slices))
}

# The image Google names for PyTorch and JAX on each generation.
runtime_version() {
  case $(generation) in
    v4) printf tpu-ubuntu2204-base ;;
    v5e) printf v2-alpha-tpuv5-lite ;;
    v5p) printf v2-alpha-tpuv5 ;;
    v6e) printf v2-alpha-tpuv6e ;;
  esac
}

# The flags of xla_flags.txt for a generation and a number of slices, on one line.
xla_flags() {
  local generations flag_ key flags=()
  while read -r generations flag_ _; do
    [[ -n $generations && $generations != '#'* ]] || continue
    for key in "$1" "$1+multislice"; do
      [[ $key != *+multislice ]] || (($2 > 1)) || continue
      [[ ,$generations, != *",$key,"* ]] || flags+=("$flag_")
    done
  done <"$HERE/xla_flags.txt"
  printf '%s' "${flags[*]}"
}

# ---- gcloud

place() {
  PLACE=("--zone=${OPTION[zone]}")
  [[ -z ${OPTION[project]} ]] || PLACE+=("--project=${OPTION[project]}")
}

tunnel() {
  TUNNEL=()
  [[ -z ${OPTION[internal-ips]} ]] || TUNNEL=(--tunnel-through-iap)
}

# ssh_command NODE WORKER COMMAND: sets SSH to the call that runs a command line there; each may be "all".
ssh_command() {
  place
  tunnel
  SSH=(gcloud compute tpus queued-resources ssh "${OPTION[name]}" "${PLACE[@]}" "--node=$1" "--worker=$2"
    "${TUNNEL[@]}" "--command=$3")
}

on_all() {
  ssh_command all all "$1"
  perform "${SSH[@]}"
}

# copy_to_all FILE NAME: copies a file into the home folder of every worker.
copy_to_all() {
  place
  tunnel
  perform gcloud compute tpus queued-resources scp "$1" "${OPTION[name]}:$2" "${PLACE[@]}" --node=all --worker=all \
    "${TUNNEL[@]}"
}

# find_state ASSUMED: sets STATE to that of the queued resource, NOT_FOUND, or UNKNOWN when gcloud could not tell, which
# may pass: the network of this machine, say.
find_state() {
  place
  if query "$1" gcloud compute tpus queued-resources describe "${OPTION[name]}" "${PLACE[@]}" \
    '--format=value(state.state)'; then
    STATE=${ANSWER##*$'\n'}
  elif [[ $ANSWER == *NOT_FOUND* || $ANSWER == *'not found'* ]]; then
    STATE=NOT_FOUND
  else
    STATE=UNKNOWN
    unknown=$((${unknown-0} + 1))
    ((unknown < 10)) || die "gcloud could not tell the state of ${OPTION[name]} $unknown times: $(error_line "$ANSWER")"
    return
  fi
  unknown=0
}

# Why a queued resource failed, in Google's words.
failure_reason() {
  place
  query '' gcloud compute tpus queued-resources describe "${OPTION[name]}" "${PLACE[@]}" \
    '--format=value(state.failedData.error.message)' || ANSWER=''
  printf '%s' "$(error_line "$ANSWER")"
}

# Whether asking again would be refused again.
is_refusal() {
  [[ $1 == *[Qq]uota* || $1 == *PERMISSION_DENIED* || $1 == *INVALID_ARGUMENT* ]]
}

delete_slice() {
  place
  perform gcloud compute tpus queued-resources delete "${OPTION[name]}" "${PLACE[@]}" --force --quiet
}

# other_script NAME FLAG...: the same script a person would call, so that there is one way of doing each thing.
other_script() {
  bash "$HERE/$1" ${OPTION[dry-run]:+--dry-run} "${@:2}"
}

# ---- runs

run_flags() {
  flag run-name value train 'name of the run: its logs and exit status are kept on the workers under it'
  flag bucket value '' 'Cloud Storage bucket mounted on every worker; the workdir of a multi-host run belongs there'
  flag mount value /mnt/triarch 'where the bucket is mounted'
  flag env list '' 'NAME=VALUE for the command; LIBTPU_INIT_ARGS replaces the flags of xla_flags.txt'
}

# The file whose presence says that the command has done its work: summary.json in the --workdir of COMMAND.
done_file() {
  local i
  if [[ -n ${OPTION[done-file]} ]]; then
    printf '%s' "${OPTION[done-file]}"
    return
  fi
  for ((i = 0; i < ${#COMMAND[@]}; i++)); do
    case ${COMMAND[i]} in
      --workdir=*) printf '%s/summary.json' "${COMMAND[i]#--workdir=}" ;;
      --workdir) printf '%s/summary.json' "${COMMAND[i + 1]-}" ;;
      *) continue ;;
    esac
    return
  done
  misuse 'the command has no --workdir, so --done-file must name the file that it writes when it is complete'
}

# bucket_address PATH: the gs:// address of such an address or of a path below the mount, or nothing.
bucket_address() {
  local mount=${OPTION[mount]%/}
  if [[ $1 == gs://* ]]; then
    printf '%s' "$1"
  elif [[ -n ${OPTION[bucket]} && $1 == "$mount"/* ]]; then
    printf 'gs://%s/%s' "${OPTION[bucket]#gs://}" "${1#"$mount"/}"
  fi
}
