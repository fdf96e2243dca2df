"""What a cohort does beyond training: exploit, replace, keep, add, checkpoints, fallbacks and memory."""

import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mtl.benchmarks import Task
from mtl.metrics import mae
from mtl.strategies import REGISTRY
from mtl.train import Cohort, Member, Settings
from mtl.train.vmapped import Vmapped
from tests.population.problem import Three, assert_is_the_single_run, close
from tests.written import through_disk

pytestmark = pytest.mark.usefixtures("float64")

SETTINGS = Settings.of(Three.recipe, {"steps": 60})
MEMBERS = [
    Member("equal", 0),
    Member("famo", 1, {"lr": 2e-2}),
    Member("famo:gamma=0.01", 2, {"dropout": 0.3}),
    Member("mgda", 3),
    Member("moco", 4, {"optimizer": "sgd"}),
    Member("moco", 5, {"optimizer": "sgd", "lr": 0.1}),
]


def cohort(members=MEMBERS, benchmark=None, settings=SETTINGS, **options):
    benchmark = benchmark or Three()
    return Cohort(benchmark, benchmark.load(), members, settings, **options)


class Counted(TorchDispatchMode):
    """Counts the operations of steps that allocate memory; at the `last` it runs out, once."""

    def __init__(self, last=None):
        super().__init__()
        self.seen, self.last = 0, last

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if "out" not in kwargs and not any(value.alias_info for value in func._schema.returns) and _in_a_step():
            self.seen += 1
            if self.seen == self.last:
                raise torch.OutOfMemoryError("stands for a full GPU")
        return func(*args, **kwargs)


def _in_a_step():
    """Whether a cohort's step, rather than its construction, is on the stack."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code is Vmapped.step.__code__:
            return True
        frame = frame.f_back
    return False


def groups(made):
    """The groups of a cohort."""
    return made._groups.all


def parameters(made):
    """Each member's parameters as its `state_dict`."""
    found = {}
    for group in groups(made):
        for row, number in enumerate(group.ids):
            model = group.stepper.weights(group.stepper.snapshot(row))
            found[number] = torch.cat([value.flatten() for value in model.values()]).clone()
    return found


@pytest.mark.parametrize("vectorised", [True, False])
def test_a_saved_cohort_continues_bit_for_bit(vectorised):
    whole = cohort(vectorised=vectorised)
    whole.advance(25)
    saved = through_disk(whole.state_dict())
    resumed = cohort([Member("equal")], vectorised=vectorised)
    resumed.load_state_dict(saved)
    for one in (whole, resumed):
        one.advance(1000)
    assert resumed.members == MEMBERS
    for one, other in zip(whole.results(), resumed.results(), strict=True):
        assert one.metrics == other.metrics and one.history == other.history
        assert one.cost["backwards"] == other.cost["backwards"]


@pytest.mark.parametrize("vectorised", [True, False])
def test_exploit_copies_the_run_and_leaves_the_hyperparameters(vectorised):
    made = cohort(vectorised=vectorised)
    made.advance(30)
    before, evaluated = parameters(made), made.evaluate()
    made.exploit({5: 4, 4: 5})
    after = parameters(made)
    assert torch.equal(after[5], before[4]) and torch.equal(after[4], before[5])
    assert made.members == MEMBERS
    assert [made.evaluate()[k].selection for k in (4, 5)] == [evaluated[k].selection for k in (5, 4)]
    assert made.states[5].best_step == 20 and made.states[5].step == 30
    made.advance(1)
    moved = parameters(made)
    # the optimizer's state came along: equal gradients do not, the batches are those of the own seed
    assert not torch.equal(moved[5], after[5]) and bool(moved[5].isfinite().all())


