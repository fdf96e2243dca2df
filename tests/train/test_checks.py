"""What is said of a benchmark before anything is trained."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from mtl.benchmarks import Benchmark, Split, Splits, Task, load_checked
from mtl.benchmarks.checked import check_tasks
from mtl.cli.main import main
from mtl.losses import IGNORE, MSE, BinaryCrossEntropy, CrossEntropy, Focal, make_loss
from mtl.metrics import Metric, accuracy, auc, balanced_accuracy, binary_accuracy, log_loss, mae, of_counts, r2
from mtl.models import HardSharing
from mtl.train import Settings, check_losses, check_model, train
from tests.losses.user_losses import spoils_classes
from tests.tiny import Tiny

POSITIVE = (torch.arange(40) % 4 == 0).float()


class One(Benchmark):
    """One task of some labels, which are the same in each split unless `test` says otherwise."""

    name = "one"
    trunk = "mlp:width=8,depth=1"
    recipe = {"steps": 4, "batch_size": 8}  # noqa: RUF012

    def __init__(self, labels, loss=None, metrics=(mae,), outputs=1, **others):
        self.tasks = (Task("rare", loss or MSE(), metrics, outputs),)
        self.labels, self.others = labels, others

    def load(self):
        x = torch.randn(len(self.labels), 5, generator=torch.Generator().manual_seed(0))
        return Splits(*(Split(x, {"rare": self.others.get(n, self.labels)}) for n in ("train", "validation", "test")))


def said_of(benchmark):
    said = []
    splits = load_checked(benchmark)
    check_model(benchmark, splits, Settings.of(benchmark.recipe), said.append)
    return said


def refused(benchmark):
    with pytest.raises(ValueError) as caught:
        said_of(benchmark)
    assert "\n" not in str(caught.value)
    return str(caught.value)


TASK = Task("a", MSE(), (mae,))


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (TASK, "its tasks are a single Task"),
        ("sign", "its tasks are a str; a tuple of Task is wanted"),
        (("sign",), "'sign' among its tasks is a str, not a Task"),
        ((), "it has no tasks"),
        (None, "its tasks are None; a tuple of Task is wanted"),
        ((TASK, TASK), "two of its tasks are named 'a'"),
        ((Task(3, MSE(), (mae,)),), "a task is named 3"),
        ((Task("", MSE(), (mae,)),), "a task is named ''"),
        ((Task("a=b", MSE(), (mae,)),), "a task is named 'a=b'; options such as --loss TASK=SPEC end a name at '='"),
        ((Task("a", MSE(), mae),), "task 'a': its metrics are a single Metric; a tuple is wanted: (mae,)"),
        ((Task("a", MSE(), ("mae",)),), "task 'a': 'mae' among its metrics is a str, not a Metric"),
        ((Task("a", MSE(), ()),), "task 'a': it has no metric"),
        ((Task("a", MSE(), None),), "task 'a': its metrics are None"),
        ((Task("a", MSE(), (accuracy, binary_accuracy)),), "two of its metrics are named 'accuracy'"),
        ((Task("a", "mse", (mae,)),), "task 'a': its loss is a str; a loss of mtl.losses or a function is wanted"),
        ((Task("a", MSE(), (mae,), "2"),), "outputs='2' must be a whole number"),
    ],
)
def test_tasks_that_are_none_are_refused(tasks, message):
    benchmark = Tiny()
    benchmark.tasks = tasks
    with pytest.raises(ValueError) as caught:
        check_tasks(benchmark)
    assert message in str(caught.value) and "\n" not in str(caught.value)


X, Y = torch.randn(9, 10), {"sign": torch.ones(9).long(), "product": torch.ones(9)}


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        (None, "its load() returns None, not Splits(train, validation, test)"),
        ((X, Y), "its load() returns a tuple, not Splits"),
        (Splits(X, X, X), "train split: it is a Tensor, not a Split(inputs, targets)"),
        (Splits(*[Split(X.numpy(), Y)] * 3), "its inputs are a NumPy array; torch.from_numpy makes"),
        (Splits(*[Split(X.tolist(), Y)] * 3), "its inputs[0][0] are a float; a tensor is wanted"),
        (Splits(*[Split(X, torch.ones(9))] * 3), "its targets are a Tensor; a dict with labels for each task"),
        (Splits(*[Split(X, Y | {"sign": np.ones(9)})] * 3), "the targets of task 'sign' are a NumPy array"),
        (Splits(*[Split(X, {"sign": Y["sign"]})] * 3), "no target for task 'product'"),
        (Splits(*[Split(X.double(), Y)] * 3), "inputs are float64, and .float() makes them float32"),
        (lambda: {}["x"], "its load() fails: KeyError: 'x'"),
    ],
)
def test_data_that_is_none_is_refused(loaded, message):
    benchmark = Tiny()
    benchmark.load = loaded if callable(loaded) else lambda: loaded
    assert message in refused(benchmark)


def raising(*_arguments):
    raise RuntimeError("of the\nuser")


CLASSES = torch.arange(40) % 3
LOGARITHMS = (of_counts(mae),)
HOLED = torch.rand(40, 3).index_fill(1, torch.tensor([0]), torch.nan)  # no example has all its labels


@pytest.mark.parametrize(
    ("benchmark", "message"),
    [
        (One(CLASSES, CrossEntropy(), (accuracy,), 2), "cross-entropy takes classes from 0 to 1: here is 2"),
        (One(CLASSES.float(), CrossEntropy(), (accuracy,), 3), "labels: here they are of float32"),
        (One(POSITIVE.long(), CrossEntropy(), (accuracy,)), "cross-entropy takes a logit for each class"),
        (One(CLASSES, nn.CrossEntropyLoss(), (accuracy,), 2), "labels must be classes from 0 to 1, of type int64"),
        (One(torch.ones(40, 3), MSE(), (mae,), 2), "outputs of shape (2,) and labels of shape (3,)"),
        (One(torch.arange(40.0), BinaryCrossEntropy()), "binary-cross-entropy takes labels from 0 to 1: here is 2"),
        (One(POSITIVE, lambda p, t: (p - t) ** 2), "its loss returns shape (2,) on predictions of shape (2, 1)"),
        (One(POSITIVE, lambda p, t: (p - t).mean().item()), "its loss returns a float, not a tensor"),
        (One(POSITIVE, lambda p, t: (p.detach() - t).mean()), "its loss does not depend on the model's parameters"),
        (One(POSITIVE, lambda p, t: (p - t).mean() * torch.nan), "its loss is nan on 40 examples with predictions of"),
        (One(POSITIVE, raising), "its loss fails on predictions of shape (2, 1) and labels of shape (2,): Run"),
        (One(POSITIVE, lambda p, t: p.sub_(t).square().mean()), "its loss changes its predictions in place"),
        (One(CLASSES, spoils_classes, (accuracy,), 3), "its loss changes its labels in place"),
        (One(POSITIVE, make_loss("SoftMarginLoss")), "SoftMarginLoss takes labels 1 and -1, as torch has it: here is "),
        (One(CLASSES, make_loss("nll"), (accuracy,), 3), "nll takes logarithms of probabilities"),
        (One(CLASSES, make_loss("NLLLoss"), (accuracy,), 3), "NLLLoss takes logarithms of probabilities"),
        (One(1 - 3 * POSITIVE, make_loss("BCEWithLogitsLoss")), "BCEWithLogitsLoss takes labels from 0 to 1: here is "),
        (One(-POSITIVE, make_loss("PoissonNLLLoss")), "PoissonNLLLoss takes labels that are not negative: here is -1"),
        (One(POSITIVE, lambda p, t: (p - t[:, None]).abs().mean()), "the same when examples get each other's labels"),
        (One(POSITIVE, lambda p, t: (p[:, 0] - t).abs().mean()), "its loss fails on predictions of shape (2, 1)"),
        (One(POSITIVE, metrics=(Metric("mine", raising, True, 1.0),)), "metric 'mine' of task 'rare' raises Run"),
        (One(CLASSES, CrossEntropy(), (auc,), 3), "metric 'auc' of task 'rare' raises ValueError: auc takes one logit"),
        (One(POSITIVE.where(POSITIVE > 0, torch.nan), nn.MSELoss()), "labels are missing, and its loss of them is not"),
        (One(HOLED, nn.MSELoss(), (mae,), 3), "labels are missing, and its loss of them is not finite"),
        (One(POSITIVE, MSE(), LOGARITHMS), "mse compares the output with the label, but here the output is the loga"),
        (One(POSITIVE, MSE(), LOGARITHMS), "as count_mae reads it; exp:of=mse compares that number; poisson, "),
        (One(POSITIVE, make_loss("poisson+mae"), LOGARITHMS), "poisson+mae cannot take mae, which compares the output"),
        (One(POSITIVE, make_loss("L1Loss"), LOGARITHMS), "L1Loss compares the output with the label, but"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_training(benchmark, message):
    assert message in refused(benchmark)


def in_batches_of_many(prediction, target):
    """No number where there are few examples."""
    return (prediction - target).square().mean() * (1.0 if len(target) > 30 else torch.nan)


def without_an_odd_one(prediction, target):
    """No number beside the label of the first example."""
    return torch.where(target == POSITIVE[0], torch.nan, (prediction - target).square()).mean()


def of_few(prediction, target):
    if len(target) > 30:
        raise RuntimeError("too\nmany")
    return (prediction - target).square().mean()


def test_a_loss_that_many_examples_are_too_much_for_is_refused():
    assert "task 'rare': its loss fails on 40 examples: RuntimeError: too many" in refused(One(POSITIVE, of_few))


@pytest.mark.parametrize("loss", [in_batches_of_many, without_an_odd_one])
def test_a_loss_that_some_examples_have_is_not_refused(loss):
    benchmark = One(torch.linspace(*POSITIVE[:1].tolist(), 9.0, 40), loss)
    check_model(benchmark, load_checked(benchmark), Settings())


def test_a_loss_that_is_never_finite_is_refused_where_a_search_would_choose_it(tmp_path):
    (tmp_path / "lost.py").write_text("def lost(p, t):\n    return (p - t).square().mean() * float('inf')\n")
    benchmark, loss = Tiny(), make_loss(f"{tmp_path / 'lost.py'}:lost")
    with pytest.raises(ValueError, match=r"train split, task 'product': .*lost is inf on 256 examples"):
        check_losses(benchmark, load_checked(benchmark), Settings(), {"product": [loss]})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (raising, "its model() fails: RuntimeError: of the user"),
        (lambda *_: nn.Linear(10, 2), "has no method 'shared_parameters'"),
        (lambda tasks, _: HardSharing(nn.Identity(), {tasks[0].name: nn.Linear(10, 2)}), "a prediction for each task"),
        (lambda tasks, _: HardSharing(nn.Flatten(0), {t.name: nn.ReLU() for t in tasks}), "for 2 examples; (2, ...)"),
        (lambda tasks, _: HardSharing(nn.Identity(), {t.name: nn.Linear(9, 1) for t in tasks}), "fails on 2 examples"),
    ],
)  # fmt: skip
def test_models_that_do_not_fit_are_refused(model, message):
    benchmark = Tiny()
    benchmark.model = model
    assert message in refused(benchmark)


def test_a_model_that_needs_all_tasks_is_refused_where_each_is_trained_alone():
    benchmark = Tiny()
    splits, model = load_checked(benchmark), benchmark.model
    benchmark.model = lambda tasks, inputs: model([tasks[1], tasks[0]], inputs)
    with pytest.raises(ValueError, match=r"task 'sign' alone: its model\(\) fails: IndexError"):
        check_model(benchmark, splits, Settings(), alone=True)


@pytest.mark.parametrize(
    "benchmark",
    [
        One(POSITIVE.long(), BinaryCrossEntropy(), (accuracy, auc)),
        One(torch.arange(40), MSE(), (mae, r2)),
        One(POSITIVE.long(), Focal(), (balanced_accuracy,)),
        One(POSITIVE.long(), nn.BCEWithLogitsLoss(), (accuracy,)),
        One(POSITIVE, nn.HuberLoss(), (mae,)),
        One(torch.rand(40, 3, 4), nn.MSELoss(), (mae,), 12),
        One(torch.rand(40), lambda p, t: (p[:, 1].exp() + (p[:, 0] - t) ** 2 / p[:, 1].exp()).mean(), (mae,), 2),
        One(CLASSES.where(CLASSES > 0, IGNORE), nn.CrossEntropyLoss(), (accuracy,), 3),
    ],
)
def test_what_fits_is_accepted_and_trains(benchmark):
    if benchmark.tasks[0].outputs == 2:  # a mean and a variance
        first = Metric("mae", lambda guess, truth: float(np.abs(guess[:, 0] - truth).mean()), False, 0.0)
        benchmark.tasks = (dataclasses.replace(benchmark.tasks[0], metrics=(first,)),)
    said = said_of(benchmark)
    assert not [text for text in said if "metric" in text], said
    result = train(benchmark, load_checked(benchmark), "equal", Settings.of(benchmark.recipe))
    assert result.status == "done"
    assert all(value == value for value in result.metrics["rare"].values())


def test_an_absolute_error_of_a_tutorial_is_that_of_each_example():
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    found = {}
    for name, loss in [("tutorial", lambda p, t: (p - t).abs().mean()), ("ours", make_loss("mae"))]:
        benchmark = One(x[:, 0], loss)
        found[name] = train(
            benchmark, load_checked(benchmark), "equal", Settings.of({"steps": 100, "lr": 1e-2})
        ).metrics
    assert found["tutorial"]["rare"]["mae"] == pytest.approx(found["ours"]["rare"]["mae"])
    assert found["ours"]["rare"]["mae"] < 0.5


def test_an_undefined_metric_and_an_absent_class_are_said():
    one_class = {"validation": torch.zeros(40)}
    said = said_of(One(POSITIVE, BinaryCrossEntropy(), (auc, accuracy, log_loss), **one_class))
    assert said == [
        "task 'rare': its validation split has no example of class 1",
        "task 'rare', validation split: metric 'auc' is undefined: all 40 labels are 0; "
        "runs are selected by 'log_loss'",
    ]
    # The best network by accuracy would be one that always says no.
    assert (
        "has no metric that can judge runs on the validation split: 'auc' is undefined: all 40 labels are 0; "
        "'accuracy' is perfect for a constant prediction"
    ) in refused(One(POSITIVE, BinaryCrossEntropy(), (auc, accuracy), **one_class))
    said = said_of(One(POSITIVE, BinaryCrossEntropy(), (auc, accuracy), test=torch.zeros(40)))
    assert said[1:] == ["task 'rare', test split: no value of metric 'auc' will be given: all 40 labels are 0"]
    assert "has no metric that can judge runs on the validation split: 'auc' is undefined" in refused(
        One(POSITIVE, BinaryCrossEntropy(), (auc,), **one_class)
    )
    assert "test split, task 'rare': no metric of it is defined: all 40 labels are 1" in refused(
        One(POSITIVE, BinaryCrossEntropy(), (auc,), test=torch.ones(40))
    )
    assert "'mae' is perfect for a constant prediction" in refused(One(torch.ones(40)))
    assert said_of(One(CLASSES, CrossEntropy(), (accuracy,), 3, train=CLASSES.clamp(max=1))) == [
        "task 'rare': its train split has no example of class 2"
    ]


def test_every_loss_of_a_search_is_checked():
    benchmark = One(POSITIVE, BinaryCrossEntropy(), (auc,))
    splits, settings = load_checked(benchmark), Settings()
    check_losses(benchmark, splits, settings, {"rare": [Focal(), MSE(), BinaryCrossEntropy()]})
    spoils = make_loss("tests.losses.user_losses:spoils_labels")
    with pytest.raises(ValueError, match=r"task 'rare': .*spoils_labels changes its labels in place"):
        check_losses(benchmark, splits, settings, {"rare": [spoils]})
    with pytest.raises(ValueError, match="train split, task 'rare': cross-entropy takes classes of type int64"):
        check_losses(benchmark, splits, settings, {"rare": [Focal(), CrossEntropy()]})


@pytest.mark.parametrize("name", ["type", "a.b", "a/b", "keys", "%74ype", "ünï 1", "training"])
def test_a_task_may_have_any_name(name):
    model = HardSharing(nn.Identity(), {name: nn.Linear(2, 1), "type": nn.Linear(2, 1), "%": nn.Linear(2, 1)})
    assert set(model(torch.ones(3, 2))) == {name, "type", "%"}
    assert len(model.state_dict()) == 2 * len({name, "type", "%"})
    plain = HardSharing(nn.Identity(), {"left": nn.Linear(2, 1)})
    assert list(plain.state_dict()) == ["heads.left.weight", "heads.left.bias"]


@pytest.mark.parametrize("name", ["mae", "log_loss"])
def test_a_benchmark_of_a_users_own_is_refused_by_the_command_in_one_line(name, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "from tests.tiny import *\nfrom mtl import metrics\nfrom torch import nn\n"
        "class Mine(Tiny):\n    name = 'mine'\n"
        f"    tasks = (Tiny.tasks[0], Task('product', nn.MSELoss(reduction='none'), (metrics.{name},)))\n"
    )
    out = tmp_path / "out"
    assert main(["train", f"{tmp_path}/mine.py:Mine", "--strategy", "equal", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "task 'product': its loss returns shape (2,)" in said
    assert not out.exists()


def test_a_search_refuses_a_loss_that_cannot_take_the_labels(tmp_path, capsys):
    asked = ["search", "tests/tiny.py:Tiny", "--strategy", "equal", "--search", "loss.product=mse,cross-entropy"]
    assert main([*asked, "--method", "random", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "task 'product': cross-entropy takes classes of type int64 as labels: here they are of float32" in said
    assert said.count("\n") == 1 and not (tmp_path / "out").exists()
