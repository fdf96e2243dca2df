"""Every strategy on gradient norms or the Gramian against an independent oracle, and the properties it claims."""

import numpy as np
import pytest
import scipy.optimize
import torch
import torchjd.aggregation as peers
from torch.utils import _pytree as pytree

from mtl.hyperparameters import domains
from mtl.strategies import REGISTRY, make
from tests.problems import random_signals, run
from tests.solvers.gramians import difficult

SPECS = [
    "aligned",
    "cagrad",
    "config",
    "db-mtl",
    "dualproj",
    "edm",
    "epo",
    "fairgrad",
    "ferero",
    "gcs",
    "gradnorm",
    "gradvac",
    "imtl",
    "imtl-g",
    "krum",
    "log-mgda",
    "metabalance",
    "mgda",
    "nash",
    "ntkmtl",
    "ol-aux",
    "pareto-mtl",
    "pcd",
    "pcgrad",
    "pmgda",
    "trimmed-mean",
    "upgrad",
    "wc-mgda",
    "aligned:scale=median",
    "aligned:scale=rmse",
    "cagrad:rescale=0",
    "cagrad:rescale=2",
    "gcs:gate=hard",
    "mgda:norm=l2",
    "mgda:norm=loss",
    "mgda:norm=loss-l2",
    "nash:max_norm=1",
    "gradvac:beta=0.5",
]
TASKS = [2, 3, 5, 12, 40]
# Every gradient has a positive product with some direction, so all problems have a solution in their interior.
PLEASANT = ["random", "aligned", "hundredfold"]
# Priorities and orders that a permutation of the tasks would have to permute with them.
ORDERED = {"gcs", "metabalance", "ol-aux", "pcd", "pcgrad", "gradvac"}


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


# --- every strategy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("tasks", [2, 5, 40])
@pytest.mark.parametrize("spec", SPECS)
def test_weights_and_state_stay_finite_on_difficult_gradients(spec, tasks, dtype):
    strategy = make(spec)
    assert make(str(strategy)) == strategy
    strategy.check_tasks(tasks)
    for name, jacobian in difficult(tasks, 1, dtype).items():
        state = strategy.init(jacobian[:, 0])
        for step in range(2):
            weights, following = strategy(state, signals(jacobian, step))
            assert weights.isfinite().all(), name
            assert weights.dtype == dtype
            assert weights.shape == (jacobian.shape if strategy.elementwise else (tasks,))
            for old, new in zip(pytree.tree_leaves(state), pytree.tree_leaves(following), strict=True):
                assert new.isfinite().all() and (new.shape, new.dtype) == (old.shape, old.dtype), name
            state = following


@pytest.mark.parametrize("tasks", [2, 5])
@pytest.mark.parametrize("spec", SPECS)
def test_vmap_equals_a_loop(spec, tasks):
    strategy = make(spec)
    members = [signals(normal(tasks, 9, seed=seed), seed) for seed in range(3)]
    stacked = {key: torch.stack([member[key] for member in members]) for key in members[0]}
    states = [strategy.init(member["losses"]) for member in members]
    state = pytree.tree_map(lambda *leaves: torch.stack(leaves), *states) if states[0] else states[0]
    axes = 0 if states[0] else None
    for _ in range(2):
        together, state = torch.func.vmap(strategy, in_dims=(axes, 0), out_dims=(0, axes))(state, stacked)
        for index, member in enumerate(members):
            alone, states[index] = strategy(states[index], member)
            close(together[index], alone, rtol=1e-7, atol=1e-10)


SEARCHED = [(spec, key) for spec in SPECS for key, domain in domains(make(spec)).items() if domain.search]


