"""Cutmix: boxes of pictures, their labels, and members of a population against single runs."""

import math

import pytest
import torch

from mtl.benchmarks import Split, Splits
from mtl.benchmarks.own import OwnExamples
from mtl.search.plan import check_searched_batches
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.study.setup import StudySetup
from mtl.train import Cohort, Member, Settings, Stopped, check_model, train
from mtl.train.augment import augment
from mtl.train.batches import Batches
from mtl.train.cutmix import drawn_box
from tests.population.problem import Pictures, Three, assert_is_the_single_run
from tests.train.test_moves import HEIGHT, TASKS, WIDTH, Coloured, pictures


def cut(batch, seed=1, step=0, **given):
    return augment(batch, 0.0, 0.0, seed, step, **{"cutmix": 1.0, **given})


def box_of(batch, mixed):
    """Rows and columns of the box, by comparing colours, which no two pixels have in common."""
    changed = (mixed.batch.inputs != batch.inputs).any(1).any(0)
    rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def test_a_box_is_the_partners_and_so_are_the_labels_of_its_pixels():
    batch, areas = pictures(12), set()
    for step in range(12):
        mixed = cut(batch, step=step)
        if torch.equal(mixed.batch.inputs, batch.inputs):
            continue
        rows, columns = box_of(batch, mixed)
        left = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (HEIGHT * WIDTH)
        areas.add(left)
        wanted = batch.inputs.clone()
        wanted[..., rows, columns] = mixed.partner.inputs[..., rows, columns]
        assert torch.equal(mixed.batch.inputs, wanted)
        who = [int((batch.inputs == one).flatten(1).all(1).nonzero()) for one in mixed.partner.inputs]
        assert sorted(who) == list(range(12))
        for task in ("kind", "depth", "normal"):
            label = batch.targets[task].clone()
            label[..., rows, columns] = batch.targets[task][who][..., rows, columns]
            assert torch.equal(mixed.batch.targets[task], label)
            assert torch.equal(mixed.partner.targets[task], label) and mixed.share_of(task) == 1
        assert torch.equal(mixed.batch.targets["near"][..., 0], mixed.batch.targets["depth"])
        assert torch.equal(mixed.batch.targets["whole"], batch.targets["whole"])
        assert mixed.share_of("whole") == pytest.approx(left)
    assert len(areas) > 5 and all(0 <= left < 1 for left in areas)


