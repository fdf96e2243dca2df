#!/usr/bin/env bash
# Upload what jobs logged to Weights & Biases offline, from a node that has internet:  slurm/login-sync.sh [DIR...]
# DIR (default: runs) is searched at any depth. Sends only what has changed since it was last sent, so it can be called
# again at any time, also while jobs run, and from cron. `wandb login` comes first, once.
set -euo pipefail

if [ $# -eq 0 ]; then set -- runs; fi
command -v wandb >/dev/null || { echo "login-sync: wandb is not installed here: pip install 'mtl-lab[wandb]'" >&2; exit 2; }
for directory; do
  [ -d "$directory" ] || { echo "login-sync: no directory '$directory'" >&2; exit 2; }
done

started=$(date +%s)
changed=()
while IFS= read -r -d '' file; do
  if [ ! -e "$file.synced" ] || [ "$file" -nt "$file.synced" ]; then changed+=("$file"); fi
done < <(find "$@" -type f -path '*/offline-run-*/*.wandb' -print0 | sort -z)
if [ ${#changed[@]} -eq 0 ]; then
  echo "login-sync: nothing new"
  exit
fi
echo "login-sync: ${#changed[@]} runs"
# What wandb sends of a run replaces what it sent before; the file of a resumed run says all of it.
wandb sync --include-synced "${changed[@]}"
for file in "${changed[@]}"; do
  # wandb's mark of success, dated back: a running job may have written since the file was read.
  if [ -e "$file.synced" ]; then touch -d "@$started" "$file.synced"; fi
done