@pytest.mark.parametrize(("spec", "key"), SEARCHED)
def test_members_may_differ_in_their_hyperparameters(spec, key):
    steps = [signals(normal(3, 9, seed=seed), seed) for seed in range(3)]
    values = torch.tensor(domains(make(spec))[key].search, dtype=torch.float64)
    together = torch.func.vmap(lambda value: torch.stack(run(make(spec).replace(**{key: value}), steps)))(values)
    for weights, value in zip(together, values, strict=True):
        close(weights, torch.stack(run(make(spec).replace(**{key: float(value)}), steps)), 1e-6, 1e-9)


@pytest.mark.parametrize("spec", [s for s in SPECS if s.split(":")[0] not in ORDERED | {"trimmed-mean"}])
def test_permuting_the_tasks_permutes_the_weights(spec):
    jacobian, losses = normal(5, 9, seed=3), torch.rand(5, dtype=torch.float64) + 0.5
    order = torch.tensor([3, 0, 4, 1, 2])
    close(weigh(spec, jacobian[order], 0, losses[order]), weigh(spec, jacobian, 0, losses)[order], 1e-6, 1e-7)


INVARIANT = [
    "aligned",
    "cagrad",
    "config",
    "db-mtl",
    "dualproj",
    "edm",
    "epo",
    "gcs",
    "gradvac",
    "imtl-g",
    "krum",
    "mgda",
    "ntkmtl",
    "pareto-mtl",
    "pcgrad",
    "upgrad",
    "wc-mgda",
]
POWERS = [*((spec, 0) for spec in INVARIANT), ("nash", -1), ("fairgrad:alpha=1", -1), ("fairgrad:alpha=2", -4 / 3)]


@pytest.mark.parametrize(("spec", "power"), POWERS)
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_weights_scale_with_all_gradients_as_a_power(spec, power, factor):
    jacobian = difficult(5, 2)["random"]
    close(weigh(spec, factor * jacobian), factor**power * weigh(spec, jacobian), 1e-5, 1e-12)


@pytest.mark.parametrize("spec", ["config", "edm", "imtl-g", "nash", "ntkmtl", "mgda:norm=l2", "db-mtl"])
def test_the_direction_does_not_depend_on_the_scale_of_one_gradient(spec):
    jacobian = difficult(5, 2)["aligned"]
    scales = torch.logspace(-8, 8, 5, dtype=torch.float64)[:, None]
    one, other = weigh(spec, jacobian) @ jacobian, weigh(spec, scales * jacobian) @ (scales * jacobian)
    close(other / other.norm(), one / one.norm(), 1e-6, 1e-8)


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
    with pytest.raises(ValueError, match="preference has 3 numbers, one a task would be 2"):
        make(f"{spec}:preference=1/2/3").check_tasks(2)
    with pytest.raises(ValueError, match="must not be all zero"):
        make(f"{spec}:preference=0/0")


def test_the_file_covers_what_reads_the_gramian():
    tested = {spec.split(":")[0] for spec in SPECS}
    assert tested <= set(REGISTRY)


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


@pytest.mark.parametrize("tasks", [2, 3, 5, 12])
def test_pcd_follows_torchjd_over_steps(tasks):
    peer, steps = peers.PCD(tau=0.2, beta=0.9), [signals(normal(tasks, 15, seed=s)) for s in range(4)]
    for weights, given in zip(run(make("pcd:tau=0.2,beta=0.9"), steps), steps, strict=True):
        expected = peer(given["jacobian"])
        close(weights @ given["jacobian"], expected, 1e-6, 1e-7)


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


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("alpha", [0.0, 0.12, 1.5])
def test_gradnorm_equals_the_paper_by_autograd(alpha, optimizer):
    tasks, lr = 3, 0.025
    steps = [signals(normal(tasks, 9, seed=s), s) for s in range(8)]
    free = torch.nn.Parameter(torch.ones(tasks, dtype=torch.float64))
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer]
    updater = kind([free], lr=lr)
    first = steps[0]["losses"]
    ours = run(make(f"gradnorm:alpha={alpha},lr={lr},optimizer={optimizer}"), steps)
    for weights, given in zip(ours, steps, strict=True):
        close(weights, free.detach())
        norms = torch.stack([(w * row).norm() for w, row in zip(free, given["jacobian"], strict=True)])
        relative = given["losses"] / first
        target = (norms.mean() * (relative / relative.mean()) ** alpha).detach()
        updater.zero_grad()
        (norms - target).abs().sum().backward()
        updater.step()
        with torch.no_grad():
            free.clamp_(min=0).mul_(tasks / free.sum())


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