def test_a_box_has_the_area_of_the_paper_but_for_what_is_cut_off():
    generator, inside = torch.Generator().manual_seed(0), 0
    for share in (0.1, 0.5, 0.84):
        for _ in range(100):
            box = drawn_box(share, 40, 60, generator)
            assert 0 <= box.top <= box.bottom <= 40 and 0 <= box.left <= box.right <= 60
            assert box.share(40, 60) >= share - 1e-9
            if box.top > 0 and box.bottom < 40 and box.left > 0 and box.right < 60:
                side = math.sqrt(1 - share)
                assert box.bottom - box.top == 2 * (int(40 * side) // 2)
                assert box.right - box.left == 2 * (int(60 * side) // 2)
                inside += 1
    assert inside > 20
    assert drawn_box(1.0, 8, 8, generator).share(8, 8) == 1


def test_it_repeats_by_seed_and_step_and_leaves_mixup_as_it_was():
    batch = pictures(8)
    one, same, other = cut(batch, 1, 2), cut(batch, 1, 2), cut(batch, 1, 3)
    assert torch.equal(one.batch.inputs, same.batch.inputs) and not torch.equal(one.batch.inputs, other.batch.inputs)
    mixed = [augment(batch, 0.0, 0.3, 1, step) for step in range(40)]
    both = [augment(batch, 0.0, 0.3, 1, step, cutmix=0.3) for step in range(40)]
    assert all(isinstance(each.share, float) for each in mixed)
    assert 8 < sum(isinstance(each.share, float) for each in both) < 32  # either, by chance


def test_tasks_with_examples_of_their_own_have_boxes_of_their_own():
    parts = {task: Split(torch.rand(6, 1, 8, 8), {task: torch.arange(6)}) for task in ("a", "b")}
    mixed, alone = (cut(OwnExamples(some), step=4) for some in (parts, {"a": parts["a"]}))
    assert mixed.share_of("a") != mixed.share_of("b")
    assert mixed.share_of("a") == alone.share_of("a")
    assert torch.equal(mixed.batch.inputs["a"], alone.batch.inputs["a"])
    assert sorted(mixed.partner.targets["a"].tolist()) == list(range(6))


def test_what_is_no_picture_stays():
    batch = Split({"picture": torch.rand(6, 1, 4, 4), "age": torch.rand(6)}, {"y": torch.arange(6)})
    mixed = cut(batch, step=3)
    assert torch.equal(mixed.batch.inputs["age"], batch.inputs["age"])
    assert not torch.equal(mixed.batch.inputs["picture"], batch.inputs["picture"])


@pytest.mark.usefixtures("float64")
def test_the_loss_of_a_step_is_mixed_by_area():
    """The first loss of a run, by hand."""
    benchmark, splits = Pictures(), Pictures().load()
    settings = Settings(steps=1, batch_size=16, cutmix=1.0)
    result = train(benchmark, splits, "equal", settings, seed=3)
    torch.manual_seed(3)
    model = benchmark.model(benchmark.tasks, splits.train.first(2)).train()
    mixed = cut(Batches(splits.train, 16, 3)[0], 3)
    predicted = model(mixed.batch.inputs)
    for place, task in enumerate(benchmark.tasks):
        own, others = (
            task.loss(predicted[task.name], each.targets[task.name]) for each in (mixed.batch, mixed.partner)
        )
        share = mixed.share_of(task.name)
        wanted = float((share * own + (1 - share) * others).detach())
        assert result.history["train_loss"][0][place] == pytest.approx(wanted, abs=1e-12)


MEMBERS = [{"cutmix": 1.0}, {"cutmix": 0.3, "mixup": 0.4, "noise": 0.1}, {"mixup": 0.5}, {"noise": 0.1}, {}]


@pytest.mark.usefixtures("float64")
def test_a_member_is_the_single_run():
    settings, splits, told = Settings(steps=20, batch_size=16, lr=1e-2), Pictures().load(), []
    members = [Member("famo", seed, own) for seed, own in enumerate(MEMBERS)]
    cohort = Cohort(Pictures(), splits, members, settings, tell=told.append)
    cohort.advance(20)
    assert not told and sorted(len(group.ids) for group in cohort._groups.all) == [2, 3]
    for member, result in zip(members, cohort.results(), strict=True):
        assert_is_the_single_run(result, Pictures(), splits, member, settings)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_members_with_labels_of_pixels_are_the_single_runs(accumulate):
    settings, splits = Settings(steps=10, batch_size=4, lr=0.05, accumulate=accumulate), Coloured().load()
    splits.train.targets["depth"][torch.arange(16) % 3 > 0] = torch.nan
    members = [Member("equal", seed, {"cutmix": share}) for seed, share in enumerate((1.0, 0.5))]
    cohort = Cohort(Coloured(), splits, members, settings, tell=[].append)
    cohort.advance(10)
    for member, result in zip(members, cohort.results(), strict=True):
        assert_is_the_single_run(result, Coloured(), splits, member, settings, 1e-4)


def test_a_run_resumes_to_the_same_result(tmp_path):
    settings, splits, asked = Settings(steps=12, batch_size=4, cutmix=1.0), Coloured().load(), iter(range(100))
    whole = train(Coloured(), splits, "equal", settings, seed=2)
    path = tmp_path / "run.pt"
    with pytest.raises(Stopped):
        train(Coloured(), splits, "equal", settings, seed=2, checkpoint_path=path, should_stop=lambda: next(asked) == 7)
    resumed = train(Coloured(), splits, "equal", settings, seed=2, checkpoint_path=path)
    assert resumed.metrics == whole.metrics and resumed.history == whole.history


def test_what_has_no_pictures_is_one_line():
    said = r"benchmark 'three', train split: cutmix=0\.5: its inputs are no pictures, \(N, C, H, W\)"
    with pytest.raises(ValueError, match=said):
        check_model(Three(), Three().load(), Settings(cutmix=0.5))
    space = build_space(Three(), ["equal"], read_options(["cutmix=0.1:1"]))
    setting = StudySetup(Three(), Three().load(), Settings(), torch.device("cpu"))
    with pytest.raises(ValueError, match=r"its inputs are no pictures"):
        check_searched_batches(space, setting)


def test_labels_of_other_pixels_are_one_line():
    class Halved(Coloured):
        tasks = TASKS[:1]

        def load(self):
            splits = super().load()
            for split in (splits.train, splits.validation, splits.test):
                split.targets["kind"] = split.targets["kind"][:, ::2, ::2]
            return splits

    with pytest.raises(ValueError, match=r"task 'kind': cutmix=1: labels of shape \(4, 3\) have no pixels of .* 8 x 6"):
        check_model(Halved(), Halved().load(), Settings(cutmix=1.0))


@pytest.mark.usefixtures("float64")
def test_inputs_that_stay_are_named():
    told = []
    check_model(Mixed(), Mixed().load(), Settings(cutmix=1.0), told.append)
    assert "cutmix: inputs['age'] are no pictures and stay as they are" in told


class Mixed(Pictures):
    """Pictures beside a number."""

    def load(self):
        return Splits(*(self._with_a_number(split) for _, split in super().load().items()))

    @staticmethod
    def _with_a_number(split):
        return Split({"picture": split.inputs, "age": split.inputs[:, 0, 0, 0]}, split.targets)

    def model(self, tasks, inputs):
        model = super().model(tasks, inputs["picture"])
        model.register_forward_pre_hook(lambda _, given: (given[0]["picture"], *given[1:]))
        return model
