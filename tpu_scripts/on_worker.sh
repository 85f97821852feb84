#!/usr/bin/env bash
# What the other scripts run on a worker, where setup.sh puts it as ~/triarch_on_worker.sh.
# A job is a command that goes on when the connection ends: ~/triarch/jobs/NAME has its log, pid and exit status.

set -euo pipefail
root=$HOME/triarch
worker=$(hostname)

report() { printf 'worker %s: %s\n' "$worker" "$*"; }

fail() {
  report "$*" >&2
  exit 1
}

usage() {
  printf '%s\n' 'Runs on a TPU worker; the other scripts call it.' '' \
    'usage: on_worker.sh install EXTRAS wheel FILE LOCK | install EXTRAS git URL REF' \
    '       on_worker.sh mount BUCKET FOLDER | copy SOURCE...' \
    '       on_worker.sh start JOB [NAME=VALUE...] -- COMMAND...' \
    '       on_worker.sh status JOB DONE_FILE | stop JOB SECONDS | trace JOB SECONDS FOLDER' \
    '       on_worker.sh log JOB LINES [follow]'
}

# The images have Python 3.10; uv brings a newer one.
install() {
  local extras=$1 kind=$2 first=$3 second=$4 uv=$HOME/.local/bin/uv
  [[ -x $uv ]] || python3 -m pip install --quiet --user 'uv>=0.9,<1' || fail 'could not install uv with pip'
  mkdir -p "$root"
  [[ -x $root/venv/bin/python ]] || "$uv" venv --quiet --python 3.12 "$root/venv" || fail 'could not make a virtual environment'
  if [[ $kind == git ]]; then
    rm -rf "$root/source"
    git clone --quiet -- "$first" "$root/source" || fail "could not clone $first"
    git -C "$root/source" checkout --quiet "$second" -- || fail "$first has no $second"
    first=$root/source second=$root/source/requirements.lock
  else
    first=$HOME/$first second=$HOME/$second
  fi
  VIRTUAL_ENV=$root/venv "$uv" pip install --quiet --constraint "$second" "triarch[$extras] @ file://$first" ||
    fail "could not install triarch from $first"
  report "installed $("$root/venv/bin/triarch" --version)"
}

