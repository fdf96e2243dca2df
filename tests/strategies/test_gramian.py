"""Every strategy on gradient norms or the Gramian against an independent oracle, and the properties it claims."""

import numpy as np
import pytest
import scipy.optimize
import torch

from mtl.strategies import make
from tests import oracles
from tests.oracles.base import shares
from tests.peers import library
from tests.problems import random_signals, run
from tests.strategies.solvers.gramians import difficult

peers = library("torchjd.aggregation")

TASKS = [2, 3, 5, 12, 40]
# Every gradient has a positive product with some direction, so all problems have a solution in their interior.
PLEASANT = ["random", "aligned", "hundredfold"]


def signals(jacobian, seed=0, losses=None):
    given = random_signals(len(jacobian), seed, jacobian.dtype)
    given |= {"jacobian": jacobian, "gramian": jacobian @ jacobian.T}
    return given if losses is None else {**given, "losses": losses}


def weigh(spec, jacobian, seed=0, losses=None):
    strategy = make(spec)
    given = signals(jacobian, seed, losses)
    return strategy(strategy.init(given["losses"]), given)[0]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(actual, expected, rtol=1e-6, atol=1e-9):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=rtol, atol=atol)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["gcs", "metabalance", "ol-aux", "pcd"])
def test_the_primary_task_can_be_any(spec):
    jacobian, order = normal(4, 9), torch.tensor([2, 0, 1, 3])
    steps = [signals(jacobian, 1), signals(2 * jacobian + 1, 2)]
    moved = [{**s, "gramian": s["gramian"][order][:, order]} for s in steps]
    for one, other in zip(run(make(f"{spec}:primary=2"), steps), run(make(spec), moved), strict=True):
        close(other, one[order])
    with pytest.raises(ValueError, match="primary=4 is not a task's index, 0 to 3"):
        make(f"{spec}:primary=4").check_tasks(4)


@pytest.mark.parametrize("spec", ["aligned", "config", "dualproj", "epo", "ferero", "pareto-mtl", "pmgda", "upgrad"])
def test_a_preference_must_fit_the_number_of_tasks(spec):
    make(f"{spec}:preference=1/2/3").check_tasks(3)
    with pytest.raises(ValueError, match="preference has 3 numbers, one a loss would be 2"):
        make(f"{spec}:preference=1/2/3").check_tasks(2)
    with pytest.raises(ValueError, match="must not be all zero"):
        make(f"{spec}:preference=0/0")


# --- TorchJD as an oracle ---------------------------------------------------------------------------------------------

PREFERENCE = {k: torch.arange(1, k + 1, dtype=torch.float64) for k in TASKS}


def text(values):
    return "/".join(str(float(v)) for v in values)


