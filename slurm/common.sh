# Sourced by the batch scripts beside it: how `mtl` is started, and what becomes of it when the job must end.
# shellcheck shell=bash

# --- This cluster: uncomment what it needs. -------------------------------------------------------------------------
# module purge; module load python/3.11 cuda/12.4
# source "$HOME/miniforge3/etc/profile.d/conda.sh"; conda activate mtl
# source "$HOME/mtl/.venv/bin/activate"
BEFORE=()
# BEFORE=(apptainer exec --nv --bind "$PWD" "$HOME/mtl.sif")
# ---------------------------------------------------------------------------------------------------------------------

MTL=("${BEFORE[@]}" mtl) RAY=("${BEFORE[@]}" ray) PYTHON=("${BEFORE[@]}" python3)
STEP=() # options of the srun that starts mtl
REQUEUES=${MTL_REQUEUES:-5} # how often a job goes back to the queue when its time is up or it cannot go on; not for preemption

# The number of the last task of an array is also that of the whole array, so tasks are named ARRAY_TASK.
JOB=$SLURM_JOB_ID
if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then JOB=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi

warned='' signalled='' failed='' retry='' child='' # retry: why the job goes back to the queue unasked

# Before its time limit SLURM sends USR1 to this shell (--signal=B:USR1@120). Preemption and scancel send TERM to what
# srun started, and to that only: so mtl is started by srun, and takes either signal, more than once.
warn() {
  warned=yes signalled=yes
  if [ -n "$child" ]; then kill -USR1 "$child" 2>/dev/null; fi
}
trap warn USR1 TERM
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun does not take it from the job

# A step that SLURM cannot start, on a node that is not ready or does not answer, must not wait until the time limit.
# The exit code of srun is then one of these or an error of SLURM above 159, which no program or signal has.
export SLURM_IMMEDIATE=100 SLURM_EXIT_IMMEDIATE=200 SLURM_EXIT_ERROR=200
not_started() { [ "$1" -gt 159 ]; }

say() { echo "slurm: job $JOB on $(hostname), GPU ${CUDA_VISIBLE_DEVICES:-none}: $*" >&2; }

job_field() { scontrol --oneliner show job "$JOB" | sed -n "1s/.* $1=\([^ ]*\).*/\1/p"; }

# out_of DEFAULT ARGUMENTS...: the value of --out among the arguments.
out_of() {
  local out=$1 before='' argument
  shift
  for argument; do
    case $before in --out) out=$argument ;; esac
    case $argument in --out=*) out=${argument#--out=} ;; esac
    before=$argument
  done
  printf '%s\n' "$out"
}

# run_mtl DIR ARGUMENTS...: `mtl ARGUMENTS --override --out DIR`, continued where an earlier start of this job left it. Ends the
# script: with mtl's exit code, or with 75 and the job back in the queue.
run_mtl() {
  local out=$1 status=75
  shift
  set -- "$@" --override --out "$out"
  if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then set -- "$@" --resume; fi
  say "${MTL[*]} $*"
  if [ -z "$warned$failed$retry" ]; then
    srun --ntasks=1 "${STEP[@]}" "${MTL[@]}" "$@" &
    child=$!
    await "$child"
  fi
  # While it is still loading, and while it writes its report, a signal kills mtl: nothing is lost either time.
  case $status in $((128 + $(kill -l USR1))) | $((128 + $(kill -l TERM)))) status=75 ;; esac
  if not_started "$status"; then
    say "SLURM did not start mtl: srun ended with $status"
    retry='not started'
  fi
  if [ -n "$failed" ]; then status=1; elif [ -n "$retry" ]; then status=75; fi
  if [ "$status" -eq 75 ]; then requeue "$out"; fi
  exit "$status"
}

# await PROCESS: wait until it has ended, signals or not, and set `status` to its exit code.
await() {
  local code
  signalled=yes
  while [ -n "$signalled" ]; do
    signalled=''
    wait "$1"
    code=$?
    if [ "$code" -ne 127 ]; then status=$code; fi # 127: an earlier turn has it
  done
}

requeue() {
  local state log=$1/requeues.log count=0
  state=$(job_field JobState)
  # A job that the user cancelled stays cancelled; one that SLURM has requeued is in the queue already.
  if [ "$state" != RUNNING ]; then
    say "stopped; not requeued, because its state is $state"
    return
  fi
  if [ -n "$warned$retry" ]; then
    mkdir -p "$1" && touch "$log" || return
    count=$(grep -c "^$JOB " "$log")
    if [ "$count" -ge "$REQUEUES" ]; then
      say "stopped; not requeued, because it was $count times: the same sbatch with --resume --out $1 continues"
      return
    fi
    echo "$JOB $(date +%FT%T)" >>"$log"
    say "${retry:-time is up}; requeued, $((count + 1)) of at most $REQUEUES times"
  else
    say "preempted; requeued"
  fi
  scontrol requeue "$JOB"
}
