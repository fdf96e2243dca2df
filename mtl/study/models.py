"""The weights that finished runs leave: of the best one, of all, or of none; and the model made of them again."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtl.benchmarks import Benchmark, Splits, find_benchmark
from mtl.benchmarks.digest import digest_difference, of_splits
from mtl.files.config import read_config
from mtl.files.lineage import winner
from mtl.files.records import read_records
from mtl.files.whole import write_whole
from mtl.train import Settings, checkpoint
from mtl.train.model import build_model

_OF_THE_MODEL = ("model", "architecture", "dropout", "stochastic_depth")
_BEST = "best.json"
KEEP = ("none", "best", "all")
Weights = dict[str, Tensor]


class Models:
    """Files of weights in `checkpoints/` of a run directory.

    Until it is known which run is the best one, those that may become it are kept as `RUN.weights`.

    Args:
        directory: of the study.
        keep: `none`, `best` or `all`.
        objective: of a search, whether higher is better by name; None in a comparison.
    """

    def __init__(self, directory: Path, keep: str, objective: Mapping[str, bool] | None) -> None:
        self._folder, self._keep, self._objective = directory / "checkpoints", keep, objective
        self._seen: list[Mapping[str, Any]] | None = None

    def offer(
        self,
        record: Mapping[str, Any],
        recorded: Callable[[], Sequence[Mapping[str, Any]]],
        weigh: Callable[[], Weights],
    ) -> None:
        """Keep the weights of a finished run if it may be the best one, instead of those that cannot be it any more.

        Args:
            record: of the run.
            recorded: gives the records of the runs before the first that is offered.
            weigh: gives its weights.
        """
        if self._keep == "none" or record["status"] != "done":
            return
        if self._seen is None:
            self._seen = list(recorded())
        self._seen = [each for each in self._seen if each["run"] != record["run"]]  # it may have ended before
        rivals = [each for each in self._seen if each["phase"] == record["phase"] and self._rivals(each, record)]
        self._seen.append(record)
        leads = self._best([*rivals, record]) is record
        if self._keep == "all" or (leads and self._counts(record)):
            checkpoint.save(self._file(record["run"]), {name: value.cpu() for name, value in weigh().items()})
            for each in rivals if self._keep == "best" else ():
                self._file(each["run"]).unlink(missing_ok=True)

    def settle(self, records: Sequence[Mapping[str, Any]], first: str | None) -> Path | None:
        """Give the best run's weights their name, and the others theirs; returns the file of the best.

        Args:
            records: of all runs.
            first: the strategy that a comparison ranks first.
        """
        candidates = [
            each for each in records if each["status"] == "done" and self._counts(each)
            and (self._objective is not None or each["strategy"] == first)
        ]  # fmt: skip
        best = self._best(candidates)
        target = self._folder / "best.pt"
        if best is not None and self._file(best["run"]).exists():
            content = torch.load(self._file(best["run"]), weights_only=True)
            checkpoint.save(target, content)
            write_best(self._folder, {key: best[key] for key in ("run", "strategy", "seed", "selection")})
        for path in self._folder.glob("*.weights"):
            if self._keep == "all":
                path.replace(path.with_suffix(".pt"))
            else:
                path.unlink()
        return target if target.exists() else None

    def _counts(self, record: Mapping[str, Any]) -> bool:
        return bool(record["phase"] == ("final" if self._objective is None else "search"))

    def _rivals(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        return self._objective is not None or one["strategy"] == other["strategy"]

    def _best(self, records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        if self._objective is not None:
            return winner(records, self._objective)
        whole = [each for each in records if each["status"] == "done" and each["selection"] is not None]
        return max(whole, key=lambda each: float(each["selection"]), default=None)

    def _file(self, run: str) -> Path:
        return self._folder / f"{run}.weights"


def write_best(folder: Path, about: Mapping[str, Any]) -> None:
    """Say beside `best.pt` in `folder` whose weights it has."""
    write_whole(folder / _BEST, json.dumps(about) + "\n")


def load_model(directory: Path | str, run: str = "best") -> nn.Module:
    """The model of a finished study, in evaluation mode, on the CPU.

    Warns where the benchmark's training data is not what the model was trained on: what is made of it, such as means by
    which inputs are standardised, is another.

    Args:
        directory: of the study.
        run: a run's name, of a study with `--keep-models all`.

    Raises:
        ValueError: the directory is not that of a study, or does not hold the run's weights.
    """
    found = load_trained(directory, run)
    if found.changed:
        warnings.warn(f"{directory}: {found.changed}", stacklevel=3)
    return found.model


@dataclass(frozen=True)
class Trained:
    """The model of a finished study, and what it was made for.

    Attributes:
        model: in evaluation mode, on the CPU.
        benchmark: its tasks and data.
        tasks: names of those that the model predicts.
        changed: how the training data differs from what it was trained on; empty where it does not.
    """

    model: nn.Module
    benchmark: Benchmark
    tasks: tuple[str, ...]
    changed: str


def load_trained(directory: Path | str, run: str = "best") -> Trained:
    """The model of a finished study with its benchmark; see `load_model`."""
    directory = Path(directory)
    path = directory / "checkpoints" / f"{run}.pt"
    config = read_config(directory)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: the study is not finished, or was made with other --keep-models")
    benchmark = find_benchmark(config["benchmark"])
    splits = benchmark.load()
    changed = _changed(config.get("digests") or {}, splits.marked(benchmark.tasks))
    record = _record(directory, run)
    task = record.get("task")
    tasks = [each for each in benchmark.tasks if task in (None, each.name)]  # a single-task run has a model of its own
    with torch.random.fork_rng():
        model = build_model(benchmark, tasks, splits.train.first(2), Settings.of(config["training"], _shape(record)))
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        if changed:
            raise ValueError(f"{directory}: {changed}, and the model made for it has other weights") from error
        raise
    return Trained(model.eval(), benchmark, tuple(each.name for each in tasks), changed)


def _changed(recorded: Mapping[str, str], splits: Splits) -> str:
    """How the training data differs from what is recorded."""
    train = {name: digest for name, digest in recorded.items() if name.partition(" of ")[0] == "train"}
    found = digest_difference(train, of_splits(splits)) if train else None
    return f"the benchmark is not what the model was trained on: it differs in {found}" if found else ""


def _record(directory: Path, run: str) -> Mapping[str, Any]:
    """What is recorded of a run, or of the best one; empty where it is not known."""
    best = directory / "checkpoints" / _BEST
    about: Mapping[str, Any] = {}
    if run == "best" and best.is_file():
        about = json.loads(best.read_text(encoding="utf-8"))  # of a run that has not ended it says more
        run = about["run"]
    return read_records(directory / "results.jsonl").runs.get(run, about)


def _shape(record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a variant or a search has varied and a model is built by."""
    return {name: value for name, value in record.get("hyperparameters", {}).items() if name in _OF_THE_MODEL}
