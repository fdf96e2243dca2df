"""`mtl compare --vary`: losses and training settings are compared as strategies are."""

import json
from pathlib import Path

import pytest

import mtl
from mtl.benchmarks import load_checked
from mtl.cli.main import main
from mtl.files.yaml_files import read_values
from mtl.losses import make_loss
from mtl.train.evaluate import evaluate
from tests.tiny import Tiny
from tests.written import records_of, summary_of

TINY = str(Path(__file__).parents[1] / "tiny.py") + ":Tiny"
QUIET = ("--wandb=disabled", "--quiet")


class OneTask(Tiny):
    """The product alone."""

    name = "one-task"
    tasks = Tiny.tasks[1:]

    def load(self):
        splits = super().load()
        for split in (splits.train, splits.validation, splits.test):
            del split.targets["sign"]
        return splits


def compare(out, *arguments, benchmark=TINY):
    return main(["compare", benchmark, *arguments, *QUIET, f"--out={out}"])


def metrics_of(out):
    return {(r["strategy"], r["seed"]): r["metrics"] for r in records_of(out) if r["phase"] == "final"}


def test_a_variant_is_the_run_that_its_loss_and_settings_give(tmp_path):
    shared = ["--no-single-task", "--steps=8", "--keep-models=none"]
    vary = ["--vary", "loss.product=mse,huber:delta=0.5", "--vary", "weight_decay=0,0.1"]
    assert compare(tmp_path / "vary", *vary, "--strategies", "famo", "--seeds=2", *shared) == 0
    one = ["--loss", "product=huber:delta=0.5", "--weight-decay=0.1"]
    assert compare(tmp_path / "one", *one, "--strategies", "famo", "--seeds=2", *shared) == 0
    found, expected = metrics_of(tmp_path / "vary"), metrics_of(tmp_path / "one")
    label = "famo, loss.product=huber:delta=0.5, weight_decay=0.1"
    assert len(found) == 8
    for seed in (0, 1):
        assert found[label, seed] == expected["famo", seed]
        assert found["famo, loss.product=mse, weight_decay=0", seed] != expected["famo", seed]
    record = next(r for r in records_of(tmp_path / "vary") if r["strategy"] == label)
    assert record["hyperparameters"].items() >= {"loss.product": "huber:delta=0.5", "weight_decay": 0.1}.items()
    summary = summary_of(tmp_path / "vary")
    assert summary["reference"] == "famo, loss.product=mse, weight_decay=0" and len(summary["ranking"]) == 4
    assert summary["strategies"][label]["p_adjusted"] is not None
    assert len(record["metrics_without"]["product"]["mae"]) == 20 == len(record["metrics_without"]["sign"]["accuracy"])
    over_examples = summary["strategies"][label]["over_examples"]
    assert 0 <= over_examples["of_examples"] < 1 and over_examples["p_value"] is not None


def test_with_one_task_the_reference_is_the_baseline(tmp_path):
    arguments = ["--vary", "optimizer=sgd,adam,rmsprop", "--seeds=3", "--steps=8"]
    assert compare(tmp_path, *arguments, benchmark=f"{__file__}:OneTask") == 0
    assert {record["phase"] for record in records_of(tmp_path)} == {"final"}
    summary = summary_of(tmp_path)
    assert summary["baseline"] == "reference" and summary["reference"] == "optimizer=adam"
    assert len({str(values) for values in metrics_of(tmp_path).values()}) == 9
    assert compare(tmp_path, *arguments, "--resume", benchmark=f"{__file__}:OneTask") == 0
    assert len(records_of(tmp_path)) == 9


def test_single_task_baselines_are_those_of_the_benchmark_and_a_reference_is_named_by_its_label(tmp_path, capsys):
    arguments = ["--vary", "lr=0.01,0.1", "--reference", "lr=0.1", "--seeds=1", "--steps=4", "--keep-models=none"]
    assert compare(tmp_path, *arguments) == 0
    alone = [record for record in records_of(tmp_path) if record["phase"] == "single_task"]
    assert [record["task"] for record in alone] == ["sign", "product"]
    summary = summary_of(tmp_path)
    assert (
        summary["compared"] == "variants" and summary["baseline"] == "single_task" and summary["reference"] == "lr=0.1"
    )
    shown = capsys.readouterr().out.partition("Best run")[0]  # whose line names its strategy
    assert "variant" in shown and "strateg" not in shown


