"""What the race never sees."""

import pytest
import torch
from torch.utils.data import Dataset

from mtl.auto.holdout import hold_out
from mtl.benchmarks import Split, Splits, Task
from mtl.benchmarks.reading import ReadFailed
from mtl.benchmarks.shuffled import shuffled_parts
from mtl.losses import BinaryCrossEntropy
from mtl.metrics import accuracy
from tests.benchmarks.domains import Domains
from tests.tiny import Tiny


def splits_of(train=400, validation=300, test=50):
    generator = torch.Generator().manual_seed(0)
    return Splits(*(Tiny._split(size, generator) for size in (train, validation, test)))


def rows(examples):
    return {tuple(row.tolist()) for row in examples.take(slice(None)).inputs}


def test_half_of_a_large_validation_split_is_held_out_and_nothing_else_is_touched():
    splits = splits_of()
    found = hold_out(Tiny.tasks, splits, seed=0)
    assert found.source == "validation" and found.train is splits.train and found.test is splits.test
    assert len(found.holdout) == len(found.selection) == 150
    assert rows(found.holdout) | rows(found.selection) == rows(splits.validation)
    assert not rows(found.holdout) & rows(found.selection)


def test_a_small_validation_split_stays_whole_and_training_examples_are_held_out():
    splits = splits_of(validation=60)
    found = hold_out(Tiny.tasks, splits, seed=0)
    assert found.source == "training" and found.selection is splits.validation
    assert (len(found.holdout), len(found.train)) == (80, 320)
    assert not rows(found.holdout) & rows(found.train)


@pytest.mark.parametrize(
    ("train", "validation", "source"),
    [(1450, 482, "training"), (1000, 482, "validation"), (9000, 1000, "validation"), (300, 199, "training")],
)
def test_few_examples_select_all_where_training_has_more_to_give(train, validation, source):
    found = hold_out(Tiny.tasks, splits_of(train, validation), seed=0)
    assert found.source == source
    held = train // 5 if source == "training" else validation // 2
    assert (len(found.holdout), len(found.selection) + len(found.train)) == (held, train + validation - held)


def test_the_race_gets_neither_holdout_nor_test():
    found = hold_out(Tiny.tasks, splits_of(), seed=0)
    kept = [rows(split) for _, split in found.of_the_race.items()]
    assert not any(part & (rows(found.holdout) | rows(found.test)) for part in kept)
    assert found.of_finalists.test is found.holdout


def test_of_tasks_with_their_own_examples_each_is_cut():
    sizes = ({"shop": 50, "web": 40, "lens": 60}, {"shop": 300, "web": 20, "lens": 20})
    generator = torch.Generator().manual_seed(0)
    train, other = (Domains().split(each, generator) for each in sizes)
    splits = Splits(train, other, other)
    found = hold_out(Domains.tasks, splits, seed=0)
    assert found.source == "training"  # of one task there are but twenty examples for validation
    held = {task: (len(part), len(found.train.parts[task])) for task, part in found.holdout.parts.items()}
    assert held == {"shop": (10, 40), "web": (8, 32), "lens": (12, 48)}
    for task, part in splits.train.parts.items():
        assert rows(found.holdout.parts[task]) | rows(found.train.parts[task]) == rows(part)


def with_rare(splits, shares):
    """The splits with so large a share of ones among the labels of `sign`."""
    for split in (splits.train, splits.validation):
        split.targets["sign"] = (torch.rand(len(split), generator=torch.Generator().manual_seed(1)) < shares).long()
    return splits


@pytest.mark.parametrize("validation", [300, 60])
@pytest.mark.parametrize("seed", range(6))
def test_a_rare_class_has_its_share_in_both_parts(validation, seed):
    splits = with_rare(splits_of(validation=validation), 0.03)
    found = hold_out(Tiny.tasks, splits, seed=seed)
    kept, one_of = (found.selection, 2) if found.source == "validation" else (found.train, 5)
    held, rest = (int(part.targets["sign"].sum()) for part in (found.holdout, kept))
    assert held + rest >= 5 and abs(held - (held + rest) / one_of) < 1


