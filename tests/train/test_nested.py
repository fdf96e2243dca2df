"""Inputs in any nesting and labels of any shape are trained as plain ones are."""

import dataclasses

import pytest
import torch

import mtl
from mtl.benchmarks import Split, Splits, load_checked
from mtl.cli.main import main
from mtl.metrics import absolute_error, mean_angle, mean_iou, pixel_accuracy, relative_error, within_22
from mtl.train import Cohort, Member, Settings, check_model, evaluate, tally, train
from mtl.train.augment import augment
from tests.benchmarks.nested import Rooms, Text, Views

BENCHMARKS = pytest.mark.parametrize("benchmark", [Text(), Rooms()], ids=lambda benchmark: benchmark.name)


@pytest.fixture
def double():
    """In single precision a hundred steps make more of what is rounded otherwise on some processors."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@BENCHMARKS
@pytest.mark.parametrize("extra", [{}, {"noise": 0.1, "mixup": 0.4}], ids=["plain", "augmented"])
@pytest.mark.parametrize("strategy", ["equal", "gradnorm"])
@pytest.mark.usefixtures("double")
def test_a_population_equals_its_runs(benchmark, extra, strategy):
    splits, settings = load_checked(benchmark), Settings.of(benchmark.recipe, {**extra, "steps": 100})
    said = []
    cohort = Cohort(benchmark, splits, [Member(strategy, seed) for seed in (0, 1)], settings, tell=said.append)
    assert said == []  # nothing fell back to one at a time
    cohort.advance(100)
    for seed, member in enumerate(cohort.results()):
        alone = train(benchmark, splits, strategy, settings, seed=seed)
        assert member.status == alone.status == "done"
        assert member.validation.keys() == alone.validation.keys() == {task.name for task in benchmark.tasks}
        for row, other in zip(member.history["train_loss"], alone.history["train_loss"], strict=True):
            assert row == pytest.approx(other, abs=1e-5, rel=1e-5)
        assert len(set(map(tuple, member.history["train_loss"]))) > 50


@BENCHMARKS
def test_a_run_goes_on_where_it_stopped(benchmark, tmp_path):
    splits, settings = load_checked(benchmark), Settings.of(benchmark.recipe, {"noise": 0.1})
    asked = []
    with pytest.raises(mtl.train.Stopped):
        train(
            benchmark, splits, "equal", settings, checkpoint_path=tmp_path / "run.pt",
            should_stop=lambda: asked.append(0) or len(asked) == 5,
        )  # fmt: skip
    again = train(benchmark, splits, "equal", settings, checkpoint_path=tmp_path / "run.pt")
    whole = train(benchmark, splits, "equal", settings)
    assert again.metrics == whole.metrics and again.history == whole.history
    assert all(torch.equal(value, again.weights[name]) for name, value in whole.weights.items())


def test_noise_and_mixup_change_floating_point_inputs_alone():
    batch = load_checked(Text()).train.take(slice(6))
    noisy, mixed = augment(batch, 0.5, 0.0, 0, 0), augment(batch, 0.0, 0.5, 0, 0)
    for found in (noisy, mixed):
        assert torch.equal(found.batch.inputs["tokens"], batch.inputs["tokens"])
        assert torch.equal(found.batch.inputs["mask"], batch.inputs["mask"])
        assert not torch.equal(found.batch.inputs["numbers"], batch.inputs["numbers"])
    share, own, other = mixed.share, batch.inputs["numbers"], mixed.partner.inputs["numbers"]
    assert torch.allclose(mixed.batch.inputs["numbers"], share * own + (1 - share) * other)
    assert torch.equal(noisy.batch.inputs["numbers"], augment(batch, 0.5, 0.0, 0, 0).batch.inputs["numbers"])


def test_what_noise_leaves_as_it_is_is_said():
    said, benchmark = [], Text()
    settings = Settings.of(benchmark.recipe, {"noise": 0.1})
    check_model(benchmark, load_checked(benchmark), settings, said.append)
    assert said == ["noise: inputs['tokens'], inputs['mask'] are not floating-point numbers and stay as they are"]


def test_labels_that_a_task_ignores_are_missing():
    plain, loaded = Rooms().load().train.targets, load_checked(Rooms()).train.targets
    assert loaded["kind"].dtype == torch.int64 and loaded["kind"].max() == 2
    assert torch.equal(loaded["kind"] == -100, plain["kind"] == 255)
    assert torch.equal(loaded["depth"].isnan(), plain["depth"] == 0) and bool(loaded["depth"].isnan().any())
    assert torch.equal(loaded["normal"], plain["normal"])


def test_metrics_count_the_pixels_that_are_there():
    benchmark = Rooms()
    splits = load_checked(benchmark)
    found = train(benchmark, splits, "equal", Settings.of(benchmark.recipe))
    model = benchmark.model(benchmark.tasks, splits.train.first(2))
    model.load_state_dict(found.weights)
    with torch.no_grad():
        predicted = model.eval()(splits.test.inputs)
    kind, depth = splits.test.targets["kind"], splits.test.targets["depth"]
    right = (predicted["kind"].argmax(-1) == kind)[kind >= 0].double().mean()
    error = (predicted["depth"] - depth)[~depth.isnan()].double().abs().mean()
    assert found.metrics["kind"]["accuracy"] == pytest.approx(float(right), abs=1e-6)
    assert found.metrics["depth"]["mae"] == pytest.approx(float(error), abs=1e-6)


def changed(**inputs):
    class Changed(Text):
        def load(self):
            splits = super().load()
            tokens = splits.train.inputs
            return Splits(Split({**tokens, **inputs}, splits.train.targets), splits.validation, splits.test)

    return Changed()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"mask": torch.ones(7, 5)}, "its inputs['mask'] are of 7 examples, and its inputs['tokens'] of 48"),
        ({"mask": [[True]]}, "its inputs['mask'][0][0] are a bool; a tensor is wanted"),
        ({"mask": None}, "its inputs['mask'] are None; a tensor is wanted"),
        ({"mask": torch.ones(48).numpy()}, "its inputs['mask'] are a NumPy array; torch.from_numpy"),
        ({"numbers": torch.full((48, 3), torch.nan)}, "48 examples have NaN or infinite features in inputs['numbers']"),
        ({"numbers": torch.ones(48, 3).double()}, "inputs['numbers'] are float64, and .float() makes them float32"),
    ],
)  # fmt: skip
def test_errors_name_the_place(inputs, message):
    benchmark = changed(**inputs)
    with pytest.raises(ValueError) as caught:
        check_model(benchmark, load_checked(benchmark), Settings.of(benchmark.recipe))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_named_tuple_names_its_fields():
    class Other(Rooms):
        def load(self):
            split = super().load().train
            return Splits(*[Split(Views(split.inputs.near, split.inputs.far[:9]), split.targets)] * 3)

    with pytest.raises(ValueError, match=r"its inputs\.far are of 9 examples, and its inputs\.near of 48"):
        load_checked(Other())


@pytest.mark.parametrize("name", ["Text", "Rooms"])
def test_commands_take_them_and_load_gives_the_model(name, tmp_path):
    out = tmp_path / "out"
    asked = ["compare", f"tests/benchmarks/nested.py:{name}", "--strategies", "equal", "uncertainty", "--seeds=2"]
    assert main([*asked, "--steps=4", "--wandb=disabled", "--quiet", "--no-single-task", f"--out={out}"]) == 0
    benchmark = {"Text": Text, "Rooms": Rooms}[name]()
    predicted = mtl.load(out)(load_checked(benchmark).test.inputs)
    assert predicted.keys() == {task.name for task in benchmark.tasks}


@pytest.mark.parametrize("vectorised", [True, False])
def test_metrics_of_predictions_too_many_to_hold_are_summed_up(vectorised, monkeypatch):
    benchmark = Rooms()
    benchmark.tasks = (
        dataclasses.replace(Rooms.tasks[0], metrics=(mean_iou, pixel_accuracy)),
        dataclasses.replace(Rooms.tasks[1], metrics=(absolute_error, relative_error)),
        dataclasses.replace(Rooms.tasks[2], metrics=(mean_angle, within_22)),
    )
    splits, settings = load_checked(benchmark), Settings.of(benchmark.recipe)

    def results():
        members = [Member("equal", seed) for seed in (0, 1)]
        cohort = Cohort(benchmark, splits, members, settings, vectorised=vectorised)
        cohort.advance(settings.steps)
        return cohort.results()

    held = results()
    for module, name, value in [(tally, "_HELD", 100), (evaluate, "_NUMBERS", 200), (evaluate, "CHUNK", 7)]:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(tally.Kept, "update", None)
    for one, other in zip(held, results(), strict=True):
        for task, values in one.metrics.items():
            assert values == pytest.approx(other.metrics[task], abs=1e-5)
        for row, again in zip(one.history["validation_loss"], other.history["validation_loss"], strict=True):
            assert row == pytest.approx(again, abs=1e-5)
        assert one.selection == pytest.approx(other.selection, abs=1e-5)
    check_model(benchmark, splits, settings)


def test_predictions_whose_axes_are_in_another_order_are_refused():
    class Turned(Rooms):
        def model(self, tasks, inputs):
            model = super().model(tasks, inputs)
            model.heads["normal"].classes = True
            return model

    benchmark = Turned()
    with pytest.raises(
        ValueError, match=r"predicts shape \(6, 5, 3\) for an example whose labels have shape \(3, 6, 5\)"
    ):
        check_model(benchmark, load_checked(benchmark), Settings())


def test_the_classes_of_a_pixel_may_be_on_the_second_axis():
    class Second(Rooms):
        def model(self, tasks, inputs):
            model = super().model(tasks, inputs)
            for head in model.heads.values():
                head.classes = False
            return model

    found = []
    for benchmark in (Rooms(), Second()):
        splits, settings = load_checked(benchmark), Settings.of(benchmark.recipe)
        check_model(benchmark, splits, settings)
        found.append(train(benchmark, splits, "equal", settings))
    assert found[0].metrics == found[1].metrics