@pytest.mark.parametrize("case", PLEASANT)
@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize(
    ("spec", "peer"),
    [
        ("imtl-g", lambda _: peers.IMTLG()),
        ("config", lambda _: peers.ConFIG()),
        ("upgrad", lambda _: peers.UPGrad()),
        ("dualproj", lambda _: peers.DualProj()),
        ("trimmed-mean", lambda k: peers.TrimmedMean(trim_number=k // 4)),
        ("aligned", lambda k: peers.AlignedMTL(torch.ones(k, dtype=torch.float64))),
        ("aligned:scale=median", lambda k: peers.AlignedMTL(torch.ones(k, dtype=torch.float64), scale_mode="median")),
        ("aligned:scale=rmse", lambda k: peers.AlignedMTL(torch.ones(k, dtype=torch.float64), scale_mode="rmse")),
        ("pcd:tau=0.3", lambda _: peers.PCD(tau=0.3)),
    ],
)
def test_updates_equal_torchjd(spec, peer, tasks, case):
    jacobian = difficult(tasks, 3)[case]
    weights = weigh(spec, jacobian)
    update = (weights * jacobian).sum(0) if weights.ndim == 2 else weights @ jacobian
    expected = peer(tasks)(jacobian)
    close(update, expected, 1e-6, 1e-7 * expected.abs().max())


@pytest.mark.parametrize(
    ("name", "peer"), [("config", peers.ConFIG), ("aligned", peers.AlignedMTL), ("upgrad", peers.UPGrad)]
)
def test_preferences_equal_torchjd(name, peer):
    for tasks in (2, 3, 12):
        jacobian, preference = difficult(tasks, 4)["random"], PREFERENCE[tasks] / PREFERENCE[tasks].sum()
        expected = peer(preference)(jacobian)
        close(weigh(f"{name}:preference={text(preference)}", jacobian) @ jacobian, expected, 1e-6, 1e-8)


@pytest.mark.parametrize("name", ["half_rank_aligned", "duplicated", "zero_row", "opposed", "stationary"])
def test_config_equals_torchjd_on_singular_gramians(name):
    jacobian = difficult(6, 3)[name]
    expected = peers.ConFIG()(jacobian)
    close(weigh("config", jacobian) @ jacobian, expected, 1e-5, 1e-6)


def test_pcd_drops_constraints_that_contradict_each_other():
    main, other = normal(2, 9)
    jacobian = torch.stack([main, other, -other])
    close(weigh("pcd", jacobian), [1.0, 0.0, 0.0], atol=1e-7)


@pytest.mark.parametrize("tasks", [2, 3, 5, 12])
def test_cagrad_equals_torchjd(tasks):
    jacobian = difficult(tasks, 3)["random"]
    expected = peers.CAGrad(c=0.4, norm_eps=0.0)(jacobian)
    close(weigh("cagrad:rescale=0", jacobian) @ jacobian, expected, 1e-4, 1e-4)
    close(weigh("cagrad", jacobian), weigh("cagrad:rescale=0", jacobian) / (1 + 0.4**2))
    close(weigh("cagrad:rescale=2", jacobian), weigh("cagrad:rescale=0", jacobian) / (1 + 0.4))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_fairgrad_equals_torchjd_where_its_solver_converges(alpha):
    jacobian = difficult(4, 3)["random"] / 3
    expected = peers.FairGrad(alpha=alpha)(jacobian)
    close(weigh(f"fairgrad:alpha={alpha}", jacobian) @ jacobian, expected, 1e-4, 1e-4)


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")
def test_nash_equals_torchjd_where_its_solver_converges():
    jacobian = difficult(4, 3)["random"]
    expected = peers.NashMTL(n_tasks=4, max_norm=0.0, optim_niter=100)(jacobian)
    close(weigh("nash", jacobian) @ jacobian, expected, 1e-3, 1e-3)


def ordered(monkeypatch, draws):
    """Make TorchJD draw these permutations one after another."""
    queue = iter(draws)
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: next(queue))


@pytest.mark.parametrize("tasks", [2, 3, 5, 12])
def test_pcgrad_equals_torchjd_in_the_same_order(tasks, monkeypatch):
    jacobian = difficult(tasks, 3)["conflicting"]
    given = signals(jacobian, 5)
    ordered(monkeypatch, given["noise"].argsort(-1))
    expected = peers.PCGradWeighting()(given["gramian"])
    close(weigh("pcgrad", jacobian, 5), expected)


@pytest.mark.parametrize("tasks", [2, 3, 5, 12])
def test_gradvac_equals_torchjd_in_the_same_order_over_steps(tasks, monkeypatch):
    steps = [signals(difficult(tasks, seed)["random"], seed) for seed in range(4)]
    draws = []
    for given in steps:
        for itself, order in enumerate(given["noise"].argsort(-1).tolist()):
            others = [j for j in range(tasks) if j != itself]
            draws.append(torch.tensor([others.index(j) for j in order if j != itself]))
    ordered(monkeypatch, draws)
    peer = peers.GradVacWeighting(beta=0.5, eps=1e-12)
    for weights, given in zip(run(make("gradvac:beta=0.5"), steps), steps, strict=True):
        close(weights, peer(given["gramian"]))


# --- gradient norms ---------------------------------------------------------------------------------------------------


def test_gradnorm_favours_the_task_that_trains_slowly():
    jacobian, first = torch.eye(2, dtype=torch.float64), torch.tensor([2.0, 3.0], dtype=torch.float64)
    later = first * torch.tensor([1.0, 0.5], dtype=torch.float64)
    steps = [signals(jacobian, losses=first), *[signals(jacobian, losses=later)] * 20]
    weights = run(make("gradnorm"), steps)
    close(torch.stack([w.sum() for w in weights]), [2.0] * 21)
    assert weights[-1][0] > weights[-1][1]


def test_gradnorm_leaks_no_gradient_into_the_model():
    given = signals(normal(2, 5))
    given["losses"].requires_grad_()
    given["gramian"].requires_grad_()
    strategy = make("gradnorm")
    assert not strategy(strategy.init(given["losses"].detach()), given)[0].requires_grad


def test_ntkmtl_makes_all_gradients_as_long_at_power_one_half():
    jacobian = normal(4, 9) * torch.tensor([[1e-3], [1.0], [10.0], [1e3]], dtype=torch.float64)
    norms = weigh("ntkmtl", jacobian) * jacobian.norm(dim=1)
    close(norms, jacobian.square().sum(1).mean().sqrt().expand(4))
    squares = jacobian.square().sum(1)
    close(weigh("ntkmtl:power=0.75", jacobian), (squares.mean() / squares) ** 0.75)


# --- the hull of the gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "l2", "loss", "loss-l2"])
def test_mgda_equals_scipy_with_each_normalisation(norm):
    jacobian, losses = normal(4, 9), torch.tensor([0.1, 1.0, 2.0, 3.0], dtype=torch.float64)
    length = jacobian.norm(dim=1)
    divisor = {"none": torch.ones(4).double(), "l2": length, "loss": losses, "loss-l2": losses * length}[norm]
    scaled = (jacobian / divisor[:, None]).numpy()
    gramian = scaled @ scaled.T
    best = scipy.optimize.minimize(
        lambda w: w @ gramian @ w, np.full(4, 0.25), jac=lambda w: 2 * gramian @ w, bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-15, "maxiter": 500},
    )  # fmt: skip
    close(weigh(f"mgda:norm={norm}", jacobian, losses=losses) * divisor, best.x, 1e-4, 1e-4)


