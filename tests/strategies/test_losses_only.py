"""Every strategy that reads losses alone, against oracles that are written another way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from torch import Tensor

from mtl.strategies import make
from mtl.strategies.strategy import Strategy
from tests.oracles import trace
from tests.oracles.base import softmax
from tests.oracles.losses import LEARNED

TASKS, STEPS, STEPS_PER_EPOCH = 4, 40, 5


def signals(losses: Tensor, seed: int = 0) -> Iterator[dict[str, Tensor]]:
    """Everything that such a strategy may read, one dictionary a step."""
    generator = torch.Generator().manual_seed(seed + 100)
    tasks = losses.shape[1]
    for step, now in enumerate(losses):
        noise = torch.randn(tasks, tasks, generator=generator, dtype=torch.float64).to(losses.dtype)
        after = losses[max(step - 1, 0)] * (0.9 + 0.02 * torch.arange(tasks).to(losses.dtype))
        yield {"losses": now, "noise": noise, "after": after, "epoch": torch.tensor(step // STEPS_PER_EPOCH)}


def weights_of(spec: str | Strategy, losses: Tensor, seed: int = 0) -> Tensor:
    """The weights (steps, tasks) of a run over the given losses."""
    strategy = make(spec)
    strategy.check_tasks(losses.shape[1])
    state, result = strategy.init(losses[0]), []
    for given in signals(losses, seed):
        weights, state = strategy(state, given)
        result.append(weights)
    return torch.stack(result)


def close(ours: Any, theirs: Any, tolerance: float = 1e-10) -> None:
    ours, theirs = (torch.as_tensor(np.asarray(x), dtype=torch.float64) for x in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- objectives of the losses -----------------------------------------------------------------------------------------


def test_geometric_changes_by_one_factor_with_the_units_of_the_losses() -> None:
    unit = torch.tensor([1.0, 1e3, 1e-3, 7.0], dtype=torch.float64)
    close(weights_of("geometric", trace() * unit) * unit, weights_of("geometric", trace()) * unit.log().mean().exp())


def test_geometric_weighs_all_losses_equally_where_the_plain_product_underflows() -> None:
    losses = torch.full((1, 100), 1e-8, dtype=torch.float64)
    assert float(losses.prod()) == 0
    close(weights_of("geometric", losses), torch.full((1, 100), 0.01, dtype=torch.float64))


def test_tchebycheff_shares_the_weight_among_the_worst() -> None:
    losses = torch.tensor([[1.0, 3.0, 3.0, 2.0]], dtype=torch.float64)
    close(weights_of("tchebycheff", losses), [[0, 0.125, 0.125, 0]])


def test_pbi_on_its_ray_has_no_penalty() -> None:
    preference = torch.tensor([[1.0, 2.0, 3.0, 1.0]], dtype=torch.float64)
    close(weights_of("pbi:preference=1/2/3/1", 0.3 * preference), preference / preference.norm())


@pytest.mark.parametrize("key", ["preference", "ideal"])
def test_preferences_of_the_wrong_length_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="one a loss"):
        make(f"pbi:{key}=1/2").check_tasks(3)
    with pytest.raises(ValueError, match="not be all zero"):
        make("stch:preference=0/0")


def test_plain_stch_needs_no_epochs() -> None:
    strategy, losses = make("stch:form=plain"), trace(steps=1)[0]
    assert strategy.needs_at(0) == {"losses"}
    strategy(strategy.init(losses), {"losses": losses})


def test_stch_uses_the_first_step_after_an_empty_nadir_epoch() -> None:
    strategy, losses = make("stch:warmup=1"), trace(steps=2)
    state = strategy.init(losses[0])
    weights, state = strategy(state, {"losses": losses[0], "epoch": torch.tensor(5)})
    close(weights, 1 / losses[0])
    close(state.total, losses[0])
    weights, _ = strategy(state, {"losses": losses[1], "epoch": torch.tensor(5)})
    close(weights, TASKS / losses[0] / (losses[1] / losses[0]).sum())


# --- learned parameters: the same as one optimizer over model and parameters -----------------------------------------


class Quadratics:
    """Tasks |A_k theta - b_k|^2 / 2 + c_k with a batch's offset: losses that a real step changes."""

    def __init__(self, tasks: int = TASKS) -> None:
        generator = torch.Generator().manual_seed(3)
        self.a = torch.randn(tasks, 3, 5, generator=generator, dtype=torch.float64)
        self.b = torch.randn(tasks, 3, generator=generator, dtype=torch.float64)
        self.tasks = tasks

    def __call__(self, theta: Tensor, step: int) -> Tensor:
        offset = 0.3 + 0.1 * torch.sin(torch.arange(self.tasks, dtype=torch.float64) + step)
        return ((self.a @ theta - self.b) ** 2).sum(1) / 2 + offset

    def start(self) -> Tensor:
        return torch.full((5,), 0.7, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("spec", [*LEARNED, "uncertainty:start=-0.5", "ldc-mtl:normalization=log,penalty=0.3"])
def test_one_step_equals_a_joint_step_of_the_optimizer(spec: str, optimizer: str) -> None:
    kind, lr = {"adam": (torch.optim.Adam, 0.02), "sgd": (torch.optim.SGD, 0.01)}[optimizer]
    strategy = make(spec, lr=lr, optimizer=optimizer)
    start, objective = LEARNED[strategy.name]
    problem = Quadratics()
    theta = problem.start()
    learned = torch.full((TASKS,), start(strategy), dtype=torch.float64, requires_grad=True)
    joint, first = kind([theta, learned], lr=lr), problem(theta, 0).detach()

    own = problem.start()
    step_own, state = kind([own], lr=lr), strategy.init(first)
    for step in range(150):
        joint.zero_grad()
        objective(strategy, problem(theta, step), learned, first).backward()
        joint.step()

        losses = problem(own, step)
        weights, state = strategy(state, {"losses": losses.detach()})
        step_own.zero_grad()
        (weights * losses).sum().backward()
        step_own.step()
        close(own.detach(), theta.detach())
        close(state[0], learned.detach())


@pytest.mark.parametrize(
    ("spec", "residual"),
    [
        ("uncertainty", lambda s, L: s.exp() - L),
        ("revised-uncertainty", lambda c, L: 2 * c**4 / (1 + c**2) - L),
        ("imtl-l", lambda s, L: s.exp() * L - 1),
    ],
)
def test_learned_parameters_settle_where_the_objective_is_stationary(spec: str, residual: Any) -> None:
    losses = torch.tensor([0.3, 1.0, 2.0, 5.0], dtype=torch.float64)
    strategy = make(spec, lr=0.05, optimizer="sgd")
    state = strategy.init(losses)
    for _ in range(4000):
        _, state = strategy(state, {"losses": losses})
    close(residual(state[0], losses), torch.zeros(TASKS), 1e-6)


def test_revised_uncertainty_stays_off_its_pole() -> None:
    strategy = make("revised-uncertainty:lr=10,optimizer=sgd")
    state = strategy.init(torch.zeros(2, dtype=torch.float64))
    _, state = strategy(state, {"losses": torch.full((2,), 1e-9, dtype=torch.float64)})  # from 1, a step of -10
    assert float(state.scale.min()) == pytest.approx(1e-3)


def test_ldc_mtl_draws_neighbouring_losses_together() -> None:
    """A task that is ahead of its neighbours gets a smaller weight, even a negative one under a strong penalty."""
    losses = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.5, 1.0]], dtype=torch.float64)
    weights = weights_of("ldc-mtl:penalty=0.6", losses)[1]
    close(weights, vector(1.6, -0.2, 1.6) / 3, 1e-3)


