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
REQUEUES=${MTL_REQUEUES:-5} # how often a job puts itself back into the queue; preemption does not count

# The number of the last task of an array is also that of the whole array, so tasks are named ARRAY_TASK.
JOB=$SLURM_JOB_ID
if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then JOB=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi

warned='' failed='' retry='' child='' # retry: why the job goes back to the queue unasked

# Before its time limit SLURM sends USR1 to this shell (--signal=B:USR1@120). Preemption and scancel send TERM to what
# srun started, and to that only: so mtl is started by srun, and takes either signal, more than once.
warn() {
  warned=yes
  if [ -n "$child" ]; then kill -USR1 "$child" 2>/dev/null; fi
}
trap warn USR1 TERM
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun does not take it from the job
unset SLURM_EXPORT_ENV # of `sbatch --export=NONE`: it would keep from mtl what was loaded above

# A step that SLURM cannot start, on a node that is not ready or does not answer, must not wait until the time limit.
# The exit code of srun is then one of these or an error of SLURM above 159, which no program or signal has.
export SLURM_IMMEDIATE=100 SLURM_EXIT_IMMEDIATE=200 SLURM_EXIT_ERROR=200
not_started() { [ "$1" -gt 159 ]; }

say() { echo "slurm: job $JOB on $(hostname), GPU ${CUDA_VISIBLE_DEVICES:-none}: $*" >&2; }

job_field() { scontrol --oneliner show job "$JOB" | sed -n "1s/.* $1=\([^ ]*\).*/\1/p"; }

# value_of OPTION DEFAULT ARGUMENTS...: the value of an option of mtl, such as --out, among the arguments.
value_of() {
  local option=$1 value=$2 before='' argument
  shift 2
  for argument; do
    case $before in "$option") value=$argument ;; esac
    case $argument in "$option="*) value=${argument#"$option="} ;; esac
    before=$argument
  done
  printf '%s\n' "$value"
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
  # Killed from outside, such as for want of memory: 128 + KILL, or what srun says of SLURM's own limit of memory.
  # Where Ray was lost, this script has killed it, and the reason is known.
  if [ -z "$failed$retry" ]; then
    case $status in 137 | 253) if saved "$out"; then retry='mtl was killed'; else failed=$status; fi ;; esac
  fi
  # A signal ends mtl so before there is anything to go on with: nothing is lost.
  case $status in $((128 + $(kill -l USR1))) | $((128 + $(kill -l TERM)))) status=75 ;; esac
  if not_started "$status" && [ -z "$failed" ] && [ "$retry" != 'mtl was killed' ]; then
    say "SLURM did not start mtl: srun ended with $status"
    retry='not started'
  fi
  if [ -n "$failed" ]; then status=$failed; elif [ -n "$retry" ]; then status=75; fi
  if [ "$status" -eq 75 ]; then requeue "$out"; fi
  exit "$status"
}

# saved DIR: whether a run has saved something there, so that it was no mistake of the user's that ended it.
saved() { compgen -G "$1/checkpoints/*.pt" >/dev/null || compgen -G "$1/tune/*/checkpoint_*/state.pt" >/dev/null; }

# await PROCESS: wait until it has ended, signals or not, and set `status` to its exit code. A signal that comes as the
# process ends would make `wait` lose the code, so the process is waited for only when it is gone, and without signals.
await() {
  while kill -0 "$1" 2>/dev/null; do
    sleep 0.5 &
    wait $!
  done
  trap '' USR1 TERM
  wait "$1"
  status=$?
  trap warn USR1 TERM
}

# Whether SLURM preempts this start of the job, and not an earlier one.
preempted() {
  local when
  when=$(job_field PreemptTime)
  case $when in '' | None | Unknown) return 1 ;; esac
  [[ ! "$when" < "$(job_field StartTime)" ]]
}

# requeue DIR: put the job back into the queue. DIR/requeues.log gets a line for each time, and why.
requeue() {
  local state log=$1/requeues.log count=0 why=${retry:-stopped}
  state=$(job_field JobState)
  # A job that the user cancelled stays cancelled; one that SLURM has requeued is in the queue already.
  if [ "$state" != RUNNING ]; then
    say "stopped; not requeued, because its state is $state"
    return
  fi
  if [ -n "$warned" ] && [ -z "$retry" ]; then why='time is up'; fi
  if preempted; then why=preempted; fi # with or without the signal of the time limit, as the site has it
  mkdir -p "$1" && touch "$log" || return
  if [ "$why" = preempted ]; then
    say "preempted; requeued"
  else
    count=$(grep "^$JOB " "$log" | grep -vc ' preempted$')
    if [ "$count" -ge "$REQUEUES" ]; then
      say "$why; not requeued, because it was $count times: the same sbatch with --resume --out $1 continues"
      return
    fi
    say "$why; requeued, $((count + 1)) of at most $REQUEUES times"
  fi
  echo "$JOB $(date +%FT%T) $why" >>"$log"
  scontrol requeue "$JOB"
}
