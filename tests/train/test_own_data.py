"""Tasks that have examples of their own are trained together, each on its own batches."""

import dataclasses
import json
import math

import pytest
import torch
from torch import nn

import mtl
from mtl.benchmarks import Split, Splits, load_checked
from mtl.benchmarks.digest import difference, of_splits
from mtl.benchmarks.losses import fitted_tasks, with_losses
from mtl.cli.main import main
from mtl.losses import MSE, make_loss
from mtl.metrics import mae
from mtl.train import Cohort, Member, Settings, check_model, train
from mtl.train.batches import Batches
from mtl.train.evaluate import evaluate
from mtl.train.facts import data_facts
from mtl.train.model import build_model, predictions
from tests.benchmarks.domains import Domains, DomainsOnDisk

TASKS = ("shop", "web", "lens")


def trained(benchmark=None, strategy="equal", seed=0, tasks=None, **settings):
    benchmark = benchmark or Domains()
    settings = Settings.of(benchmark.recipe, settings)
    return train(benchmark, load_checked(benchmark), strategy, settings, seed=seed, tasks=tasks)


def same(one, other):
    assert one.metrics == other.metrics
    assert json.dumps(one.history) == json.dumps(other.history)
    assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


@pytest.mark.parametrize("benchmark", [Domains, DomainsOnDisk])
def test_a_loss_that_cannot_be_vectorised_is_named(benchmark):
    def branching(prediction, target):
        error = (prediction.reshape(-1) - target).abs()
        return error.mean() if error.mean() > 1 else error.square().mean()

    made, told = benchmark(), []
    made.tasks = [dataclasses.replace(task, loss=branching) if task.name == "web" else task for task in made.tasks]
    cohort = Cohort(made, made.load(), [Member("equal", 0)], Settings.of(made.recipe), tell=told.append)
    cohort.advance(1)
    assert len(told) == 1 and told[0].startswith("the loss of task 'web' cannot be vectorised")


def test_a_step_is_that_of_a_loop_by_hand():
    benchmark, found = Domains(), trained(steps=9, evaluate_every=9, optimizer="sgd", momentum=0.0)
    splits = load_checked(benchmark)
    settings = Settings.of(benchmark.recipe)
    torch.manual_seed(0)
    model = build_model(benchmark, benchmark.tasks, splits.train.first(2), settings)
    optimizer, batches = torch.optim.SGD(model.parameters(), lr=0.02), Batches(splits.train, 8, 0)
    for step in range(9):
        batch, losses = batches[step], []
        assert {task: len(inputs) for task, inputs in batch.inputs.items()} == {"shop": 8, "web": 8, "lens": 7}
        for task, loss in zip(TASKS, (nn.functional.cross_entropy, None, nn.functional.cross_entropy), strict=True):
            predicted, labels = model.heads[task](model.trunk(batch.inputs[task])), batch.targets[task]
            if loss is None:
                there = ~labels.isnan()
                losses.append((predicted[there, 0] - labels[there]).square().mean())
            else:
                losses.append(loss(predicted, labels))
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found.weights[name], value)


def test_each_task_goes_through_its_own_examples_again_and_again():
    splits = load_checked(Domains())
    batches = Batches(splits.train, 8, seed=3)
    assert batches.per_epoch == 6
    seen = {task: [batches[step].inputs[task] for step in range(6)] for task in TASKS}
    for task, passes in (("shop", 1), ("web", 2), ("lens", 6)):
        rows = [tuple(row.tolist()) for inputs in seen[task] for row in inputs]
        counts = [rows.count(row) for row in set(rows)]
        assert set(counts) == {passes}
    other = Batches(splits.train, 8, seed=4)
    assert not any(torch.equal(batches[0].inputs[task], other[0].inputs[task]) for task in TASKS)
    assert all(torch.equal(batches[5].inputs[task], seen[task][5]) for task in TASKS)


def test_proportional_batches_go_through_all_equally_often():
    splits = load_checked(Domains())
    batches = Batches(splits.train, 16, seed=3, sampling="proportional")
    assert batches.sizes == {"shop": 16, "web": 8, "lens": 2} and batches.per_epoch == 3
    assert {task: len(labels) for task, labels in batches[1].targets.items()} == batches.sizes


@pytest.mark.parametrize("strategy", ["equal", "gradnorm", "cagrad", "famo", "auto-lambda", "graddrop"])
def test_a_population_equals_its_runs(strategy):
    equals_runs(Domains(), strategy, {"steps": 60})


