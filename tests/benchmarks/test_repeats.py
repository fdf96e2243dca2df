"""Examples that are in the training split and in another."""

import torch

from mtl.benchmarks import Split, Splits
from mtl.benchmarks.repeats import repeated_inputs
from tests.benchmarks.on_disk import OnDisk

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))


def split(rows, nested=False):
    inputs = {"numbers": X[rows], "there": torch.arange(12)[rows] > 3} if nested else X[rows]
    return Split(inputs, {"y": torch.zeros(len(X[rows]))})


def test_equal_inputs_are_counted_by_split():
    for nested in (False, True):
        train, validation, test = (split(rows, nested) for rows in (slice(6), slice(6, 9), [2, 9, 2, 10]))
        (said,) = repeated_inputs(Splits(train, validation, test))
        assert said.startswith("2 of 4 examples of the test split have the same inputs")
    assert repeated_inputs(Splits(split(slice(6)), split(slice(6, 9)), split(slice(9, 12)))) == []


def test_inputs_of_each_task_are_compared_with_its_own():
    def own(north, south):
        return {name: Split(X[rows], torch.zeros(len(X[rows]))) for name, rows in (("north", north), ("south", south))}

    splits = Splits(own(slice(4), slice(4, 6)), own(slice(4, 6), slice(6, 8)), own(slice(8, 10), [4, 11, 11]))
    (said,) = repeated_inputs(splits)
    assert said.startswith("1 of 3 examples of the test split of south")


def test_data_on_a_disk_are_not_looked_at():
    assert repeated_inputs(OnDisk().load()) == []