def test_db_mtl_scales_log_gradients_to_the_longest():
    jacobian, losses = normal(4, 9), torch.tensor([0.1, 1.0, 2.0, 30.0], dtype=torch.float64)
    logs = jacobian / losses[:, None]
    scaled = logs * (logs.norm(dim=1).max() / logs.norm(dim=1))[:, None]
    close(weigh("db-mtl", jacobian, losses=losses) @ jacobian, scaled.sum(0))


def test_ntkmtl_makes_all_gradients_as_long_at_power_one_half():
    jacobian = normal(4, 9) * torch.tensor([[1e-3], [1.0], [10.0], [1e3]], dtype=torch.float64)
    norms = weigh("ntkmtl", jacobian) * jacobian.norm(dim=1)
    close(norms, jacobian.square().sum(1).mean().sqrt().expand(4))
    squares = jacobian.square().sum(1)
    close(weigh("ntkmtl:power=0.75", jacobian), (squares.mean() / squares) ** 0.75)


def test_metabalance_follows_its_recursion():
    steps, average = [signals(normal(3, 9, seed=s)) for s in range(4)], torch.zeros(3, dtype=torch.float64)
    for weights, given in zip(run(make("metabalance"), steps), steps, strict=True):
        average = 0.9 * average + 0.1 * given["jacobian"].norm(dim=1)
        close(weights, 0.7 * average[0] / average + 0.3)
        assert weights[0] == 1


# --- the hull of the gradients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize(
    "name", ["random", "aligned", "conflicting", "half_rank", "duplicated", "badly_scaled_aligned"]
)
def test_mgda_satisfies_its_optimality_conditions(name, tasks):
    jacobian = difficult(tasks, 3)[name]
    weights = weigh("mgda", jacobian)
    close(weights.sum(), 1.0)
    assert weights.min() >= 0
    update = weights @ jacobian
    # The shortest vector d of the hull has d . g_k >= |d|^2 for all k, with equality where w_k > 0.
    shares = weights * jacobian.norm(dim=1)
    gap = (jacobian @ update - update @ update) / jacobian.norm(dim=1) / shares.sum()
    assert gap.min() > -1e-5
    assert gap[shares > 1e-3 * shares.max()].max() < 1e-5


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


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize(
    "name", [*PLEASANT, "conflicting", "duplicated", "half_rank", "badly_scaled_aligned", "opposed"]
)
def test_imtl_g_projects_the_update_equally_on_all_gradients(name, tasks):
    jacobian = difficult(tasks, 3)[name]
    weights = weigh("imtl-g", jacobian)
    close(weights.sum(), 1.0, 1e-6)
    projections = (jacobian @ (weights @ jacobian)) / jacobian.norm(dim=1)
    tolerance = 1e-5 * (weights.abs() * jacobian.norm(dim=1)).sum()
    assert projections.max() - projections.min() < tolerance


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


