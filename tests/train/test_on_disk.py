"""Runs on data sets that are read one example at a time."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import default_collate

import mtl
from mtl.benchmarks import Splits, load_checked, stored
from mtl.benchmarks.digest import of_splits
from mtl.cli.main import main
from mtl.train import Cohort, Member, Settings, check_model, train
from mtl.train.batches import Batches
from mtl.train.facts import data_facts
from tests.benchmarks.nested import Text
from tests.benchmarks.on_disk import Endless, OnDisk, Pairs

ROOT = Path(__file__).parents[2]


def made(draws=True, **options):
    benchmark = OnDisk()
    benchmark.options, benchmark.draws = options, draws
    return benchmark


def trained(benchmark, strategy="equal", seed=0, **settings):
    settings = Settings.of(benchmark.recipe, settings)
    return train(benchmark, load_checked(benchmark), strategy, settings, seed=seed)


def same(one, other):
    assert one.history == other.history and one.metrics == other.metrics
    assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


def test_a_data_set_is_trained_on_as_the_tensors_that_it_reads():
    same(trained(Text()), trained(made(draws=False)))


def test_what_a_data_set_draws_does_not_depend_on_the_number_of_processes():
    none, one, two = (trained(made(workers=workers)) for workers in (0, 1, 2))
    same(none, one)
    same(none, two)
    assert none.history != trained(made(draws=False)).history
    assert none.history != trained(made(), seed=1).history
    assert multiprocessing.active_children() == []


def test_a_batch_is_the_one_that_was_collated_and_no_copy():
    collated = []

    def collate(examples):
        collated.append(default_collate(examples))
        return collated[-1]

    splits = load_checked(made(collate=collate))
    collated.clear()
    batch = Batches(splits.train, 8, 0)[0]
    ((_, targets),) = collated
    assert [leaf.data_ptr() for leaf in batch.targets.values()] == [leaf.data_ptr() for leaf in targets.values()]


def test_what_a_data_set_draws_leaves_a_runs_own_numbers_alone():
    torch.manual_seed(5)
    splits = load_checked(made())
    before = torch.get_rng_state()
    next(iter(splits.validation.chunks(8)))
    of_splits(splits)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("options", [{}, {"shared_batches": True}, {"workers": 1}], ids=str)
@pytest.mark.parametrize("strategy", ["gradnorm", "cagrad"])
def test_a_population_equals_its_runs(options, strategy):
    benchmark, said = made(**options), []
    splits = load_checked(benchmark)
    settings = Settings.of(benchmark.recipe, {"steps": 100, "noise": 0.1})
    cohort = Cohort(benchmark, splits, [Member(strategy, seed) for seed in (0, 1)], settings, tell=said.append)
    assert said == []
    cohort.advance(100)
    for seed, member in enumerate(cohort.results()):
        alone = train(benchmark, splits, strategy, settings, seed=seed)
        for row, other in zip(member.history["train_loss"], alone.history["train_loss"], strict=True):
            assert row == pytest.approx(other, abs=1e-5, rel=1e-5)


@pytest.mark.parametrize(("options", "times"), [({}, 3), ({"shared_batches": True}, 1)], ids=str)
def test_batches_that_are_shared_are_read_once(options, times):
    benchmark = made(**options)
    splits = load_checked(benchmark)
    settings = Settings.of(benchmark.recipe, {"steps": 6})
    cohort = Cohort(benchmark, splits, [Member("equal", seed) for seed in (0, 1, 2)], settings)
    read = splits.train.reading.dataset.read
    read.clear()
    cohort.advance(5)
    assert len(read) == 5 * 8 * times


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_where_it_stopped(workers, tmp_path):
    benchmark, asked = made(workers=workers), []
    splits, settings = load_checked(benchmark), Settings.of(benchmark.recipe)
    with pytest.raises(mtl.train.Stopped):
        train(
            benchmark, splits, "equal", settings, checkpoint_path=tmp_path / "run.pt",
            should_stop=lambda: asked.append(0) or len(asked) == 5,
        )  # fmt: skip
    same(train(benchmark, splits, "equal", settings, checkpoint_path=tmp_path / "run.pt"), trained(benchmark))


@pytest.mark.parametrize("vectorised", [True, False])
def test_processes_that_read_ahead_go_on_after_an_exploit(vectorised):
    benchmark = made(workers=1)
    splits, settings = load_checked(benchmark), Settings.of(benchmark.recipe, {"steps": 12})
    members = [Member("gradnorm", seed, settings={"lr": 0.01 * (seed + 1)}) for seed in (0, 1)]
    cohort = Cohort(benchmark, splits, members, settings, vectorised=vectorised)
    cohort.advance(4)
    before = {process.pid for process in multiprocessing.active_children()}
    cohort.exploit({0: 1})
    cohort.replace({0: Member("gradnorm:alpha=0.7", 0, settings={"lr": 0.03, "noise": 0.1})})
    cohort.advance(8)
    assert before and {process.pid for process in multiprocessing.active_children()} == before
    cohort.close()
    assert multiprocessing.active_children() == []


def test_a_strategy_that_looks_at_other_batches_reads_ahead_evenly():
    same(trained(made(), "auto-lambda"), trained(made(workers=1), "auto-lambda"))


def of(train_split, **options):
    class Other(OnDisk):
        def load(self):
            splits = super().load()
            return Splits(train_split, splits.validation, splits.test, **options)

    return Other()


def test_errors_name_split_and_example():
    split = Text().load().train
    for workers in (0, 1):
        with pytest.raises(ValueError) as caught:
            load_checked(of(Pairs(split, broken=17), workers=workers))
        expected = "benchmark 'on-disk': train split: example 17 cannot be read: OSError: no such picture here"
        assert str(caught.value) == expected


class NoPairs(Pairs):
    def __getitem__(self, number):
        return super().__getitem__(number)[0]


class Ragged(Pairs):
    def __getitem__(self, number):
        inputs, targets = super().__getitem__(number)
        return {**inputs, "tokens": inputs["tokens"][: 1 + number % 3]}, targets


class NoTask(Pairs):
    def __getitem__(self, number):
        return super().__getitem__(number)[0], {"positive": torch.tensor(1.0)}


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Endless(), "train split: it is an Endless, an IterableDataset, whose examples have no numbers"),
        (NoPairs(Text().load().train), "train split: example 0 is a dict; a pair (inputs, targets) is wanted"),
        (Ragged(Text().load().train), "train split: examples 0, 1 make no batch: RuntimeError: stack expects each"),
        (NoTask(Text().load().train), "train split: no target for task 'score'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_data_sets_that_do_not_fit_are_refused(dataset, message):
    with pytest.raises(ValueError) as caught:
        load_checked(of(dataset))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_collate_of_the_users_makes_the_batches():
    def padded(items):
        longest = max(len(inputs["tokens"]) for inputs, _ in items)
        for inputs, _ in items:
            inputs["tokens"] = torch.nn.functional.pad(inputs["tokens"], (0, longest - len(inputs["tokens"])))
            inputs["mask"] = torch.arange(longest) < len(inputs["tokens"])
        return default_collate(items)

    assert trained(of(Ragged(Text().load().train), collate=padded)).status == "done"


def test_a_digest_is_of_a_sample_and_says_so():
    def digest(split, draws=True):
        data = Pairs(split, draws)
        found = of_splits(Splits(data, data, data))["train"]
        assert len(data.read) == 3 * 16
        return found

    split = Text().load().train
    first = digest(split)
    assert first.endswith(" (a sample of 16 of 48 examples)") and first == digest(split)
    others = [digest(split, draws=False), digest(split.take(slice(47)))]
    split.inputs["mask"].logical_not_()
    assert len({first, digest(split), *others}) == 4


def test_evaluation_reads_each_example_once_and_never_all_at_a_time(monkeypatch):
    monkeypatch.setattr(stored, "_BLOCK", 6)
    splits = load_checked(made())
    read = splits.test.reading.dataset.read
    read.clear()
    sizes = [len(chunk) for chunk in splits.test.chunks(4)]
    assert read == [*range(20)] and sizes == [4, 2, 4, 2, 4, 2, 2]


class WithTargets(Pairs):
    def target(self, number):
        return {task: target[number] for task, target in self.split.targets.items()}


def test_labels_are_read_alone_where_the_data_set_gives_them():
    data = WithTargets(Text().load().train)
    splits = load_checked(of(data))
    assert data.read == [0, 1]  # whose form was looked at
    assert torch.equal(splits.train.targets["score"], data.split.targets["score"])


def test_of_labels_too_many_to_hold_a_sample_is_taken(monkeypatch):
    benchmark = made(draws=False)
    whole = load_checked(benchmark)
    monkeypatch.setattr(stored, "_HELD", 10 * 8)
    splits = load_checked(benchmark)
    assert len(splits.train.targets["score"]) == 10 and splits.train.sampled and not whole.train.sampled
    index = splits.train.targets.index
    assert torch.equal(splits.train.targets["score"], whole.train.targets["score"][index])
    assert data_facts(benchmark.tasks, splits)["sampled"] == {"train": 10, "validation": 10, "test": 10}
    check_model(benchmark, splits, Settings.of(benchmark.recipe))
    found = train(benchmark, splits, "equal", Settings.of(benchmark.recipe))
    assert found.history["train_loss"] == trained(benchmark).history["train_loss"]  # only what skill refers to differs


def test_commands_take_them_and_records_carry_the_digest(tmp_path):
    out = tmp_path / "out"
    asked = ["compare", "tests/benchmarks/on_disk.py:OnDiskWithWorkers", "--strategies", "equal", "uncertainty"]
    assert main([*asked, "--seeds=2", "--steps=4", "--wandb=disabled", "--quiet", f"--out={out}"]) == 0
    records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert {record["digests"]["train"][16:] for record in records} == {" (a sample of 16 of 48 examples)"}
    assert mtl.load(out) is not None and multiprocessing.active_children() == []


def descendants(pid):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = path.read_text().rsplit(")", 1)
        except OSError:  # it has just ended
            continue
        if int(rest.split()[1]) == pid:
            found.append(int(number.split()[0]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_command_that_is_stopped_ends_its_readers_and_goes_on(number, tmp_path):
    def command(out, *extra):
        asked = [sys.executable, "-m", "mtl", "train", "tests/benchmarks/on_disk.py:OnDiskWithWorkers"]
        asked += ["--strategy=equal", "--steps=600", "--wandb=disabled", "--quiet", f"--out={out}", *extra]
        return subprocess.Popen(asked, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)

    out = tmp_path / "stopped"
    run = command(out)
    while not list(out.glob("checkpoints/**/*.pt")) and run.poll() is None:
        time.sleep(0.05)
    readers = descendants(run.pid)
    os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)  # Ctrl-C reaches all of them
    code = run.wait(60)
    assert code == (75 if number == signal.SIGINT else -9)
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{reader}").exists() for reader in readers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert readers and not any(Path(f"/proc/{reader}").exists() for reader in readers)
    resumed, whole = command(out, "--resume"), command(tmp_path / "whole")
    assert resumed.wait(120) == whole.wait(120) == 0
    one, other = (
        json.loads((folder / "results.jsonl").read_text().splitlines()[-1]) for folder in (out, tmp_path / "whole")
    )
    assert one["metrics"] == other["metrics"] and one["selection"] == other["selection"]


def test_a_run_that_is_killed_while_it_starts_its_readers_leaves_none():
    program = """
import os, time
os.register_at_fork(after_in_child=lambda: time.sleep(2))
from mtl.benchmarks import load_checked
from tests.benchmarks.on_disk import OnDiskWithWorkers
load_checked(OnDiskWithWorkers())
"""
    run = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    while not (readers := descendants(run.pid)) and run.poll() is None:
        time.sleep(0.01)
    run.kill()
    assert run.wait(60) == -9
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{reader}").exists() for reader in readers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert readers and not any(Path(f"/proc/{reader}").exists() for reader in readers)
