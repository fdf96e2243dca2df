"""Two processes that train one run, each on its part of every batch, against one process with all of it."""

import datetime
import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.utils.data import Dataset

from mtl.benchmarks import Splits, Task, load_checked
from mtl.losses import MSE, make_loss
from mtl.metrics import mae
from mtl.models import HardSharing
from mtl.train import Cohort, Member, Settings
from mtl.train.loop import train_to_the_end
from mtl.train.processes import Processes
from tests.benchmarks.domains import Domains, DomainsOnDisk
from tests.population.problem import Normed, Pictures, Three, ThreeMissing, close

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.slow]


class Whole(Three):
    """A loss that looks at the batch as a whole, and no mean over examples."""

    name = "whole"

    def __init__(self) -> None:
        def loss(prediction, target):
            return (prediction - target).square().mean().sqrt() + (prediction.mean() - target.mean()).abs()

        self.tasks = (Three.tasks[0], Task("product", loss, Three.tasks[1].metrics), Three.tasks[2])


class Apart(Three):
    """A loss whose parts the strategy weighs."""

    name = "apart"
    tasks = (Three.tasks[0], Task("product", make_loss("apart:mse+0.1*mae"), Three.tasks[1].metrics), Three.tasks[2])


class ApartMissing(ThreeMissing):
    """The same where labels are missing."""

    name = "apart-missing"
    tasks = Apart.tasks


class Five(Three):
    """So many tasks that their gradients are made by `vmap`."""

    name = "five"
    tasks = tuple(Task(f"t{k}", MSE(), (mae,)) for k in range(5))

    def load(self):
        splits = super().load()
        for split in (splits.train, splits.validation, splits.test):
            split.targets.clear()
            split.targets.update({f"t{k}": split.inputs[:, k] * (k + 1) for k in range(5)})
        return splits


class Lines(Dataset):
    """Examples of a split one by one."""

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return len(self.split)

    def __getitem__(self, number):
        return self.split.inputs[number], {name: labels[number] for name, labels in self.split.targets.items()}


class Stored(ThreeMissing):
    """The same, read example by example."""

    name = "stored"

    def load(self):
        return Splits(*(Lines(split) for _, split in super().load().items()))


class Dropping(Three):
    """Dropout, of which each process draws its own."""

    name = "dropping"

    def model(self, tasks, inputs):  # noqa: ARG002
        trunk = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Dropout(0.2))
        return HardSharing(trunk, {task.name: nn.Linear(8, task.outputs) for task in tasks})


LEARNED = {"name": "learned:hidden=4,rate=0.05,start=random,offline_steps=2,inner_steps=2"}
LEARNED_AHEAD = {"name": "learned:of=mse,hidden=4,rate=0.05,on=validation"}
SAME = [
    *((Three, strategy, {}) for strategy in ("equal", "uncertainty", "gradnorm", "mgda", "pcgrad", "graddrop", "famo")),
    *((Three, strategy, {}) for strategy in ("auto-lambda", "sdmgrad", "moco", "dwa")),
    (Three, "mgda", {"batch_size": 17, "clip": 0.5, "l1": 1e-3, "ema": 0.9, "head_weighting": "own"}),
    (Three, "gradnorm", {"accumulate": 3, "noise": 0.1, "mixup": 0.3}),
    (Pictures, "gradnorm", {"cutmix": 1.0, "accumulate": 2}),
    (Three, "famo", {"heads": "sign:lr=0.1,weight_decay=0.01+product:l2=0.1"}),
    (ThreeMissing, "equal", {"batch_size": 4, "seed": 3}),
    (ThreeMissing, "gradnorm", {"batch_size": 4}),
    (ThreeMissing, "graddrop", {"batch_size": 4, "accumulate": 2}),
    (Whole, "mgda", {}),
    (Apart, "mgda", {"accumulate": 2, "mixup": 0.3}),
    (ApartMissing, "gradnorm", {"batch_size": 4}),
    (Five, "mgda", {}),
    (Stored, "uncertainty", {"batch_size": 7, "accumulate": 2}),
    (Stored, "mgda", {"batch_size": 6, "mixup": 0.3, "noise": 0.1}),
    (Domains, "mgda", {"batch_size": 8}),
    (Domains, "equal", {"batch_size": 16, "sampling": "proportional"}),
    (Domains, "famo", {"batch_size": 6, "accumulate": 3}),
    (Domains, "auto-lambda", {"batch_size": 8, "mixup": 0.3, "noise": 0.1, "ema": 0.9}),
    (DomainsOnDisk, "gradnorm", {"batch_size": 8}),
    (DomainsOnDisk, "sdmgrad", {"batch_size": 6, "accumulate": 2, "mixup": 0.2}),
    (Three, "mgda", {"losses": {"sign": LEARNED, "product": LEARNED_AHEAD}}),
    (ThreeMissing, "gradnorm", {"batch_size": 4, "mixup": 0.3, "losses": {"sign": LEARNED}}),
    (Stored, "equal", {"batch_size": 7, "accumulate": 2, "losses": {"product": LEARNED_AHEAD}}),
    (Domains, "equal", {"batch_size": 6, "accumulate": 3, "losses": {"web": LEARNED_AHEAD, "lens": LEARNED}}),
]
OWN = [(Normed, "mgda", {"ema": 0.9}), (Dropping, "famo", {})]