def test_log_mgda_is_mgda_after_log():
    jacobian, losses = normal(4, 9), torch.tensor([0.1, 1.0, 2.0, 3.0], dtype=torch.float64)
    expected = weigh("log+mgda", jacobian, losses=losses)
    close(weigh("log-mgda", jacobian, losses=losses), expected)
    close(weigh("mgda:norm=loss", jacobian, losses=losses), expected)


@pytest.mark.parametrize("tasks", TASKS)
def test_edm_has_equal_angles_to_the_gradients_that_take_part(tasks):
    jacobian = difficult(tasks, 3)["badly_scaled"]
    weights = weigh("edm", jacobian)
    close(weights.sum(), 1.0)
    update = weights @ jacobian
    cosine = (jacobian @ update) / jacobian.norm(dim=1) / update.norm()
    part = weights * jacobian.norm(dim=1)
    part = part / part.sum()
    assert (cosine[part > 1e-6].max() - cosine[part > 1e-6].min()) < 1e-5
    assert cosine.min() > cosine[part > 1e-6].min() - 1e-5


# --- equal projections and conflicts ----------------------------------------------------------------------------------


def test_imtl_is_the_chain_of_its_halves():
    steps = [signals(normal(3, 9, seed=s), s) for s in range(4)]
    for one, other in zip(run(make("imtl:lr=0.1"), steps), run(make("imtl-l:lr=0.1+imtl-g"), steps), strict=True):
        assert one.equal(other)


@pytest.mark.parametrize("spec", ["upgrad:reg_eps=0", "dualproj:reg_eps=0", "mgda", "config"])
@pytest.mark.parametrize("tasks", TASKS)
def test_updates_conflict_with_no_gradient(spec, tasks):
    for name in ("random", "aligned", "conflicting", "hundredfold"):
        jacobian = difficult(tasks, 3)[name]
        update = weigh(spec, jacobian) @ jacobian
        assert ((jacobian @ update) / jacobian.norm(dim=1) / update.norm()).min() > -1e-5, name


