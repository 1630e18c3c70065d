#!/usr/bin/env bash
# Write the locks of the three environments, each from an installation of what pyproject.toml asks for:
# driver (plans and submits; no torch), train (runs the stages), dev (tests and linters). What is
# locked stays; `envs/lock.sh --upgrade` looks for the newest versions of all. What two environments
# have in common has one version.
# PyTorch is pinned without its build, so that a machine gets the one that fits it.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
below=()
for name in driver train dev; do
  case $name in
    driver) wanted=. ;;
    train) wanted=".[train,audit]" ;;
    dev) wanted=".[train,audit,dev]" ;;
  esac
  known=("${below[@]}")
  [[ ${1-} == --upgrade ]] || known+=(--constraint "envs/$name.lock.txt")
  python3 -m venv "$scratch/$name"
  "$scratch/$name/bin/pip" install --quiet --disable-pip-version-check "${known[@]}" "$wanted"
  {
    echo "# Made by envs/lock.sh from pyproject.toml; do not edit."
    "$scratch/$name/bin/pip" freeze --disable-pip-version-check |
      grep -v '^xstilts' | sed 's/^\(torch==[^+]*\)+.*/\1/'
  } >"$scratch/$name.lock.txt"
  below=(--constraint "$scratch/$name.lock.txt")
done
mv "$scratch"/*.lock.txt envs/
