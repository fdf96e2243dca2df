"""Shards that fill the memory of devices and do not overflow it: the arithmetic, and shards that take turns.

Devices are imitated, their memory is counted; what needs a real one is marked.
"""

import math
import os

import pytest
import torch

from mtl.train import Cohort, Member, Settings
from mtl.train.capacity import CudaGauge, members_that_fit
from tests.tiny import Tiny

pytest.importorskip("ray", reason="needs ray, of the extra `ray`")

from mtl.ray.host import Host, Recipe
from mtl.ray.sizing import describe, lay_out
from mtl.search.shards.sharded import ShardedCohort

TINY = "tests/tiny.py:Tiny"
SETTINGS = Settings(steps=40, batch_size=32)


class Device:
    """A device with a memory of `size` bytes; members take `each`, their evaluation and libraries `fixed` besides."""

    def __init__(self, size, each, fixed=0, taken=0):
        self.size, self.each, self.fixed, self.taken = size, each, fixed, taken
        self.most = 0

    def train(self, count):
        needed = self.fixed + count * self.each
        if needed > self.room():
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.most = max(self.most, needed)

    def room(self):
        return self.size - self.taken

    def peak(self, work):
        self.most = 0
        work()
        return self.most


@pytest.mark.parametrize("each", [1, 1000, 10**6, 7 * 10**6 + 3])
@pytest.mark.parametrize("fixed", [0, 5 * 10**6])
def test_a_device_is_filled_but_for_a_tenth(each, fixed):
    device = Device(80 * 10**6, each, fixed, taken=10**7)
    fits = members_that_fit(device.train, device)
    assert fits == pytest.approx((0.9 * 70 * 10**6 - fixed) / each, abs=1)
    device.train(fits)


@pytest.mark.parametrize(("size", "expected"), [(99, 0), (100, 1), (150, 1), (200, 2), (399, 2), (400, 3), (1000, 9)])
def test_where_few_fit_they_are_counted(size, expected):
    device = Device(size, 100)
    assert members_that_fit(device.train, device) == expected


def test_noise_in_the_measurements_gives_no_endless_shards():
    class Noisy(Device):
        def peak(self, work):
            work()
            return 400

    assert members_that_fit(Noisy(1000, 1).train, Noisy(1000, 1)) == 9


@pytest.mark.parametrize(
    ("members", "devices", "fits", "shards", "in_turns"),
    [
        (64, 1, None, 1, False),  # no limit: one for each device
        (64, 4, None, 4, False),
        (64, 4, 100, 4, False),
        (64, 4, 16, 4, False),
        (64, 4, 15, 8, True),
        (64, 1, 20, 4, True),
        (3, 8, 100, 8, False),
        (1000, 3, 7, 144, True),
    ],
)
def test_members_are_laid_out(members, devices, fits, shards, in_turns):
    layout = lay_out(members, devices, fits)
    assert (layout.shards, layout.in_turns) == (shards, in_turns)
    assert layout.size <= (fits or members) and layout.size * layout.shards >= members
    if fits:
        assert layout.shards < math.ceil(members / fits) + devices, "no more than fill the devices"


def test_shards_that_are_asked_for_may_wait_but_not_overflow():
    assert lay_out(64, 2, 40, wanted=2).in_turns is False
    assert lay_out(64, 2, 40, wanted=4).in_turns is False
    assert lay_out(64, 1, 40, wanted=4).in_turns is True
    with pytest.raises(ValueError, match="--shards 1: shards of 64 members, of which a GPU holds 40; give at least 2"):
        lay_out(64, 1, 40, wanted=1)
    with pytest.raises(ValueError, match="no memory for one member: give a smaller --batch-size"):
        lay_out(64, 1, 0)


def test_what_is_said_of_a_layout():
    assert describe(lay_out(6, 2), ["a", "b"], on_gpu=False) == "2 shards on 2 nodes (a, b)"
    text = describe(lay_out(64, 2, 10), ["a"], on_gpu=True)
    assert text.startswith("8 shards on 1 node (a), 8 members each at most, by 2 processes on GPUs; a process has")
    assert "memory for 10 members at a time and trains its shards in turns: more GPUs or fewer --members" in text


