"""Steps that a `GradScaler` skips: the strategy is as if they had not been, whoever looks meanwhile."""

import pytest
import torch

import mtl
from tests.gradients.models import build

SPECS = ["uncertainty", "gradnorm", "mgda+ema"]


class Loop:
    """A loop with a scaler, some of whose steps overflow."""

    def __init__(self, spec, *, scaler=True, host_checks=True):
        self.case = build("mlp")
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=10**6, enabled=scaler)
        self.optimizer = torch.optim.SGD(self.case.parameters, 0.05)
        self.balancer = mtl.Balancer(spec, self.case.shared, scaler=self.scaler, host_checks=host_checks)

    def losses(self, overflow=False):
        losses = self.case.losses()
        if overflow:  # the losses are finite, the gradients are not
            losses[0] = losses[0] + (self.case.shared[0].sum() * 0).sqrt()
        return torch.stack(losses)

    def update(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

    def step(self, *, overflow=False, between=lambda _: None):
        self.balancer.backward(self.losses(overflow))
        between(self.balancer)
        self.update()

    def saved(self):
        saved = self.balancer.state_dict()
        return {name: saved[name] for name in ("state", "weights", "updates")}


def assert_alike(one, other, *, updates=True):
    got, expected = one.saved(), other.saved()
    torch.testing.assert_close((got["state"], got["weights"]), (expected["state"], expected["weights"]))
    assert got["updates"] == expected["updates"] or not updates


@pytest.mark.parametrize("host_checks", [True, False])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("read", [lambda one: one.state, lambda one: one.state_dict()])
def test_reading_the_state_before_update_does_not_make_a_skipped_step_permanent(spec, at, read, host_checks):
    looked, plain = Loop(spec, host_checks=host_checks), Loop(spec, scaler=False)
    for step in range(5):
        looked.step(overflow=step == at, between=read)
        if step != at:
            plain.step(between=read)
        if step:
            assert_alike(looked, plain, updates=host_checks)


@pytest.mark.parametrize("host_checks", [True, False])
@pytest.mark.parametrize("spec", SPECS)
def test_a_state_loaded_after_an_overflow_stands(spec, host_checks):
    source, loop = Loop(spec, scaler=False), Loop(spec, host_checks=host_checks)
    for _ in range(3):
        source.step()
    for step in range(4):
        loop.step(overflow=step == 3)
    loop.balancer.load_state_dict(source.balancer.state_dict())
    assert_alike(loop, source)
    for one, other in zip(loop.case.parameters, source.case.parameters, strict=True):
        one.data.copy_(other)
    source.step()
    loop.step()
    assert_alike(loop, source)


@pytest.mark.parametrize("host_checks", [True, False])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("broken", [0, 1])
def test_all_micro_batches_of_a_skipped_step_are_taken_back(spec, broken, host_checks):
    loop, plain = Loop(spec, host_checks=host_checks), Loop(spec, scaler=False)
    for step in range(4):
        for micro in range(2):
            loop.balancer.backward(loop.losses(overflow=step == 2 and micro == broken) / 2)
            if step != 2:
                plain.balancer.backward(plain.losses() / 2)
        loop.update()
        if step != 2:
            plain.update()
    assert_alike(loop, plain, updates=host_checks)


def test_a_factor_that_has_grown_skips_nothing():
    loop, plain = Loop("gradnorm"), Loop("gradnorm", scaler=False)
    loop.scaler.set_growth_interval(1)
    for _ in range(3):
        loop.step()
        plain.step()
    assert loop.scaler.get_scale() > 1024
    assert_alike(loop, plain)
