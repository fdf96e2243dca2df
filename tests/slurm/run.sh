#!/usr/bin/env bash
# Tests of slurm/ on a real SLURM of two nodes, on this machine: tests/slurm/run.sh PYTHON [PYTEST OPTIONS]
# Installs what it needs where it can (root on Debian); elsewhere it says so and passes.
set -euo pipefail
cd "$(dirname "$0")/../.."
PACKAGES=(slurmctld slurmd slurm-client munge iproute2 procps)
PROGRAMS=(slurmctld slurmd sbatch munged ip ps)

skip() {
  printf '\n***** SKIPPED: the SLURM tests did not run, nothing about slurm/ was checked: %s *****\n\n' "$1" >&2
  exit 0
}

[ "$(uname -s)" = Linux ] || skip "they need Linux"
[ "$(id -u)" = 0 ] || skip "they need root"
if ! command -v "${PROGRAMS[@]}" >/dev/null || [ "$(command -v "${PROGRAMS[@]}" | wc -l)" -lt ${#PROGRAMS[@]} ]; then
  command -v apt-get >/dev/null || skip "SLURM is not installed, and there is no apt-get to install it"
  log=$(mktemp)
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${PACKAGES[@]}"; } \
    >"$log" 2>&1 </dev/null || { tail -n 5 "$log" >&2; rm -f "$log"; skip "apt-get could not install ${PACKAGES[*]}"; }
  rm -f "$log"
fi
unshare --mount --uts --ipc --pid --net --fork --kill-child --mount-proc bash -ec \
  'mount -t tmpfs tmpfs /dev/shm; ip link add bridge type bridge; ip link add left type veth peer name right' \
  2>/dev/null || skip "the kernel lets nobody make namespaces, mounts or network links here"
devices=$(mktemp -d)
mknod "$devices/gpu" c 1 3 2>/dev/null || { rm -rf "$devices"; skip "no device files can be made here"; }
rm -rf "$devices"

# Jobs wait more than they compute, so three clusters at once share two processors well.
exec "$1" -m pytest tests/slurm -m slurm -n 3 --dist worksteal -q --durations=0 --durations-min=1 "${@:2}"
