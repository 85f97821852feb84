#!/usr/bin/env bash
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/../slices.sh"
source "$(dirname "${BASH_SOURCE[0]}")/clusters.sh"

SUMMARY='Builds the container image that workloads run, from a wheel, with the versions of requirements.lock.'
EXAMPLE='  gke/setup.sh --image=us-docker.pkg.dev/my-project/triarch/triarch:1 --wheel=dist/triarch-0.2.0-py3-none-any.whl'

flag image value required 'name to give to the image, with registry and tag'
flag wheel value required 'wheel to install, made by python -m build'
flag lock value "$HERE/../requirements.lock" 'lock file that goes with it'
flag project value '' 'Google Cloud project that builds it'
flag folder value '' 'folder to put together what is sent to be built; by default a temporary one'
parse_flags "$@"
[[ -f ${OPTION[wheel]} ]] || die "--wheel=${OPTION[wheel]}: no such file"
[[ -f ${OPTION[lock]} ]] || die "--lock=${OPTION[lock]}: no such file"
need gcloud "$INSTALL_GCLOUD"

folder=${OPTION[folder]}
if [[ -z $folder ]]; then
  folder=/tmp/triarch_image
  if ! dry_run; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
  fi
fi
perform mkdir -p "$folder"
perform cp "${OPTION[wheel]}" "$HERE/traceable.py" "$HERE/gke/Dockerfile" "$folder/"
perform cp "${OPTION[lock]}" "$folder/requirements.lock"
project=()
[[ -z ${OPTION[project]} ]] || project=("--project=${OPTION[project]}")
perform gcloud builds submit "--tag=${OPTION[image]}" "${project[@]}" "$folder" || die "${OPTION[image]} could not be built"