class Here:
    """One host in this process, in which at most `most` members are present at a time."""

    def __init__(self, monkeypatch, shards, most, vectorised=True):
        monkeypatch.setattr("signal.signal", lambda *_: None)
        self.shards = shards
        self.host = Host(Recipe(TINY, os.getcwd(), SETTINGS, "cpu", vectorised))
        self.host.begin(most)
        self.most_present = 0

    def _seen(self, result):
        present = [len(c.members) for s, c in self.host._cohorts.items() if s not in self.host._waiting]
        self.most_present = max(self.most_present, sum(present))
        return result

    def make(self, *arguments):
        return self._seen(self.host.make(*arguments))

    def drop(self, shard):
        return self.host.drop(shard)

    def call(self, *arguments, **options):
        return self._seen(self.host.call(*arguments, **options))

    def gather(self, calls):
        return list(calls)

    def done(self, calls):
        return list(range(len(calls)))


def members(count, first=0):
    return [Member("famo", first + k, {"lr": 1e-3 * (k + 1), "optimizer": "adam"}) for k in range(count)]


@pytest.mark.parametrize(("most", "vectorised"), [(2, True), (4, True), (2, False), (None, True)])
def test_shards_that_take_turns_train_as_if_all_were_present(most, vectorised, monkeypatch):
    hosts = Here(monkeypatch, 3, most, vectorised)
    sharded = ShardedCohort(hosts, members(6), print)
    whole = Cohort(Tiny(), Tiny().load(), members(6), SETTINGS, told=True)
    for cohort in (sharded, whole):
        cohort.advance(5)
        cohort.evaluate()
        cohort.remember([0, 4, 5])
        cohort.exploit({0: 5, 1: 4, 3: 0}, [0])
        cohort.replace({0: Member("famo", 0, {"lr": 0.02, "optimizer": "adam"})})
        cohort.advance(5)
        cohort.keep([5, 4, 0, 1])
        cohort.advance(5)
    again = ShardedCohort(Here(monkeypatch, 3, most, vectorised), members(4), print)
    again.load_state_dict(sharded.state_dict())
    found = [[one.selection for one in cohort.evaluate()] for cohort in (sharded, whole, again)]
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[2] == found[0]
    assert [r.best_step for r in sharded.results()] == [r.best_step for r in whole.results()]
    assert hosts.most_present <= (most or 6)


def test_the_costliest_kind_of_member_decides(monkeypatch):
    hosts = Here(monkeypatch, 1, None)
    assert hosts.host.fits(members(2)) is None, "on a CPU nothing is measured"
    device = Device(10**6, 1)
    hosts.host._gauge = device
    costs = {"equal": 1000, "gradnorm": 20000}

    def tried(member, count):
        device.each = costs[member.strategy.partition(":")[0]]
        device.train(count)

    hosts.host._try = tried
    assert hosts.host.fits([Member("equal", k) for k in range(9)]) == pytest.approx(900, abs=1)
    assert hosts.host.fits([Member("equal"), Member("gradnorm")]) == pytest.approx(45, abs=1)


@pytest.mark.gpu
def test_the_members_that_fit_a_gpu_are_trained_on_it(monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    host = Host(Recipe(TINY, os.getcwd(), SETTINGS, "cuda", True))
    gauge = CudaGauge()
    small = Cohort(Tiny(), host._splits, members(64), SETTINGS, device="cuda")
    small.advance(1)
    before = gauge.room()
    assert host.fits(members(1)) > 1000
    assert abs(gauge.room() - before) < 2**26, "what was tried is forgotten"
    taken = [gauge.peak(lambda count=count: host._try(members(1)[0], count)) for count in (64, 128)]
    assert host.fits(members(1)) * (taken[1] - taken[0]) / 64 == pytest.approx(0.9 * before, rel=0.3)


@pytest.mark.gpu
def test_a_shard_that_waited_and_what_others_get_of_it_are_on_the_cpu(monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    host = Host(Recipe(TINY, os.getcwd(), SETTINGS, "cuda", True))
    host.begin(2)
    for shard in (0, 1):
        host.make(shard, members(2, first=2 * shard))
        host.call(shard, "advance", 3)
    state = host.call(0, "state_dict")
    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(state) if isinstance(leaf, torch.Tensor)]
    assert leaves and not any(leaf.is_cuda for leaf in leaves)
    host.call(0, "adopt", 1, host.call(1, "extract", 0))
    host.call(0, "advance", 3)
    assert all(result.status == "done" for result in host.call(0, "results"))