@pytest.mark.parametrize("vectorised", [True, False])
def test_two_members_that_swap_swap_their_best_evaluations_too(vectorised):
    made = cohort(vectorised=vectorised)
    made.advance(30)
    before = made.results()
    made.exploit({5: 4, 4: 5})
    after = made.results()
    for one, other in ((4, 5), (5, 4)):
        assert after[one].selection == before[other].selection != before[one].selection
        assert after[one].validation == before[other].validation and after[one].metrics == before[other].metrics
    made.exploit({5: 4, 4: 5}, keeping=[4])
    assert [made.results()[k].selection for k in (4, 5)] == [after[4].selection] * 2


def test_exploit_then_one_step_equals_a_run_with_that_state():
    """The copy goes on from the source's state on the target's batches: checked against torch.optim."""
    made = cohort([Member("equal", 0), Member("equal", 1, {"lr": 5e-3})])
    made.advance(10)
    made.exploit({1: 0})
    population = groups(made)[0].stepper.population
    source, target = (population.state["optimizer"]["first"][row] for row in (0, 1))
    assert torch.equal(source, target)
    start = population.state["parameters"][1].clone()
    moments = {name: population.state["optimizer"][name][1].clone() for name in ("first", "second")}
    model = torch.nn.Parameter(start.clone())
    peer = torch.optim.Adam([model], lr=5e-3)
    state = {"step": torch.tensor(10.0), "exp_avg": moments["first"], "exp_avg_sq": moments["second"]}
    peer.load_state_dict({**peer.state_dict(), "state": {0: state}})
    batch = groups(made)[0].stepper._train.take([10, 10])
    leaf = population.state["parameters"].detach().clone().requires_grad_()
    losses, _ = population.program.losses(population.losses, leaf, population.state["fixed"], batch)
    model.grad = torch.autograd.grad(sum(loss.sum() for loss in losses), leaf)[0][1]
    peer.step()
    made.advance(1)
    torch.testing.assert_close(population.state["parameters"][1], model.detach(), atol=1e-12, rtol=0)


def test_exploit_across_structures_takes_the_source_s_with_the_own_seed():
    made = cohort()
    made.advance(15)
    best = made.evaluate()[3]
    made.exploit({0: 3})
    assert made.members[0] == Member("mgda", 0)
    assert made.evaluate()[0].metrics["sign"] == best.metrics["sign"]
    made.advance(1000)
    assert [result.status for result in made.results()] == ["done"] * 6


def test_replace_changes_values_in_place_and_structures_by_moving():
    made = cohort()
    made.advance(10)
    before = parameters(made)
    lower = Member("famo", 1, {"lr": 0.0})
    made.replace({1: lower, 3: Member("famo", 3), 0: Member("equal", 0, {"optimizer": "sgd"})})
    assert made.members[1] == lower and len(groups(made)) == 4
    after = parameters(made)
    assert all(torch.equal(before[k], after[k]) for k in before)
    made.advance(1)
    moved = parameters(made)
    assert torch.equal(moved[1], before[1]) and not torch.equal(moved[3], before[3])
    with pytest.raises(ValueError, match="member 2 has seed 2"):
        made.replace({2: Member("famo", 9)})
    with pytest.raises(ValueError, match="cannot keep its parameters"):
        made.replace({2: Member("famo", 2, {"model": "mlp:width=4"})})


def test_members_that_stay_and_members_that_come_are_the_runs_they_would_be_alone():
    benchmark = Three()
    splits = benchmark.load()
    made = cohort(benchmark=benchmark)
    made.advance(20)
    made.keep([5, 1])
    made.add([Member("famo", 7, {"lr": 1e-3}), Member("gradnorm", 8)])
    assert made.members[:2] == [MEMBERS[5], MEMBERS[1]] and [state.step for state in made.states] == [20, 20, 0, 0]
    made.advance(1000)
    for member, result in zip(made.members, made.results(), strict=True):
        assert_is_the_single_run(result, benchmark, splits, member, SETTINGS)


