"""What is decided on."""

import pytest
import torch

from mtl.auto.parts import PARTS, part_of
from mtl.auto.space import USUAL, auto_space
from mtl.benchmarks import Split, Task
from mtl.benchmarks.losses import with_losses
from mtl.losses import MSE, suggest
from mtl.metrics import mae
from mtl.search.space import make_member
from mtl.train import Settings
from tests.tiny import OwnModel, Tiny


class OneTask(Tiny):
    """The product alone."""

    tasks = (Tiny.tasks[1],)


class Unnamed(Tiny):
    """A loss that is a function."""

    tasks = (Tiny.tasks[0], Task("product", lambda p, t: (p - t).square().mean(), (mae,)))


def space_of(benchmark, only=PARTS, kept=()):
    return auto_space(benchmark, benchmark.load(), Settings.of(benchmark.recipe), only, kept)


def test_all_parts_are_decided_around_the_benchmarks_own_choices():
    space = space_of(Tiny()).space
    assert {part_of(name) for name in space.dimensions} == {*PARTS}
    own = {"loss.sign": "cross-entropy", "loss.product": "mse", "model": "mlp:width=16,depth=1"}
    own |= {"strategy": "equal", "architecture": "hard-sharing", "optimizer": "adam", "schedule": "constant"}
    for name, choice in own.items():
        assert choice in space.dimensions[name].parameter.grid(1)
    lr = space.dimensions["lr"].parameter
    assert lr.low < Tiny.recipe["lr"] < lr.high
    assert make_member(USUAL, 0).settings == {} == make_member(USUAL, 0).losses


def test_losses_that_fit_the_labels_are_choices_with_numbers_around_what_is_suggested():
    space = space_of(Tiny()).space
    assert "huber" in space.dimensions["loss.product"].parameter.grid(1)
    delta = space.dimensions["loss.product.delta"]
    assert delta.condition.choices == {"huber"} and delta.parameter.high / delta.parameter.low == pytest.approx(
        16, 0.02
    )
    assert "gaussian" not in space.dimensions["loss.product"].parameter.grid(1), "it needs two outputs"


@pytest.mark.parametrize(
    ("own", "tried"),
    [("nadam", ["nadam", "adam", "adamw"]), ("adamw", ["adamw", "adam"]), ("sgd", ["sgd"]), ("rprop", ["rprop"])],
)
def test_optimizers_are_tried_whose_learning_rates_are_of_one_size(own, tried):
    benchmark = Tiny()
    settings = Settings.of(benchmark.recipe, {"optimizer": own})
    found = auto_space(benchmark, benchmark.load(), settings, ("optimizer",), ()).space
    assert found.dimensions["optimizer"].parameter.grid(1) == tried


class Visits(Tiny):
    """A count, predicted as a number."""

    tasks = (Task("visits", MSE(), (mae,)),)

    @staticmethod
    def _split(size, generator):
        x = torch.randn(size, 10, generator=generator)
        return Split(x, {"visits": torch.poisson((x[:, 0] / 2 + 1).exp(), generator=generator)})


def test_losses_of_a_logarithm_are_no_choices_where_metrics_read_a_mean():
    assert suggest(Visits().load().train.targets["visits"]).kind == "counts"
    assert space_of(Visits(), ("losses", "optimizer")).space.dimensions["loss.visits"].parameter.grid(1) == ["mse"]
    logs = with_losses(Visits(), {"visits": "poisson"})
    choices = space_of(logs).space.dimensions["loss.visits"].parameter.grid(1)
    assert set(choices) == {"poisson", "negative-binomial", "tweedie"}


@pytest.mark.parametrize("part", PARTS)
def test_only_one_part(part):
    space = space_of(Tiny(), only=(part,)).space
    assert {part_of(name) for name in space.varied} == {part}


def test_one_task_has_no_weights():
    space = space_of(OneTask()).space
    assert space.dimensions["strategy"].parameter.grid(1) == ["equal"] and "architecture" not in space.dimensions
    with pytest.raises(ValueError, match="--only weights: there is nothing to decide"):
        space_of(OneTask(), only=("weights",))


def test_what_the_user_gives_is_not_searched():
    space = space_of(Tiny(), kept=("lr", "dropout", "loss.product")).space
    assert not {"lr", "dropout", "loss.product", "loss.product.delta"} & space.dimensions.keys()


def test_what_cannot_be_decided_is_said():
    found = space_of(OwnModel())
    assert not {"dropout", "model", "architecture"} & found.space.dimensions.keys()
    assert any("dropout" in remark for remark in found.remarks)
    found = space_of(Unnamed())
    assert "loss.product" not in found.space.dimensions and any("task product" in remark for remark in found.remarks)


def test_the_parts_of_a_loss_are_weighed_and_stay():
    made = space_of(with_losses(OneTask(), {"product": "apart:mse+0.1*mae"}))
    assert {"equal", "famo", "static"} <= {*made.space.dimensions["strategy"].parameter.grid(1)}
    assert made.space.dimensions["strategy.static.weights"].parameter.size == 2
    assert not any(name.startswith("loss.") for name in made.space.dimensions)
    assert "The loss of task product is weighed by its parts, apart:mse+0.1*mae, and stays." in made.remarks
