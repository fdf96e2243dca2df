"""The options of every command: a frozen dataclass each, whose fields are all that there is to say of an option.

Training settings and the options of search methods are declared where they belong, and are taken over from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from mtl.auto.parts import PARTS
from mtl.cli.declared import argument, declared, option, sheet
from mtl.ray.tune.asked import SCHEDULERS, SEARCHERS
from mtl.search.options import MethodOptions
from mtl.train.settings import Settings
from mtl.wandb_mode import MODES, usual_mode

LISTS = ("strategies", "benchmarks", "losses", "models", "architectures", "methods")
ENGINES = ("population", "ray", "tune")
DEFAULT_BUDGET = 16
DEVICES = ("auto", "cpu", "cuda")
_BENCHMARK = "a name from `mtl list benchmarks`, path.py:Class, or a table in a text file, FILE.csv"


def named_in_full(benchmark: str, targets: Sequence[str] | None, losses: Sequence[str] | None = None) -> str:
    """The name by which `find_benchmark` finds a benchmark with these targets and losses."""
    if targets:
        from mtl.benchmarks.table_file import named_table  # brings torch

        benchmark = named_table(benchmark, targets)
    if losses:
        from mtl.benchmarks.losses import named_with, read_losses

        benchmark = named_with(benchmark, read_losses(losses))
    return benchmark


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command and its options.

    Attributes:
        command: what the user calls it.
        about: its line in `mtl --help`.
        given: names of the options that the user gave, by the command line or a file of options.
    """

    command: ClassVar[str]
    about: ClassVar[str]
    given: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class ListOptions(Command):
    """`mtl list`."""

    command: ClassVar[str] = "list"
    about: ClassVar[str] = f"what there is: {', '.join(LISTS)}"
    what: str = argument("", "strategies", choices=LISTS)
    grep: str | None = option(None, "only what has this text in its name, description, paper, ...", metavar="TEXT")
    cost: bool = option(False, "sort strategies by what a step costs, in place of groups")
    json: bool = option(False, "as JSON")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(Command):
    """The training settings that were given; they stand over the benchmark's recipe."""

    training: Mapping[str, Any] = sheet(Settings, "training (defaults: the benchmark's recipe)", usual=False)


@dataclass(frozen=True, kw_only=True)
class RunOptions(TrainingOptions):
    """What all commands that train have in common."""

    title: ClassVar[str] = "run"
    benchmark: str = argument(_BENCHMARK)
    target: list[str] | None = option(
        None, "columns of a table to predict, the others being inputs, such as price, stars:regression or visits:count",
        metavar="COLUMN",
    )  # fmt: skip
    loss: list[str] | None = option(
        None, "of a task, in place of the benchmark's, such as age=huber:delta=0.5", metavar="TASK=SPEC"
    )
    out: Path | None = option(None, "where the run's files go (default: runs/NAME)", metavar="DIR")
    seed: int = option(0, "first seed", 0)
    keep_models: str = option(
        "best", "weights that checkpoints/ keeps: of the best run as best.pt, of all, of none",
        choices=("none", "best", "all"),
    )  # fmt: skip
    device: str = option("auto", "", choices=DEVICES)
    wandb: str = option(usual_mode, "default: what WANDB_MODE says, or offline", choices=MODES)
    resume: bool = option(False, "continue what the directory holds, or start")
    config: Path | None = option(None, "YAML of options; the command line overrides it", metavar="FILE")
    quiet: bool = option(False, "print the result only")
    override: bool = option(False, "what follows replaces what was given before", place="hidden")  # of batch scripts

    @property
    def subject(self) -> str:
        """The benchmark with the columns of `--target` and the losses of `--loss`, as `find_benchmark` takes it.

        Raises:
            ValueError: a target or a loss that cannot be read; one line.
        """
        return named_in_full(self.benchmark, self.target, self.loss)

    @property
    def searches(self) -> bool:
        """Whether a method decides when runs end."""
        return False


