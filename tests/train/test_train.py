import dataclasses
import itertools
import math

import pytest
import torch

import mtl
from mtl.benchmarks import Task, load_checked
from mtl.metrics import mae, r2
from mtl.strategies import REGISTRY
from mtl.train import Cohort, Member, Settings, Stopped, checkpoint, train
from mtl.train.batches import Batches, derived_seed
from mtl.train.evaluate import constant_metrics, evaluate, selection
from tests.tiny import Diverging, MissingLabels, Stumbling, Tiny, TinyWithDropout

SOME = ["equal", "uncertainty", "famo", "mgda", "auto-lambda", "dwa", "uncertainty+mgda+every:n=3"]


def trained(benchmark, spec, settings=None, **options):
    settings = settings or Settings.of(benchmark.recipe)
    return train(benchmark, load_checked(benchmark), spec, settings, **options)


@pytest.mark.parametrize("spec", SOME)
def test_a_balancer_in_a_foreign_loop_gives_what_the_trainer_gives(spec):
    benchmark, settings = Tiny(), Settings.of(Tiny.recipe)
    result = trained(benchmark, spec, settings, seed=5)

    data = load_checked(benchmark)
    torch.manual_seed(5)
    model = benchmark.model(benchmark.tasks, data.train.inputs[:2])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    balancer = mtl.Balancer(spec, shared=model.trunk.parameters(), steps_per_epoch=8, seed=5)
    cross_entropy, weights = torch.nn.functional.cross_entropy, []
    for step in range(24):

        def losses(batch):
            out = model(batch.inputs)
            product = (out["product"][:, 0] - batch.targets["product"]).square().mean()
            return {"sign": cross_entropy(out["sign"], batch.targets["sign"]), "product": product}

        batch = Batches(data.train, 32, 5)[step]
        other = Batches(data.validation, 32, 5, stream=1)[step]
        optimizer.zero_grad()
        balancer.backward(
            losses(batch),
            recompute=lambda batch=batch: losses(batch),
            validation=lambda other=other: losses(other),
            lookahead_lr=1e-2,
        )
        optimizer.step()
        weights.append(balancer.weights)
    torch.testing.assert_close(torch.tensor(result.history["weights"]), torch.stack(weights), atol=1e-6, rtol=0)
    last, _ = evaluate(model, benchmark.tasks, data.validation)
    assert list(last.values()) == pytest.approx(result.history["validation_loss"][-1], abs=1e-6)


@pytest.mark.parametrize("name", REGISTRY)
def test_every_strategy_trains(name):
    result = trained(Tiny(), name)
    assert result.status == "done" and not result.skipped
    assert all(value == value for metrics in result.metrics.values() for value in metrics.values())


def test_a_strategy_beats_the_constant_prediction_and_the_best_checkpoint_is_tested():
    benchmark = Tiny()
    result = trained(benchmark, "equal", Settings.of(benchmark.recipe, {"epochs": 10}))
    scores = result.history["validation_selection"]
    assert result.selection == max(scores) > 0.3
    assert result.best_step == result.history["eval_step"][scores.index(max(scores))]
    assert result.cost["steps"] == result.cost["forwards"] == result.cost["backwards"] == 80


@pytest.mark.parametrize("spec", SOME)
def test_a_stopped_run_resumes_bit_for_bit(spec, tmp_path):
    benchmark = TinyWithDropout()
    settings = Settings.of(benchmark.recipe, {"schedule": "cosine", "warmup": 4, "clip": 1.0})
    straight = trained(benchmark, spec, settings, seed=2)
    for stop_after in (3, 11, 16):
        path = tmp_path / f"{stop_after}.pt"
        calls = iter(range(1, 1000))
        with pytest.raises(Stopped):
            trained(
                benchmark,
                spec,
                settings,
                seed=2,
                checkpoint_path=path,
                should_stop=lambda calls=calls, last=stop_after: next(calls) >= last,
            )
        torch.manual_seed(99)  # whatever happened to the generator in between
        resumed = trained(benchmark, spec, settings, seed=2, checkpoint_path=path)
        assert resumed.metrics == straight.metrics
        assert resumed.history == straight.history
        assert {**resumed.cost, "seconds": 0, "peak_memory_mb": 0} == {
            **straight.cost,
            "seconds": 0,
            "peak_memory_mb": 0,
        }