def test_the_best_model_of_variants_of_a_model_is_loaded(tmp_path):
    vary = ["--vary", "model=mlp:width=4,mlp:width=8", "architecture=hard-sharing,cross-stitch"]
    assert compare(tmp_path, *vary, "--no-single-task", "--seeds=1", "--steps=4") == 0
    name = json.loads((tmp_path / "checkpoints" / "best.json").read_text())["run"]
    record = next(record for record in records_of(tmp_path) if record["run"] == name)
    _, metrics = evaluate(mtl.load(tmp_path), Tiny.tasks, load_checked(Tiny()).test)
    for task, values in record["metrics"].items():
        assert metrics[task] == pytest.approx(values, abs=1e-5)


def test_what_training_labels_decide_is_recorded_as_written_and_as_used(tmp_path):
    written = [f"cross-entropy:class_weights={word}" for word in ("inverse", "effective")]
    vary = ["--vary", f"loss.sign={','.join(['cross-entropy', *written])}"]
    assert compare(tmp_path, *vary, "--no-single-task", "--seeds=1", "--steps=8") == 0
    labels = load_checked(Tiny()).train.targets["sign"]
    for record in records_of(tmp_path):
        spec = record["hyperparameters"]["loss.sign"]
        assert record["strategy"] == f"loss.sign={spec}"
        if spec == "cross-entropy":
            assert "losses" not in record
        else:
            assert record["losses"] == {"sign": str(make_loss(spec).fitted(labels, 2))}


def test_the_line_and_the_file_of_a_run_have_the_numbers_that_labels_decided(tmp_path):
    vary = ["--vary", "loss.sign=cross-entropy:class_weights=inverse,cross-entropy:class_weights=effective"]
    assert compare(tmp_path / "all", *vary, "--no-single-task", "--seeds=1", "--steps=8") == 0
    again = summary_of(tmp_path / "all")["again"]
    best = next(record for record in records_of(tmp_path / "all") if record["run"] == again["run"])
    assert f"sign={best['losses']['sign']}" in again["line"] and f"sign={best['losses']['sign']}" in again["file"]
    file = tmp_path / "all" / "best.yaml"
    assert main(["train", "--config", str(file), *QUIET, f"--out={tmp_path / 'one'}"]) == 0
    assert [record["metrics"] for record in records_of(tmp_path / "one")] == [best["metrics"]]


def test_every_variant_is_tuned_and_keeps_what_it_varies(tmp_path):
    vary = ["--vary", "loss.sign=focal,poly", "optimizer=sgd,adam", "--tune=random", "--budget=2"]
    assert compare(tmp_path, *vary, "--no-single-task", "--seeds=1", "--steps=4") == 0
    summary = summary_of(tmp_path)
    label = "loss.sign=focal, optimizer=sgd"
    assert [entry["search_budget"]["trials"] for entry in summary["strategies"].values()] == [2] * 4
    assert {*read_values(tmp_path / "config.yaml")["spaces"][label]} >= {"lr", "loss.sign.gamma"}
    of_it = [record["hyperparameters"] for record in records_of(tmp_path) if record["strategy"] == label]
    assert len(of_it) == 3 and all(h["optimizer"] == "sgd" and h["loss.sign"] == "focal" for h in of_it)


def test_a_parameter_is_varied_where_a_loss_has_it(tmp_path):
    vary = ["--vary", "loss.product=huber,mae", "loss.product.delta=0.5,2", "strategy.gradnorm.alpha=0.5,1.5"]
    shared = ["--strategies", "gradnorm", "--no-single-task", "--seeds=1", "--steps=8", "--keep-models=none"]
    assert compare(tmp_path / "vary", *vary, *shared) == 0
    found = metrics_of(tmp_path / "vary")
    label = "gradnorm, loss.product=huber, loss.product.delta=0.5, strategy.gradnorm.alpha=0.5"
    assert len(found) == 6 and (label, 0) in found  # mae has no delta, so it is there once for each alpha
    one = ["--loss", "product=huber:delta=0.5", "--strategies", "gradnorm:alpha=0.5", *shared[2:]]
    assert compare(tmp_path / "one", *one) == 0
    assert metrics_of(tmp_path / "one") == {("gradnorm:alpha=0.5", 0): found[label, 0]}
    assert found[label, 0] != found[label.replace("delta=0.5", "delta=2"), 0]
    usual = "gradnorm, loss.product=huber, loss.product.delta=0.5, strategy.gradnorm.alpha=0.5"
    assert summary_of(tmp_path / "vary")["reference"] == usual