@dataclass(frozen=True, kw_only=True)
class EngineOptions(RunOptions):
    """Where the searches of a command train."""

    title: ClassVar[str] = "where searches train"
    engine: str = option(
        "population", "this process, our methods in processes of Ray, or Ray Tune's trials", choices=ENGINES
    )
    address: str | None = option(
        None, "of a running Ray cluster (default: one of this machine)", metavar="HOST:PORT", engines=("ray", "tune")
    )
    nodes: int | None = option(None, "of that cluster, to be waited for (default: 1)", 1, engines=("ray", "tune"))
    shards: int | None = option(
        None, "of the members, for Ray (default: as many as the GPUs hold, at least one each; one a node without)", 1,
        engines=("ray", "tune"),
    )  # fmt: skip
    gpus_per_shard: float | None = option(
        None, "of a GPU, for a process: 0.5 trains two shards on each at a time (default: 1)", 0, 1, above=True,
        metavar="SHARE", engines=("ray",),
    )  # fmt: skip
    scheduler: str | None = option(
        None, f"of --engine tune: {', '.join(SCHEDULERS)} (default: pbt)", metavar="NAME", engines=("tune",)
    )
    searcher: str | None = option(
        None, f"of --engine tune: {', '.join(SEARCHERS)} (default: random)", metavar="NAME", engines=("tune",)
    )
    gpus_per_trial: float | None = option(
        None, "of --engine tune (default: 1 if there are)", 0, metavar="N", engines=("tune",)
    )


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """`mtl train`."""

    command: ClassVar[str] = "train"
    about: ClassVar[str] = "train one strategy on a benchmark"
    title: ClassVar[str] = ""
    strategy: str = option("equal", "", metavar="SPEC")


@dataclass(frozen=True, kw_only=True)
class CompareOptions(EngineOptions):
    """`mtl compare`."""

    command: ClassVar[str] = "compare"
    about: ClassVar[str] = "compare strategies over seeds, against single-task baselines"
    title: ClassVar[str] = ""
    strategies: list[str] | None = option(None, "default: one of each kind", metavar="SPEC")
    seeds: int = option(3, "runs of each strategy", 1)
    reference: str | None = option(
        None,
        "what p-values compare with (default: equal if it takes part, or the first strategy; with --vary, what the "
        "benchmark itself has)",
        metavar="SPEC",
    )
    vary: list[str] | None = option(
        None,
        "compare losses, settings or parameters, such as loss.age=mse,huber loss.age.delta=1,2",
        metavar="NAME=A,B",
    )
    tune: str | None = option(None, "tune every strategy first, such as by pbt, tpe or random", metavar="METHOD")
    budget: int | None = option(None, f"trials of each strategy's tuning (default: {DEFAULT_BUDGET})", metavar="N")
    no_single_task: bool = option(False, "leave out the single-task baselines")
    one_at_a_time: bool = option(False, "train each seed by itself, not as a population")

    @property
    def searches(self) -> bool:
        """Whether a method decides when runs end."""
        return self.tune is not None


@dataclass(frozen=True, kw_only=True)
class SearchOptions(EngineOptions):
    """`mtl search`."""

    command: ClassVar[str] = "search"
    about: ClassVar[str] = "search strategies, hyperparameters and schedules with a population"
    title: ClassVar[str] = "search"
    strategy: str = option("equal", "whose hyperparameters", metavar="SPEC")
    strategies: list[str] | None = option(None, "several, of which the search picks", metavar="SPEC")
    method: str = option("pbt", "a name from `mtl list methods`", metavar="METHOD")
    methods: list[str] | None = option(
        None, f"several, one after another, each with the steps of --trials whole runs (default: {DEFAULT_BUDGET})",
        metavar="METHOD",
    )  # fmt: skip
    objective: list[str] = option(
        lambda: ["selection"], "selection (default), delta_m, TASK/METRIC, or several of them for a Pareto front",
        metavar="NAME",
    )  # fmt: skip
    search: list[str] | None = option(None, "such as lr=1e-4:1e-2:log optimizer=adam,sgd", metavar="NAME=RANGE")
    space: Path | None = option(None, "YAML of names and ranges; --search overrides it")
    method_options: Mapping[str, Any] = sheet(MethodOptions)

    @property
    def searches(self) -> bool:
        """Whether a method decides when runs end."""
        return True


@dataclass(frozen=True, kw_only=True)
class AutoOptions(RunOptions):
    """`mtl auto`."""

    command: ClassVar[str] = "auto"
    about: ClassVar[str] = "decide on losses, weights, regularization, optimizer and architecture within a time"
    title: ClassVar[str] = ""
    time: str = option(
        "10m",
        "for everything, such as 90s, 10m or 1.5h; at least 1m is useful, and more on a busy machine, where start and "
        "report alone can outlast 15s",
        metavar="TIME",
    )
    only: str | None = option(None, f"decide on some of {','.join(PARTS)} (default: all)", metavar="PARTS")
    objective: str = option("selection", "selection or TASK/METRIC", metavar="NAME")
    members: int | None = option(
        None, "runs that begin in the first bracket of the race (default: 27, or 12)", 4, metavar="N"
    )
    seeds: int = option(5, "runs of each finalist under fresh seeds, fewer where time is short", 1)
    finalists: int = option(3, "that meet the default under these seeds", 1)

    @property
    def searches(self) -> bool:
        """Whether a method decides when runs end."""
        return True


