#!/usr/bin/env bash
# Write the locks of the three environments, each from a fresh installation of what pyproject.toml asks
# for: driver (plans and submits; no torch), train (runs the stages), dev (tests and linters).
# PyTorch is pinned without its build, so that a machine gets the one that fits it.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for name in driver train dev; do
  case $name in
    driver) wanted=. ;;
    train) wanted=".[train]" ;;
    dev) wanted=".[train,dev]" ;;
  esac
  python3 -m venv "$scratch/$name"
  "$scratch/$name/bin/pip" install --quiet --disable-pip-version-check "$wanted"
  {
    echo "# Made by envs/lock.sh from pyproject.toml; do not edit."
    "$scratch/$name/bin/pip" freeze --disable-pip-version-check |
      grep -v '^xstilts' | sed 's/^\(torch==[^+]*\)+.*/\1/'
  } >"envs/$name.lock.txt"
done