def made(benchmark, strategy, changes, processes=None):
    changes = dict(changes)
    member = Member(strategy, changes.pop("seed", 1), losses=changes.pop("losses", {}))
    settings = Settings(**{"steps": 12, "lr": 1e-2, "batch_size": 16} | changes)
    chosen = benchmark()
    return Cohort(chosen, load_checked(chosen), [member], settings, vectorised=False, processes=processes)


def ended(cohort):
    train_to_the_end(cohort)
    (found,) = cohort.results()
    weights = cohort.weights(0)
    weights |= {f"loss of {task}": torch.tensor(about["weights"]) for task, about in found.learned.items()}
    return {"history": found.history, "metrics": found.metrics, "skipped": found.skipped, "weights": weights}


def resumed(case, processes):
    """A run that another goes on with, from what the leading process has saved."""
    first, second = made(*case, processes), made(*case, processes)
    first.advance(7)
    saved = first.state_dict()
    second.load_state_dict(processes.said(lambda: saved))
    return ended(second)


def one_process(rank, directory):
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(f"{directory}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60))
    processes = Processes(rank, 2)
    found = {
        "same": [ended(made(*case, processes)) for case in SAME],
        "own": [ended(made(*case, processes)) for case in OWN],
        "resumed": [resumed(case, processes) for case in OWN],
        "agreed": [processes.agreed(wish) for wish in (False, rank == 1, True)],
        "said": processes.said(lambda: {"by": rank}),
    }
    torch.save(found, f"{directory}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    directory = tmp_path_factory.mktemp("processes")
    mp.spawn(one_process, (str(directory),), nprocs=2)
    return [torch.load(directory / f"{rank}.pt", weights_only=True) for rank in range(2)]


def assert_equal(one, other):
    assert one["history"] == other["history"] and one["metrics"] == other["metrics"]
    for name, value in one["weights"].items():
        assert torch.equal(other["weights"][name], value), name


def flat(tree):
    """The values of dicts in dicts, in their order."""
    return [value for each in tree.values() for value in (flat(each) if isinstance(each, dict) else [each])]


@pytest.mark.parametrize("at", range(len(SAME)))
def test_two_processes_are_the_run_of_one(both, at):
    alone = ended(made(*SAME[at]))
    for found in both:
        for part in ("history", "metrics"):
            close(flat(found["same"][at][part]), flat(alone[part]), 1e-9)
        assert found["same"][at]["skipped"] == alone["skipped"]
        for name, value in alone["weights"].items():
            torch.testing.assert_close(found["same"][at]["weights"][name], value, atol=1e-9, rtol=0)
    assert_equal(both[0]["same"][at], both[1]["same"][at])


@pytest.mark.parametrize("at", range(len(OWN)))
def test_what_depends_on_the_part_is_the_same_in_both_and_after_a_resume(both, at):
    alone = ended(made(*OWN[at]))
    assert_equal(both[0]["own"][at], both[1]["own"][at])
    assert_equal(both[0]["own"][at], both[0]["resumed"][at])
    assert both[0]["own"][at]["history"] != alone["history"]


def test_what_one_wishes_all_do_and_what_the_first_says_all_hear(both):
    for found in both:
        assert found["agreed"] == [False, True, True] and found["said"] == {"by": 0}


def test_a_batch_is_divided_in_parts_of_every_micro_batch():
    rows = Processes(0, 2).rows(7, 2)
    assert [each.tolist() for each in rows] == [[0, 3, 4], [1, 2, 5, 6]]