def test_pcgrad_never_projects_a_gradient_on_itself():
    # After projections on the others, g_i' may point against g_i: a projection on itself would change the sum.
    jacobian, given = difficult(6, 4)["conflicting"], None
    for seed in range(10):
        given = signals(jacobian, seed)
        expected = torch.zeros_like(jacobian[0])
        for i, order in enumerate(given["noise"].argsort(-1).tolist()):
            projected = jacobian[i].clone()
            for j in (j for j in order if j != i):
                overlap = projected @ jacobian[j]
                if overlap < 0:
                    projected -= overlap / (jacobian[j] @ jacobian[j]) * jacobian[j]
            expected += projected
        close(weigh("pcgrad", jacobian, seed) @ jacobian, expected, 1e-8, 1e-10)


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


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("name", [*PLEASANT, "conflicting", "duplicated", "badly_scaled", "dominant"])
def test_nash_solves_its_equation(name, tasks):
    jacobian = difficult(tasks, 3)[name]
    weights = weigh("nash", jacobian)
    assert weights.min() > 0
    close(weights * (jacobian @ (weights @ jacobian)), torch.ones(tasks), 1e-6, 1e-6)
    close((weights @ jacobian).norm(), tasks**0.5, 1e-6)
    close((weigh("nash:max_norm=1", jacobian) @ jacobian).norm(), 1.0)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("tasks", [2, 3, 5, 12, 40])
@pytest.mark.parametrize("name", [*PLEASANT, "conflicting", "duplicated"])
def test_fairgrad_solves_its_equation(name, tasks, alpha):
    jacobian = difficult(tasks, 3)[name]
    weights = weigh(f"fairgrad:alpha={alpha}", jacobian)
    assert weights.min() > 0
    close((jacobian @ (weights @ jacobian)) * weights ** (1 / alpha), torch.ones(tasks), 1e-6, 1e-6)


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


def test_ol_aux_moves_every_n_steps_along_the_summed_products():
    steps = [signals(0.3 * normal(3, 5, seed=s)) for s in range(7)]
    weights = run(make("ol-aux:lr=0.1,n=3,optimizer=sgd,start=0.5"), steps)
    start = torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64)
    for step in range(3):
        close(weights[step], start)
    expected = start
    for block in (0, 3):
        products = sum(given["gramian"][0] for given in steps[block : block + 3])
        expected = (expected + 0.1 * products).clamp(min=0)
        expected[0] = 1
        close(weights[block + 3], expected)


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


def linear_program(objective, matrix, lower, free=0):
    inside = np.ones(len(objective))
    inside[len(inside) - free :] = 0
    return scipy.optimize.linprog(-objective, -matrix, -lower, inside[None], [1.0], bounds=(0, None))


