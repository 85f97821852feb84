#!/usr/bin/env bash
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/slices.sh"

SUMMARY='Installs triarch on every worker from a wheel or a git ref, with the versions of requirements.lock; mounts a bucket.'
EXAMPLE='  setup.sh --name=redllm --zone=us-central2-b --wheel=dist/triarch-0.2.0-py3-none-any.whl --bucket=my-bucket
  setup.sh --name=redllm --zone=us-central2-b --repository=https://example.org/triarch.git --ref=main'

slice_flags
source "$HERE/setup_flags.sh"
setup_flags
parse_flags "$@"
check_setup
need gcloud "$INSTALL_GCLOUD"

must() {
  "$@" || die "${OPTION[name]}: set-up failed; the lines above name the workers and say why"
}

must copy_to_all "$HERE/on_worker.sh" "$ON_WORKER"
must copy_to_all "$HERE/traceable.py" triarch_traceable.py
if [[ -n ${OPTION[wheel]} ]]; then
  # pip reads a wheel's name, so it keeps it.
  wheel=${OPTION[wheel]##*/}
  must copy_to_all "${OPTION[wheel]}" "$wheel"
  must copy_to_all "${OPTION[lock]}" triarch_requirements.lock
  must on_all "$(quoted bash "$ON_WORKER" install "${OPTION[extras]}" wheel "$wheel" triarch_requirements.lock)"
else
  must on_all "$(quoted bash "$ON_WORKER" install "${OPTION[extras]}" git "${OPTION[repository]}" "${OPTION[ref]}")"
fi
if [[ -n ${OPTION[bucket]} ]]; then
  must on_all "$(quoted bash "$ON_WORKER" mount "${OPTION[bucket]}" "${OPTION[mount]}")"
fi
if ((${#LIST_copy[@]})); then
  must on_all "$(quoted bash "$ON_WORKER" copy "${LIST_copy[@]}")"
fi
say "${OPTION[name]} is set up"
