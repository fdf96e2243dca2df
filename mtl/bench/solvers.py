"""`mtl bench solvers`: weights from Gramians, one at a time and 64 at once, against the solvers that peers call."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl import solvers
from mtl.bench.peers import cvxpy_warnings_ignored, load_torchjd, torchjd_name
from mtl.bench.steps import Row, row
from mtl.bench.timing import TURN, in_turn
from mtl.hyperparameters import nearest

SIZES = (2, 5, 10, 20, 40)
#: Gramians in a batch; peers solve them one after another.
BATCH = 64
#: Bars of the design: times faster than the peer.
SINGLE, BATCHED = 3.0, 20.0
_CAGRAD, _FAIRNESS = 0.4, 2.0
_COMPARED = 8


def _uniform(gramian: Tensor) -> Tensor:
    return torch.full_like(gramian[..., 0], 1 / gramian.shape[-1])


def _cagrad(gramian: Tensor) -> Tensor:
    """Weights of the update, as TorchJD returns them."""
    w = solvers.cagrad(gramian, _CAGRAD)
    along = (gramian @ w.unsqueeze(-1)).squeeze(-1)
    radius = _CAGRAD * gramian.mean((-2, -1)).sqrt() / (w * along).sum(-1).sqrt()
    return 1 / w.shape[-1] + radius.unsqueeze(-1) * w


OURS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "nash": solvers.nash,
    "cagrad": _cagrad,
    "fairgrad": lambda gramian: solvers.fair(gramian, _FAIRNESS),
    "mgda": solvers.min_norm,
    "upgrad": lambda gramian: solvers.project_cone(gramian, _uniform(gramian).diag_embed()).sum(-2),
    "dualproj": lambda gramian: solvers.project_cone(gramian, _uniform(gramian)),
}


@cvxpy_warnings_ignored()
def run(
    *,
    strategies: Sequence[str] = (),
    rounds: int = 7,
    quick: bool = False,
    device: torch.device | str = "cpu",
    tell: Callable[[str], None] = lambda _text: None,
) -> list[Row]:
    """Time each solver for 2 to 40 tasks, us and the peers in turn, and return a row a case.

    Rows have `case, ours, peer, peer_name, ratio`, in seconds a Gramian, and `difference`: the largest distance between
    the updates of both, scaled to length one. TorchJD's Frank-Wolfe (mgda) stops early, and so does its procedure for
    nash where norms differ; a large difference there is theirs.

    Raises:
        ValueError: unknown names, or the peers are not installed.
    """
    device = torch.device(device)
    for name in strategies:
        if name not in OURS:
            raise ValueError(f"solver {name!r} is not timed: {nearest(name, OURS)}")
    aggregation = load_torchjd("solvers")
    rows: list[Row] = []
    for name in strategies or OURS:
        for size in (2, 5) if quick else SIZES:
            rows += _of(name, size, aggregation, 2 if quick else rounds, 0.0 if quick else TURN, device)
        tell(f"{name}: done")
    return rows


def gramians(size: int) -> tuple[Tensor, Tensor]:
    """Random (64, K, D) Jacobians of gradients with something in common, norms within a factor of four; and J J^T."""
    generator = torch.Generator().manual_seed(size)
    shape = BATCH, size, 2 * size + 10
    jacobians = torch.randn(*shape, dtype=torch.float64, generator=generator)
    jacobians += 0.3 * torch.randn(BATCH, 1, shape[-1], dtype=torch.float64, generator=generator)
    jacobians *= 0.5 + 1.5 * torch.rand(BATCH, size, 1, dtype=torch.float64, generator=generator)
    return jacobians, jacobians @ jacobians.mT


def _peers(name: str, size: int, aggregation: ModuleType) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Functions from a Jacobian and its Gramian to weights."""
    if name == "nash":
        weighting = aggregation.NashMTL(n_tasks=size, max_norm=0.0).weighting
        return {f"{torchjd_name()} (CVXPY, ECOS)": lambda jacobian, _gramian: weighting(jacobian)}
    made, solver = {
        "cagrad": (lambda: aggregation.CAGradWeighting(c=_CAGRAD, norm_eps=1e-12), "CVXPY, Clarabel"),
        "fairgrad": (lambda: aggregation.FairGradWeighting(alpha=_FAIRNESS), "SciPy"),
        "mgda": (aggregation.MGDAWeighting, "Frank-Wolfe"),
        "upgrad": (aggregation.UPGradWeighting, "quadprog"),
        "dualproj": (aggregation.DualProjWeighting, "quadprog"),
    }[name]
    weighting = made()
    found = {f"{torchjd_name()} ({solver})": lambda _jacobian, gramian: weighting(gramian)}
    if name == "mgda":
        found["quadprog"] = lambda _jacobian, gramian: _min_norm_by_quadprog(gramian)
    return found


def _min_norm_by_quadprog(gramian: Tensor) -> Tensor:
    import quadprog

    size = len(gramian)
    array = gramian.cpu().numpy() + 1e-10 * float(gramian.diagonal().mean()) * np.eye(size)
    conditions = np.hstack([np.ones((size, 1)), np.eye(size)])
    weights = quadprog.solve_qp(array, np.zeros(size), conditions, np.eye(size + 1)[0], 1)[0]
    return torch.from_numpy(weights).to(gramian.device)


def _of(name: str, size: int, aggregation: ModuleType, rounds: int, turn: float, device: torch.device) -> list[Row]:
    jacobians, batch = (tensor.to(device) for tensor in gramians(size))
    solve, peers = OURS[name], _peers(name, size, aggregation)
    pairs = list(zip(jacobians, batch, strict=True))

    def cycled(work: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
        turns = itertools.cycle(pairs)
        return lambda: work(*next(turns))

    found = []
    contenders: dict[str, Callable[[], object]] = {
        "single": cycled(lambda _jacobian, gramian: solve(gramian)),
        "batched": lambda: solve(batch),
        **{peer_name: cycled(peer) for peer_name, peer in peers.items()},
    }
    differences = {
        peer_name: max(_apart(solve(g) @ j, peer(j, g) @ j) for j, g in pairs[:_COMPARED])
        for peer_name, peer in peers.items()
    }
    taken = in_turn(contenders, rounds, device, turn)
    for peer_name in peers:
        for how, seconds in (("single", taken["single"]), (f"batch of {BATCH}", taken["batched"] / BATCH)):
            case = row(f"{name}, K={size}, {how}", seconds, taken[peer_name], peer_name)
            found.append(case | {"difference": differences[peer_name]})
    return found


def _apart(left: Tensor, right: Tensor) -> float:
    return float((left / left.norm() - right / right.norm()).norm())


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """Each bar, what was measured, and whether it is met."""
    found = []
    for label, marks, bar in (("one at a time", "single", SINGLE), (f"{BATCH} at once", f"of {BATCH}", BATCHED)):
        ratios = sorted(
            (row["ratio"], f"{row['case']}, {row['peer_name']}") for row in rows if row["case"].endswith(marks)
        )
        middle = statistics.median(ratio for ratio, _ in ratios)
        reached = sum(ratio >= bar for ratio, _ in ratios)
        text = (
            f"{label}: {middle:.1f}x faster in the median, {ratios[0][0]:.1f}x at worst ({ratios[0][1]}); "
            f"{reached} of {len(ratios)} cases reach the bar of {bar:g}"
        )
        found.append((text, reached == len(ratios)))
    return found