def damaged_somewhere(content):
    """A file cut short, empty, of another kind, and with one byte changed in the midst of its numbers."""
    flipped = bytearray(content)
    flipped[content.index(torch.full((9,), 7.0).numpy().tobytes()) + 10] ^= 1
    return [content[: len(content) // 2], b"", b"PK\x03\x04 cut short", b"rubbish", bytes(flipped)]


@pytest.mark.parametrize("kind", range(5))
def test_a_damaged_checkpoint_is_said_and_a_fresh_start(kind, tmp_path):
    path, said = tmp_path / "run.pt", []
    checkpoint.save(path, {"numbers": torch.full((9,), 7.0), "more": torch.randn(50)})
    path.write_bytes(damaged_somewhere(path.read_bytes())[kind])
    again = trained(Tiny(), "equal", checkpoint_path=path, tell=said.append)
    assert again.metrics == trained(Tiny(), "equal").metrics
    assert said == [f"checkpoint {path} cannot be read: the run starts over"]


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied"),
        OSError(5, "Input/output error"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_what_hinders_the_reading_of_a_sound_checkpoint_is_an_error(error, tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    checkpoint.save(path, {"number": torch.ones(3)})

    def hindered(*_arguments, **_options):
        raise error

    monkeypatch.setattr(torch, "load", hindered)
    with pytest.raises(type(error)):
        checkpoint.load(path)
    assert path.exists()


def test_a_run_with_too_many_bad_steps_diverges_and_ends():
    benchmark = Diverging()
    result = trained(benchmark, "uncertainty", Settings.of(benchmark.recipe, {"epochs": 5, "nan_limit": 6}))
    assert result.status == "diverged"
    assert result.skipped == {"nonfinite_loss": 7}
    assert result.cost["steps"] == 12


def test_one_bad_step_is_counted_and_the_run_goes_on():
    result = trained(Stumbling(), "mgda", Settings.of(Tiny.recipe, {"steps": 8}))
    assert result.status == "done" and result.skipped == {"nonfinite_loss": 1}


@pytest.mark.parametrize("clipped", [{}, {"clip": 1.0}, {"clip_value": 1.0}])
@pytest.mark.parametrize("vectorised", [True, False])
def test_a_bad_step_counts_alike_wherever_it_falls(vectorised, clipped):
    """An example that is NaN comes last: in a run, and before an evaluation that a search asks for."""
    benchmark, splits = Tiny(), load_checked(Tiny())
    splits.train.inputs[7, 0] = torch.nan  # as data on disk may be, of which two examples are looked at beforehand
    batches = Batches(splits.train, 32, 0)
    steps = 1 + next(step for step in range(8, 16) if bool(batches[step].inputs.isnan().any()))
    settings = Settings.of(Tiny.recipe, {"steps": steps, **clipped})
    for told in (True, False):
        members = [Member("mgda"), Member("mgda", settings={"lr": 1e-3})]
        cohort = Cohort(benchmark, splits, members, settings, vectorised=vectorised, told=told)
        cohort.advance(steps)
        if told:
            assert [evaluation.finite for evaluation in cohort.evaluate()] == [True, True]
            cohort.remember([0, 1])
        for result in cohort.results():
            assert (result.status, result.skipped) == ("done", {"nonfinite_loss": 2}), result.reason


class Endless(Tiny):
    """The second task's loss is infinite from the sixth training step on, and wherever nothing is trained."""

    def __init__(self) -> None:
        calls = itertools.count()

        def loss(prediction, target):
            value = (prediction.reshape(-1) - target).square().mean()
            good = torch.is_grad_enabled() and next(calls) < 5
            return value if good else value + math.inf

        self.tasks = (Tiny.tasks[0], Task("product", loss, (mae, r2)))


def test_a_run_that_is_not_finite_where_it_ends_has_diverged_however_few_such_steps_there_were():
    result = trained(Endless(), "mgda", Settings.of(Tiny.recipe, {"steps": 6}))
    assert (result.status, result.skipped) == ("diverged", {"nonfinite_loss": 1})
    assert result.reason == "its losses are not finite, neither in its last step nor on validation data"


def test_a_run_without_a_good_step_has_diverged():
    benchmark, splits = Tiny(), load_checked(Tiny())
    splits.train.inputs[:, 0] = torch.nan
    result = train(benchmark, splits, "mgda", Settings.of(Tiny.recipe, {"steps": 6}))
    assert (result.status, result.reason) == ("diverged", "something was not finite in all its 6 steps")


def test_missing_labels_are_absent_tasks_not_broken_ones():
    result = trained(MissingLabels(), "equal")
    assert result.status == "done"
    assert set(result.skipped) == {"absent_task"}


def test_early_stopping_counts_evaluations_without_improvement():
    result = trained(Tiny(), "equal", Settings.of(Tiny.recipe, {"epochs": 50, "patience": 2, "lr": 0.0}))
    assert result.cost["steps"] == 3 * 8


def test_single_tasks_train_alone():
    benchmark = Tiny()
    result = trained(benchmark, "equal", tasks=[benchmark.tasks[1]])
    assert list(result.metrics) == ["product"]


def test_batches_depend_on_seed_stream_and_step_only():
    split = load_checked(Tiny()).train
    batches = Batches(split, 32, seed=1)
    assert batches.per_epoch == 8
    torch.testing.assert_close(batches[13].inputs, Batches(split, 32, seed=1)[13].inputs)
    assert not torch.equal(batches[0].inputs, Batches(split, 32, seed=1, stream=1)[0].inputs)
    assert not torch.equal(batches[0].inputs, batches[8].inputs)
    epoch = torch.cat([batches[step].inputs for step in range(8)])
    torch.testing.assert_close(epoch.sort(0).values, split.inputs.sort(0).values)
    assert derived_seed(1, 2) != derived_seed(2, 1)


def test_the_constant_prediction_has_no_skill_and_the_truth_has_all_of_it():
    benchmark = Tiny()
    data = load_checked(benchmark)
    reference = constant_metrics(benchmark.tasks, data.train, data.validation)
    assert selection(benchmark.tasks, reference, reference) == 0
    perfect = {"sign": {"accuracy": 1.0}, "product": {"mae": 0.0}}
    assert selection(benchmark.tasks, perfect, reference) == 1
    broken = {"sign": {"accuracy": 1.0}, "product": {"mae": float("nan")}}
    assert selection(benchmark.tasks, broken, reference) == float("-inf")


def test_the_schedule_rises_and_falls():
    settings = Settings(lr=1.0, schedule="cosine", warmup=4)
    rates = [settings.lr * settings.factor(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and max(rates) == pytest.approx(rates[4], abs=0.01) and rates[-1] < 0.001


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epocs": 3}, "unknown training setting 'epocs': did you mean epochs"),
        ({"lr": -1.0}, "lr=-1.0 must be at least 0"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion': did you mean muon"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
    ],
)
def test_bad_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Settings.of(values)


def test_what_is_said_last_decides_the_length():
    recipe = {"steps": 100}
    assert Settings.of(recipe, {"epochs": 2}).length(10) == 20
    assert Settings.of({"epochs": 2}, {"steps": 7}).length(10) == 7
    assert dataclasses.replace(Settings.of(recipe)).length(10) == 100


def test_a_checkpoint_of_another_strategy_is_not_gone_on_with(tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(Stopped):
        trained(Tiny(), "equal", checkpoint_path=path, should_stop=lambda: True)
    with pytest.raises(ValueError, match="is of equal with seed 0, and famo with seed 0 is to be trained"):
        trained(Tiny(), "famo", checkpoint_path=path)