def test_pcgrad_conflicts_with_neither_of_two_gradients():
    for seed in range(20):
        jacobian = normal(2, 4, seed=seed)
        weights = weigh("pcgrad", jacobian, seed)
        update = weights @ jacobian
        assert (jacobian @ update).min() >= -1e-12
        if jacobian[0] @ jacobian[1] >= 0:
            close(weights, [1.0, 1.0])


def test_gradvac_starts_as_pcgrad_and_then_aims_at_the_average_cosine():
    jacobian = torch.tensor([[1.0, 0.0], [-0.6, 0.8]], dtype=torch.float64)
    given = signals(jacobian)
    strategy = make("gradvac:beta=0.5")
    weights, state = strategy(strategy.init(given["losses"]), given)
    close(weights, weigh("pcgrad", jacobian))
    close(state.targets, [[0.0, -0.3], [-0.3, 0.0]])
    weights, _ = strategy(state, given)
    changed = jacobian[0] + (weights[1] - 1) * jacobian[1]  # by symmetry each gains the same multiple of the other
    close(changed @ jacobian[1] / changed.norm(), -0.3)


@pytest.mark.parametrize("tasks", [2, 3, 5, 12, 40])
def test_config_has_equal_cosines_and_the_length_of_all_projections(tasks):
    jacobian = difficult(tasks, 3)["badly_scaled_aligned"]
    update = weigh("config", jacobian) @ jacobian
    direction = update / update.norm()
    cosine = jacobian @ direction / jacobian.norm(dim=1)
    assert cosine.max() - cosine.min() < 1e-6
    close(update.norm(), (jacobian @ direction).sum(), 1e-6)


# --- bargaining and fairness ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [2, 3, 5, 12])
def test_cagrad_maximises_the_worst_descent_in_its_ball(tasks):
    jacobian, c = difficult(tasks, 3)["conflicting"], 0.4
    mean, generator = jacobian.mean(0), torch.Generator().manual_seed(0)
    update = weigh("cagrad:rescale=0", jacobian) @ jacobian
    radius = c * mean.norm()
    close((update - mean).norm(), radius, 1e-5)
    worst = (jacobian @ update).min()
    # No other point of the ball, in the span of the gradients, serves the worst task better.
    moves = torch.randn(2000, tasks, generator=generator, dtype=torch.float64) @ jacobian
    moves = torch.cat([moves, update - mean + 0.1 * radius * moves / moves.norm(dim=1, keepdim=True)])
    others = mean + radius * moves / moves.norm(dim=1, keepdim=True)
    assert (others @ jacobian.T).amin(1).max() <= worst + 1e-6 * worst.abs()


# --- singular values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["min", "median", "rmse"])
@pytest.mark.parametrize("name", ["random", "half_rank", "duplicated", "identical"])
def test_aligned_gives_all_components_the_same_singular_value(name, scale):
    jacobian = difficult(6, 3)[name]
    columns = [weigh(f"aligned:scale={scale},preference={text(row)}", jacobian) for row in torch.eye(6)]
    values = torch.linalg.svdvals(torch.stack(columns, -1).T @ jacobian)
    kept = torch.linalg.svdvals(jacobian)
    kept = kept[kept > 1e-6 * kept[0]]
    squares = kept.square().flip(0)
    wanted = {"min": squares[0], "median": squares.median(), "rmse": squares.mean()}[scale].sqrt()
    close(values[: len(kept)], wanted.expand(len(kept)), 1e-6)
    assert (values[len(kept) :] < 1e-6 * wanted).all()


# --- auxiliary tasks --------------------------------------------------------------------------------------------------


def test_gcs_gates_auxiliary_tasks_by_their_cosine():
    jacobian = torch.tensor([[2.0, 0.0], [3.0, 4.0], [-1.0, 1.0], [0.0, 7.0]], dtype=torch.float64)
    close(weigh("gcs", jacobian), [1.0, 0.6, 0.0, 0.0])
    close(weigh("gcs:gate=hard", jacobian), [1.0, 1.0, 0.0, 1.0])


