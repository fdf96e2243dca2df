"""Losses that begin training in a wrong direction: which they are, and that no run of a search begins with one."""

import numpy as np
import pytest
import torch

from mtl.benchmarks import Task
from mtl.files.lineage import read_events
from mtl.losses import CrossEntropy, make_loss
from mtl.losses.check import NOTE, OK, check_loss
from mtl.search.methods import MethodOptions
from mtl.search.objective import SELECTION, Objective
from mtl.search.plan import make_search
from mtl.search.sifted import sifted
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.study.rundir import RunDirectory
from mtl.study.setup import StudySetup
from mtl.train import Settings
from mtl.train.values import make_member
from tests.population.problem import Three

pytestmark = pytest.mark.usefixtures("float64")


def thetas(seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.rand(8, generator=generator) * 10 - 5).tolist()
    return {f"theta{k}": round(value if k > 1 else value / 5, 3) for k, value in enumerate(drawn)}


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_rule_is_the_sign_of_the_gradient_where_all_classes_are_as_likely(classes):
    seen = set()
    for seed in range(30):
        loss = make_loss("taylor:" + ",".join(f"{key}={value}" for key, value in thetas(seed).items()))
        logits = torch.full((4, classes), 0.3, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(logits, torch.tensor([0, 1, 1, 0])), logits)
        rises = bool(gradient[0, 0] < 0)
        assert (loss.wrong_start(classes) is None) == rises
        pull = loss.pull(classes)
        assert float(gradient[0, 0]) * 4 == pytest.approx(-pull * (classes - 1) / classes**2, abs=1e-10)
        assert float(gradient[0, 1]) * 4 == pytest.approx(pull / classes**2, abs=1e-10)
        if classes == 2:
            one = torch.zeros(3, 1, requires_grad=True)
            (slope,) = torch.autograd.grad(loss(one, torch.tensor([[1.0], [0.0], [1.0]])), one)
            assert bool(slope[0] < 0) == rises == bool(slope[1] > 0)
        seen.add(rises)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("spec", "classes", "right"),
    [
        ("taylor", 2, True),  # the expansion of cross-entropy
        ("taylor", 1000, True),
        ("taylor:theta5=-2,theta6=4", 10, False),  # the same turned round
        ("taylor:theta5=0,theta6=0", 10, False),  # no gradient at all
        ("taylor:theta0=1,theta5=1,theta6=0,theta7=2", 3, False),  # 1 + 2 (1/2 - 1): none either
        ("taylor:theta1=0,theta5=1,theta6=-4", 2, False),  # right only where there are more than four classes
        ("taylor:theta1=0,theta5=1,theta6=-4", 5, True),
        ("cross-entropy", 10, True),
        ("taylor-numbers:theta5=-2", 1, True),  # no classes, no such rule
    ],
)
def test_known_losses(spec, classes, right):
    assert (make_loss(spec).wrong_start(classes) is None) == right


def test_check_loss_warns():
    def start(spec):
        return {finding.name: finding for finding in check_loss(make_loss(spec)).findings}.get("start")

    assert start("taylor").status == OK and start("cross-entropy") is None
    warned = start("taylor:theta5=-2,theta6=4")
    assert warned.status == NOTE
    assert "pushes predictions away from the true class" in warned.text and "must be above 0" in warned.text


class Sorts(Three):
    """Two tasks of classes."""

    name = "sorts"
    tasks = (
        Task("sign", CrossEntropy(), Three.tasks[0].metrics, 2),
        Task("other", CrossEntropy(), Three.tasks[0].metrics, 3),
    )

    @staticmethod
    def _split(size, generator):
        split = Three._split(size, generator)
        other = (split.inputs[:, 0] > 0).long() + (split.inputs[:, 0] > 0.5).long()
        return type(split)(split.inputs, {"sign": split.targets["sign"], "other": other})


SEARCHED = ["loss.sign=taylor,cross-entropy", "loss.other=taylor"]


def setup_of(told, **given):
    settings = Settings(steps=4, batch_size=16, **given)
    return StudySetup(Sorts(), Sorts().load(), settings, torch.device("cpu"), tell=told.append)


