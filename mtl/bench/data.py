"""A run from disk against a plain PyTorch loop over the same data: same files, model, optimizer and workers."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mtl.bench.bench import Bar, Bench, BenchScope, BenchTable, Row
from mtl.benchmarks import Benchmark, Splits, Task, load_checked
from mtl.losses import MSE, CrossEntropy
from mtl.metrics import accuracy, mae
from mtl.models import HardSharing
from mtl.train import Settings, train

#: Bar of the design: so many times the time of the plain loop at most.
BAR = 1.1

_WORKERS = (0, 2)
_SIDE, _CLASSES = 64, 3
_PEER = "PyTorch loop"


class _Files(Dataset[Any]):
    """Pictures in a file each, half of them flipped when they are read."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> tuple[Tensor, dict[str, Tensor]]:
        picture = torch.from_numpy(np.load(self._folder / f"{number}.npy"))
        if torch.rand(()) < 0.5:
            picture = picture.flip(-1)
        return picture, self.target(number)

    def target(self, number: int) -> dict[str, Tensor]:
        """The labels alone."""
        return {"kind": torch.tensor(number % _CLASSES), "size": torch.tensor(number % 7 / 7)}


class _Pictures(Benchmark):
    """A class and a number from pictures on disk."""

    name = "pictures-on-disk"
    tasks = (Task("kind", CrossEntropy(), (accuracy,), _CLASSES), Task("size", MSE(), (mae,)))

    def __init__(self, folder: Path, count: int, workers: int) -> None:
        self.folder, self._count, self.workers = folder, count, workers

    def files(self) -> Sequence[Path]:
        return ()

    def load(self) -> Splits:
        few = max(_CLASSES, self._count // 10)
        return Splits(*(_Files(self.folder, n) for n in (self._count, few, few)), workers=self.workers)

    def model(self, tasks: Sequence[Task], inputs: Any) -> nn.Module:  # noqa: ARG002
        return _network(tasks)


def _network(tasks: Sequence[Task]) -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.Flatten()]
    trunk = nn.Sequential(*layers, nn.LazyLinear(64), nn.ReLU())
    trunk(torch.zeros(1, 3, _SIDE, _SIDE))
    return HardSharing(trunk, {task.name: nn.Linear(64, task.outputs) for task in tasks})


class DataBench(Bench):
    """`mtl.train` with equal weights from files on a disk, against the loop that one would write."""

    def check(self, options: BenchScope) -> None:
        if options.models is not None or options.strategies is not None:
            raise ValueError("--models, --strategies: the bench of data has one model and one strategy")

    def run(self, options: BenchScope) -> Iterator[Row]:
        count, batch, steps = (24, 4, 3) if options.quick else (2400, 32, 150)
        rounds = options.rounds or (1 if options.quick else 5)
        with tempfile.TemporaryDirectory() as folder:
            draw = np.random.default_rng(0)
            for number in range(count):
                np.save(Path(folder, f"{number}.npy"), draw.standard_normal((3, _SIDE, _SIDE), np.float32))
            for workers in _WORKERS:
                benchmark = _Pictures(Path(folder), count, workers)
                splits = load_checked(benchmark)
                seconds: dict[str, list[float]] = {"ours": [], "peer": []}
                turns = {
                    "peer": partial(_plain, benchmark, count, batch, steps, options.device),
                    "ours": partial(_ours, benchmark, splits, batch, steps, options.device),
                }
                for number in range(rounds):  # in alternating order, so that nobody always follows the same one
                    for name in [*turns][:: -1 if number % 2 else 1]:
                        seconds[name].append(turns[name]())
                one, other = statistics.median(seconds["ours"]), statistics.median(seconds["peer"])
                case = f"{workers} workers, batches of {batch}"
                yield {"case": case, "ours": one, "peer": other, "peer_name": _PEER, "ratio": other / one}

    def tables(self, rows: Sequence[Row]) -> list[BenchTable]:
        lines = [[row["case"], f"{row['ours']:.4g}", f"{row['peer']:.4g}", f"{row['ratio']:.2f}"] for row in rows]
        return [BenchTable("Seconds of a training step from disk", ["", "ours", _PEER, "ratio"], lines)]

    def bars(self, rows: Sequence[Row]) -> list[Bar]:
        return [
            Bar(f"at most {BAR:g}x a plain loop, {row['case']}: {1 / row['ratio']:.2f}x", 1 / row["ratio"] <= BAR)
            for row in rows
        ]


def _ours(benchmark: Benchmark, splits: Splits, batch: int, steps: int, device: torch.device) -> float:
    """Seconds a step, the start of the workers included."""
    settings = Settings(
        steps=steps, batch_size=batch, threads=torch.get_num_threads(), optimizer="adam", evaluate_every=10**6
    )
    return train(benchmark, splits, "equal", settings, device=device).cost["seconds"] / steps


def _plain(benchmark: _Pictures, count: int, batch: int, steps: int, device: torch.device) -> float:
    """The same of a loop of one's own."""
    torch.manual_seed(0)
    model = _network(benchmark.tasks).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loader = DataLoader(
        _Files(benchmark.folder, count), batch, shuffle=True, num_workers=benchmark.workers, drop_last=True
    )
    done, started = 0, time.perf_counter()
    while done < steps:
        for inputs, targets in loader:
            found = model(inputs.to(device))
            kinds, sizes = targets["kind"].to(device), targets["size"].to(device)
            loss = nn.functional.cross_entropy(found["kind"], kinds)
            loss = loss + nn.functional.mse_loss(found["size"][:, 0], sizes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done == steps:
                break
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / steps
