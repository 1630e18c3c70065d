#!/usr/bin/env bash
# The Debian packages of a real SLURM, for tests/cluster; nothing of them is started. About 25 s,
# and nothing to do when all are there. Needs root.
set -euo pipefail
packages=(slurmctld slurmd slurmdbd slurm-client munge mariadb-server iproute2 util-linux)
installed() { dpkg-query --show --showformat '${db:Status-Status}\n' "${packages[@]}" 2>/dev/null; }
[ "$(installed | grep -cx installed)" = "${#packages[@]}" ] && exit 0
# A package must not start its daemon: the cluster's script starts its own.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
    trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
fetch() { apt-get install --no-install-recommends --yes --quiet=2 "${packages[@]}" >/dev/null; }
fetch || { apt-get update --quiet=2 && fetch; }
