"""Files are checked against one type each; a fault names its place, and what older and later versions wrote is read."""

import json

import pytest

from mtl.files.config import Config, read_config
from mtl.files.lineage import Event, read_events
from mtl.files.records import Record, read_records
from mtl.files.schema import fault

RUN = {"run": "final-equal-0", "strategy": "equal", "phase": "final", "status": "done"}
EVENT = {
    "search": "search",
    "step": 2,
    "target": 1,
    "source": 0,
    "seed": 3,
    "before": {"lr": 0.1},
    "after": {"lr": 0.2},
}
EVENT |= {"scores": {"source": 1, "target": None}}
# As version 0.1 wrote them.
FIRST_CONFIG = """\
command: compare
benchmark: multidigits
tasks:
  left:
    loss: cross-entropy
    metrics:
      accuracy:
        higher_is_better: true
    primary: accuracy
strategies: [equal, 'uncertainty:lr=0.02']
seeds: [0, 1]
reference: equal
training: {epochs: 20, steps: null, lr: 0.001, optimizer: adam, model: 'mlp:width=64'}
device: cpu
versions: {mtl: 0.1.0, torch: 2.13.0, python: 3.11.2}
machine: {processor: x86_64, cpu_count: 2}
"""


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Record, [1], "expected object, got array"),
        (Record, {**RUN, "strategy": None}, "$.strategy: expected str, got null"),
        (Record, {key: RUN[key] for key in RUN if key != "phase"}, "object missing required field phase"),
        (Record, {**RUN, "metrics": {"a": {"b": 1.0, "c": "x"}}}, "$.metrics.a.c: expected float | null, got str"),
        (Record, {**RUN, "metrics": {"a": {}, "b": 3}}, "$.metrics.b: expected object, got int"),
        (Record, {**RUN, "cost": {"seconds": "long"}}, "$.cost.seconds: expected float | null, got str"),
        (Config, {"benchmark": "b", "tasks": {"t": {}}}, "$.tasks.t: object missing required field metrics"),
        (Config, {"benchmark": "b", "tasks": {}, "strategies": ["equal", 3]}, "$.strategies[1]: expected str, got int"),
        (Config, {"benchmark": "b", "tasks": {}, "seeds": 3}, "$.seeds: expected array, got int"),
        (Event, {**EVENT, "scores": {"a": 1, "b": "x"}}, "$.scores.b: expected float | null, got str"),
        (Event, {**EVENT, "step": 1.5}, "$.step: expected int, got float"),
    ],
)
def test_a_fault_names_its_place(kind, value, said):
    assert str(fault(value, kind)) == said


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Record, RUN),
        (Record, {**RUN, "seed": 4300000000, "metrics": {"a": {"b": None, "c": 1}}, "later": {"anything": 1}}),
        (Config, {"benchmark": "b", "tasks": {"t": {"metrics": {"m": {"higher_is_better": True, "more": 1}}}}}),
        (Event, {**EVENT, "later": [1]}),
    ],
)
def test_what_is_left_out_or_added_is_no_fault(kind, value):
    assert fault(value, kind) is None


def test_the_settings_of_an_old_study_are_read(tmp_path):
    (tmp_path / "config.yaml").write_text(FIRST_CONFIG)
    config = read_config(tmp_path)
    assert config["versions"]["mtl"] == "0.1.0" and config["training"]["steps"] is None
    assert "digests" not in config and config["strategies"] == ["equal", "uncertainty:lr=0.02"]


def test_a_fault_in_the_settings_has_file_line_and_place(tmp_path):
    (tmp_path / "config.yaml").write_text(FIRST_CONFIG.replace("higher_is_better: true", "higher_is_better: up"))
    place = r"\$\.tasks\.left\.metrics\.accuracy\.higher_is_better"
    with pytest.raises(ValueError, match=rf"config\.yaml, line 8: {place}: expected bool, got str$"):
        read_config(tmp_path)
    (tmp_path / "config.yaml").write_text(FIRST_CONFIG.replace("'uncertainty:lr=0.02'", "\n  3"))
    with pytest.raises(ValueError, match=r"line 11: \$\.strategies\[1\]: expected str, got int$"):
        read_config(tmp_path)


def test_lines_that_are_no_runs_say_what_is_wrong_with_them(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in [RUN, {**RUN, "run": "b", "metrics": 3}]) + "{\n")
    found = read_records(path)
    assert [*found.runs] == ["final-equal-0"] and found.damaged == {
        2: "$.metrics: expected object | null, got int",
        3: "",
    }
    assert found.why == " ($.metrics: expected object | null, got int)"


def test_events_of_a_later_version_are_read_and_lists_are_tuples_again(tmp_path):
    path = tmp_path / "schedule.jsonl"
    lines = [{**EVENT, "after": {"weights": [1, 2]}, "later": 1}, {"search": "search"}, {**EVENT, "search": "other"}]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    [event] = read_events(path, "search")
    assert event.after == {"weights": (1, 2)} and event.shards is None and len(read_events(path)) == 2