def made(path):
    (path / "checkpoints").mkdir(parents=True)
    return RunDirectory(path)


def still(*tasks):
    """All but theta5 at what they are."""
    return [f"loss.{task}.theta{key}=default" for task in tasks for key in (0, 1, 3, 4, 6, 7)]


def begun(tmp_path, method, searched=SEARCHED, **options):
    told = []
    setting = setup_of(told)
    space = build_space(Sorts(), ["equal"], read_options(searched))
    search = make_search(setting, method, MethodOptions(**options), space, Objective([SELECTION], Sorts()), 3)
    search.run(made(tmp_path / method), "sorts")
    events = read_events(tmp_path / method / "schedule.jsonl")
    return [event.after for event in events if event.source is None], told


def wrong(values):
    tasks = make_member(values, 0).tasks(Sorts.tasks)
    return [said for task in tasks if (said := task.loss.wrong_start(task.outputs))]


@pytest.mark.parametrize("method", ["random", "grid", "tpe", "cmaes", "evolution", "asha", "bohb", "epbt", "pbt"])
def test_no_run_begins_with_one_and_they_are_counted(tmp_path, method):
    """Methods with a model of two waves: what is refused is nothing that the model learns from."""
    options = {"grid_points": 2} if method == "grid" else {"members": 6}
    options |= {} if method in ("grid", "epbt", "pbt") else {"trials": 12}
    searched = [*SEARCHED, "loss.sign.theta5=-5:5", "loss.other.theta5=-5:5"]
    if method == "grid":
        searched = [*searched, *still("sign", "other"), "loss.sign.label_smoothing=default"]
        searched += ["lr=default", "weight_decay=default"]
    starts, told = begun(tmp_path, method, searched, **options)
    assert starts and not [wrong(values) for values in starts if wrong(values)]
    (said,) = [text for text in told if "refused" in text]
    assert "the first one for taylor of task" in said and "away from the true class" in said
    if method == "grid":  # of (2 taylor + cross-entropy) x 2 taylor: theta5 of -5 is wrong at either place
        assert len(starts) == 2 and said.startswith("4 points were refused")
    else:
        assert len(starts) == options.get("trials", 6)


def test_runs_are_the_same_where_nothing_is_refused(tmp_path):
    searched = ["loss.sign=taylor", "loss.sign.theta5=3:5", "loss.sign.theta6=-3:-1"]
    searched += [f"loss.sign.theta{key}=default" for key in (0, 1, 3, 4, 7)]
    starts, told = begun(tmp_path, "random", searched, members=3, trials=3)
    space = build_space(Sorts(), ["equal"], read_options(searched))
    assert starts == [space.sample(np.random.default_rng([3, 0, number])) for number in range(3)] and not told


def test_a_loss_that_the_user_has_set_is_trained_and_said():
    told = []
    setting = setup_of(told)
    space = build_space(Sorts(), ["equal"], read_options(["loss.sign=taylor:theta5=-2,theta6=4", *still("sign")]))
    assert sifted(space, setting).refusals is None
    assert told == [
        text
        for text in told
        if text.startswith("no point is refused, although all are like this: taylor of task 'sign'")
    ]
    assert len(told) == 1
    space = build_space(Sorts(), ["equal"], read_options(["loss.sign=focal,cross-entropy"]))
    assert sifted(space, setting) is space and len(told) == 1


def test_a_search_that_is_gone_on_with_counts_on(tmp_path):
    space = build_space(Sorts(), ["equal"], read_options(SEARCHED))

    def search(told):
        options = MethodOptions(members=4, trials=8, interval=2)
        return make_search(setup_of(told), "random", options, space, Objective([SELECTION], Sorts()), 3)

    whole, rest = [], []
    search(whole).run(made(tmp_path / "whole"), "sorts")
    cut = made(tmp_path / "cut")
    for _ in zip(range(3), search([]).segments(cut, "sorts"), strict=False):
        pass
    search(rest).run(cut, "sorts")
    assert whole == rest and len(whole) == 1