@pytest.mark.parametrize(
    "settings",
    [
        {"noise": 0.1, "mixup": 0.4},
        {"sampling": "proportional", "batch_size": 16},
        {"dropout": 0.3},
        {"architecture": "dselect-k:gate=static"},
        {"architecture": "cross-stitch"},
        {"architecture": "learning-to-branch"},
        {"architecture": "ple"},
        {"align_data": "train"},
    ],
    ids=str,
)
def test_a_population_equals_its_runs_with_other_settings(settings):
    equals_runs(Domains(), "auto-lambda" if "align_data" in settings else "mgda", {"steps": 30} | settings)


@pytest.mark.parametrize("strategy", ["mgda", "uncertainty"])
def test_a_population_equals_its_runs_with_parts_of_a_loss(strategy):
    equals_runs(with_losses(Domains(), {"web": "apart:mse+0.1*mae"}), strategy, {"steps": 20})


def test_a_population_equals_its_runs_on_data_sets():
    benchmark = DomainsOnDisk()
    benchmark.workers = 1
    equals_runs(benchmark, "equal", {"steps": 20})


def equals_runs(benchmark, strategy, settings):
    splits, settings, said = load_checked(benchmark), Settings.of(benchmark.recipe, settings), []
    cohort = Cohort(benchmark, splits, [Member(strategy, seed) for seed in (0, 1)], settings, tell=said.append)
    assert said == []
    cohort.advance(settings.steps)
    for seed, member in enumerate(cohort.results()):
        alone = train(benchmark, splits, strategy, settings, seed=seed)
        assert member.status == alone.status == "done"
        for row, other in zip(member.history["train_loss"], alone.history["train_loss"], strict=True):
            assert row == pytest.approx(other, abs=1e-5, rel=1e-5)
        for row, other in zip(member.history["weights"], alone.history["weights"], strict=True):
            assert row == pytest.approx(other, abs=5e-5)
        for task, values in alone.metrics.items():
            assert member.metrics[task] == pytest.approx(values, abs=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_data_sets_are_trained_on_as_the_tensors_that_they_read(workers):
    benchmark = DomainsOnDisk()
    benchmark.workers = workers
    same(trained(Domains()), trained(benchmark))


def test_a_task_alone_reads_its_own_examples_in_the_order_that_it_has_with_others():
    benchmark = DomainsOnDisk()
    splits, settings = load_checked(benchmark), Settings.of(benchmark.recipe)
    for split in (splits.train, splits.validation, splits.test):
        for part in split.parts.values():
            part.reading.dataset.read.clear()
    web = benchmark.tasks[1]
    train(benchmark, splits, "equal", settings, tasks=[web])
    read = {task: part.reading.dataset.read for task, part in splits.train.parts.items()}
    assert len(read["shop"]) <= 2 and read["lens"] == []  # the first examples give the form
    steps = 3 * 6  # epochs are those of all tasks together
    order = Batches(load_checked(Domains()).train, 8, 0)
    together = [order[step].targets["web"] for step in range(steps)]
    alone = Batches(splits.train.only(["web"]), 8, 0)
    assert alone.per_epoch == 6
    for step, labels in enumerate(together):
        assert torch.equal(alone[step].targets["web"].nan_to_num(), labels.nan_to_num())


def test_each_task_is_measured_on_its_own_split():
    benchmark, splits = Domains(), load_checked(Domains())
    torch.manual_seed(0)
    model = build_model(benchmark, benchmark.tasks, splits.train.first(2), Settings())
    losses, metrics = evaluate(model, benchmark.tasks, splits.test)
    with torch.no_grad():
        for task in ("shop", "lens"):
            part = splits.test.parts[task]
            predicted = model(part.inputs)[task]
            assert len(predicted) == {"shop": 16, "lens": 9}[task]
            wanted = nn.functional.cross_entropy(predicted, part.targets[task])
            assert losses[task] == pytest.approx(float(wanted))
            right = (predicted.argmax(1) == part.targets[task]).double().mean()
            assert metrics[task]["accuracy"] == pytest.approx(float(right))


@pytest.mark.parametrize("architecture", ["mtan", "cgc", "ple", "dselect-k", "cross-stitch", "learning-to-branch"])
def test_predictions_of_one_task_are_those_among_all(architecture):
    benchmark, splits = Domains(), load_checked(Domains())
    torch.manual_seed(0)
    settings = Settings(architecture=architecture)
    model = build_model(benchmark, benchmark.tasks, splits.train.first(2), settings).eval()
    inputs = splits.train.first(4)
    for task in TASKS:
        (only,) = model(inputs, only=[task]).items()
        assert only[0] == task
        torch.testing.assert_close(only[1], model(inputs)[task])


def test_a_task_s_inputs_leave_the_layers_of_others_alone():
    pictures = torch.randn(4, 3, 16, 16)  # whose attentions have running statistics
    model = mtl.models.make_model("mtan", "lenet", {"one": 2, "two": 2}, pictures)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predictions(model.train(), {"one": pictures}, own=True)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and not any("two" in name for name in moved)


def test_one_draw_of_a_tree_serves_the_tasks_of_a_step():
    torch.manual_seed(0)
    inputs = torch.randn(6, 5)
    model = mtl.models.make_model("learning-to-branch", "mlp:width=8,depth=2", {"one": 1, "two": 1}, inputs).train()
    number = model.draws.number.clone()
    found = predictions(model, {"one": inputs, "two": inputs}, own=True)
    assert int(model.draws.number) == int(number) + 1
    model.draws.rewind()
    together = model(inputs)
    for task in ("one", "two"):
        torch.testing.assert_close(found[task], together[task])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_goes_on_where_it_stopped(workers, tmp_path):
    benchmark, asked, path = DomainsOnDisk(), [], tmp_path / "run.pt"
    benchmark.workers = workers
    splits, settings = load_checked(benchmark), Settings.of(benchmark.recipe, {"noise": 0.1, "epochs": 2})
    with pytest.raises(mtl.train.Stopped):
        train(
            benchmark, splits, "gradnorm", settings, checkpoint_path=path,
            should_stop=lambda: asked.append(0) or len(asked) == 8,
        )  # fmt: skip
    again = train(benchmark, splits, "gradnorm", settings, checkpoint_path=path)
    same(again, train(benchmark, splits, "gradnorm", settings))


def test_micro_batches_give_the_steps_of_whole_batches():
    whole = trained(steps=6, batch_size=4, optimizer="sgd", tasks=[Domains.tasks[0], Domains.tasks[2]])
    cut = trained(steps=6, batch_size=4, optimizer="sgd", tasks=[Domains.tasks[0], Domains.tasks[2]], accumulate=2)
    for name, value in whole.weights.items():
        torch.testing.assert_close(cut.weights[name], value, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="accumulate=2: the batch of task 'lens' has 7 examples, no multiple of it"):
        check_model(Domains(), load_checked(Domains()), Settings(accumulate=2, batch_size=8))


def test_a_mean_of_weights_whose_statistics_would_mix_tasks_is_refused():
    class Normalised(Domains):
        def model(self, tasks, inputs):
            made = super().model(tasks, inputs)
            made.trunk = torch.nn.Sequential(made.trunk, torch.nn.BatchNorm1d(1))
            return made

    with pytest.raises(ValueError, match=r"swa=0\.5 gathers the statistics of batch normalisation anew"):
        check_model(Normalised(), load_checked(Domains()), Settings(swa=0.5))


def test_records_tell_the_data_of_each_task_apart():
    one, other = load_checked(Domains()), load_checked(Domains())
    digests = of_splits(one)
    assert set(digests) == {f"{split} of {task}" for split in ("train", "validation", "test") for task in TASKS}
    other.train.parts["web"].inputs[0, 0] += 1
    changed = [name for name, digest in of_splits(other).items() if digest != digests[name]]
    assert changed == ["train of web"]
    said = difference({"digests": digests}, {"digests": of_splits(other)})
    assert said.startswith("the data of the train split of task 'web' (")
    facts = data_facts(Domains.tasks, one)
    assert facts["examples"]["train of lens"] == 7 and facts["missing"]["train"] == {"shop": 0, "web": 5, "lens": 0}
    assert all(math.isfinite(value) for values in facts["constant"].values() for value in values.values())


def test_class_weights_are_those_of_a_task_s_own_labels():
    class Weighed(Domains):
        tasks = tuple(
            dataclasses.replace(task, loss=make_loss("cross-entropy:class_weights=inverse"))
            if task.outputs > 1
            else task
            for task in Domains.tasks
        )

    splits = load_checked(Weighed())
    for place, name in ((0, "shop"), (2, "lens")):
        fitted = fitted_tasks(Weighed.tasks, splits.train)[place].loss
        alone = make_loss("cross-entropy:class_weights=inverse").fitted(
            splits.train.parts[name].targets[name], Weighed.tasks[place].outputs
        )
        assert str(fitted) == str(alone) and not fitted.undecided()
    assert trained(Weighed(), steps=6).status == "done"


def with_train(change):
    class Changed(Domains):
        def load(self):
            splits = super().load()
            parts = dict(splits.train.parts)
            return Splits(change(parts) or parts, splits.validation, splits.test)

    return Changed()


class Unread(DomainsOnDisk):
    def load(self):
        splits = super().load()
        splits.train.parts["web"].reading.dataset.labels = None
        return splits


@pytest.mark.parametrize(
    ("benchmark", "message"),
    [
        (with_train(lambda parts: parts.pop("web") and None), "train split: it has no examples of task 'web'"),
        (
            with_train(lambda parts: parts.update(wed=parts["web"])),
            "train split: it has examples of 'wed', which is no",
        ),
        (
            with_train(lambda parts: parts["shop"]),
            "its validation split has examples for each task, and its train split",
        ),
        (with_train(lambda parts: parts.update(web=None)), "train split, task 'web': it is None, not a Split"),
        (
            with_train(lambda parts: parts.update(lens=Split(torch.full((9, 5), torch.nan), torch.zeros(9).long()))),
            "train split, task 'lens': 9 examples have NaN or infinite features",
        ),
        (
            with_train(lambda parts: parts.update(lens=Split(torch.zeros(9, 5), torch.zeros(8).long()))),
            "train split, task 'lens': task 'lens' has 8 targets for 9 examples",
        ),
        (
            with_train(lambda parts: parts.update(lens=Split(torch.zeros(9, 5).long(), torch.zeros(9).long()))),
            "train split: the inputs of task 'lens' are inputs (int64, 2 axes), and those of task 'shop' inputs",
        ),
        (Unread(), "train split, task 'web': example 0 cannot be read: TypeError"),
    ],
    ids=range(8),
)
def test_errors_name_task_and_split(benchmark, message):
    with pytest.raises(ValueError) as caught:
        load_checked(benchmark)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_that_fails_on_one_task_s_inputs_says_so():
    class Wide(Domains):
        def load(self):
            splits = super().load()
            widened = {
                name: {**part.parts, "lens": Split(torch.zeros(9, 6), {"lens": torch.arange(9) % 2})}
                for name, part in splits.items()
            }
            return Splits(**widened)

    with pytest.raises(ValueError, match="train split, task 'lens': its model fails on 2 examples"):
        check_model(Wide(), load_checked(Wide()), Settings())


def test_sampling_is_refused_where_tasks_share_their_examples():
    from tests.tiny import Tiny

    with pytest.raises(ValueError, match="sampling=proportional: its tasks have no examples of their own"):
        check_model(Tiny(), load_checked(Tiny()), Settings(sampling="proportional"))


def test_a_model_of_a_users_own_needs_no_more_than_predictions_by_task():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.heads = (
                nn.Linear(5, 4),
                nn.ModuleDict({t.name: nn.Linear(4, t.outputs) for t in Domains.tasks}),
            )

        def shared_parameters(self):
            return self.trunk.parameters()

        def forward(self, inputs):
            return {name: head(self.trunk(inputs)) for name, head in self.heads.items()}

    class Own(Domains):
        def model(self, _tasks, _inputs):
            return Plain()

    equals_runs(Own(), "pcgrad", {"steps": 12})


def test_one_task_with_its_own_examples_is_an_ordinary_run():
    class Single(Domains):
        tasks = (mtl.benchmarks.Task("web", MSE(), (mae,)),)

        def load(self):
            return Splits(*({"web": split.parts["web"]} for _, split in super().load().items()))

    assert trained(Single(), steps=5).status == "done"


@pytest.mark.slow
def test_a_comparison_a_search_and_a_model_that_is_loaded(tmp_path):
    name = "tests/benchmarks/domains.py:Domains"
    out = tmp_path / "compare"
    arguments = ["--seeds", "2", "--steps", "12", "--quiet", "--wandb", "disabled"]
    assert main(["compare", name, "--strategies", "equal", "cagrad", "--out", str(out), *arguments]) == 0
    records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert {record.get("task") for record in records} == {None, *TASKS}
    assert all(record["status"] == "done" and "train of web" in record["digests"] for record in records)
    assert "50 train of shop" in (out / "report.html").read_text()
    model = mtl.load(out)
    assert set(model(torch.zeros(2, 5))) == set(TASKS)
    search = ["search", name, "--strategy", "gradnorm", "--method", "pbt", "--members", "3", "--steps", "12"]
    assert main([*search, "--out", str(tmp_path / "search"), "--quiet", "--wandb", "disabled"]) == 0
    assert main(["data", name]) == 0