def test_a_parameter_that_is_varied_is_not_tuned(tmp_path):
    vary = ["--vary", "strategy.gradnorm.alpha=0.5,1.5", "--tune=random", "--budget=2", "--strategies", "gradnorm"]
    assert compare(tmp_path, *vary, "--no-single-task", "--seeds=1", "--steps=4", "--keep-models=none") == 0
    for alpha in (0.5, 1.5):  # 1.5 is what it has anyway
        label = f"gradnorm, strategy.gradnorm.alpha={alpha}"
        of_it = [record["hyperparameters"] for record in records_of(tmp_path) if record["strategy"] == label]
        assert len(of_it) == 3 and {h["strategy.gradnorm.alpha"] for h in of_it} == {alpha}
        assert len({h["lr"] for h in of_it}) > 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["optimiser=sgd,adam"], "--vary optimiser: there is no such setting: did you mean optimizer"),
        (["loss.produkt=mse,mae"], "--vary loss.produkt: there is no task 'produkt': did you mean product?"),
        (["loss.product=mse,hubber"], "--vary loss.product=hubber: unknown loss 'hubber': did you mean huber"),
        (["loss.product=mse,cross-entropy"], "--vary, loss.product=cross-entropy: benchmark 'tiny', train split, task"),
        (["weight_decay=-1,0"], "--vary weight_decay=-1: must be at least 0"),
        (["lr=a,b"], "--vary: lr='a' cannot be read as float"),
        (["lr=0.1"], "--vary lr=0.1: there is nothing to compare with"),
        (["lr=0.1,0.10"], "--vary lr=0.1,0.10: it has 0.1 twice"),
        (["lr=1,2", "--lr=3"], "--vary lr: --lr gives it one value for all"),
        (["loss.sign=focal,poly", "--loss", "sign=poly"], "--vary loss.sign: --loss sign gives it one value for all"),
        (["momentum=0,0.9"], "--vary, momentum=0: momentum is a setting of sgd, and the optimizer is adam"),
        (["steps=4,8", "--epochs=1"], "--vary: epochs and steps are both the length of a run"),
        (["align_data=train,validation"], "--vary align_data: no strategy here reads"),
        (["strategy=equal,famo"], "--vary strategy: --strategies names the strategies"),
        (["loss.product.delta=1,2"], "--vary loss.product.delta: nothing that is compared has this parameter"),
        (["strategy.famo.gamma=1,2"], "strategy.famo.gamma: nothing that is compared has this parameter: it has none"),
        (["loss.sign=focal,poly", "loss.sign.gama=1,2"], "has this parameter: did you mean loss.sign.gamma"),
        (["strategy.gradnorm.alpha=1,2"], "--vary strategy.gradnorm.alpha: nothing that is compared"),
        (["loss.sign=focal,poly", "loss.sign.gamma=-1,2"], "--vary loss.sign.gamma=-1: must be at least 0"),
        (["lr"], "--vary 'lr' is not NAME=CHOICE,CHOICE"),
        (["lr=1,2", "lr=3,4"], "--vary gives lr twice"),
        (["lr=1,,2"], "a choice is empty"),
        (["epochs=1,2", "--tune=random"], "--vary epochs: it is one value for all runs that are tuned"),
        (["lr=1,2", "--reference", "lr=3"], "--reference lr=3: it is not among the variants: did you mean lr="),
    ],
)
def test_what_is_wrong_is_said_in_a_line_before_work_starts(arguments, said, capsys, tmp_path):
    assert compare(tmp_path / "out", "--vary", *arguments) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
