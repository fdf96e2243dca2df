"""Defining equations and optimality conditions on difficult Gramians, and the promises that all solvers share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl.strategies import solvers
from tests.strategies.solvers.gramians import difficult

TASKS = (2, 3, 4, 5, 7, 10, 40)
CASES = tuple(difficult(2))
#: No positive weights make these equal to their inverses: some nonnegative combination of the gradients is zero.
UNSOLVABLE = ("all_zero", "zero_row", "stationary", "rank_one_mixed_signs", "half_rank", "opposed")
SOLVERS: dict[str, Callable[[Tensor], Tensor]] = {
    "min_norm": solvers.min_norm,
    "simplex_qp": solvers.simplex_qp,
    "simplex_qp_linear": lambda g: solvers.simplex_qp(g, -0.3 * g.mean(-1)),
    "nonnegative_qp": lambda g: solvers.nonnegative_qp(g, -g.mean(-1)),
    "dualproj": lambda g: solvers.project_cone(g, torch.full_like(g[..., 0], 1 / g.shape[-1]), norm_eps=0.0),
    "upgrad": lambda g: solvers.project_cone(g, torch.eye(g.shape[-1]).to(g).expand_as(g), norm_eps=0.0).sum(-2),
    "nash": solvers.nash,
    "fair": lambda g: solvers.fair(g, 2.0),
    "cagrad": lambda g: solvers.cagrad(g, 0.5),
}
#: Under G -> c G the weights are multiplied by c to this power.
DEGREE = {"nash": -0.5, "fair": -2 / 3}
WEIGHED = (
    "random",
    "aligned",
    "conflicting",
    "half_rank_aligned",
    "duplicated",
    "hundredfold",
    "badly_scaled",
    "dominant",
)


def seeds(tasks: int) -> range:
    return range(1 if tasks == 40 else 3)


@pytest.mark.parametrize("ratio", [1.0, 2.0, 10.0, 1000.0])
def test_min_norm_of_two_opposed_gradients_vanishes_in_single_precision(ratio: float) -> None:
    """What breaks ties between equal gradients must not push a point along the Pareto front, not even slowly."""
    gramian = torch.tensor([[ratio**2, -ratio], [-ratio, 1.0]])
    update = solvers.min_norm(gramian) @ torch.tensor([ratio, -1.0])
    assert abs(update) <= 2e-7 * min(ratio, 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_min_norm_of_two_equal_gradients_splits_evenly(dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    gramian = torch.tensor([[3.0, 3.0 * (1 - eps)], [3.0 * (1 - eps), 3.0 * (1 + 2 * eps)]], dtype=dtype)
    np.testing.assert_allclose(solvers.min_norm(gramian), 0.5, atol=1e-3)


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("case", CASES)
def test_min_norm_is_optimal(case: str, tasks: int) -> None:
    for seed in seeds(tasks):
        jacobian = difficult(tasks, seed)[case]
        weights = solvers.min_norm(jacobian @ jacobian.T)
        assert weights.min() >= 0
        assert abs(weights.sum() - 1) < 1e-12
        norms = jacobian.norm(dim=1)
        shortest = norms.min()
        update = weights @ jacobian
        if shortest == 0:
            assert update.norm() <= 1e-12 * norms.max()
            continue
        # Optimal iff g_i^T d >= d^T d for every i, with equality where w_i > 0.
        length = torch.maximum(update.norm(), shortest)
        slack = jacobian @ update - update @ update
        assert (-slack / (norms * length)).max() < 1e-7
        assert (weights * slack.abs()).sum() < 1e-7 * length**2


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("case", CASES)
def test_cone_projection_is_optimal(case: str, tasks: int) -> None:
    for seed in seeds(tasks):
        jacobian = difficult(tasks, seed)[case]
        gramian = jacobian @ jacobian.T
        trace = gramian.trace()
        normal = (gramian / trace if trace > 0 else gramian) + 1e-4 * torch.eye(tasks, dtype=torch.float64)
        scale = normal.diagonal().sqrt()
        for lower in (torch.eye(tasks, dtype=torch.float64), torch.full((1, tasks), 1 / tasks, dtype=torch.float64)):
            lifted = (solvers.project_cone(gramian, lower) - lower) * scale
            gradient = (lifted / scale + lower) @ normal / scale
            residual = torch.minimum(lifted, gradient).abs().max()
            assert residual < 1e-7 * lifted.abs().max().clamp(min=1)


@pytest.mark.parametrize("tasks", [20, 40, 100])
def test_cone_projection_of_many_conflicting_tasks(tasks: int) -> None:
    # More tasks than parameters, a part in common, unlike norms: whose signs settle last.
    generator = torch.Generator().manual_seed(7)
    eye = torch.eye(tasks, dtype=torch.float64)
    for parameters in (tasks // 2 + 1, 2 * tasks):
        jacobian = torch.randn(3, tasks, parameters, dtype=torch.float64, generator=generator)
        jacobian += 0.3 * torch.randn(3, 1, parameters, dtype=torch.float64, generator=generator)
        jacobian *= 0.5 + 1.5 * torch.rand(3, tasks, 1, dtype=torch.float64, generator=generator)
        gramian = jacobian @ jacobian.mT
        normal = gramian / gramian.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] + 1e-4 * eye
        lower = (eye / tasks).expand_as(gramian)
        weights = solvers.project_cone(gramian, lower)
        residual = torch.minimum((weights - lower) * tasks, weights @ normal * tasks).abs()
        assert residual.max() < 1e-7


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("case", sorted(set(CASES) - set(UNSOLVABLE)))
def test_nash_solves_its_equation(case: str, tasks: int) -> None:
    for seed in seeds(tasks):
        jacobian = difficult(tasks, seed)[case]
        gramian = jacobian @ jacobian.T
        alpha = solvers.nash(gramian)
        # Two gradients at 1e-3 rad from opposed lose six digits in G itself.
        assert (alpha * (gramian @ alpha) - 1).abs().max() < (1e-6 if case == "nearly_opposed" else 1e-8)


@pytest.mark.parametrize("fairness", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("case", sorted(set(CASES) - set(UNSOLVABLE)))
def test_fair_solves_its_equation(case: str, tasks: int, fairness: float) -> None:
    for seed in seeds(tasks):
        jacobian = difficult(tasks, seed)[case]
        gramian = jacobian @ jacobian.T
        weights = solvers.fair(gramian, fairness)
        wanted = weights ** (-1 / fairness)
        # Relative to the terms of the sum: with norms of 1e-8 and 1e8 their cancellation leaves few digits of it.
        error = (gramian @ weights - wanted).abs() / (gramian.abs() @ weights + wanted)
        assert error.max() < 1e-8


def test_fair_with_one_is_nash() -> None:
    jacobian = difficult(7)["hundredfold"]
    gramian = jacobian @ jacobian.T
    torch.testing.assert_close(solvers.fair(gramian, 1.0), solvers.nash(gramian), rtol=1e-10, atol=0)


@pytest.mark.parametrize("spread", [0.3, 5.0, 20.0])
def test_fair_with_uncommon_alpha_on_moderate_norms(spread: float) -> None:
    for tasks in (2, 3, 10):
        jacobian = difficult(tasks)["random"]
        gramian = jacobian @ jacobian.T
        weights = solvers.fair(gramian, torch.tensor(spread), rounds=48)
        torch.testing.assert_close((gramian @ weights) * weights ** (1 / spread), torch.ones(tasks).double())


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_and_typed(name: str, dtype: torch.dtype) -> None:
    for tasks in (1, 2, 3, 6, 17):
        for case, jacobian in difficult(tasks, 1, dtype).items():
            gramian = jacobian @ jacobian.T
            weights = SOLVERS[name](gramian)
            assert weights.dtype == dtype, case
            assert weights.shape == (tasks,), case
            assert weights.isfinite().all(), (case, tasks)


def weighed(name: str) -> list[str]:
    """The cases that determine the update. `simplex_qp` does not scale rows, its accuracy is that of the largest."""
    return [case for case in WEIGHED if not (name.startswith("simplex_qp") and case == "badly_scaled")]


def assert_same_update(actual: Tensor, expected: Tensor, jacobian: Tensor) -> None:
    """Weights are not unique where gradients are dependent, what they make of the gradients is."""
    actual, expected = actual @ jacobian, expected @ jacobian
    assert (actual - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_batched_is_single_is_mapped(name: str, tasks: int) -> None:
    cases = difficult(tasks, 2)
    jacobians = torch.stack([cases[case] for case in weighed(name)])
    gramians = jacobians @ jacobians.mT
    solve = SOLVERS[name]
    single = [solve(gramian) for gramian in gramians]
    for other in (solve(gramians), torch.func.vmap(solve)(gramians), solve(gramians[None])[0]):
        for actual, expected, jacobian in zip(other, single, jacobians, strict=True):
            assert_same_update(actual, expected, jacobian)


@pytest.mark.parametrize("name", SOLVERS)
def test_permutation_equivariant(name: str) -> None:
    for tasks in (2, 3, 6, 15):
        order = torch.randperm(tasks, generator=torch.Generator().manual_seed(0))
        for case in weighed(name):
            jacobian = difficult(tasks, 3)[case]
            gramian = jacobian @ jacobian.T
            expected = SOLVERS[name](gramian)[order]
            actual = SOLVERS[name](gramian[order][:, order])
            assert_same_update(actual, expected, jacobian[order])


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("factor", [1e-16, 1e16])
def test_scale(name: str, factor: float) -> None:
    for tasks in (2, 4, 9):
        gramian = (jacobian := difficult(tasks, 4)["random"]) @ jacobian.T
        expected = SOLVERS[name](gramian) * factor ** DEGREE.get(name, 0.0)
        actual = SOLVERS[name](factor * gramian)
        torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-7 * float(expected.max()))


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("tasks", [2, 3, 5, 12])
def test_equal_tasks_get_equal_weights(name: str, tasks: int) -> None:
    gramian = torch.full((tasks, tasks), 3.0, dtype=torch.float64)
    weights = SOLVERS[name](gramian)
    torch.testing.assert_close(weights, weights.mean().expand(tasks), rtol=1e-4, atol=1e-9)


def test_tensor_alpha_under_vmap() -> None:
    gramian = (jacobian := difficult(5)["random"]) @ jacobian.T
    values = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    mapped = torch.func.vmap(solvers.fair, in_dims=(None, 0))(gramian, values)
    torch.testing.assert_close(mapped, torch.stack([solvers.fair(gramian, float(v)) for v in values]))
    mapped = torch.func.vmap(solvers.cagrad, in_dims=(None, 0))(gramian, 0.3 * values)
    torch.testing.assert_close(mapped, torch.stack([solvers.cagrad(gramian, 0.3 * float(v)) for v in values]))


def test_project_simplex() -> None:
    points = torch.randn(200, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    projected = solvers.project_simplex(points)
    torch.testing.assert_close(projected.sum(-1), torch.ones(200, dtype=torch.float64))
    # p is the projection iff v - p is largest, and constant, where p > 0.
    rest = points - projected
    support = projected > 0
    assert (rest.amax(-1, keepdim=True) - rest)[support].abs().max() < 1e-12
    assert (rest.amax(-1, keepdim=True) - rest).min() >= 0
    torch.testing.assert_close(solvers.project_simplex(points + 1e6), projected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("tasks", [3, 5, 20])
def test_against_quadprog(tasks: int) -> None:
    quadprog = pytest.importorskip("quadprog")
    for case in WEIGHED[:5]:
        gramian = (jacobian := difficult(tasks, 5)[case]) @ jacobian.T
        gramian = gramian + 1e-6 * gramian.diagonal().mean() * torch.eye(tasks)
        linear = -gramian.mean(0) * torch.linspace(0.2, 1.5, tasks)
        q, c = gramian.numpy(), linear.numpy()
        simplex = np.hstack([np.ones((tasks, 1)), np.eye(tasks)])
        expected = quadprog.solve_qp(q, -c, simplex, np.r_[1.0, np.zeros(tasks)], 1)[0]
        np.testing.assert_allclose(solvers.simplex_qp(gramian, linear), expected, atol=1e-6)
        expected = quadprog.solve_qp(q, 0 * c, simplex, np.r_[1.0, np.zeros(tasks)], 1)[0]
        np.testing.assert_allclose(solvers.min_norm(gramian), expected, atol=1e-6)
        expected = quadprog.solve_qp(q, -c, np.eye(tasks), np.full(tasks, 0.1))[0]
        lower = torch.full((tasks,), 0.1, dtype=torch.float64)
        np.testing.assert_allclose(solvers.nonnegative_qp(gramian, linear, lower), expected, atol=1e-6)


@pytest.mark.parametrize("tasks", [2, 3, 5, 10])
def test_against_torchjd(tasks: int) -> None:
    pytest.importorskip("qpsolvers")
    aggregation = pytest.importorskip("torchjd.aggregation")
    uniform = torch.full((tasks,), 1 / tasks, dtype=torch.float64)
    for case in ("random", "conflicting", "half_rank", "duplicated", "opposed", "zero_row", "hundredfold", "dominant"):
        gramian = (jacobian := difficult(tasks, 6)[case]) @ jacobian.T
        expected = aggregation.DualProjWeighting()(gramian)
        torch.testing.assert_close(solvers.project_cone(gramian, uniform), expected, rtol=1e-6, atol=1e-8)
        expected = aggregation.UPGradWeighting()(gramian)
        actual = solvers.project_cone(gramian, uniform.diag()).sum(-2)
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("c", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("case", sorted(set(CASES) - {"all_zero", "zero_row", "stationary", "opposed"}))
def test_cagrad_is_optimal(case: str, tasks: int, c: float) -> None:
    for seed in seeds(tasks):
        jacobian = difficult(tasks, seed)[case]
        weights = solvers.cagrad(jacobian @ jacobian.T, c)
        norms, mean = jacobian.norm(dim=1), jacobian.mean(0)
        along = weights @ jacobian
        if along.norm() < 1e-7 * norms.min():
            # Pareto stationary: no update improves every task, and g_w vanishes.
            assert solvers.min_norm(jacobian @ jacobian.T) @ jacobian @ along <= 1e-6 * norms.max() ** 2
            continue
        # With d the update, v the value and x = c |g_0| w / |g_w|: g_i^T d >= v, and equal to it where x_i > 0.
        part = c * weights * norms / along.norm()
        gain = jacobian @ (mean / mean.norm() + c * along / along.norm()) / norms
        value = (part @ gain) / (part @ (1 / norms))
        residual = torch.minimum(part, gain - value / norms).abs().max()
        assert residual < 1e-5 * part.max().clamp(min=1)


@pytest.mark.parametrize("tasks", [2, 4, 10])
def test_cagrad_against_torchjd(tasks: int) -> None:
    pytest.importorskip("cvxpy")
    weighting = pytest.importorskip("torchjd.aggregation._cagrad").CAGradWeighting(c=0.5, norm_eps=1e-8)
    for case in ("random", "aligned", "half_rank_aligned", "duplicated", "dominant"):
        gramian = (jacobian := difficult(tasks, 6)[case]) @ jacobian.T
        w = solvers.cagrad(gramian, 0.5)
        actual = 1 / tasks + 0.5 * gramian.mean().sqrt() / (w @ gramian @ w).sqrt() * w
        theirs = weighting(gramian)
        assert (actual @ jacobian - theirs @ jacobian).norm() < 1e-2 * (theirs @ jacobian).norm()
        # Both updates end on the ball; the better one improves the worst task more. Theirs stops at about 1e-5.
        assert (gramian @ actual).min() > (gramian @ theirs).min() - 1e-8 * gramian.diagonal().max()