# --- robust means -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outliers", "selected"), [(0, 1), (2, 1), (2, 4), (1, 8)])
def test_krum_selects_by_squared_distances(outliers, selected):
    jacobian = difficult(8, 3)["random"]
    distances = torch.cdist(jacobian, jacobian).square()
    score = [sum(sorted(row.tolist())[1 : 8 - outliers - 2 + 1]) for row in distances]
    expected = torch.zeros(8, dtype=torch.float64)
    expected[np.argsort(score)[:selected]] = 1 / selected
    close(weigh(f"krum:outliers={outliers},selected={selected}", jacobian), expected)
    if outliers:  # a gradient far from the others is never chosen
        jacobian[3] += 1e3
        assert selected == 8 or weigh(f"krum:outliers={outliers},selected={selected}", jacobian)[3] == 0


def test_krum_needs_enough_tasks():
    with pytest.raises(ValueError, match="leave no choice among 3 tasks"):
        make("krum:outliers=2").check_tasks(3)


def test_trimmed_mean_ignores_outliers_in_each_coordinate():
    jacobian = normal(5, 4)
    jacobian[2, 1], jacobian[4, 3] = 1e9, -1e9
    expected = jacobian.sort(0).values[1:-1].mean(0)
    close((weigh("trimmed-mean:fraction=0.2", jacobian) * jacobian).sum(0), expected, 1e-6)


# --- preferences ------------------------------------------------------------------------------------------------------


def test_pareto_mtl_is_mgda_inside_its_sector():
    jacobian, losses = normal(3, 7), torch.tensor([1.0, 1.1, 0.9], dtype=torch.float64)
    close(weigh("pareto-mtl", jacobian, losses=losses), weigh("mgda", jacobian), 1e-6, 1e-8)


def test_pareto_mtl_first_descends_on_what_keeps_it_out_of_its_sector():
    jacobian, losses = normal(2, 7), torch.tensor([3.0, 0.1], dtype=torch.float64)
    strategy = make("pareto-mtl")
    given = signals(jacobian, losses=losses)
    weights, state = strategy(strategy.init(losses), given)
    ahead = torch.tensor([1.0, 0.0], dtype=torch.float64) - 0.5**0.5
    close(weights, ahead)
    assert state.inside == 0
    inside, state = strategy(state, {**given, "losses": torch.ones_like(losses)})
    assert state.inside == 1
    close(inside, weigh("mgda", jacobian))
    # From now on the active constraint joins the tasks in the hull.
    weights, state = strategy(state, given)
    rows = torch.cat([torch.eye(2, dtype=torch.float64), ahead[None]])
    close(weights, weigh("mgda", rows @ jacobian) @ rows, 1e-6, 1e-8)


def test_ferero_lowers_the_distance_from_the_ray_at_its_rate():
    jacobian, preference, rate = difficult(4, 0)["random"], torch.tensor([1.0, 2.0, 3.0, 1.0]).double(), 0.5
    losses = torch.rand(4, dtype=torch.float64) + 0.1
    weights = weigh("ferero:preference=1/2/3/1", jacobian, losses=losses)
    across = torch.eye(4).double() - torch.outer(preference, preference) / preference.dot(preference)
    close(across @ (jacobian @ (weights @ jacobian)), rate * across @ losses, 1e-6, 1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("preference", ["", "1/2/3/1/2"])
def test_epo_descends_once_the_losses_are_balanced(preference, seed):
    strategy = make(f"epo:preference={preference}" if preference else "epo")
    jacobian, importance = difficult(5, seed)["random"], shares(strategy.preference, 5)
    given = signals(jacobian, losses=torch.as_tensor(1 / importance))
    weights, _ = strategy((), given)
    assert oracles.preferences.epo(strategy, given, weights) < 1e-5
    assert (jacobian @ (weights @ jacobian)).min() > -1e-5