# --- statistics of the losses ----------------------------------------------------------------------------------------


def test_rlw_dirichlet_is_uniform_on_the_simplex() -> None:
    weights = weights_of("rlw:distribution=dirichlet", torch.ones(6000, 3, dtype=torch.float64)).numpy()
    for k in range(3):
        assert scipy.stats.kstest(weights[:, k], scipy.stats.beta(1, 2).cdf).pvalue > 1e-3
    assert np.cov(weights.T)[0, 1] == pytest.approx(-1 / 36, rel=0.1)


def test_dwa_does_not_count_an_epoch_without_losses() -> None:
    strategy, losses = make("dwa"), trace(steps=4)
    state = strategy.init(losses[0])
    for now, epoch in zip(losses, [0, 3, 3, 7], strict=True):
        weights, state = strategy(state, {"losses": now, "epoch": torch.tensor(epoch)})
    ratios = (losses[1:3].mean(0) / losses[0] / 2).tolist()
    close(weights, [TASKS * share for share in softmax(ratios)])


def test_lbtw_starts_over_with_every_epoch() -> None:
    close(weights_of("lbtw:alpha=0.8", trace())[::STEPS_PER_EPOCH], torch.ones(STEPS // STEPS_PER_EPOCH, TASKS))


def test_dtp_favours_the_task_that_performs_worst_and_drops_a_solved_one() -> None:
    weights = weights_of("dtp:alpha=1", torch.tensor([[0.0, 0.1, 1.0, 3.0]], dtype=torch.float64))[0]
    assert float(weights[0]) == 0
    assert weights.tolist() == sorted(weights.tolist())


def test_softadapt_normalized_favours_the_slowest_when_all_fall() -> None:
    """Divided by the signed sum, as public code does, the order would turn around."""
    losses = torch.tensor([[2.0, 2.0, 2.0], [1.9, 1.5, 1.0]], dtype=torch.float64)
    weights = weights_of("softadapt:variant=normalized,beta=1", losses)[1].tolist()
    assert weights == sorted(weights, reverse=True)


def test_cov_of_constant_losses_is_equal() -> None:
    close(
        weights_of("cov", trace()[:1].expand(STEPS, TASKS)), torch.full((STEPS, TASKS), 1 / TASKS, dtype=torch.float64)
    )


def test_relobralo_looks_back_with_the_given_probability() -> None:
    """Losses that differ from the first only: with alpha = 1, a lookback resets the weights to b(t, 0)."""
    losses = torch.ones(3000, 2, dtype=torch.float64)
    losses[0, 0] = 2.0
    losses[1:, 1] = torch.arange(1, 3000, dtype=torch.float64) / 3000
    weights = weights_of("relobralo:alpha=1,rho=0.7", losses)
    kept = (weights[2:] == weights[1:-1]).all(1).double().mean()
    assert float(kept) == pytest.approx(0.7, abs=0.03)


def test_slaw_keeps_its_digits_in_float32() -> None:
    """The difference of two large averages would lose a deviation of 1e-3 on a loss of 100."""
    losses = torch.stack([100 + 1e-3 * trace()[:, 0], 100 + 1e-2 * trace(1)[:, 0]], 1)
    expected = weights_of("slaw", losses.float().double())
    close(weights_of("slaw", losses.float()).double(), expected, 1e-2)


# --- adversaries and groups ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.003, 0.1, 0.5, 5.0])
def test_banditmtl_projects_a_mirror_step_onto_the_ball(rho: float) -> None:
    losses = 2 * torch.rand(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = weights_of(f"banditmtl:rho={rho},lr=0.7", losses).numpy()
    close(weights[0], [0.25] * 4)

    def divergence(p: np.ndarray, q: np.ndarray) -> float:
        return float((p * np.log(p / q)).sum())

    for step in range(5):
        moved = weights[step] * np.exp(0.7 * losses[step].numpy())
        moved /= moved.sum()
        solution = scipy.optimize.minimize(
            divergence,
            weights[step],
            (moved,),
            bounds=[(1e-9, 1)] * 4,
            constraints=[
                {"type": "eq", "fun": lambda p: p.sum() - 1},
                {"type": "ineq", "fun": lambda p: rho - divergence(p, np.full(4, 0.25))},
            ],
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 300},
        )
        close(weights[step + 1], solution.x, 1e-5)
        assert divergence(weights[step + 1], np.full(4, 0.25)) <= rho * (1 + 1e-9)


def test_banditmtl_finds_the_worst_case_of_the_ball_and_with_it_the_variance() -> None:
    losses = torch.tensor([1.0, 1.2, 0.7, 1.6], dtype=torch.float64)
    weights = weights_of("banditmtl:rho=1e-4,lr=0.5", losses.expand(200, 4))[-1]
    direction = losses - losses.mean()
    worst = float(weights @ losses)
    assert worst == pytest.approx(float(losses.mean() + (2e-4 * direction.square().mean()).sqrt()), rel=1e-4)


@pytest.mark.parametrize("tasks", [2, 4, 5])
@pytest.mark.parametrize("groups", [1, 2, 3, 8])
def test_go4align_finds_the_best_of_all_groupings(tasks: int, groups: int) -> None:
    losses, lr = trace(seed=5, steps=6, tasks=tasks), 0.05
    weights = weights_of(f"go4align:groups={groups},lr={lr}", losses).numpy()
    probability = np.full(tasks, 1 / tasks)
    for step, now in enumerate(losses.numpy()):
        probability = probability * np.exp(-lr * now)
        probability /= probability.sum()
        indicator = now.sum() / now * probability
        best = min(
            (centred(indicator, labels) for labels in itertools.product(range(min(groups, tasks)), repeat=tasks)),
            key=lambda means: ((indicator - means) ** 2).sum(),
        )
        close(weights[step], best, 1e-9)


def centred(values: np.ndarray, labels: tuple[int, ...]) -> np.ndarray:
    """Each value replaced by the mean of those with its label."""
    return np.array([values[np.array(labels) == label].mean() for label in labels])


def test_go4align_with_equal_losses_weighs_all_tasks_equally() -> None:
    close(weights_of("go4align", torch.full((5, 4), 0.3, dtype=torch.float64)), torch.ones(5, 4))


# --- FAMO ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gamma", "floor"), [(1e-3, 0.0), (1e-2, 0.1)])
def test_famo_equals_the_loop_that_reads_the_losses_right_after_the_step(gamma: float, floor: float) -> None:
    problem = Quadratics()
    theta, logits = problem.start(), torch.zeros(TASKS, dtype=torch.float64, requires_grad=True)
    model, weigher = torch.optim.Adam([theta], 0.01), torch.optim.Adam([logits], 0.025, weight_decay=gamma)

    own, strategy = problem.start(), make("famo", gamma=gamma, floor=(floor,))
    step_own, state = torch.optim.Adam([own], 0.01), strategy.init(torch.zeros(TASKS, dtype=torch.float64))
    after = torch.zeros(TASKS, dtype=torch.float64)  # unread by the first call
    for step in range(200):
        before = problem(theta, step) - floor + 1e-8
        share = torch.softmax(logits, 0).detach()
        model.zero_grad()
        ((share * before.log()).sum() / (share / before.detach()).sum()).backward()
        model.step()
        change = before.detach().log() - (problem(theta, step).detach() - floor + 1e-8).log()
        weigher.zero_grad()
        torch.softmax(logits, 0).backward(change)
        weigher.step()

        losses = problem(own, step)
        weights, state = strategy(state, {"losses": losses.detach(), "after": after})
        step_own.zero_grad()
        (weights * losses).sum().backward()
        step_own.step()
        after = problem(own, step).detach()
        close(own.detach(), theta.detach(), 1e-10)
        close(weights, share / before.detach() / (share / before.detach()).sum(), 1e-10)
