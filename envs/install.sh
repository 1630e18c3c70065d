#!/usr/bin/env bash
# Make an environment from its lock: envs/install.sh driver|train|dev FOLDER
# The package itself is not copied: every environment runs the code of this checkout.
set -euo pipefail
name=${1-} folder=${2-}
source=$(cd "$(dirname "$0")/.." && pwd)
lock="$source/envs/$name.lock.txt"
if [[ -z $name || -z $folder || ! -f $lock ]]; then
  echo "usage: envs/install.sh driver|train|dev FOLDER" >&2
  exit 2
fi
python=${PYTHON:-python3}
"$python" -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
"$python" -m venv "$folder"
pip=("$folder/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" -r "$lock"
"${pip[@]}" --no-deps --editable "$source"
"$folder/bin/xstilts" --version
