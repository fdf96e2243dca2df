"""A trace of fixed seeds: one SHA-256 of each thing that a change of the code's shape alone must leave bit for bit.

python -m benchmarks.trace > after.txt
cd OTHER && PYTHONPATH=OTHER python PATH/TO/benchmarks/trace.py > before.txt   # the package of another checkout
diff before.txt after.txt

Five strategies each step a balancer, a population of four members and a training run on `multidigits`; a small search
with `pbt` follows. Only public names are used, so that the trace runs on older and newer checkouts alike. Two machines,
or two versions of PyTorch, need not agree: compare on one.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mtl
from mtl.benchmarks import BENCHMARKS
from mtl.cli.main import main as command
from mtl.population import Population
from mtl.train import Settings, train

#: Losses alone, losses with a state that learns, gradients, a solver of weights, and losses read after the step.
STRATEGIES = ("equal", "uncertainty", "gradnorm", "mgda", "famo")
STEPS = 60
TASKS = 3
MEMBERS = 4
#: What a record says of a run; others, such as seconds and memory, change by themselves.
RECORD = (
    "run",
    "strategy",
    "hyperparameters",
    "seed",
    "phase",
    "status",
    "metrics",
    "validation",
    "best_step",
    "skipped",
)
COST = ("steps", "forwards", "backwards")
SEARCH = (
    *("search", "multidigits", "--method=pbt", "--strategies", "gradnorm", "uncertainty", "--members=4", "--steps=60"),
    *("--interval=10", "--search", "lr=1e-4:1e-2:log", "dropout=0:0.5", "--device=cpu", "--wandb=disabled", "--quiet"),
)


def sha256(*values: Any) -> str:
    """Of tensors their bytes, of everything else its JSON."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, Tensor):
            whole = value.detach().cpu().contiguous()
            digest.update(f"{whole.dtype} {tuple(whole.shape)}".encode())
            digest.update(whole.numpy().tobytes())
        else:
            digest.update(json.dumps(value, sort_keys=True).encode())
    return digest.hexdigest()


class Model(nn.Module):
    """A trunk with dropout and a head for each task."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 16), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(16, 1) for _ in range(TASKS))

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """What all tasks use."""
        return self.trunk.parameters()

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (batch, 10) to predictions (batch, TASKS)."""
        features = self.trunk(inputs)
        return torch.cat([head(features) for head in self.heads], dim=1)


def losses_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The squared errors of the tasks, (TASKS,), of scales 1, 2 and 3."""
    inputs, targets = batch
    errors: Tensor = (model(inputs) - targets).square().mean(0)
    return errors * torch.arange(1.0, TASKS + 1)


def batches(members: int) -> list[tuple[Tensor, Tensor]]:
    """A batch for each step, with a leading axis of members."""
    generator = torch.Generator().manual_seed(7)
    drawn = []
    for _ in range(STEPS):
        inputs = torch.randn(members, 32, 10, generator=generator)
        targets = torch.stack([inputs.sum(2), inputs[..., 0] * inputs[..., 1], inputs[..., 2].square()], dim=2)
        drawn.append((inputs, targets))
    return drawn


def balancer(strategy: str) -> Iterator[tuple[str, str]]:
    """A user's own loop around `mtl.Balancer`."""
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    weighing = mtl.Balancer(strategy, model.shared_parameters(), seed=0)
    seen, weights = [], []
    for inputs, targets in batches(1):
        batch = (inputs[0], targets[0])
        optimizer.zero_grad()
        losses = losses_of(model, batch)
        weighing.backward(losses, recompute=partial(losses_of, model, batch))
        optimizer.step()
        seen.append(losses.detach())
        weights.append(weighing.weights)
    yield "losses", sha256(*seen)
    yield "weights", sha256(*weights)
    yield "parameters", sha256(*model.parameters())


def population(strategy: str) -> Iterator[tuple[str, str]]:
    """Members that differ in seed and learning rate, in one pass."""
    rates = [1e-3, 3e-3, 1e-2, 3e-2]
    trained = Population(Model, losses_of, strategy, seeds=range(MEMBERS), optimizer="adam", lr=rates)
    seen, weights = [], []
    for batch in batches(MEMBERS):
        seen.append(trained.step(batch))
        weights.append(trained.weights.clone())
    yield "losses", sha256(*seen)
    yield "weights", sha256(*weights)
    for member in range(MEMBERS):
        yield f"parameters of member {member}", sha256(*trained.state_dict_of(member).values())


def training(strategy: str) -> Iterator[tuple[str, str]]:
    """A training run on a benchmark, with what it measured and the model that it keeps."""
    benchmark = BENCHMARKS["multidigits"]()
    settings = Settings.of(benchmark.recipe, {"steps": STEPS, "dropout": 0.1, "weight_decay": 1e-4})
    result = train(benchmark, benchmark.load(), strategy, settings, seed=0)
    assert result.weights is not None
    yield "curves", sha256(result.history)
    yield "metrics", sha256(result.status, result.metrics, result.validation, result.best_step)
    yield "cost", sha256([result.cost[name] for name in COST])
    yield "parameters", sha256(*result.weights.values())


def search() -> Iterator[tuple[str, str]]:
    """A search of this process: its schedule, and the record and curves of every run."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        code = command([*SEARCH, f"--out={out}"])
        if code != 0:
            raise SystemExit(f"mtl {' '.join(SEARCH)} ended with exit code {code}")
        schedule = [json.loads(line) for line in (out / "schedule.jsonl").read_text(encoding="utf-8").splitlines()]
        yield "schedule.jsonl", sha256(schedule)
        for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            kept = {name: record[name] for name in RECORD}
            yield f"record of {record['run']}", sha256(kept, [record["cost"][name] for name in COST])
            yield (
                f"curves of {record['run']}",
                sha256(json.loads((out / record["history"]).read_text(encoding="utf-8"))),
            )


def lines() -> Iterator[str]:
    """Every line of the trace: a digest and what it is of."""
    parts = {"balancer": balancer, "population": population, "training": training}
    for part, trace in parts.items():
        for strategy in STRATEGIES:
            for what, digest in trace(strategy):
                yield f"{digest}  {part}, {strategy}: {what}"
    for what, digest in search():
        yield f"{digest}  search: {what}"


def main() -> None:
    """Print the trace; what a command prints itself goes to the error output."""
    torch.set_num_threads(1)
    print(f"Trace of {Path(mtl.__file__).parent} with torch {torch.__version__}", file=sys.stderr)
    output, sys.stdout = sys.stdout, sys.stderr
    for line in lines():
        print(line, file=output, flush=True)
    sys.stdout = output


if __name__ == "__main__":
    main()
