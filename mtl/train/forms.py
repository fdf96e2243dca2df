"""The two forms of a run's state: that of a run by itself, and a row among many. The same numbers, to be passed on.

Each is made of a checkpoint of the other. Random numbers that are drawn on a GPU are not passed: only a run by itself
draws some there, and it begins anew with those of its seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.gradients.graph import real, shaped
from mtl.population.members import KINDS
from mtl.population.penalties import Matrices
from mtl.population.program import Program
from mtl.train.ground import Ground
from mtl.train.job import Job
from mtl.train.run import Run
from mtl.train.single import Single
from mtl.train.stepper import Snapshot, Stepper
from mtl.train.vmapped import Vmapped

#: What a population keeps of an optimizer, and the names that it has in torch; numbers of a tensor are rows of them.
_KEPT = {
    "first": "exp_avg",
    "second": "exp_avg_sq",
    "velocity": "momentum_buffer",
    "square": "square_avg",
    "sum": "sum",
    "moved": "acc_delta",
    "largest": "exp_inf",
    "product": "mu_product",
}
_OF_TENSORS = ("product",)  # one number a tensor in torch
_UNCOUNTED = ("sgd",)  # torch keeps no number of steps, but has a buffer from the first on
_FROM_THE_START = ("adagrad",)  # torch has a state before the first step


def restructured(
    ground: Ground, stepper: Stepper, row: int, run: Run, job: Job, *, vectorised: bool
) -> tuple[Stepper, Snapshot]:
    """A stepper of a copy of one row with another job, in the form that is asked for, and the run's best snapshot.

    Where the form is another one, the job changes in that of a run by itself, which every job has.

    Raises:
        ValueError: the parameters do not fit the model of the job.
    """
    best = run.best
    if isinstance(stepper, Vmapped) and not vectorised:
        stepper, row, best = by_itself(ground, stepper, row), 0, stepper.weights(best)
    moved = stepper.restructured(row, job)
    best = moved.converted(best)
    if isinstance(moved, Single) and vectorised:
        many = among_many(ground, moved, job)
        return many, [*_row(many.population.program, moved, best)]
    return moved, best


def by_itself(ground: Ground, many: Vmapped, row: int) -> Single:
    """A run by itself that goes on from a row of many."""
    job, population = many.jobs[row], many.population
    one = Single(ground, [job])
    saved, fresh = population.select([row]).state_dict(), one.state_dict()
    program, counts = population.program, {name: count for name, [count] in saved["counts"].items()}
    row_of: dict[str, Any] = {name: pytree.tree_map(lambda leaf: leaf[0], saved[name]) for name in _rows(saved)}
    columns = _matrices(program).columns
    lost = torch.zeros(()) if row_of["finite"] else torch.full((), torch.nan)
    one.load_state_dict(
        {
            **fresh,
            "model": program.state_dict(row_of["parameters"], row_of["fixed"]),
            "random": {"cpu": saved["random"][0], "device": []},
            "average": _average_by_itself(program, row_of.get("average")),
            "optimizer": _torch_state(one, population.optimizer.name, program, row_of["optimizer"], fresh["optimizer"]),
            "balancer": {
                **fresh["balancer"],
                "state": row_of["strategy"],
                "weights": row_of["weights"],
                "noise": saved["noise"][0],
                "steps": counts["steps"],
                "updates": counts["updates"],
                "tasks": list(job.losses),
                "num_tasks": len(job.losses),
                "after": row_of["after"] if row_of["seen"] else None,
                "skipped": {kind: counts[kind] for kind in KINDS if counts[kind]},
            },
            "directions": dict(zip(columns, row_of["directions"].split([*columns.values()]), strict=True))
            if "directions" in row_of
            else {},
            "losses": dict.fromkeys(job.losses, lost),  # of those of the last step only this is asked
            "before": [counts["forward"], counts["backward"]],
        }
    )
    return one


def among_many(ground: Ground, one: Single, job: Job) -> Vmapped:
    """A row among many, here by itself, that goes on from a run by itself with this job."""
    many, given = Vmapped(ground, [job]), one.state_dict()
    saved, balancer, population = many.population.state_dict(), given["balancer"], many.population
    parameters, fixed = _row(population.program, one, given["model"])
    forward, backward = one.passes(0)
    counted = {"steps": balancer["steps"], "updates": balancer["updates"], "forward": forward, "backward": backward}
    counted |= {kind: balancer["skipped"].get(kind, 0) for kind in KINDS}
    row_of: dict[str, Any] = {
        "parameters": parameters,
        "fixed": fixed,
        "optimizer": _rows_state(one, population.optimizer.name, population.program, given["optimizer"], saved),
        "finite": torch.tensor(not one.stumbled()[0]),
    }
    if balancer["state"] is not None:
        row_of["strategy"] = balancer["state"]
    if (weights := balancer["weights"]) is not None:
        # Of a strategy with a weight for each number they are one a task before its first update.
        like = saved["weights"][0]
        row_of["weights"] = weights[:, None].expand_as(like) if weights.ndim < like.ndim else weights
    if balancer["after"] is not None:
        row_of |= {"after": balancer["after"], "seen": torch.tensor(True)}
    if "directions" in saved:
        row_of["directions"] = torch.cat([given["directions"][name] for name in _matrices(population.program).columns])
    if "average" in saved:
        average, held = _row(population.program, one, given["average"]["values"])
        begun = torch.tensor(given["average"]["begun"])
        row_of["average"] = {"parameters": average, "fixed": held, "begun": begun}
    steps = row_of["optimizer"]["steps"]
    population.load_state_dict(
        {
            **saved,
            **{name: _as_row(value, saved[name]) for name, value in row_of.items()},
            "counts": {name: [count] for name, count in counted.items()},
            "noise": [balancer["noise"]],
            "random": [given["random"]["cpu"]],
            "even": bool((steps == steps[0]).all()),
        }
    )
    return many


def _rows(saved: Mapping[str, Any]) -> list[str]:
    """What of the state of a population has a member axis."""
    return [name for name in saved if name not in ("counts", "noise", "random", "even")]


def _as_row(value: Any, like: Any) -> Any:
    """A tree of tensors of one member as rows of a population, of the dtypes and where those of `like` are."""
    return pytree.tree_map(lambda leaf, row: leaf[None].to(row), value, like)


def _row(program: Program, one: Single, state: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Parameters and buffers from a `state_dict`; what the model keeps out of that is as in the model."""
    return program.row_of({**dict(one.model.named_buffers()), **state})


