"""A member that goes on beside others where it was by itself, or the other way, is the same run as by itself."""

import itertools

import pytest

from mtl.train import Cohort, Member, Settings
from tests.population.problem import Normed, Three, close
from tests.train.shown import shown
from tests.written import through_disk

pytestmark = pytest.mark.usefixtures("float64")

SETTINGS = Settings.of(Three.recipe, {"steps": 24, "batch_size": 64})  # it is evaluated after each five steps
BRANCHING = f"{__file__}:branching"


def branching(prediction, target):
    """Another loss where errors are large, which cannot be vectorised."""
    error = (prediction - target).abs()
    return error.mean() if error.mean() > 1 else error.square().mean()


def member(seed, *, alone, strategy="equal", loss="huber:delta=0.5", **settings):
    """A member that can be trained with others, or that has to be alone."""
    return Member(strategy, seed, settings, {"product": {"name": BRANCHING if alone else loss}})


def cohort(members, benchmark=Three, **options):
    return Cohort(benchmark(), benchmark().load(), members, SETTINGS, tell=str, **options)


def kinds(made):
    return [group["vmapped"] for group in sorted(made.state_dict()["groups"], key=lambda group: group["ids"])]


def passed(states, benchmark=Three, **values):
    """States pass both ways, and members change both ways, between pairs of members; what becomes of all."""
    found = []
    for vectorised in (True, False):
        members = [member(seed, alone=seed > 1, **values) for seed in range(4)]
        made = cohort(members, benchmark, vectorised=vectorised)
        made.advance(6)
        for sources, changes in states:
            made.exploit(sources)
            made.replace({number: member(number, alone=alone, **values) for number, alone in changes.items()})
            made.advance(5)
        found.append(shown(made))
    return found


MOVES = [({0: 2}, {}), ({3: 1}, {0: False}), ({}, {1: True}), ({2: 3, 3: 2}, {})]


@pytest.mark.parametrize(
    "values",
    [
        {"strategy": "famo", "dropout": 0.3},
        {"strategy": "graddrop", "ema": 0.8, "spectral": 0.01, "head_lr": 0.02},
        {"strategy": "uncertainty+rlw", "swa": 0.2, "optimizer": "sgd", "momentum": 0.9},
        {"loss": "learned:of=mse,hidden=4", "optimizer": "adagrad:initial_accumulator_value=0.1"},
        *({"optimizer": name} for name in ("sgd", "adamw", "rmsprop:momentum=0.5", "adadelta", "adamax", "radam")),
        {"optimizer": "nadam", "strategy": "mgda+ema:beta=0.9"},
    ],
    ids=lambda values: "-".join(map(str, values.values())),
)
def test_what_passes_between_a_run_by_itself_and_a_row_of_many_is_the_same(values):
    close(*passed(MOVES, **values), 1e-9)


def test_statistics_of_batches_pass_too():
    close(*passed(MOVES, Normed, swa=0.3), 1e-9)


def test_each_is_trained_as_it_can_be_and_goes_on_bit_for_bit_from_a_checkpoint():
    whole = cohort([member(seed, alone=seed > 1, strategy="rlw", dropout=0.3) for seed in range(4)])
    whole.advance(6)
    assert kinds(whole) == [True, False, False]
    whole.exploit({0: 2, 3: 1})
    assert kinds(whole) == [False, True, False]
    resumed = cohort(whole.members[:1])
    resumed.load_state_dict(through_disk(whole.state_dict()))
    assert shown(resumed) == shown(whole)


def test_a_cohort_adopts_a_member_of_another_that_trains_it_in_the_other_form():
    found = []
    for vectorised, of_source in itertools.product((True, False), repeat=2):
        source = cohort([member(0, alone=False, strategy="famo", ema=0.8)], vectorised=of_source)
        made = cohort([member(seed, alone=False, strategy="famo", ema=0.8) for seed in (1, 2)], vectorised=vectorised)
        source.advance(11)
        made.advance(6)
        made.adopt(1, through_disk(source.extract(0)))
        found.append(shown(made))
    for other in found[1:]:
        close(found[0], other, 1e-9)
