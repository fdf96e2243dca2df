"""`mtl schema`: what our commands write and what users write validates, what they mistype does not."""

import json
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator

from mtl.cli.declared import declared
from mtl.cli.main import main
from mtl.cli.options import CompareOptions, SearchOptions, TrainOptions
from mtl.files.yaml_files import read_values

TINY = "tests/tiny.py:Tiny"
RUNS = {
    "train": ["train", TINY, "--strategy=gradnorm:alpha=0.5", "--seed=7", "--lr=0.01", "--model=mlp:width=8"],
    "compare": ["compare", TINY, "--strategies", "equal", "famo", "--seeds=1", "--tune=random", "--budget=2"],
    "search": ["search", TINY, "--members=4", "--interval=2", "--quantile=0.5", "--search", "lr=1e-3:1e-2:log"],
}


@pytest.fixture
def validator(capsys):
    def of(what):
        capsys.readouterr()
        assert main(["schema", what]) == 0
        schema = json.loads(capsys.readouterr().out)
        Draft202012Validator.check_schema(schema)
        return Draft202012Validator(schema)

    return of


@pytest.mark.parametrize("name", RUNS)
def test_what_a_command_writes_validates(name, validator, tmp_path):
    assert main([*RUNS[name], "--steps=8", "--wandb=disabled", "--quiet", f"--out={tmp_path}"]) == 0
    config = read_values(tmp_path / "config.yaml")
    validator("config").validate(config)
    validator("config").validate(config["options"])  # as a file of its own
    types = validator("config").schema["$defs"]
    assert set(config) <= set(types["Config"]["properties"])  # the type has all that is written
    assert set(config.get("search", ())) <= set(types["SearchEntry"]["properties"])
    assert all(set(task) <= set(types["TaskEntry"]["properties"]) for task in config["tasks"].values())
    for what in ("results", "schedule"):
        path = tmp_path / f"{what}.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        assert lines or (name, what) in {("train", "schedule")}
        for line in lines:
            validator(what).validate(line)
            known = validator(what).schema["$defs"][{"results": "Record", "schedule": "Event"}[what]]["properties"]
            assert set(line) <= set(known)


@pytest.mark.parametrize("command", [TrainOptions, CompareOptions, SearchOptions])
def test_every_option_is_completed_with_what_it_is(command, validator):
    known = validator("config").schema["else"]["properties"]
    for each in declared(command).values():
        if each.name not in ("config", "override"):
            assert each.name in known and (known[each.name]["description"] or not each.help())


@pytest.mark.parametrize(
    "content",
    [
        "epochs: 2\nlr: 1e-3\nstrategies: [equal, famo]\nwandb: disabled\n",
        "batch-size: 64\nno-single-task: true\noptimizer: ~\nstrategies: equal\ngpus_per_shard: 0.5\n",
    ],
)
def test_a_users_file_validates(content, validator, tmp_path):
    (tmp_path / "c.yaml").write_text(content)
    validator("config").validate(read_values(tmp_path / "c.yaml"))


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("config", {"epocs": 2}),
        ("config", {"batch--size": 2}),
        ("config", {"lr": -1}),
        ("config", {"epochs": "many"}),
        ("config", {"optimizer": 3}),
        ("config", {"gpus_per_shard": 0}),
        ("config", {"strategies": [3]}),
        ("config", {"resume": "yes"}),
        ("config", {"benchmark": "b", "tasks": {"t": 3}}),
        ("results", {"run": "a", "strategy": "equal", "phase": "final"}),
        ("results", {"run": "a", "strategy": "equal", "phase": "final", "status": "done", "seed": "x"}),
        ("schedule", {"search": "search"}),
    ],
)
def test_what_is_wrong_is_refused(what, value, validator):
    assert not validator(what).is_valid(value)


def test_schemas_do_not_wait_for_torch():
    script = "import sys; from mtl.cli.main import main; main(['schema']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL, check=True)
