"""What solvers leave out where the host may look, against all of their rounds."""

import importlib

import pytest
import torch

from mtl.strategies import solvers

SOLVERS = {
    "min_norm": solvers.min_norm,
    "cagrad": lambda gramian: solvers.cagrad(gramian, 0.5),
    "dualproj": lambda gramian: solvers.project_cone(gramian, torch.full_like(gramian[..., 0], 1 / len(gramian))),
    "upgrad": lambda gramian: solvers.project_cone(gramian, torch.eye(len(gramian), dtype=gramian.dtype)),
    "nonnegative_qp": lambda gramian: solvers.nonnegative_qp(gramian, -gramian.diagonal().sqrt()),
    "nash": solvers.nash,
    "fair": lambda gramian: solvers.fair(gramian, 2.0),
}


def gramians(size):
    """Random ones, of gradients in few dimensions, of equal and of opposed gradients, and of norms far apart."""
    torch.manual_seed(size)
    rows = torch.randn(size, 2 * size, dtype=torch.float64)
    yield "random", rows @ rows.T
    aligned = rows + 2 * rows[0]
    yield "aligned", aligned @ aligned.T
    spread = rows * torch.logspace(-3, 3, size, dtype=torch.float64)[:, None]
    yield "norms", spread @ spread.T
    twins = torch.cat([rows[:-1], rows[:1]])
    yield "equal", twins @ twins.T
    opposed = torch.cat([rows[:-1], -rows[:1] * 1.5])
    yield "opposed", opposed @ opposed.T
    flat = rows[:, : size // 2]
    yield "few dimensions", flat @ flat.T


@pytest.mark.parametrize("size", [7, 20])
@pytest.mark.parametrize("name", SOLVERS)
def test_no_solution_depends_on_whether_the_host_may_look(name, size, monkeypatch):
    for kind, gramian in gramians(size):
        early = SOLVERS[name](gramian)
        with monkeypatch.context() as blind:
            for module in ("_early", "_scaling", "cagrad"):
                blind.setattr(importlib.import_module(f"mtl.strategies.solvers.{module}"), "may_look", lambda _: False)
            full = SOLVERS[name](gramian)
        if kind in ("opposed", "few dimensions"):  # many weights give the same update, some solvers no finite one
            difference = (early - full).sum(0) if early.ndim > 1 else early - full
            scale = (full.sum(0) if full.ndim > 1 else full) @ gramian @ (full.sum(0) if full.ndim > 1 else full)
            # Where weights are huge, rounding may leave even the square of an update below zero.
            assert difference @ gramian @ difference <= 1e-9 * (scale.abs() + gramian.trace()), kind
        else:
            torch.testing.assert_close(
                early, full, rtol=1e-8, atol=1e-11, msg=lambda text, kind=kind: f"{kind}: {text}"
            )


def test_a_clear_case_takes_no_interior_point(monkeypatch):
    def unwanted(*_arguments, **_options):
        raise AssertionError("the interior-point method ran")

    monkeypatch.setattr("mtl.strategies.solvers.simplex.interior_point", unwanted)
    gramian = next(gramians(10))[1]
    weights = solvers.min_norm(gramian)
    slack = gramian @ weights - weights @ gramian @ weights
    assert weights.sum() == pytest.approx(1) and (slack > -1e-9 * gramian.trace()).all()
