"""Muon with AdamW beside it: each is torch's, on its own parameters."""

import copy

import pytest
import torch

from mtl.train import Cohort, Member, Settings, train
from tests.population.problem import Three
from tests.train.plain_loop import trained

pytestmark = pytest.mark.usefixtures("float64")


class Both:
    """The two optimizers side by side, as one would write it."""

    def __init__(self, model, **muon):
        matrices = [p for p in model.trunk.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
        self.both = (
            torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, **muon),
            torch.optim.AdamW(others, lr=0.02, weight_decay=0.1),
        )

    def zero_grad(self):
        for each in self.both:
            each.zero_grad()

    def step(self):
        for each in self.both:
            each.step()


@pytest.mark.parametrize(
    ("spec", "arguments"),
    [
        ("muon", {"adjust_lr_fn": "match_rms_adamw"}),
        ("Muon:momentum=0.8,adjust_lr_fn=original", {"momentum": 0.8, "adjust_lr_fn": "original"}),
    ],
)
def test_equal_to_a_plain_loop(spec, arguments):
    settings = Settings(steps=8, batch_size=16, lr=0.02, weight_decay=0.1, optimizer=spec)
    splits = Three().load()
    found = train(Three(), splits, "equal", settings, seed=2).weights
    for name, value in trained(Three(), splits, settings, 2, lambda model: Both(model, **arguments)).items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0)  # Muon computes in bfloat16


def test_a_run_goes_on_from_its_state_and_follows_its_schedule():
    settings = Settings(steps=20, batch_size=16, lr=0.02, optimizer="muon", schedule="cosine", head_lr=0.05)
    splits = Three().load()
    whole, resumed = (Cohort(Three(), splits, [Member("equal", 1)], settings, vectorised=False) for _ in range(2))
    whole.advance(7)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for one in (whole, resumed):
        one.advance(1000)
    assert whole.results()[0].history == resumed.results()[0].history
    groups = whole._groups.all[0].stepper._updates._optimizer.param_groups
    assert len({group["lr"] for group in groups}) == 2 and max(group["lr"] for group in groups) < 0.01
