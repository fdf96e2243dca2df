"""Losses of tasks that a user or the training labels choose."""

import dataclasses

import pytest
import torch

from mtl.benchmarks import find_benchmark, load_checked
from mtl.benchmarks.catalogue import resolved_name
from mtl.benchmarks.losses import fitted, named_with, read_losses, with_losses
from mtl.losses import make_loss
from mtl.search.plan import decided
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.study.setup import StudySetup
from mtl.train import Cohort, Member, Settings, check_losses, check_model, train
from tests.tiny import Tiny

SETTINGS = Settings(steps=6, batch_size=32)
WEIGHED = "cross-entropy:class_weights=inverse"


class Uneven(Tiny):
    """One sign is rare."""

    name = "uneven"

    def load(self):
        splits = super().load()
        for split in (splits.train, splits.validation, splits.test):
            split.targets["sign"][:] = (split.inputs.sum(1) > 3).long()
        return splits


def counted(benchmark):
    return torch.bincount(benchmark.load().train.targets["sign"]).double()


def test_a_benchmark_is_found_with_other_losses():
    name = named_with("multidigits", read_losses(["left=focal:gamma=1", "right=cross-entropy+0.5*dice"]))
    assert name == "multidigits[left=focal:gamma=1; right=cross-entropy+0.5*dice]" == resolved_name(name)
    found = find_benchmark(name)
    assert [str(task.loss) for task in found.tasks][:2] == ["focal:gamma=1", "cross-entropy+0.5*dice"]
    assert [str(task.loss) for task in find_benchmark("multidigits").tasks][:2] == ["cross-entropy"] * 2


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["sgn=mse"], r"loss of task 'sgn': there is no such task: did you mean sign\?"),
        (["sign=hubber"], "loss of task 'sign': unknown loss 'hubber': did you mean huber"),
        (["sign"], "--loss 'sign' is not TASK=SPEC"),
        (["sign=mse", "sign=mae"], "--loss gives sign twice"),
    ],
)
def test_what_is_wrong_with_a_loss_is_said_with_its_task(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        with_losses(Tiny(), read_losses(given))


def test_a_loss_that_does_not_fit_is_refused_before_training():
    changed = with_losses(Tiny(), {"sign": "poisson"})
    with pytest.raises(ValueError, match="train split, task 'sign': poisson takes one output for each label"):
        check_model(changed, load_checked(changed), SETTINGS)


def test_class_weights_come_from_the_training_labels_alone():
    changed = with_losses(Uneven(), {"sign": WEIGHED})
    splits = load_checked(changed)
    counts = counted(changed)
    expected = [float(f"{counts.sum() / 2 / each:.6g}") for each in counts]
    assert fitted(changed, splits).tasks[0].loss.class_weights == pytest.approx(expected)
    assert changed.tasks[0].loss.class_weights == "inverse"
    splits.validation.targets["sign"][:] = 0
    splits.test.targets["sign"][:] = 1
    assert fitted(changed, splits).tasks[0].loss.class_weights == pytest.approx(expected)
    splits.train.targets["sign"][:] = 0
    with pytest.raises(ValueError, match="task 'sign': cross-entropy: class_weights=inverse: class 1 has no training"):
        fitted(changed, splits)


def test_a_run_and_a_member_are_trained_with_them():
    plain, weighed = Uneven(), with_losses(Uneven(), {"sign": WEIGHED})
    splits = load_checked(plain)
    numbers = dataclasses.replace(plain.tasks[0], loss=fitted(weighed, splits).tasks[0].loss)

    class Written(Uneven):
        tasks = (numbers, plain.tasks[1])

    expected = train(Written(), splits, "equal", SETTINGS, seed=3)
    alone = train(weighed, splits, "equal", SETTINGS, seed=3)
    cohort = Cohort(
        plain, splits, [Member("equal", 3, losses={"sign": {"name": WEIGHED}}), Member("equal", 3)], SETTINGS
    )
    cohort.advance(6)
    member, other = cohort.results()
    curve = [[row[0] for row in result.history["train_loss"]] for result in (expected, alone, member, other)]
    assert curve[0] == curve[1] == pytest.approx(curve[2], abs=1e-5)
    assert curve[0] != pytest.approx(curve[3], abs=1e-3)


def test_a_search_records_the_numbers():
    benchmark = Uneven()
    splits = load_checked(benchmark)
    words = [f"loss.sign=cross-entropy,{WEIGHED},logit-adjusted"]
    space = build_space(benchmark, ["equal"], read_options(words))
    check_losses(benchmark, splits, SETTINGS, {"sign": [make_loss(WEIGHED)]})
    made = decided(space, StudySetup(benchmark, splits, SETTINGS, torch.device("cpu")))
    names = made.dimensions["loss.sign"].parameter.grid(1)
    assert names[0] == "cross-entropy" and names[1].startswith("cross-entropy:class_weights=0.")
    assert names[2].startswith("logit-adjusted:priors=0.")
    assert made.dimensions["loss.sign.tau"].condition.choices == {names[2]}
    assert made.dimensions["loss.sign.label_smoothing"].condition.choices == {*names[:2]}