# Every worker sees what every other one writes at once: no metadata is cached.
mount_bucket() {
  local bucket=${1#gs://} folder=$2
  if mountpoint --quiet "$folder"; then
    report "$folder is mounted"
    return
  fi
  command -v gcsfuse >/dev/null || install_gcsfuse || fail 'could not install gcsfuse'
  sudo mkdir -p "$folder"
  sudo chown "$(id -u):$(id -g)" "$folder"
  gcsfuse --implicit-dirs --metadata-cache-ttl-secs 0 "$bucket" "$folder" >"$root/gcsfuse.log" 2>&1 ||
    fail "could not mount gs://$bucket: $(tail -n 1 "$root/gcsfuse.log")"
  report "mounted gs://$bucket at $folder"
}

install_gcsfuse() {
  local site=https://packages.cloud.google.com/apt key=/usr/share/keyrings/cloud.google.asc
  curl --fail --silent --show-error "$site/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] $site gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get -qq update && sudo apt-get -qq install --yes gcsfuse
}

copy_in() {
  local source
  mkdir -p "$root/data"
  for source; do
    gcloud storage cp --recursive --no-user-output-enabled "$source" "$root/data/" || fail "could not copy $source"
    report "copied $source to ~/triarch/data"
  done
}

is_running() {
  [[ -e $1/lock ]] && ! flock --nonblock "$1/lock" true
}

start() {
  local job=$root/jobs/$1 self
  self=$(realpath "$0")
  mkdir -p "$job"
  if is_running "$job"; then
    report "$1 is running already"
    return
  fi
  rm -f "$job/exit_status" "$job/pid"
  cd "$HOME"
  # flock inherits to the command and is let go when the last process of the job ends, however it does.
  PATH=$root/venv/bin:$PATH TRIARCH_PID_FILE=$job/traceable setsid --fork \
    flock --nonblock "$job/lock" bash "$self" hold "$@" </dev/null >>"$job/log" 2>&1
  for _ in {1..100}; do
    [[ -e $job/pid ]] && break
    sleep 0.05
  done
  [[ -e $job/pid ]] || fail "$1 did not start: $(tail -n 1 "$job/log")"
  report "started $1"
}

# Runs a job's command and keeps its exit status.
hold() {
  local job=$root/jobs/$1 settings=() status=0 child
  shift
  while [[ $1 != -- ]]; do
    settings+=("$1")
    shift
  done
  shift
  rm -f "$job/traceable"
  date -u '+--- started %Y-%m-%dT%H:%M:%SZ'
  [[ $1 != triarch ]] || set -- python "$HOME/triarch_traceable.py" "$@"
  env "${settings[@]}" "$@" &
  child=$!
  echo "$child" >"$job/pid.new"
  mv "$job/pid.new" "$job/pid"
  wait "$child" || status=$?
  echo "$status" >"$job/exit_status.new"
  mv "$job/exit_status.new" "$job/exit_status"
  date -u "+--- ended %Y-%m-%dT%H:%M:%SZ with exit status $status"
}

# One line: complete, running SECONDS_SINCE_ITS_LAST_WORD, exited STATUS, lost (killed with its machine) or absent.
is_there() {
  if [[ $1 == gs://* ]]; then gcloud storage ls "$1" >/dev/null 2>&1; else [[ -e $1 ]]; fi
}

status() {
  local job=$root/jobs/$1 done_file=$2
  [[ $done_file == /* || $done_file == gs://* ]] || done_file=$HOME/$done_file
  if is_running "$job"; then
    report "running $(($(date +%s) - $(stat --format %Y "$job/log")))"
  elif is_there "$done_file"; then
    report complete
  elif [[ -e $job/exit_status ]]; then
    report "exited $(<"$job/exit_status")"
  elif [[ -e $job/log ]]; then
    report lost
  else
    report absent
  fi
}

# Ends a job: it is told to save and stop, and killed with all it started if it has not ended after some seconds.
stop() {
  local job=$root/jobs/$1 grace=$2 waited=0 group
  is_running "$job" || { report "$1 is not running"; return; }
  group=$(ps -o pgid= -p "$(<"$job/pid")" | tr -d ' ')
  kill -TERM "$(<"$job/pid")"
  while is_running "$job"; do
    if ((waited++ >= 5 * grace)); then
      kill -KILL -- "-$group"
      echo 137 >"$job/exit_status"
      report "killed $1, which did not stop in $grace s"
      return
    fi
    sleep 0.2
  done
  report "stopped $1"
}

# traceable.py, around `triarch`, writes the trace.
trace() {
  local job=$root/jobs/$1
  is_running "$job" && [[ -e $job/traceable ]] || fail "$1 is not running, or is no triarch command: nothing to trace"
  mkdir -p "$3"
  printf '%s\n%s\n' "$2" "$3" >"$job/traceable.request"
  kill -USR1 "$(<"$job/traceable")"
  report "tracing $1 for $2 s into $3"
}

show_log() {
  local job=$root/jobs/$1 follow=()
  [[ -e $job/log ]] || fail "$1 has no log"
  [[ ${3-} != follow ]] || follow=(--follow)
  tail "--lines=$2" "${follow[@]}" "$job/log" | sed --unbuffered "s|^|[$worker] |"
}

verb=${1-}
(($# == 0)) || shift
case $verb in
  install | start | hold | status | stop | trace) "$verb" "$@" ;;
  mount) mount_bucket "$@" ;;
  copy) copy_in "$@" ;;
  log) show_log "$@" ;;
  --help | '') usage ;;
  *) fail "on_worker.sh has no verb $verb" ;;
esac
