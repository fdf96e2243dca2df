"""What every strategy, chain and wrapper keeps to: a new one is tested here by existing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import mtl
from mtl.hyperparameters import defaults, domains
from mtl.strategies import REGISTRY, _linear_program, make, wc_mgda
from mtl.strategies.combinators import COMBINATORS
from mtl.strategies.combinators.chain import scaled
from mtl.strategies.solvers._interior import interior_point
from mtl.strategies.strategy import DOMAINS, SIGNALS, Strategy
from tests.problems import TwoLayers, random_signals, run
from tests.strategies.solvers.gramians import difficult

Signals = dict[str, Tensor]
VARIANTS = [
    "static:weights=1/2/3",
    "rlw:distribution=dirichlet",
    "uncertainty:optimizer=sgd,lr=0.1,start=-0.5",
    "revised-uncertainty:optimizer=sgd,lr=0.02,start=1.5",
    "softadapt:variant=normalized,beta=2",
    "softadapt:variant=loss-weighted,beta=-0.5",
    "igb:base_epoch=0",
    "famo:lr=0.1,gamma=0.01,floor=0/0.1/0.05",
    "stch:mu=0.3,warmup=0,preference=1/2/4",
    "stch:form=plain,mu=0.3,preference=1/2/4,ideal=0.1",
    "tchebycheff:preference=1/2/3,ideal=0.1",
    "pbi:theta=0.5,preference=1/2/3,ideal=0.1/0/0.2",
    "go4align:groups=3,lr=0.05",
    "ldc-mtl:normalization=log,optimizer=sgd",
    "term:tilt=-0.7",
    "aligned:scale=median",
    "aligned:scale=rmse,preference=1/2/3",
    "cagrad:rescale=0",
    "config:preference=1/2/3",
    "epo:preference=1/2/3",
    "ferero:preference=1/2/3",
    "gcs:gate=hard,primary=1",
    "gradnorm:optimizer=sgd",
    "mgda:norm=l2",
    "mgda:norm=loss-l2",
    "nash:max_norm=1",
    "pareto-mtl:preference=1/2/3,others=1/1/2/3/1/1",
    "upgrad:preference=1/2/3",
    "graddrop:leak=0.2,slope=2",
    "excess:warmup=3,lr=0.5",
    "moco:projection=softmax,scaling=loss",
    "auxilearn:primary=0",
    "auto-lambda:primary=0/2,optimizer=sgd",
    "uncertainty+gradnorm+normalize",
    "imtl-l+imtl-g+every:n=2",
    "mgda+ema:beta=0.5+clip:low=0.1",
    "dwa+[pcgrad+every:n=2]+ema",
    "static:weights=1/2/3+moco",
    "uncertainty+graddrop+ema:beta=0.5",
]
#: Runs with any number of tasks, unlike those with a list of three numbers.
SIZED = {spec for spec in VARIANTS if "/" in spec}
SPECS = [*REGISTRY, *VARIANTS]
#: What is traced; variants that share their code with the strategy as it is are left out.
TRACED = [*REGISTRY, *(spec for spec in VARIANTS if "+" in spec or spec.startswith(("mgda", "moco", "stch")))]

LEADING_TASKS = ("losses", "after", "jacobian")
SQUARE = ("gramian", "cross", "align", "implicit")
# `ndtr` (rlw's Dirichlet) and `_pdist_forward` have no batching rule of their own; vmap then loops, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")


def many(steps: int, tasks: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Signals]:
    return [random_signals(tasks, 10 * seed + step, dtype) for step in range(steps)]


def begin(strategy: Strategy, signals: Signals) -> Any:
    return strategy.init_sized(signals["losses"], signals["jacobian"].shape[-1])


def leaves(tree: Any) -> list[Tensor]:
    return pytree.tree_leaves(tree)


def stack(trees: Sequence[Any]) -> Any:
    return pytree.tree_map(lambda *each: torch.stack(each), *trees)


def units(strategy: Strategy) -> list[Strategy]:
    """The strategies and wrappers that a strategy is made of."""
    inside = getattr(strategy, "parts", ()) or ([strategy.inner] if hasattr(strategy, "inner") else [])
    return [unit for part in inside for unit in units(part)] + [strategy]


# --- declared ---------------------------------------------------------------------------------------------------------

#: Continuous hyperparameters without a range to search, and why; those that are one number a task need no reason.
NOT_SEARCHED = {
    "others": "preferences of other runs",
    "low": "a limit that the user sets",
    "high": "a limit that the user sets",
    "max_norm": "a limit, 0 for none",
    "reg_eps": "numerical",
    "eps": "numerical",
    "tolerance": "numerical",
    "fraction": "the number of tasks left out is a whole one",
}


@pytest.mark.parametrize("cls", [*REGISTRY.values(), *COMBINATORS.values()], ids=lambda cls: cls.name)
def test_a_strategy_declares_what_it_is(cls):
    if cls.name in REGISTRY:
        assert issubclass(cls, Strategy) and cls.needs <= SIGNALS.keys() and cls.needs and cls.paper
        assert cls().domain in DOMAINS
    assert len(cls.__doc__.split()) > 5
    for key, domain in domains(cls).items():
        assert domain.doc, key
        usual = defaults(cls)[key]
        continuous = isinstance(usual, float | tuple) and not isinstance(usual, bool)
        if domain.search is None:
            reason = domain.tasks or NOT_SEARCHED.get(key)
            assert not continuous or reason, f"{cls.name}: {key} has no range to search and no reason"
            continue
        least, most = domain.search
        assert least < most and (least > 0 or not domain.log)
        ends = ((least,), (most,)) if isinstance(usual, tuple) else (least, most)
        assert [domain.complaint(end) for end in ends] == [None, None]
        assert isinstance(usual, tuple) or least <= usual <= most, f"{cls.name}: {key}={usual} outside {domain.search}"


@pytest.mark.parametrize("spec", SPECS)
def test_specs_read_back_alone_wrapped_and_in_chains(spec):
    texts = [spec, *(f"{spec}+{name}" for name in COMBINATORS), f"{spec}+every:n=2+ema:beta=0.5+normalize+clip:low=0.1"]
    strategy = make(spec)
    if not strategy.elementwise:
        texts.append(f"{spec}+mgda+ema")
    if not strategy.tracking:
        texts.append(f"uncertainty+[{spec}+every:n=3]")
    for text in texts:
        made = make(text)
        assert make(str(made)) == made and str(make(str(made))) == str(made)
        assert made.needs >= strategy.needs and hash(made) == hash(make(text))


# --- shapes, dtypes, extremes -----------------------------------------------------------------------------------------


def extremes(tasks: int, step: int, dtype: torch.dtype) -> Signals:
    """Stacked signals (cases, ...) of difficult gradients and losses: zero, badly scaled, identical, opposed, ..."""
    generator = torch.Generator().manual_seed(step)
    spread = torch.logspace(-8, 8, tasks, dtype=torch.float64)
    usual = random_signals(tasks, step)
    kinds = [torch.zeros(tasks), torch.full((tasks,), 1e-8), torch.full((tasks,), 1e8), torch.ones(tasks), spread]
    kinds += [spread * (torch.arange(tasks) > 0), torch.eye(tasks)[0], 1 + 1e7 * torch.eye(tasks)[0]]
    # Actor losses and log densities are below zero; they differ from step to step, and may cross it.
    kinds += [-torch.ones(tasks), -700 * usual["losses"], (-1.0) ** step * 700 * (usual["losses"] - 1)]
    cases = []
    jacobians = difficult(tasks, 1)
    for rows in jacobians.values():
        cases += [(rows, usual["losses"]), (rows * (1 + step), spread.flip(0) / (1 + step))]
    cases += [(jacobians["random"], losses.double() * (1 + 0.1 * step)) for losses in kinds]
    cases += [(jacobians["random"] * 1e-8, kinds[0]), (jacobians["random"] * 1e8, kinds[2])]

    def near(rows: Tensor) -> Tensor:
        return rows * (1 + 0.3 * torch.randn(rows.shape, generator=generator, dtype=rows.dtype))

    result = []
    for rows, losses in cases:
        products = {name: near(rows) @ (near(rows) if name == "cross" else rows).T for name in SQUARE[1:]}
        measured = {"losses": losses, "after": 0.9 * losses, "jacobian": rows, **products}
        draws = {"noise": usual["noise"], "dither": torch.rand(rows.shape[1], generator=generator)}
        cast = {name: value.to(dtype) for name, value in (measured | draws).items()}
        rows = cast["jacobian"]
        result.append({**cast, "gramian": rows @ rows.T, "epoch": torch.tensor(step)})
    return stack(result)


EXTREMES = {
    (tasks, dtype): [extremes(tasks, step, dtype) for step in range(3)]
    for tasks, dtype in [(1, torch.float32), (2, torch.float64), (3, torch.float32), (12, torch.float32)]
}


@pytest.mark.parametrize("spec", SPECS)
def test_finite_in_shape_and_dtype_on_extreme_losses_and_gradients(spec):
    strategy = make(spec)
    for (tasks, dtype), steps in EXTREMES.items():
        if (spec in SIZED or tasks == 1) and not accepts(strategy, tasks):
            continue
        rows = steps[0]["jacobian"]
        state = stack([begin(strategy, first(steps[0]))] * len(rows))
        axes = 0 if leaves(state) else None
        for signals in steps:
            weights, following = torch.func.vmap(strategy, in_dims=(axes, 0), out_dims=(0, axes))(state, signals)
            assert weights.dtype == dtype
            assert weights.shape == (rows.shape if strategy.elementwise else rows.shape[:2])
            broken = (~weights.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
            assert not broken, f"K={tasks}, {dtype}: weights of cases {broken} are not finite"
            for old, new in zip(leaves(state), leaves(following), strict=True):
                assert (new.shape, new.dtype) == (old.shape, old.dtype)
                assert new.isfinite().all(), f"K={tasks}, {dtype}: the state is not finite"
            state = following


def accepts(strategy: Strategy, tasks: int) -> bool:
    try:
        strategy.check_tasks(tasks)
    except ValueError:
        return False
    return True


def first(signals: Signals) -> Signals:
    return {name: value[0] for name, value in signals.items()}


@pytest.mark.gpu
@pytest.mark.parametrize("spec", SPECS)
def test_the_device_is_kept_and_changes_nothing(spec):
    strategy, steps = make(spec), many(3)
    state = begin(strategy, steps[0])
    moved = pytree.tree_map(lambda leaf: leaf.cuda(), state)
    for signals in steps:
        there = {name: value.cuda() for name, value in signals.items()}
        weights, state = strategy(state, signals)
        on_device, moved = strategy(moved, there)
        for here, other in zip(leaves((weights, state)), leaves((on_device, moved)), strict=True):
            assert other.is_cuda
            torch.testing.assert_close(other.cpu(), here, rtol=1e-6, atol=1e-8)


# --- pure functions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
def test_a_step_leaves_its_arguments_alone_and_repeats(spec):
    strategy, steps = make(spec), many(3)
    state = begin(strategy, steps[0])
    for signals in steps:
        copies = pytree.tree_map(torch.clone, (state, signals))
        once, again = strategy(state, signals), strategy(state, signals)
        for before, after in zip(leaves(copies), leaves((state, signals)), strict=True):
            torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)
        for one, other in zip(leaves(once), leaves(again), strict=True):
            assert torch.equal(one, other)
        state = once[1]


@pytest.fixture
def few_rounds(monkeypatch):
    """The longest loops of strategies are as they are, but short: to trace each of 60 rounds takes half a minute."""

    def short(*arguments, rounds):
        return interior_point(*arguments, rounds=min(rounds, 6))

    monkeypatch.setattr(_linear_program, "interior_point", short)
    monkeypatch.setattr(wc_mgda, "_ROUNDS", 2)


@pytest.mark.usefixtures("few_rounds")
@pytest.mark.parametrize("spec", TRACED)
def test_a_step_is_one_graph(spec):
    """The graph is traced and then run as it is: a branch on a tensor or a copy to the host would not trace."""
    torch.compiler.reset()
    strategy, signals = make(spec), many(1)[0]
    state = begin(strategy, signals)
    traced = torch.compile(strategy.__call__, fullgraph=True, backend="eager")
    for one, other in zip(leaves(traced(state, signals)), leaves(strategy(state, signals)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def member_values(strategy: Strategy, members: int, tasks: int) -> dict[str, Tensor]:
    """A value of each continuous hyperparameter for each member, by name; names that two units share are left out."""
    found: dict[str, list[Tensor]] = {}
    for unit in units(strategy):
        for key, domain in domains(unit).items():
            usual = getattr(unit, key)
            if domain.search is None or not isinstance(usual, float | tuple):
                continue
            low, high = domain.search
            shares = torch.linspace(0.2, 0.7, members, dtype=torch.float64)
            drawn = low * (high / low) ** shares if domain.log else low + (high - low) * shares
            if isinstance(usual, tuple):
                drawn = drawn[:, None] + torch.arange(tasks, dtype=torch.float64)
            found.setdefault(key, []).append(drawn)
    return {key: drawn[0] for key, drawn in found.items() if len(drawn) == 1}


@pytest.mark.parametrize("spec", SPECS)
def test_members_equal_single_runs_also_with_hyperparameters_of_their_own(spec):
    members, tasks = 3, 3
    strategy, runs = make(spec), [many(4, tasks, seed) for seed in range(members)]
    values = member_values(strategy, members, tasks)

    def whole_run(own: Signals, steps: list[Signals]) -> tuple[Any, Tensor]:
        changed = make(strategy, **own)
        state, weights = begin(changed, steps[0]), []
        for signals in steps:
            current, state = changed(state, signals)
            weights.append(current)
        return state, torch.stack(weights)

    steps = [stack([one[step] for one in runs]) for step in range(4)]
    state, weights = torch.func.vmap(whole_run, in_dims=(0 if values else None, 0))(values, steps)
    for member, alone in enumerate(runs):
        own = {key: tuple(v.tolist()) if (v := drawn[member]).ndim else v.item() for key, drawn in values.items()}
        expected = whole_run(own, alone)
        for together, single in zip(leaves((state, weights)), leaves(expected), strict=True):
            torch.testing.assert_close(together[member], single, rtol=1e-6, atol=1e-9)


#: By tasks' order, or by position: what a permutation of the tasks would have to permute as well.
ORDERED = {
    "ldc-mtl": "compares the losses of neighbours",
    "pcgrad": "row i of the noise orders the projections of task i",
    "gradvac": "row i of the noise orders the projections of task i",
    "rlw": "the noise of task k belongs to task k",
    "gcs": "the first task is the main one",
    "metabalance": "the first task is the main one",
    "ol-aux": "the first task is the main one",
    "pcd": "the first task is the main one",
}


def equivariant(spec: str) -> bool:
    strategy = make(spec)
    return not {unit.name for unit in units(strategy)} & ORDERED.keys() and "/" not in spec and "primary" not in spec


@pytest.mark.parametrize("spec", [spec for spec in SPECS if equivariant(spec)])
def test_tasks_have_no_order(spec):
    order = torch.tensor([2, 0, 3, 1])
    steps = many(4, 4)
    moved = []
    for signals in steps:
        rows = {name: signals[name][order] for name in LEADING_TASKS}
        moved.append({**signals, **rows, **{name: signals[name][order][:, order] for name in SQUARE}})
    for one, other in zip(run(make(spec), steps), run(make(spec), moved), strict=True):
        torch.testing.assert_close(other, one[order], rtol=1e-6, atol=1e-8)


# --- in the balancer --------------------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """What a few training steps leave.

    Attributes:
        weights: of each step.
        parameters: of the model.
        passes: how often the balancer went forward and backward.
        saved: a checkpoint.
    """

    weights: list[Tensor]
    parameters: list[Tensor]
    passes: dict[str, int]
    saved: bytes


def training(spec: str, steps: int, saved: bytes | None = None) -> Trained:
    """A few training steps of a model with dropout; from a checkpoint when one is given."""
    model = TwoLayers(dropout=0.2)
    balancer = mtl.Balancer(spec, model.trunk.parameters(), steps_per_epoch=2, seed=3)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    torch.manual_seed(3)
    if saved is not None:
        loaded = torch.load(io.BytesIO(saved), weights_only=True)
        model.load_state_dict(loaded["model"])
        optimizer.load_state_dict(loaded["optimizer"])
        balancer.load_state_dict(loaded["balancer"])
        torch.set_rng_state(loaded["random"])
    weights = []
    for _ in range(steps):
        optimizer.zero_grad()
        read = model.losses
        weights.append(
            balancer.backward(read(), recompute=read, validation=read, fresh=read, lookahead_lr=0.01).clone()
        )
        optimizer.step()
    assert not balancer.skipped
    file = io.BytesIO()
    parts = {"model": model, "optimizer": optimizer, "balancer": balancer}
    torch.save({name: part.state_dict() for name, part in parts.items()} | {"random": torch.get_rng_state()}, file)
    return Trained(weights, [p.detach() for p in model.parameters()], dict(balancer.passes), file.getvalue())


@pytest.mark.parametrize("spec", SPECS)
def test_a_run_from_a_checkpoint_is_the_uninterrupted_one(spec):
    whole = training(spec, 8)
    half = training(spec, 5)
    rest = training(spec, 3, half.saved)
    for one, other in zip(whole.weights + whole.parameters, half.weights + rest.weights + rest.parameters, strict=True):
        assert torch.equal(one, other)
    assert rest.passes == whole.passes


@pytest.mark.parametrize("spec", SPECS)
def test_losses_in_bfloat16_get_weights_in_float32_and_gradients_in_their_own(spec):
    model = TwoLayers(dtype=torch.bfloat16)
    balancer = mtl.Balancer(spec, model.trunk.parameters(), steps_per_epoch=2)
    for _ in range(2):
        read = model.losses
        weights = balancer.backward(read(), recompute=read, validation=read, fresh=read, lookahead_lr=0.05)
        assert weights.dtype == torch.float32
    assert not balancer.skipped
    assert all(leaf.dtype in (torch.float32, torch.int64) for leaf in leaves(balancer.state))
    for parameter in model.trunk.parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.bfloat16
        assert parameter.grad.isfinite().all()


# --- scale ------------------------------------------------------------------------------------------------------------

#: What the weights sum to at every step: K, or one.
SUM_TO_K = ["equal", "dwa", "relobralo", "slaw", "gradnorm", "gradnorm:optimizer=sgd"]
SUM_TO_ONE = ["static", "rlw", "rlw:distribution=dirichlet", "uw-so", "softadapt", "softadapt:variant=normalized"]
SUM_TO_ONE += ["softadapt:variant=loss-weighted", "cov", "banditmtl", "term", "group-dro", "famo", "excess"]
SUM_TO_ONE += ["mgda", "edm", "imtl-g", "krum", "moco", "modo", "moml", "epo"]
#: Weights of c J are c^power times those of J, for any c.
SCALE_FREE = ["aligned", "cagrad", "config", "db-mtl", "db-mtl-ema", "dualproj", "edm", "epo", "equal", "gcs"]
SCALE_FREE += ["graddrop", "gradnorm", "gradvac", "imtl-g", "krum", "log-mgda", "metabalance", "mgda", "ntkmtl"]
SCALE_FREE += ["pareto-mtl", "pcgrad", "trimmed-mean", "upgrad", "wc-mgda", "mgda:norm=loss", "aligned:scale=rmse"]
POWER = dict.fromkeys(SCALE_FREE, 0.0)
POWER |= {"nash": -1.0, "fairgrad:alpha=1": -1.0, "fairgrad:alpha=2": -4 / 3, "mgda:norm=l2": -1.0}
#: Weighted losses do not change when the unit of one loss does.
UNIT_FREE = ["log", "igb", "stch", "log-mgda", "mgda:norm=loss"]
#: The direction of the update does not change when one gradient is scaled.
LENGTH_FREE = ["config", "edm", "imtl-g", "nash", "ntkmtl", "mgda:norm=l2", "db-mtl"]


@pytest.mark.parametrize(("specs", "per_task"), [(SUM_TO_K, True), (SUM_TO_ONE, False)], ids=["K", "one"])
def test_weights_have_the_sum_that_the_paper_gives_them(specs, per_task):
    for spec in specs:
        for tasks in (2, 5):
            for weights in run(make(spec), many(8, tasks)):
                assert weights.sum().item() == pytest.approx(tasks if per_task else 1, rel=1e-6), spec


@pytest.mark.parametrize("spec", POWER)
def test_weights_follow_the_scale_of_all_gradients_as_a_power(spec):
    steps = many(3, 4)
    for factor in (1e-5, 1e5):
        larger = []
        for signals in steps:
            squares = {name: signals[name] * factor**2 for name in SQUARE}
            larger.append({**signals, **squares, "jacobian": signals["jacobian"] * factor})
        for one, other in zip(run(make(spec), steps), run(make(spec), larger), strict=True):
            torch.testing.assert_close(other, factor ** POWER[spec] * one, rtol=2e-5, atol=1e-12)


@pytest.mark.parametrize("spec", UNIT_FREE)
def test_weighted_losses_do_not_change_with_the_unit_of_a_loss(spec):
    unit = torch.tensor([1.0, 1e3, 1e-3, 7.0], dtype=torch.float64)
    steps = many(8, 4)
    for one, other in zip(run(make(spec), steps), run(make(spec), [scaled(s, unit) for s in steps]), strict=True):
        torch.testing.assert_close(other * unit, one, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("spec", LENGTH_FREE)
def test_the_direction_does_not_change_with_the_length_of_one_gradient(spec):
    signals = random_signals(5) | {"jacobian": difficult(5, 2)["aligned"]}
    scales = torch.logspace(-8, 8, 5, dtype=torch.float64)[:, None]
    directions = []
    for rows in (signals["jacobian"], scales * signals["jacobian"]):
        update = run(make(spec), [{**signals, "jacobian": rows, "gramian": rows @ rows.T}])[0] @ rows
        directions.append(update / update.norm())
    torch.testing.assert_close(*directions, rtol=1e-6, atol=1e-8)


# --- chains -----------------------------------------------------------------------------------------------------------

LOSSES_ONLY = [name for name, cls in REGISTRY.items() if cls.needs <= {"losses", "after", "noise", "epoch"}]
ON_GRAMIAN = [name for name, cls in REGISTRY.items() if "gramian" in cls.needs]


@pytest.mark.parametrize("front", LOSSES_ONLY)
def test_any_strategy_on_losses_goes_before_any_on_the_gramian(front):
    outer = make(front)
    steps = many(2)
    alone = run(outer, steps)
    seen = [scaled(signals, weights) for signals, weights in zip(steps, alone, strict=True)]
    for back in ON_GRAMIAN:
        chained = run(make(f"{front}+{back}"), steps)
        for both, own, weights in zip(chained, run(make(back), seen), alone, strict=True):
            torch.testing.assert_close(both, own * weights, msg=lambda text, back=back: f"{back}: {text}")
