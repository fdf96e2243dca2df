"""A member that goes on with other settings: together with others and by itself it is the same run."""

import pytest
import torch

from mtl.train import Cohort, Member, Settings
from tests.population.problem import Three, close

pytestmark = pytest.mark.usefixtures("float64")

SETTINGS = Settings.of(Three.recipe, {"steps": 40, "batch_size": 32})  # it is evaluated after each ten steps
HUBER = [{"square": {"delta": delta}} for delta in (1.5, 0.1)]
LEARNED = {"product": {"name": "learned:of=mse,hidden=4"}}


def both(before, after, steps=25):
    """A member that changes after its second evaluation, in a population and by itself: the results and weights."""
    found = []
    for vectorised in (True, False):
        made = Cohort(Three(), Three().load(), [before], SETTINGS, vectorised=vectorised)
        made.advance(steps)
        made.replace({0: after})
        made.advance(1000)
        found.append((made.results()[0], made.weights(0)))
    return found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Member("famo", 1, {"dropout": 0.3}, HUBER[0]), Member("famo", 1, {"dropout": 0.1}, HUBER[1])),
        (Member("equal", 1, {"lr": 0.0}), Member("equal", 1, {"lr": 0.0}, LEARNED)),
        (Member("equal", 1, {"lr": 0.0}, LEARNED), Member("equal", 1, {"lr": 0.0})),
        (Member("equal", 1), Member("equal", 1, {"dropout": 0.3, "ema": 0.9, "spectral": 0.01})),
        (Member("equal", 1, {"dropout": 0.3, "ema": 0.9, "spectral": 0.01}), Member("mgda", 1, {"spectral": 0.02})),
        (Member("equal", 1, {"optimizer": "sgd", "momentum": 0.0}), Member("equal", 1, {"optimizer": "sgd"})),
        (
            Member("equal", 1, {"optimizer": "sgd:momentum=0,dampening=0.5"}),
            Member("equal", 1, {"optimizer": "sgd:momentum=0.8,dampening=0.5"}),
        ),
        (Member("equal", 1, {"optimizer": "rmsprop"}), Member("equal", 1, {"optimizer": "rmsprop:momentum=0.8"})),
        (Member("equal", 1, {"optimizer": "rmsprop"}), Member("equal", 1, {"optimizer": "rmsprop:centered=true"})),
        (Member("equal", 1), Member("equal", 1, {"optimizer": "adam:amsgrad=true"})),
        (Member("equal", 1, {"head_lr": 0.1}), Member("equal", 1, {"dropout": 0.3, "heads": "sign:lr=0.01"})),
    ],
)
def test_a_member_that_changes_what_its_model_is_made_of_keeps_its_parameters_and_its_best(before, after):
    (together, weights), (alone, own) = both(before, after)
    assert together.status == alone.status == "done" and together.best_step == alone.best_step
    if before.settings.get("lr") == 0.0:
        assert together.best_step == 10  # the best evaluation is from before the change
    for name, curve in alone.history.items():
        close(together.history[name], curve, 1e-9)
    close(together.metrics["product"]["mae"], alone.metrics["product"]["mae"], 1e-9)
    assert weights.keys() == own.keys()
    for name, value in own.items():
        torch.testing.assert_close(weights[name], value, atol=1e-9, rtol=0)


@pytest.mark.parametrize("optimizer", ["sgd:momentum={}", "rmsprop:momentum={}"])
def test_a_momentum_that_rests_is_gone_on_with(optimizer):
    """As torch's optimizers do: while it is 0 what they remember stays as it is."""
    found = []
    for vectorised in (True, False):
        made = Cohort(Three(), Three().load(), [Member("equal", 1)], SETTINGS, vectorised=vectorised)
        for momentum in (0.9, 0, 0.5):
            made.replace({0: Member("equal", 1, {"optimizer": optimizer.format(momentum), "lr": 1e-3})})
            made.advance(4)
        found.append(made.results()[0].history)
    assert len(found[0]["train_loss"]) == 12
    close(found[0]["train_loss"], found[1]["train_loss"], 1e-9)


def test_a_member_whose_batches_are_cut_otherwise_is_weighed_once_a_step():
    found = []
    for pieces in ((1, 1, 1), (2, 3, 2)):
        made = Cohort(Three(), Three().load(), [Member("rlw", 1)], SETTINGS, tell=str)
        for number in pieces:
            made.replace({0: Member("rlw", 1, {"accumulate": number})})
            made.advance(3)
        found.append(made.results()[0].history["weights"])
    assert len(found[0]) == 9
    close(*found, 1e-9)


@pytest.mark.parametrize("vectorised", [True, False])
def test_parameters_that_do_not_fit_are_refused_in_one_line(vectorised):
    made = Cohort(Three(), Three().load(), [Member("equal", 2)], SETTINGS, vectorised=vectorised)
    for settings in ({"model": "mlp:width=4"}, {"model": "mlp:width=8,depth=2"}, {"architecture": "cross-stitch"}):
        with pytest.raises(
            ValueError, match=r"^a member cannot keep its parameters: the model of its new settings has"
        ):
            made.replace({0: Member("equal", 2, settings)})


@pytest.mark.parametrize("vectorised", [True, False])
def test_what_is_kept_of_the_best_evaluation_stays_while_a_loss_that_came_after_it_is_learned(vectorised):
    made = Cohort(Three(), Three().load(), [Member("equal", 1, {"lr": 0.0})], SETTINGS, vectorised=vectorised)
    made.advance(25)
    made.replace({0: Member("equal", 1, {"lr": 1.0}, LEARNED)})
    kept = made.results()[0].learned
    made.advance(1000)
    result = made.results()[0]
    assert result.best_step == 10 and result.learned == kept
