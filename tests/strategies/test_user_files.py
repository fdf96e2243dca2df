"""Strategies in a user's file: found by specs, trained as others are, and refused in a line where they are none."""

import copy
import pickle
import re
from pathlib import Path

import pytest
import torch

import mtl
from mtl.cli.main import main
from mtl.files.config import read_config
from tests.written import records_of, summary_of

TINY = str(Path(__file__).parents[1] / "tiny.py") + ":Tiny"
PAGE = Path(__file__).parents[2] / "docs" / "design.md"
CODE = re.search(r"```python\n(.*?class SoftLoss.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
QUIET = ("--wandb=disabled", "--quiet", "--keep-models=none")


def call(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "soft.py"
    path.write_text(CODE, encoding="utf-8")
    return path


def test_its_spec_is_read_back_anywhere(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    strategy = mtl.make("./soft.py:SoftLoss:temperature=2+mgda+every:n=3")
    assert str(strategy) == f"{file}:SoftLoss:temperature=2+mgda+every:n=3"
    for again in (mtl.make(str(strategy)), pickle.loads(pickle.dumps(strategy)), copy.deepcopy(strategy)):
        assert again == strategy
    assert mtl.make(f"{file}:SoftLoss", temperature=3.0).hyperparameters == {"temperature": 3.0}
    weights, _ = mtl.make(f"{file}:SoftLoss")((), {"losses": torch.tensor([0.0, 2.0])})
    assert weights.tolist() == pytest.approx([2 / (1 + 2.718281828**2), 2 / (1 + 2.718281828**-2)])


def test_it_is_compared_tuned_and_searched_as_others_are(file, tmp_path):
    spec, out = f"{file}:SoftLoss", tmp_path / "compare"
    tune = ["--tune=random", "--budget=2"]
    shared = ["--steps=4", "--no-single-task", *QUIET]
    assert call("compare", TINY, "--strategies", "equal", spec, "--seeds=3", *tune, *shared, f"--out={out}") == 0
    assert {entry["strategy"] for entry in records_of(out)} == {"equal", spec}
    assert set(summary_of(out)["strategies"]) == {"equal", spec}
    assert "soft.py:SoftLoss" in (out / "tables" / "ranking.md").read_text()
    assert str(file) not in (out / "tables" / "ranking.md").read_text()
    found = tmp_path / "search"
    assert call("search", TINY, "--strategy", spec, "--method=random", "--members=2", *QUIET, f"--out={found}") == 0
    assert all(0.1 <= entry["hyperparameters"]["strategy.soft-loss.temperature"] <= 10 for entry in records_of(found))


def test_a_study_whose_strategy_was_edited_is_not_resumed(file, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", TINY, "--strategy", f"{file}:SoftLoss", "--steps=2", *QUIET, f"--out={out}"]
    assert call(*command) == 0 and call(*command, "--resume") == 0
    assert f"strategy {file}:SoftLoss" in read_config(out)["digests"]
    file.write_text(CODE.replace("losses.shape[-1] *", "2.5 *"), encoding="utf-8")
    capsys.readouterr()
    assert call(*command, "--resume") == 2
    assert f"was started with something else than there is now: strategy {file}:SoftLoss" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("class SoftLoss", "class Other"), "the file has no class 'SoftLoss'"),
        (("(mtl.Strategy)", ""), "it is no subclass of mtl.Strategy"),
        (("@dataclass(frozen=True)\n", ""), "it has to be a frozen dataclass"),
        (("def __call__", "def call"), "it lacks __call__"),
        (('frozenset({"losses"})', '"losses"'), "needs='losses' must be a frozenset"),
        (('{"losses"}', '{"loss"}'), "needs 'loss', which is no signal: did you mean losses"),
        (('"soft-loss"', '"gradnorm"'), "its name is 'gradnorm', as that of a strategy of mtl"),
    ],
)
def test_what_is_no_strategy_is_refused_in_one_line(file, change, message):
    file.write_text(CODE.replace(*change), encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        mtl.make(f"{file}:SoftLoss")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_hyperparameter_that_it_does_not_have_is_refused(file):
    with pytest.raises(ValueError, match="soft-loss has no hyperparameter 'temp': did you mean temperature"):
        mtl.make(f"{file}:SoftLoss:temp=1")
    with pytest.raises(ValueError, match="does not exist"):
        mtl.make(f"{file.with_name('none.py')}:SoftLoss")