def test_a_diverged_member_is_told_from_the_others_and_can_be_replaced():
    settings = Settings.of(Three.recipe, {"steps": 40, "optimizer": "sgd", "nan_limit": 3})
    made = cohort([Member("equal", 0), Member("equal", 1, {"lr": 1e200}), Member("equal", 2)], settings=settings)
    made.advance(20)
    assert [e.finite for e in made.evaluate()] == [True, False, True]
    assert made.evaluate()[1].selection == float("-inf") and made.finished() == [False, True, False]
    made.exploit({1: 0})
    made.replace({1: Member("equal", 1, {"lr": 1e-2})})
    assert made.finished() == [False, False, False]
    made.advance(1000)
    assert [r.status for r in made.results()] == ["done"] * 3


class Branching(Three):
    """The third loss branches on a value."""

    def __init__(self):
        def loss(prediction, target):
            error = prediction.reshape(-1) - target
            return error.abs().mean() if float(error.detach().mean()) > 0 else error.square().mean()

        self.tasks = (*Three.tasks[:2], Task("square", loss, (mae,)))


def test_what_vmap_cannot_do_runs_one_at_a_time_and_is_said_once():
    told, benchmark = [], Branching()
    splits = benchmark.load()
    members = [Member("equal", seed) for seed in range(3)]
    made = cohort(members, benchmark, tell=told.append)
    made.advance(1000)
    assert len(told) == 1 and "one at a time" in told[0] and "\n" not in told[0]
    for member, result in zip(members, made.results(), strict=True):
        assert_is_the_single_run(result, benchmark, splits, member, SETTINGS)


def test_a_strategy_that_says_so_is_not_vectorised(monkeypatch):
    monkeypatch.setattr(REGISTRY["equal"], "vmappable", False)
    told = []
    made = cohort(MEMBERS[:2], tell=told.append)
    assert [group.stepper.most > 1 for group in groups(made)] == [False, True] and len(told) == 1


def test_a_memory_limit_makes_shards_with_the_same_results():
    members = [Member("equal", seed) for seed in range(5)]
    whole, parts = cohort(members), cohort(members, memory_limit=25_000)
    sizes = [len(group.ids) for group in groups(parts)]
    assert len(sizes) > 1 and sum(sizes) == 5
    for made in (whole, parts):
        made.advance(1000)
    for one, other in zip(whole.results(), parts.results(), strict=True):
        assert one.selection == pytest.approx(other.selection, abs=1e-9)


@pytest.mark.parametrize("spec", ["rlw", "famo"])
def test_running_out_of_memory_halves_the_program_and_repeats_the_step(spec, monkeypatch):
    members = [Member(spec, seed, {"dropout": 0.2}) for seed in range(5)]
    benchmark, told = Three(), []
    splits = benchmark.load()
    made = cohort(members, benchmark, tell=told.append)
    made.advance(7)
    from mtl.population.step import PopulationStep

    apply = PopulationStep._by_backward

    def scarce(self):
        if len(self.values) > 3:
            raise torch.OutOfMemoryError("stands for a full GPU")
        apply(self)

    monkeypatch.setattr(PopulationStep, "_by_backward", scarce)
    made.advance(3)
    resumed = cohort(members, benchmark, tell=told.append)
    resumed.load_state_dict(through_disk(made.state_dict()))
    resumed.exploit({0: 1})
    resumed.advance(2)
    assert [sorted(group.ids) for group in groups(resumed)] == [[0, 1], [2, 3, 4]] and len(told) == 1
    made.advance(1000)
    assert [sorted(group.ids) for group in groups(made)] == [[0, 1], [2, 3, 4]] and len(told) == 1
    for member, result in zip(members, made.results(), strict=True):
        assert_is_the_single_run(result, benchmark, splits, member, SETTINGS)


@pytest.mark.parametrize("spec", ["famo", "mgda"])
def test_running_out_of_memory_anywhere_in_a_step_makes_it_once(spec):
    """Not twice, wherever in the optimizer it was."""
    members = [Member(spec, seed, {"dropout": 0.2, "clip": 1.0}) for seed in range(2)]
    whole, allocations = cohort(members), Counted()
    with allocations:
        whole.advance(4)
    whole.advance(4)
    for before_the_end in (0, 1, 4, 16):
        made = cohort(members)
        with Counted(allocations.seen - before_the_end):
            made.advance(4)
        assert len(groups(made)) == 2
        made.advance(4)
        for member in range(2):
            torch.testing.assert_close(parameters(made)[member], parameters(whole)[member], atol=1e-9, rtol=0)


