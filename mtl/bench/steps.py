"""`mtl bench steps`: a training step with `mtl.Balancer` against peers, equal weighting and the floor."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from mtl.bench import loops
from mtl.bench.loops import Loop
from mtl.bench.peers import AGGREGATORS, RANDOM, cagrad_by_slsqp, cvxpy_warnings_ignored, load_torchjd, torchjd_name
from mtl.bench.problems import PROBLEMS, USUAL, Problem
from mtl.bench.timing import TURN, in_turn
from mtl.hyperparameters import nearest

Row = dict[str, Any]

LOSS_ONLY = ("static", "uncertainty", "imtl-l", "dwa", "rlw", "uw-so", "stch", "famo")
#: Bars of the design: TorchJD in the median and at worst, the floor, equal weighting for strategies that read losses.
MEDIAN, LEAST, FLOOR, EQUAL = 1.5, 1.0, 1.1, 1.05
_EQUAL = "equal weighting"
_LIBMTL = "LibMTL's way: K full backward passes, flat copies, SLSQP"
_NASH_MTL = "nash-mtl's way: K + 1 full backward passes, flat copies, CVXPY"


@cvxpy_warnings_ignored()
def run(
    *,
    models: Sequence[str] = (),
    strategies: Sequence[str] = (),
    rounds: int = 7,
    quick: bool = False,
    device: torch.device | str = "cpu",
    tell: Callable[[str], None] = lambda _text: None,
) -> list[Row]:
    """Time a step of each strategy on each model, everyone in turn, and return a row a case.

    Rows have `case, ours, peer, peer_name, ratio` (seconds a step); those against TorchJD also `floor` and `equal`, the
    seconds of the least that K gradients cost and of equal weighting, and `difference`, the distance between the two
    updates, scaled to length one (None where both draw random numbers).

    Raises:
        ValueError: unknown names, or the peers are not installed.
    """
    device = torch.device(device)
    problems = [_problem(name) for name in models or (["tiny-2"] if quick else USUAL)]
    known = [*AGGREGATORS, *LOSS_ONLY]
    chosen = strategies or known
    for name in chosen:
        if name not in known:
            raise ValueError(f"strategy {name!r} is not timed: {nearest(name, known)}")
    load_torchjd("steps")
    rows = []
    for problem in problems:
        rows += _on(problem, chosen, 2 if quick else rounds, 0.0 if quick else TURN, device)
        tell(f"{problem.name}: done")
    return rows


def _problem(name: str) -> Problem:
    if name not in PROBLEMS:
        raise ValueError(f"unknown model {name!r}: {nearest(name, PROBLEMS)}")
    return PROBLEMS[name]


def _on(problem: Problem, chosen: Sequence[str], rounds: int, turn: float, device: torch.device) -> list[Row]:
    contenders = dict(_contenders(problem, chosen, device))
    differences = {
        name: None
        if name in RANDOM
        else float((contenders[name, "ours"].update() - contenders[name, "torchjd"].update()).norm())
        for name in chosen
        if name in AGGREGATORS
    }
    labels = {" ".join(key): loop.step for key, loop in contenders.items()}
    taken = dict(zip(contenders, in_turn(labels, rounds, device, turn).values(), strict=True))
    least = min(taken["floor", "batched"], taken["floor", "looped"])
    equal = taken["equal", ""]
    rows = []
    for name in chosen:
        case, ours = f"{name}, {problem.name}", taken[name, "ours"]
        if name in LOSS_ONLY:
            rows.append(row(case, ours, equal, _EQUAL))
            continue
        extra = {"floor": least, "equal": equal, "difference": differences[name]}
        rows.append(row(case, ours, taken[name, "torchjd"], torchjd_name()) | extra)
        for way, peer_name in (("libmtl", _LIBMTL), ("nash-mtl", _NASH_MTL)):
            if (name, way) in taken:
                rows.append(row(case, ours, taken[name, way], peer_name))
    return rows


def _contenders(
    problem: Problem, chosen: Sequence[str], device: torch.device
) -> Iterator[tuple[tuple[str, str], Loop]]:
    """Everyone whose steps are timed, by what and how."""
    aggregation = load_torchjd("steps")
    yield ("equal", ""), loops.equal(problem, device)
    yield ("floor", "batched"), loops.floor(problem, device, batched=True)
    yield ("floor", "looped"), loops.floor(problem, device, batched=False)
    for name in chosen:
        if name in LOSS_ONLY:
            yield (name, "ours"), loops.ours(problem, device, name)
            continue
        # TorchJD gives heads their own loss's gradient and never scales weights.
        yield (name, "ours"), loops.ours(problem, device, name, head_weighting="own", scale="raw")
        yield (name, "torchjd"), loops.torchjd(problem, device, AGGREGATORS[name](aggregation, problem.tasks))
    if "cagrad" in chosen:
        yield ("cagrad", "libmtl"), loops.full_backwards(problem, device, cagrad_by_slsqp(), again=False)
    if "nash" in chosen:
        weigh = AGGREGATORS["nash"](aggregation, problem.tasks).weighting
        yield ("nash", "nash-mtl"), loops.full_backwards(problem, device, weigh, again=True)


def row(case: str, ours: float, peer: float, peer_name: str) -> Row:
    """What every bench writes for a case."""
    return {"case": case, "ours": ours, "peer": peer, "peer_name": peer_name, "ratio": peer / ours}


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """Each bar, what was measured, and whether it is met."""
    found = []
    against = [row for row in rows if "floor" in row]
    if against:
        median = statistics.median(row["ratio"] for row in against)
        least = min(against, key=lambda row: float(row["ratio"]))
        found.append((f"TorchJD: {median:.2f}x faster in the median of {len(against)}, bar {MEDIAN}", median >= MEDIAN))
        found.append(
            (f"TorchJD: {least['ratio']:.2f}x at worst ({least['case']}), bar {LEAST}", least["ratio"] >= LEAST)
        )
        over = sorted((row["ours"] / row["floor"], row["case"]) for row in against)
        middle = statistics.median(value for value, _ in over)
        text = (
            f"the floor: {middle:.2f} times it in the median, {over[-1][0]:.2f} at worst ({over[-1][1]}), bar {FLOOR}"
        )
        found.append((text, over[-1][0] <= FLOOR))
    # famo reads each batch a second time, which is a forward pass that equal weighting lacks.
    plain = [row for row in rows if row["peer_name"] == _EQUAL and not row["case"].startswith("famo")]
    if plain:
        over = sorted((row["ours"] / row["peer"], row["case"]) for row in plain)
        middle = statistics.median(value for value, _ in over)
        text = (
            f"strategies that read losses: {middle:.2f} times equal weighting in the median, "
            f"{over[-1][0]:.2f} at worst ({over[-1][1]}), bar {EQUAL}"
        )
        found.append((text, over[-1][0] <= EQUAL))
    return found