@pytest.mark.parametrize("preference", ["", "1/2/3/1/2"])
@pytest.mark.parametrize("seed", range(6))
def test_epo_solves_its_linear_programs(seed, preference):
    tasks = 5
    jacobian = difficult(tasks, seed)["random"]
    generator = torch.Generator().manual_seed(seed)
    importance = np.array([float(p) for p in preference.split("/")]) if preference else np.ones(tasks)
    importance = tasks * importance / importance.sum()
    losses = torch.rand(tasks, generator=generator, dtype=torch.float64) + 0.1
    if seed % 2:
        losses = torch.as_tensor(1 / importance)
    gramian = (jacobian @ jacobian.T).numpy()
    gramian = gramian / np.trace(gramian)
    share = importance * losses.numpy() / (importance * losses.numpy()).sum()
    uneven = (share * np.log(tasks * share)).sum()
    anchor = importance * (np.log(tasks * share) - uneven)
    pull = gramian @ anchor
    if uneven > 1e-4:
        lower = np.where(pull > 0, -np.inf, pull) if (pull > 0).any() else np.zeros(tasks)
        lower[share == share.max()] = 0
        keep = np.isfinite(lower)
        objective, matrix, lower = pull, gramian[keep], lower[keep]
    else:
        objective = gramian.sum(0)
        matrix, lower = np.vstack([gramian, pull]), np.append(np.zeros(tasks), min(pull.max(), 0.0))
    best = linear_program(objective, matrix, lower)
    assert best.success
    weights = weigh(f"epo:preference={preference}" if preference else "epo", jacobian, losses=losses).numpy()
    assert weights.sum() == pytest.approx(1) and weights.min() >= 0
    assert (matrix @ weights - lower).min() > -1e-5
    assert objective @ weights == pytest.approx(-best.fun, abs=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_pmgda_solves_its_linear_program_and_then_is_mgda(seed):
    tasks, sigma = 4, 0.3
    jacobian = difficult(tasks, seed)["random"]
    direction = np.full(tasks, tasks**-0.5)
    losses = torch.rand(tasks, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    aside = losses.numpy() - losses.numpy() @ direction * direction
    slope = aside / np.linalg.norm(aside)
    rows = np.vstack([jacobian.numpy(), slope @ jacobian.numpy()])
    rows = rows / np.linalg.norm(jacobian.numpy(), axis=1).max()
    norms = np.linalg.norm(rows, axis=1)
    products = rows @ rows.T / norms
    matrix = np.hstack([products, -np.append(np.ones(tasks), 0)[:, None]])
    lower = np.append(-np.ones(tasks), sigma * norms[-1])
    best = linear_program(np.append(np.zeros(tasks + 1), 1.0), matrix, lower, free=1)
    assert best.success
    weights = weigh(f"pmgda:sigma={sigma}", jacobian, losses=losses).numpy()
    update = weights @ jacobian.numpy()
    assert (rows[:-1] @ update).min() == pytest.approx(-best.fun - 1, abs=1e-5)
    assert rows[-1] @ update >= sigma * norms[-1] - 1e-5
    close(weigh("pmgda", jacobian, losses=torch.ones(4, dtype=torch.float64)), weigh("mgda", jacobian))


@pytest.mark.parametrize("u", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("tasks", [2, 3, 5])
def test_wc_mgda_solves_its_cone_program(tasks, u):
    import cvxpy as cp

    jacobian = difficult(tasks, 3)["random"]
    losses = torch.rand(tasks, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
    importance = (
        PREFERENCE[tasks] / PREFERENCE[tasks].sum() if tasks in PREFERENCE else torch.full((6,), 1 / 6).double()
    )
    rows = (importance[:, None] * jacobian).numpy()
    rows = rows / np.linalg.norm(rows, 2)
    gain = (importance * losses).numpy()
    share = cp.Variable(tasks)
    problem = cp.Problem(cp.Maximize(share @ gain - u * cp.norm(rows.T @ share)), [share >= 0, cp.sum(share) == 1])
    best = problem.solve(solver=cp.CLARABEL)
    weights = weigh(f"wc-mgda:u={u},preference={text(importance)}", jacobian, losses=losses)
    ours = (weights / importance).numpy()
    assert ours.sum() == pytest.approx(1) and ours.min() >= 0
    assert ours @ gain - u * np.linalg.norm(rows.T @ ours) == pytest.approx(best, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_ferero_solves_its_quadratic_program(seed):
    import cvxpy as cp

    tasks, rate = 4, 0.5
    jacobian = difficult(tasks, seed)["random"]
    preference = np.array([1.0, 2.0, 3.0, 1.0])
    losses = np.random.default_rng(seed).uniform(0.1, 2, tasks)
    basis = scipy.linalg.null_space(preference[None]).T
    mixture, multiplier = cp.Variable(tasks), cp.Variable(tasks - 1)
    weights = mixture + basis.T @ multiplier
    cost = cp.sum_squares(jacobian.numpy().T @ weights) / 2 - rate * multiplier @ (basis @ losses)
    cp.Problem(cp.Minimize(cost), [mixture >= 0, cp.sum(mixture) == 1]).solve(solver=cp.CLARABEL)
    ours = weigh("ferero:preference=1/2/3/1", jacobian, losses=torch.as_tensor(losses))
    close(ours, weights.value, 1e-4, 1e-5)
    # The losses' distance from the ray falls at the given rate.
    close(torch.as_tensor(basis) @ (jacobian @ (ours @ jacobian)), rate * basis @ losses, 1e-5, 1e-6)