def _matrices(program: Program) -> Matrices:
    return Matrices(program.names, program.shapes, program.sizes, program.dtypes)


def _average_by_itself(program: Program, average: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if average is None:
        return None
    values = program.state_dict(average["parameters"], average["fixed"])
    return {"values": values, "begun": bool(average["begun"])}


def _torch_state(
    one: Single, name: str, program: Program, rows: Mapping[str, Tensor], fresh: Mapping[str, Any]
) -> dict[str, Any]:
    """The state of torch's optimizer of a name, in the place of a `fresh` one, from what a population keeps."""
    pieces = {key: dict(zip(program.names, rows[key].split(program.sizes), strict=True)) for key in _kept(rows)}
    made = dict(zip(program.names, rows["steps"].tolist(), strict=True))
    state = dict(fresh["state"])
    for place, tensor in enumerate(one.stepped):
        if tensor not in made or not (made[tensor] or name in _FROM_THE_START):
            continue
        like = one.model.get_parameter(tensor).detach()
        found = {
            _KEPT[key]: pieces[key][tensor][0] if key in _OF_TENSORS else shaped(pieces[key][tensor], like)
            for key in pieces
        }
        steps = torch.tensor(made[tensor], dtype=torch.get_default_dtype())
        state[place] = found if name in _UNCOUNTED else {**found, "step": steps}
    return {**fresh, "state": state}


def _rows_state(
    one: Single, name: str, program: Program, given: Mapping[str, Any], saved: Mapping[str, Any]
) -> dict[str, Tensor]:
    """What a population keeps of its optimizer of a name, from the state of torch's one; as before steps without."""
    rows = {key: value[0].clone() for key, value in saved["optimizer"].items()}
    states = {tensor: given["state"].get(place, {}) for place, tensor in enumerate(one.stepped)}
    for number, (tensor, start) in enumerate(zip(program.names, _starts(program), strict=True)):
        state, place = states[tensor], slice(start, start + program.sizes[number])
        if name in _UNCOUNTED:
            rows["steps"][number] = float(state.get("momentum_buffer") is not None)
        elif state:
            rows["steps"][number] = float(state["step"])
        for key in _kept(rows):
            value = state.get(_KEPT[key])
            if value is not None:
                rows[key][place] = float(value) if key in _OF_TENSORS else real(value).flatten()
    return rows


def _kept(rows: Mapping[str, Tensor]) -> list[str]:
    return [key for key in rows if key != "steps"]


def _starts(program: Program) -> list[int]:
    """Where each tensor begins in a row."""
    found, start = [], 0
    for size in program.sizes:
        found.append(start)
        start += size
    return found
