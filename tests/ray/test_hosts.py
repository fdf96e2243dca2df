"""Where processes are placed on GPUs that Ray is told of, which need not exist."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.processes import ROOT

pytest.importorskip("ray", reason="needs ray, of the extra `ray`")

from mtl.ray.host import Recipe
from mtl.ray.hosts import RayHosts, in_turn

SCRIPT = """
import json, os, sys
from mtl.ray.guard import guard
guard(own_cluster=True)
import ray, torch
from mtl.ray import hosts
from mtl.ray.host import Recipe

class Host:
    def __init__(self, recipe):
        self.share = recipe.share

    def fits(self, members):
        return int(os.environ["CUDA_VISIBLE_DEVICES"]) + 5

    def where(self):
        return "here"

    def call(self, shard, method):
        if method == "advance":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return os.environ["CUDA_VISIBLE_DEVICES"]

hosts.Host = Host
ray.init(address="local", num_gpus=2, log_to_driver=False, include_dashboard=False)
found = {}
for share, wanted in ((0.4, None), (1.0, 5)):
    made = hosts.RayHosts(Recipe("", "", None, "cuda", True, share), wanted)
    where = made.gather([made.call(shard, "where") for shard in range(len(made))])
    found[f"{share} {wanted}"] = [sorted(where), made.fits([])]
    if share < 1:
        made.close()
try:
    made.gather([made.call(0, "advance")])
except ValueError as error:
    found["error"] = str(error)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_processes_share_gpus_as_they_are_told_and_what_does_not_fit_is_said():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert "a GPU is out of memory: give more --shards" in found.pop("error")
    assert found == {
        "0.4 None": [["0", "0", "1", "1"], 5],
        "1.0 5": [["0", "1"], 5],
    }


@pytest.mark.parametrize(
    ("wanted", "shards", "used", "there", "spreads"),
    [
        (None, 2, ["a"], ["a", "b"], True),  # b is back
        (2, 2, ["a", "a"], ["a", "b"], True),
        (None, 2, ["a", "b"], ["a", "b", "c"], False),  # no shard for c
        (4, 4, ["a", "b", "a", "b"], ["a", "b", "c"], True),
        (2, 2, ["b", "c"], ["a", "b", "c"], False),
        (None, 2, ["a", "b"], ["a"], False),
    ],
)
def test_shards_spread_to_a_node_that_comes_if_there_is_one_for_it(monkeypatch, wanted, shards, used, there, spreads):
    monkeypatch.setattr("mtl.ray.hosts.nodes", lambda: [{"NodeID": name, "Resources": {}} for name in there])
    hosts = RayHosts.__new__(RayHosts)
    hosts._recipe, hosts._wanted, hosts.shards = Recipe("", "", None, "cpu", True), wanted, shards
    hosts._hosts, hosts._nodes = used, set(used)
    assert hosts.could_spread() is spreads


def test_names_come_in_turn():
    assert in_turn(["a", "a", "a", "b", "c", "c"]) == ["a", "b", "c", "a", "c", "a"]