@dataclass(frozen=True, kw_only=True)
class ReplayOptions(Command):
    """`mtl replay`."""

    command: ClassVar[str] = "replay"
    about: ClassVar[str] = "train the winner's schedule of a finished search again, from scratch"
    directory: Path = argument("the --out of `mtl search`", metavar="RUN")
    device: str = option("auto", "", choices=DEVICES)
    quiet: bool = option(False, "print the result only")


@dataclass(frozen=True, kw_only=True)
class PredictOptions(Command):
    """`mtl predict`."""

    command: ClassVar[str] = "predict"
    about: ClassVar[str] = "what a trained model says of new rows of a table"
    directory: Path = argument("the --out of `mtl train`, `compare`, `search` or `auto` on a table", metavar="RUN")
    table: Path = argument("the new rows: a table with the columns that the model was trained on", metavar="FILE")
    out: Path | None = option(None, "default: predictions.csv in RUN", metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Command):
    """`mtl report`."""

    command: ClassVar[str] = "report"
    about: ClassVar[str] = "tables, figures and report.html of finished runs"
    directories: list[Path] = argument("of one study, or parts to be merged, or what holds them", metavar="DIR")
    out: Path | None = option(None, "default: the first directory", metavar="DIR")
    json: bool = option(False, "print the summary as JSON")


@dataclass(frozen=True, kw_only=True)
class CheckLossOptions(Command):
    """`mtl check-loss`."""

    command: ClassVar[str] = "check-loss"
    about: ClassVar[str] = "test a loss of your own, or any: gradient, edges, half precision, missing labels"
    loss: str = argument("path.py:Name, package.module:Name, or a spec such as huber:delta=0.5", metavar="LOSS")
    kind: str | None = option(
        None, "of predictions and labels, such as numbers, classes or counts (default: the first that it takes)",
        metavar="KIND",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DataOptions(Command):
    """`mtl data`."""

    command: ClassVar[str] = "data"
    about: ClassVar[str] = "prepare and check a benchmark's data, and show what is in it"
    benchmark: str = argument(_BENCHMARK)
    target: list[str] | None = option(None, "columns of a table to predict", metavar="COLUMN")
    json: bool = option(False, "as JSON")
    quiet: bool = option(False, "print the result only")


@dataclass(frozen=True, kw_only=True)
class SchemaOptions(Command):
    """`mtl schema`."""

    command: ClassVar[str] = "schema"
    about: ClassVar[str] = "JSON Schema by which editors complete a file of options, or of what a run writes"
    what: str = argument("", "config", choices=("config", "results", "schedule"))


@dataclass(frozen=True, kw_only=True)
class BenchOptions(Command):
    """`mtl bench`."""

    command: ClassVar[str] = "bench"
    about: ClassVar[str] = "speed, against other libraries in the same process"
    name: str = argument(
        "steps: one training step; solvers: weights from a Gramian; population, search: whole runs; data: from disk"
    )
    engine: str = option(
        "population", "of the bench of the search: population against Ray Tune, ray against population",
        choices=ENGINES[:2],
    )  # fmt: skip
    json: Path | None = option(None, "write the rows there")
    rounds: int | None = option(None, "turns of each candidate (default: the bench's own)", metavar="N")
    quick: bool = option(False, "few cases, one round: whether it works, not how fast")
    models: list[str] | None = option(None, "such as mlp-10 cnn-3; resnet18-3 for a GPU", metavar="MODEL")
    strategies: list[str] | None = option(None, "default: all that the bench knows", metavar="NAME")
    device: str = option("auto", "", choices=DEVICES)
    threads: int = option(1, "threads of tensor operations", 1)


@dataclass(frozen=True, kw_only=True)
class SubmitOptions(Command):
    """`mtl submit`."""

    command: ClassVar[str] = "submit"
    about: ClassVar[str] = "queue a job of train, compare, search or auto on a SLURM cluster"
    print: bool = option(False, "print the batch script instead, to be adapted to a site")
    kind: str = argument("", choices=("train", "compare", "search", "auto"))
    rest: list[str] = option(list, "", place="rest")


#: Every command by name, in the order of the help.
COMMANDS: Mapping[str, type[Command]] = MappingProxyType(
    {
        each.command: each
        for each in (
            ListOptions,
            DataOptions,
            TrainOptions,
            CompareOptions,
            SearchOptions,
            AutoOptions,
            ReplayOptions,
            PredictOptions,
            ReportOptions,
            CheckLossOptions,
            SchemaOptions,
            BenchOptions,
            SubmitOptions,
        )
    }
)
#: Options of an engine, and the engines that take them.
ENGINE_OPTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: each.option.engines for name, each in declared(EngineOptions).items() if each.option.engines}
)