def test_an_evaluation_for_which_memory_does_not_suffice_is_made_for_fewer_members(monkeypatch):
    members = [Member("equal", seed) for seed in range(5)]
    made, other = cohort(members), cohort(members)
    at_once = Vmapped._measured_at_once

    def scarce(self, rows, *arguments):
        if len(rows) > 2:
            raise torch.OutOfMemoryError("stands for a full GPU")
        return at_once(self, rows, *arguments)

    other.advance(1000)
    monkeypatch.setattr(Vmapped, "_measured_at_once", scarce)
    made.advance(1000)
    assert [group.ids for group in groups(made)] == [[0, 1, 2, 3, 4]]
    for one, two in zip(made.results(), other.results(), strict=True):
        assert one.selection == pytest.approx(two.selection, abs=1e-6) and one.cost["steps"] == 60


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "members is empty"),
        ([Member("equals")], "unknown strategy 'equals'"),
        ([Member("equal", 0, {"learning_rate": 1})], "unknown training setting 'learning_rate'"),
        ([Member("equal", 0, {"lr": -1.0})], "lr=-1.0 must be at least 0"),
        ([Member("equal", 0, {}, {"squared": {}})], "unknown task 'squared'"),
        ([Member("equal", 0, {}, {"square": {"gamma": 1}})], "no hyperparameter 'gamma'"),
    ],
)
def test_bad_members_are_refused_in_one_line(members, message):
    with pytest.raises(ValueError, match=message) as caught:
        cohort(members)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("then", ["rlw", "famo", "gradnorm", "dwa"])
def test_a_member_with_another_strategy_is_the_same_run_alone_and_keeps_its_cost(then):
    found = []
    for vectorised in (True, False):
        made = cohort([Member("graddrop", 3)], vectorised=vectorised)
        made.advance(10)
        made.replace({0: Member(then, 3)})
        made.advance(1000)
        found.append(made.results()[0])
    together, alone = found
    assert [together.cost[key] for key in ("forwards", "backwards")] == [
        alone.cost[key] for key in ("forwards", "backwards")
    ]
    assert alone.cost["backwards"] > 60
    close(together.history["train_loss"], alone.history["train_loss"], 1e-6)


def of_loss(delta):
    return Member("equal", 1, losses={"square": {"delta": delta}})


def test_a_member_that_is_left_alone_keeps_the_parameters_of_its_loss():
    left, alone = cohort([of_loss(9.0), of_loss(0.01)]), cohort([of_loss(0.01)])
    left.advance(3)
    left.keep([1])
    left.advance(3)
    alone.advance(6)
    assert left.evaluate()[0].curves == pytest.approx(alone.evaluate()[0].curves, rel=1e-9)


def test_a_member_by_itself_goes_on_with_other_parameters_of_its_loss():
    one, two = cohort([of_loss(9.0)]), cohort([of_loss(9.0), of_loss(2.0)])
    for each in (one, two):
        each.advance(3)
        each.replace({0: of_loss(0.01)})
        each.advance(3)
    assert one.evaluate()[0].curves == pytest.approx(two.evaluate()[0].curves, rel=1e-9)


def test_a_cohort_that_went_on_from_another_shares_nothing_with_it():
    members, settings = [Member("equal", 0), Member("mgda", 1, {"optimizer": "NAdam"})], SETTINGS
    first, second, third = (cohort(members, settings=settings, vectorised=False) for _ in range(3))
    first.advance(5)
    third.load_state_dict(through_disk(first.state_dict()))
    second.load_state_dict(first.state_dict())
    second.advance(5)
    for each in (first, third):
        each.advance(5)
    assert [each.history for each in first.results()] == [each.history for each in third.results()]
