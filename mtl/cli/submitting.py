"""`mtl submit`: the batch scripts of slurm/, with arguments that are checked before the job is queued."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mtl.cli.config_file import read_arguments
from mtl.cli.contradictions import check_options
from mtl.cli.errors import BadInput
from mtl.cli.options import (
    AutoOptions,
    CompareOptions,
    EngineOptions,
    RunOptions,
    SearchOptions,
    SubmitOptions,
    TrainOptions,
)

_SCRIPTS = Path(__file__).parents[1] / "slurm"
_BY_STRATEGY = "--by-strategy"
_OF_A_JOB = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_")
# What the scripts say themselves.
_OF_THE_JOB = {"search": ("address", "nodes")}


def submit(asked: SubmitOptions) -> int:
    """`mtl submit`."""
    if asked.print:
        print(standalone(asked.kind), end="")
        return 0
    options, arguments = _divided(asked.rest, asked.kind)
    parsed = _checked(asked.kind, arguments)
    if (
        isinstance(parsed, EngineOptions)
        and parsed.engine == "tune"
        and not any(word.partition("=")[0] == "--engine" for word in arguments)
    ):
        arguments = [*arguments, "--engine=tune"]  # that of a --config, which the script does not read
    if isinstance(parsed, CompareOptions):
        options = _with_array(options, arguments, parsed)
    if shutil.which("sbatch") is None:
        raise BadInput("sbatch: not found; is this the login node of a SLURM cluster?")
    script = _SCRIPTS / f"{asked.kind}.sbatch"
    # The job inherits the environment; its `mtl` is to be this one, whether its virtual environment is active or not.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = ["sbatch", "--parsable", *options, str(script), *arguments]
    done = subprocess.run(
        command, env={**_environment(), "PATH": path}, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    if done.returncode:
        return 1  # sbatch has said why
    _explain(asked.kind, done.stdout.strip().partition(";")[0], options, arguments, parsed)
    return 0


def _environment() -> dict[str, str]:
    """What the job inherits: inside an allocation not what describes that job, which sbatch would take for wishes."""
    inside = "SLURM_JOB_ID" in os.environ
    return {
        name: value
        for name, value in os.environ.items()
        if not inside or not name.startswith(_OF_A_JOB) or name.startswith("SLURM_CONF")
    }


def standalone(kind: str) -> str:
    """The batch script with the file that it shares with the others written into it."""
    shared = (_SCRIPTS / "common.sh").read_text(encoding="utf-8")
    text = (_SCRIPTS / f"{kind}.sbatch").read_text(encoding="utf-8")
    return re.sub(r'^here=.*\nsource "\$here/common.sh".*\n', lambda _: shared, text, flags=re.MULTILINE)


def _divided(rest: Sequence[str], kind: str) -> tuple[list[str], list[str]]:
    """What is sbatch's and what is mtl's: options of both have the same names, so the user says where they part."""
    if rest and (not rest[0].startswith("-") or rest[0] == _BY_STRATEGY):
        return [], [*rest]  # argparse may have removed a `--` that comes first
    if not rest:
        raise BadInput(f"submit: BENCHMARK is missing: mtl submit {kind} BENCHMARK")
    if "--" not in rest:
        raise BadInput(f"submit: `--` must stand before the arguments of mtl: mtl submit {kind} --nodes=1 -- BENCHMARK")
    place = rest.index("--")
    return [*rest[:place]], [*rest[place + 1 :]]


def _checked(kind: str, arguments: Sequence[str]) -> RunOptions:
    """The arguments as the job will read them; all is checked but the data, which a login node may not have."""
    options = read_arguments([kind, *(word for word in arguments if kind != "compare" or word != _BY_STRATEGY)])
    assert isinstance(options, RunOptions)
    for name in _OF_THE_JOB.get(kind, ()):
        if (value := getattr(options, name)) is not None:
            raise BadInput(f"--{name} {value}: {kind}.sbatch sets it, from the nodes of the job")
    if isinstance(options, SearchOptions) and options.engine != "tune":
        if "engine" in options.given:
            raise BadInput(f"--engine {options.engine}: a job of search.sbatch has ray (default) and tune")
        options = dataclasses.replace(options, engine="ray")  # as the script will say
    check_options(options)
    from mtl.benchmarks import find_benchmark  # brings torch
    from mtl.cli.checks import read_comparison, read_decision, read_search, read_training

    try:
        benchmark = find_benchmark(options.subject)
        if isinstance(options, SearchOptions):
            read_search(options, benchmark)
        elif isinstance(options, CompareOptions):
            strategies = [str(strategy) for strategy in read_comparison(options, benchmark).strategies]
            options = dataclasses.replace(options, strategies=strategies)
        elif isinstance(options, TrainOptions):
            read_training(options, benchmark)
        elif isinstance(options, AutoOptions):
            read_decision(options, benchmark)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if options.out is not None and not options.resume:
        held = [path for path in (options.out, *options.out.glob("*")) if (path / "config.yaml").is_file()]
        if held:
            raise BadInput(f"output directory {str(held[0])!r} already holds a run: --resume continues it")
    return options


def _with_array(options: list[str], arguments: Sequence[str], asked: CompareOptions) -> list[str]:
    """The array has a task for each seed, or for each strategy, unless the user has chosen the tasks."""
    chosen = any(option in ("-a", "--array") or option.startswith(("-a", "--array=")) for option in options)
    if _BY_STRATEGY in arguments:
        if arguments[0] != _BY_STRATEGY:
            raise BadInput(f"{_BY_STRATEGY}: it must be the first argument after `--`")
        if any(argument.partition("=")[0] == "--reference" for argument in arguments):
            raise BadInput(f"--reference: with {_BY_STRATEGY} it is the first strategy")
        if "--strategies" not in arguments:
            raise BadInput(f"{_BY_STRATEGY}: --strategies must name them on the command line")
        return options if chosen else [f"--array=0-{len(asked.strategies or ()) - 1}", *options]
    return options if chosen else [f"--array={asked.seed}-{asked.seed + asked.seeds - 1}", *options]


def _value_of(options: Sequence[str], short: str, long: str) -> str | None:
    """The value of an option of sbatch, in any of the forms that it takes; the last one counts."""
    found = None
    for option, following in itertools.zip_longest(options, options[1:]):
        if option in (short, long):
            found = following
        elif option.startswith(f"{long}="):
            found = option.partition("=")[2]
        elif option.startswith(short) and not option.startswith("--"):
            found = option.removeprefix(short)
    return found


def _explain(kind: str, job: str, options: Sequence[str], arguments: Sequence[str], asked: RunOptions) -> None:
    """What the user does next."""
    out = asked.out or Path("runs") / f"{kind}-{job}"
    name = _value_of(options, "-J", "--job-name") or _environment().get("SBATCH_JOB_NAME") or f"mtl-{kind}"
    log = f"{name}-{job}" + ("_*" if kind == "compare" else "") + ".out"
    lines = {"job": f"{job}: mtl {shlex.join([kind, *arguments])}", "files": shlex.quote(str(out))}
    if _value_of(options, "-o", "--output") is None:
        lines["output"] = log if name == shlex.quote(name) else shlex.quote(log)
    lines |= {"watch": f"squeue --jobs {job}", "stop": f"scancel {job} (saves its state)"}
    if kind == "compare":
        lines["report"] = f"mtl report {shlex.quote(str(out))}"
    if asked.wandb == "offline":
        lines["W&B"] = shlex.join([str(_SCRIPTS / "login-sync.sh"), str(out)])
    print("\n".join(f"{name:<7} {text}" for name, text in lines.items()))
