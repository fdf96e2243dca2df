"""Compiled forward passes: which ones they are, and what is said where there can be none."""

import functools

import pytest
import torch
from torch import nn

from mtl.cli.main import main
from mtl.models import HardSharing
from mtl.train import Cohort, Member, Settings, train
from mtl.train.compiled import CompiledParts
from tests.population.problem import Three, ThreeMissing, close
from tests.tiny import Tiny

COMPILED = Settings(steps=6, lr=1e-2, batch_size=32, compile=True)


@pytest.fixture
def calls(monkeypatch):
    """The rows that each compiled call got, with gradients or without; nothing is compiled."""
    seen = []

    def compiled(function, dynamic):
        assert dynamic is False

        def call(inputs):
            seen.append((len(inputs), torch.is_grad_enabled()))
            return function(inputs)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    return seen


@pytest.mark.parametrize("strategy", ["equal", "mgda", "famo", "auto-lambda"])
def test_the_first_forward_pass_of_a_step_is_compiled_and_no_other(calls, strategy):
    found = train(Tiny(), Tiny().load(), strategy, COMPILED, tell=[].append)
    plain = train(Tiny(), Tiny().load(), strategy, Settings(steps=6, lr=1e-2, batch_size=32))
    assert calls == [(32, True)] * 6
    assert found.history == plain.history and found.cost["forwards"] == plain.cost["forwards"]


def test_each_micro_batch_is_compiled(calls):
    train(Tiny(), Tiny().load(), "equal", Settings(steps=2, batch_size=32, compile=True, accumulate=3))
    assert [rows for rows, _ in calls] == [10, 11, 11] * 2


@pytest.mark.parametrize(("strategy", "further"), [("gradnorm", False), ("famo", True), ("sdmgrad", True)])
def test_passes_that_are_not_compiled_are_said_once(calls, strategy, further):  # noqa: ARG001
    told = []
    members = [Member(strategy, seed) for seed in range(3)]
    Cohort(Tiny(), Tiny().load(), members, COMPILED, vectorised=False, tell=told.append)
    line = f"compile: {strategy} makes further forward passes in a step, which are not compiled"
    assert told == [line] * further


class Several(Tiny):
    """Two shared layers that are called, in a list that is not, and a layer of a task between them."""

    name = "several"

    def model(self, tasks, inputs):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList([nn.Linear(inputs.shape[1], 8), nn.Linear(8, 8)])
                self.heads = nn.ModuleDict({task.name: nn.Linear(8, task.outputs) for task in tasks})

            def shared_parameters(self):
                return list(self.layers.parameters())

            def forward(self, inputs):
                hidden = self.layers[1](torch.relu(self.layers[0](inputs)))
                return {name: head(hidden) for name, head in self.heads.items()}

        return Model()


def test_the_largest_shared_modules_are_compiled(calls):
    train(Several(), Several().load(), "equal", Settings(steps=3, batch_size=16, compile=True))
    assert [rows for rows, _ in calls] == [16] * 6


class Scattered(Tiny):
    """A model whose shared parameters lie in modules beside others."""

    name = "scattered"

    def model(self, tasks, inputs):
        model = super().model(tasks, inputs)
        first = next(model.trunk.parameters())
        model.shared_parameters = lambda: [first]
        return model


def test_a_model_without_a_shared_module_is_refused():
    with pytest.raises(ValueError, match=r"^compile: HardSharing has no module whose parameters are all shared, such"):
        train(Scattered(), Scattered().load(), "equal", COMPILED)


def test_second_derivatives_and_a_missing_compiler_are_refused_before_training(tmp_path, monkeypatch, capsys):
    command = ["train", "tests/tiny.py:Tiny", "--compile", "--out", str(tmp_path / "run")]
    assert main([*command, "--strategy", "auxilearn"]) == 2
    assert (
        "compile: auxilearn needs second derivatives, which a compiled model does not have" in capsys.readouterr().err
    )
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(command) == 2
    assert "compile: torch.compile needs a C++ compiler, and no-such-compiler is not found" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_compiled_is_one_line(monkeypatch):
    def broken(_graph, _inputs):
        raise RuntimeError("no such operation\nand so on")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=broken))
    with pytest.raises(
        ValueError, match=r"^compile: trunk cannot be compiled: .*no such operation.*--compile$"
    ) as told:
        train(Tiny(), Tiny().load(), "equal", COMPILED)
    assert "\n" not in str(told.value)


def test_inputs_of_ever_new_shapes_are_refused_and_not_silently_eager(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    model = HardSharing(nn.Linear(3, 2), {"a": nn.Linear(2, 1)})
    parts = CompiledParts(model)
    with pytest.raises(ValueError, match=r"^compile: trunk was compiled for inputs of 8 shapes, and here is another: "):
        for rows in range(2, 20):
            with parts.step(), parts.forward():
                model(torch.zeros(rows, 3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch's own imports
@pytest.mark.parametrize("benchmark", [Three, ThreeMissing])
@pytest.mark.parametrize("strategy", ["equal", "gradnorm", "graddrop", "famo"])
@pytest.mark.usefixtures("float64")
def test_a_compiled_run_has_the_numbers_of_the_plain_one(benchmark, strategy):
    """Also where a batch lacks a task, whose head then gets no gradient."""
    settings = {"steps": 60, "lr": 1e-2, "batch_size": 4}
    chosen = benchmark()
    found, plain = (
        train(chosen, chosen.load(), strategy, Settings(**settings, compile=asked), seed=1, tell=[].append)
        for asked in (True, False)
    )
    assert found.skipped == plain.skipped
    for key, curve in plain.history.items():
        close(found.history[key], curve, 1e-8)
    for name, value in plain.weights.items():
        torch.testing.assert_close(found.weights[name], value, atol=1e-8, rtol=0)