def test_of_several_tasks_the_rarest_class_is_shared_out_first_and_missing_labels_are_a_class_of_their_own():
    splits, generator = splits_of(validation=400), torch.Generator().manual_seed(2)
    labels = {
        "even": torch.rand(400, generator=generator) < 0.5,
        "rare": (torch.rand(400, generator=generator) < 0.02).float().where(torch.arange(400) % 4 > 0, torch.nan),
    }
    splits.validation.targets.update(labels)
    tasks = [*Tiny.tasks, *(Task(name, BinaryCrossEntropy(), (accuracy,)) for name in labels)]
    splits.train.targets.update({name: values[:400] for name, values in labels.items()})
    found = hold_out(tasks, splits, seed=0)
    for value in (0.0, 1.0, torch.nan):
        counts = [int(_equal(part.targets["rare"], value).sum()) for part in (found.selection, found.holdout)]
        assert sum(counts) > 3 and abs(counts[0] - counts[1]) <= 1
    both = [int(part.targets["even"][part.targets["rare"] == 0].sum()) for part in (found.selection, found.holdout)]
    assert abs(both[0] - both[1]) <= 1


def _equal(values, value):
    return values.isnan() if value != value else values == value


def test_of_tasks_with_their_own_examples_each_is_cut_by_its_own_classes():
    generator = torch.Generator().manual_seed(0)
    train, other = (Domains().split({"shop": 300, "web": 300, "lens": 300}, generator) for _ in range(2))
    splits = Splits(train, other, other)
    found = hold_out(Domains.tasks, splits, seed=0)
    names = [task.name for task in Domains.tasks if task.outputs > 1]
    assert names
    for name in names:
        kept, held = (part.parts[name].targets[name] for part in (found.selection, found.holdout))
        for label in torch.cat([kept, held]).unique():
            assert abs(int((kept == label).sum()) - int((held == label).sum())) <= 1


def test_numbers_are_drawn_as_they_were_without_classes():
    product = [Tiny.tasks[1]]
    splits = Splits(*(Split(each.inputs, {"product": each.targets["product"]}) for _, each in splits_of().items()))
    found = hold_out(product, splits, seed=3)
    held, _ = shuffled_parts(300, 0.5, seed=3)
    assert rows(found.holdout) == rows(splits.validation.take(held))


def test_the_draw_depends_on_the_seed_alone():
    first, again, other = (hold_out(Tiny.tasks, splits_of(), seed=seed) for seed in (1, 1, 2))
    assert rows(first.holdout) == rows(again.holdout) != rows(other.holdout)


class Read(Dataset):
    """A data set that gives labels alone too."""

    def __init__(self, split, alone):
        self.split, self.read = split, []
        if alone:
            self.target = lambda index: {name: labels[index] for name, labels in split.targets.items()}

    def __len__(self):
        return len(self.split)

    def __getitem__(self, index):
        self.read.append(index)
        return self.split.inputs[index], {name: labels[index] for name, labels in self.split.targets.items()}


@pytest.mark.parametrize("alone", [False, True])
def test_a_data_set_is_cut_without_being_read(alone):
    plain = splits_of()
    sets = {name: Read(split, alone) for name, split in plain.items()}
    found = hold_out(Tiny.tasks, Splits(**sets), seed=0)
    assert bool(sets["validation"].read) != alone, "labels are read to share out classes"
    assert len(sets["validation"].read) <= 302, "once, but for the first two"
    expected = hold_out(Tiny.tasks, plain, seed=0)
    assert rows(found.holdout) == rows(expected.holdout) and rows(found.selection) == rows(expected.selection)
    assert torch.equal(found.holdout.targets["sign"], expected.holdout.targets["sign"])


class Damaged(Read):
    """A data set of which one example cannot be read."""

    def __init__(self, split, number):
        super().__init__(split, alone=False)
        self.number = number

    def __getitem__(self, index):
        if index == self.number:
            raise OSError("no such picture")
        return super().__getitem__(index)


@pytest.mark.parametrize("number", [0, 7, 299])
def test_an_example_that_cannot_be_read_has_its_number_in_the_users_data_set(number):
    plain = splits_of()
    splits = Splits(plain.train, Damaged(plain.validation, number), plain.test)
    with pytest.raises(ReadFailed) as read:
        hold_out(Tiny.tasks, splits, seed=0)
    assert str(read.value) == f"validation split: example {number} cannot be read: OSError: no such picture"


def test_labels_that_cannot_judge_are_said():
    splits = splits_of()
    for split in (splits.train, splits.validation):
        split.targets["product"][:] = 1.0
    with pytest.raises(ValueError, match="no examples can be held out to compare finalists on: task 'product'"):
        hold_out(Tiny.tasks, splits, seed=0)


def test_a_split_with_hardly_any_examples_is_refused():
    few = Split(torch.zeros(2, 10), {"sign": torch.tensor([0, 1]), "product": torch.tensor([0.0, 1.0])})
    with pytest.raises(ValueError, match="there are only 2"):
        hold_out(Tiny.tasks, Splits(few, few, few), seed=0)
