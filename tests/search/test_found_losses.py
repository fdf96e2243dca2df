"""What a search over losses leaves: specs that train on, equations, a picture; and their transfer."""

import re

import pytest
import yaml

from mtl.cli.main import main
from mtl.losses import make_loss
from mtl.losses.spec import in_full
from mtl.report.search.found import found_losses
from mtl.report.search.found_figure import found_figure
from tests.written import records_of, summary_of

TINY = "tests/tiny.py:Tiny"
RANGES = ["loss.sign=taylor", "loss.product=taylor-numbers,huber", "lr=0.01,0.02", "weight_decay=0,1e-4"]
TASKS = {
    "sign": {"loss": "cross-entropy", "outputs": 2},
    "late": {"loss": "binary-cross-entropy", "outputs": 1},
    "product": {"loss": "mse", "outputs": 1},
}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    out = tmp_path_factory.mktemp("found") / "run"
    arguments = ["search", TINY, "--method=epbt", "--members=6", "--interval=4", "--search", *RANGES]
    assert main([*arguments, "--wandb=disabled", f"--out={out}"]) == 0
    return out


def test_the_winners_losses_are_written_as_specs_and_equations_and_drawn(searched, capsys):
    found = summary_of(searched)
    values = found["best"]["hyperparameters"]
    sign = make_loss(found["losses"]["sign"]["spec"])
    own = {name.removeprefix("loss.sign."): value for name, value in values.items() if name.startswith("loss.sign.")}
    assert len(own) == 7 and {key: getattr(sign, key) for key in own} == own
    assert found["losses"]["sign"]["f"] == sign.equation()
    assert found["losses"]["product"]["spec"].split(":")[0] == values["loss.product"]
    page = (searched / "report.html").read_text()
    assert 'id="figure-losses"' in page and f"--loss sign={sign}" in page and sign.equation() in page
    assert main(["report", str(searched)]) == 0
    told = capsys.readouterr().out
    assert f"Loss of sign: sum over classes of f(x, y) - f(x, x), with f(x, y) = {sign.equation()}" in told


def test_found_losses_train_again_and_on_another_benchmark(searched, tmp_path):
    spec = summary_of(searched)["losses"]["sign"]["spec"]
    again = tmp_path / "again"
    common = ["--epochs=1", "--wandb=disabled", "--quiet"]
    assert main(["train", TINY, f"--config={searched / 'best.yaml'}", *common, f"--out={again}"]) == 0
    tasks = yaml.safe_load((again / "config.yaml").read_text())["tasks"]
    wanted = {task: each["spec"] for task, each in summary_of(searched)["losses"].items()}
    assert {task: tasks[task]["loss"] for task in wanted} == wanted
    other = tmp_path / "other"
    where = "tests/tiny.py:MissingLabels"
    assert main(["train", where, "--loss", f"sign={spec}", *common, f"--out={other}"]) == 0
    assert yaml.safe_load((other / "config.yaml").read_text())["tasks"]["sign"]["loss"] == spec
    assert records_of(other)[0]["status"] == "done"


def test_a_found_loss_is_a_file_that_is_taken_wherever_a_loss_is(searched, tmp_path, capsys):
    assert main(["report", str(searched)]) == 0
    option = re.search(r"^To train on it: --loss (sign=\S+)$", capsys.readouterr().out, re.M).group(1)
    file, spec = option.removeprefix("sign="), summary_of(searched)["losses"]["sign"]["spec"]
    assert file == str(searched / "losses" / "found" / "sign.json") and str(make_loss(file)) == in_full(file) == spec
    common = ["tests/tiny.py:MissingLabels", "--steps=2", "--wandb=disabled", "--quiet"]
    assert main(["train", *common, "--loss", option, f"--out={tmp_path / 'one'}"]) == 0
    assert yaml.safe_load((tmp_path / "one" / "config.yaml").read_text())["tasks"]["sign"]["loss"] == spec
    varied = [f"loss.sign=cross-entropy,{file}", "--seeds=1", "--no-single-task", f"--out={tmp_path / 'two'}"]
    assert main(["compare", *common, "--vary", *varied]) == 0
    assert len(records_of(tmp_path / "two")) == 2
    searching = [f"--search=loss.sign={file},focal", "--members=2", f"--out={tmp_path / 'three'}"]
    assert main(["search", *common, *searching]) == 0
    assert spec in summary_of(tmp_path / "three")["space"]["loss.sign"]


def test_a_file_without_a_loss_is_refused(tmp_path):
    for content, fault in (
        (None, "the file cannot be read: No such file or directory"),
        ("not json", "the file cannot be read: it is not JSON"),
        ('{"loss": "mse"}', "it is not the file of a loss that was found or learned"),
        ('{"format": "mtl loss", "loss": "mze"}', "unknown loss 'mze'"),
    ):
        path = tmp_path / "loss.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(ValueError, match=re.escape(fault)) as raised:
            make_loss(str(path))
        assert "\n" not in str(raised.value)


def test_a_search_of_other_things_has_no_losses(tmp_path):
    out = tmp_path / "run"
    assert (
        main(["search", TINY, "--method=random", "--members=2", "--steps=8", "--wandb=disabled", f"--out={out}"]) == 0
    )
    assert summary_of(out)["losses"] == {}
    assert 'id="figure-losses"' not in (out / "report.html").read_text()


def test_losses_of_a_task_are_drawn_beside_its_usual_one():
    values = {"loss.sign": "taylor", "loss.sign.theta4": 1.5, "loss.late": "taylor", "loss.product": "mae", "lr": 0.1}
    found = found_losses(TASKS, values)
    assert str(found["sign"].loss) == "taylor:theta4=1.5" and str(found["product"].loss) == "mae"
    drawing = found_figure(found)
    assert [len(axes.lines) for axes in drawing.axes] == [2] * 6
    assert "two others" in drawing.axes[0].get_xlabel() and "for a label that is no" in drawing.axes[2].get_xlabel()


def test_what_cannot_be_drawn_or_read_is_left_out():
    values = {"loss.sign": "cross-entropy", "loss.sign.class_weights": [0.3, 0.7], "loss.product": "gone.py:Loss"}
    found = found_losses(TASKS, values)
    assert {task: str(each.loss) for task, each in found.items()} == {"sign": "cross-entropy:class_weights=0.3/0.7"}
    assert found_figure(found) is None
