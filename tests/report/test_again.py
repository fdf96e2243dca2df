"""What repeats the best run of a study: the line, `best.yaml`, and remarks."""

import dataclasses
import shlex
from pathlib import Path

import pytest

from mtl.cli.config_file import read_arguments
from mtl.cli.main import main
from mtl.files.lineage import read_events
from mtl.files.yaml_files import read_values
from mtl.hyperparameters import domains, kinds_of
from mtl.train import Member, Settings
from mtl.train.recipe import make_recipe
from tests.tiny import Tiny
from tests.written import records_of, summary_of

TINY = str(Path(__file__).parents[1] / "tiny.py") + ":Tiny"
QUIET = ("--wandb=disabled", "--quiet", "--keep-models=none")


def call(*arguments):
    return main([str(argument) for argument in arguments])


def best_of(out):
    run = summary_of(out)["again"]["run"]
    return next(record for record in records_of(out) if record["run"] == run)


def test_best_yaml_repeats_the_best_variant_to_the_last_bit(tmp_path):
    out, again = tmp_path / "compare", tmp_path / "again"
    vary = ["--vary", "loss.product=mse,huber:delta=0.3", "lr=0.012345678901234567,0.02"]
    assert call("compare", TINY, *vary, "--strategies", "gradnorm:alpha=0.7", "--seeds=2", *QUIET, f"--out={out}") == 0
    assert call("train", "--config", out / "best.yaml", *QUIET, f"--out={again}") == 0
    [record], best = records_of(again), best_of(out)
    assert best["strategy"] == summary_of(out)["ranking"][0]
    assert (record["metrics"], record["seed"]) == (best["metrics"], best["seed"])
    assert record["validation"] == best["validation"]
    for folder in (out, again):  # no search, so there is nothing that its values or its state came from
        assert summary_of(folder)["again"]["remarks"] == []
        assert "took over" not in (folder / "best.yaml").read_text()


def test_the_line_gives_the_settings_of_the_best_run_and_a_fresh_seed(tmp_path, capsys):
    out = tmp_path / "compare"
    vary = ["--vary", "loss.product=huber:delta=0.3,mae"]
    shared = ["--no-single-task", "--seeds=2", "--steps=8", "--clip=0.5", *QUIET]
    assert call("compare", TINY, *vary, *shared, f"--out={out}") == 0
    said = capsys.readouterr().out
    found = summary_of(out)["again"]
    assert found["remarks"] == [] and "took over" not in said
    assert f"On a fresh seed: {found['line']}\n" in said and str(out / "best.yaml") in said
    assert found["line"].endswith(f"--steps 8 --clip 0.5 --seed {2}")
    assert best_of(out)["strategy"].partition("=")[2] in found["line"]
    assert found["line"] in (out / "report.html").read_text().replace("&#39;", "'")
    assert call(*shlex.split(found["line"])[1:], *QUIET, f"--out={tmp_path / 'fresh'}") == 0
    assert records_of(tmp_path / "fresh")[0]["seed"] == 2


def test_best_yaml_of_a_search_repeats_its_winner(tmp_path):
    out, again = tmp_path / "search", tmp_path / "again"
    search = ["--method=random", "--members=3", "--interval=8", "--search", "loss.product=huber,mae"]
    assert call("search", TINY, "--strategy=gradnorm", *search, *QUIET, f"--out={out}") == 0
    assert summary_of(out)["again"]["remarks"] == []  # evaluated after each epoch of 8 steps, as mtl train does
    assert call("train", "--config", out / "best.yaml", *QUIET, f"--out={again}") == 0
    [record], best = records_of(again), best_of(out)
    assert record["best_step"] == best["best_step"]
    for task, metrics in best["metrics"].items():
        assert record["metrics"][task] == pytest.approx(metrics, abs=1e-5)


def test_of_a_schedule_it_says_that_the_values_are_the_last_ones(tmp_path):
    search = ["--method=pbt", "--members=4", "--interval=4", "--seed=1"]
    assert call("search", TINY, *search, *QUIET, f"--out={tmp_path}") == 0
    found = summary_of(tmp_path)
    assert len(found["schedule"]) > 1
    assert "mtl replay" in found["again"]["remarks"][0]
    assert "mtl replay" in (tmp_path / "best.yaml").read_text()
    assert read_values(tmp_path / "best.yaml")["lr"] == found["schedule"][-1]["hyperparameters"]["lr"]


ALIKE = ["--method=pbt", "--members=4", "--quantile=0.5", "--optimizer=sgd", "--search", "weight_decay=0"]


def test_of_a_best_evaluation_that_was_taken_over_the_seed_is_that_of_the_run_that_made_it(tmp_path):
    out, again = tmp_path / "search", tmp_path / "again"
    search = [*ALIKE, "lr=0.3", "--interval=8", "--seed=3"]  # so large a rate that the first evaluation is the best
    assert call("search", TINY, *search, *QUIET, f"--out={out}") == 0
    best, found = best_of(out), summary_of(out)["again"]
    assert best["best_trial"] != best["trial"] and best["best_step"] == 8 and found["remarks"] == []
    assert found["seed"] == 3 + best["best_trial"] == read_values(out / "best.yaml")["seed"]
    assert call("train", "--config", out / "best.yaml", *QUIET, f"--out={again}") == 0
    [record] = records_of(again)
    assert record["best_step"] == 8
    for task, metrics in best["metrics"].items():
        assert record["metrics"][task] == pytest.approx(metrics, abs=1e-5)


def test_of_a_state_that_was_taken_over_it_says_so_where_all_values_are_alike(tmp_path):
    assert call("search", TINY, *ALIKE, "lr=0.01", "--interval=4", *QUIET, f"--out={tmp_path}") == 0
    found = summary_of(tmp_path)
    assert len({stage["trial"] for stage in found["schedule"]}) > 1
    assert found["again"]["remarks"][0].startswith("It took over the state of another run ")


def test_a_run_under_a_fresh_seed_that_repeats_a_schedule_says_so(tmp_path):
    options = ["--strategies=equal", "--tune=pbt", "--budget=4", "--seeds=1", "--steps=16", "--no-single-task"]
    assert call("compare", TINY, *options, *QUIET, f"--out={tmp_path}") == 0
    best = best_of(tmp_path)
    (begun,) = read_events(tmp_path / "schedule.jsonl", best["search"])
    assert best["phase"] == "final" and begun.after != best["hyperparameters"]
    assert "Its values changed on the way, as those of the tuned run did" in summary_of(tmp_path)["again"]["remarks"][0]


def test_of_merged_parts_it_has_the_settings_of_the_part_with_the_best_run(tmp_path, capsys):
    short, long, merged = (tmp_path / name for name in ("short", "long", "merged"))
    assert call("compare", TINY, "--strategies=equal", "--no-single-task", "--steps=1", *QUIET, f"--out={short}") == 0
    longer = ["--strategies=uncertainty", "--steps=40", "--seed=3", "--seeds=1", "--no-single-task"]
    assert call("compare", TINY, *longer, *QUIET, f"--out={long}") == 0
    capsys.readouterr()
    assert call("report", short, long, f"--out={merged}") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert summary_of(merged)["again"]["run"] == "final-uncertainty-3"
    assert read_values(merged / "best.yaml")["steps"] == 40
    assert "long was trained with other settings than short: training.steps (1; 40)" in said


def test_parts_from_two_machines_may_have_their_table_in_other_folders(tmp_path, capsys):
    parts = []
    for seed, folder in enumerate(("here", "there", "changed")):
        (tmp_path / folder).mkdir()
        table = tmp_path / folder / "homes.csv"
        rows = "".join(f"{k * 37 % 101},{k % 7},{(k * 37 % 101) * (k % 7) + seed // 2}\n" for k in range(120))
        table.write_text("a,b,y\n" + rows + f"5,5,{seed // 2 * 99}\n", encoding="utf-8")
        parts.append(tmp_path / f"part-{folder}")
        options = ["--target=y", "--steps=2", f"--seed={seed}", "--seeds=1", "--no-single-task", "--strategies=equal"]
        assert call("compare", table, *options, *QUIET, f"--out={parts[-1]}") == 0
    assert call("report", parts[0], parts[1], f"--out={tmp_path / 'merged'}") == 0
    summary = summary_of(tmp_path / "merged")
    assert summary["strategies"]["equal"]["runs"] == 2 and summary["remarks"] == []
    capsys.readouterr()
    assert call("report", parts[0], parts[2], f"--out={tmp_path / 'other'}") == 2
    assert "differ in task 'y'" in capsys.readouterr().err


def test_a_file_of_options_without_a_benchmark_is_refused(tmp_path, capsys):
    path = tmp_path / "options.yaml"
    path.write_text("lr: 0.1\n")
    assert call("train", "--config", path) == 2
    assert (
        capsys.readouterr().err == f"mtl: --config {path}: it names no benchmark, and the command line does neither\n"
    )


def test_the_config_of_a_run_is_said_to_leave_the_benchmark_to_the_command_line(tmp_path, capsys):
    assert call("train", TINY, *QUIET, f"--out={tmp_path}") == 0
    capsys.readouterr()
    assert call("train", "--config", tmp_path / "config.yaml") == 2
    error = capsys.readouterr().err
    assert "tests/tiny.py:Tiny, belongs on the command line" in error and error.count("\n") == 1


def test_the_line_leaves_out_what_has_no_effect_and_what_the_benchmark_has():
    sgd = Member("equal", 3, {"optimizer": "sgd", "momentum": 0.5, "lr": 1e-2})
    recipe = make_recipe("tiny", Tiny(), Settings.of(Tiny.recipe), sgd)
    assert recipe.line() == "mtl train tiny --strategy equal --optimizer sgd --momentum 0.5 --seed 3"
    adam = Member("equal", 3, {"momentum": 0.5}, {"product": {"name": "huber", "delta": 0.25}})
    recipe = make_recipe("tiny[sign=cross-entropy:label_smoothing=0.1]", Tiny(), Settings.of(Tiny.recipe), adam)
    losses = "sign=cross-entropy:label_smoothing=0.1 product=huber:delta=0.25"
    assert recipe.line() == f"mtl train tiny --strategy equal --loss {losses} --seed 3"
    assert "momentum" not in recipe.training and "align_data" not in recipe.training


def test_label_smoothing_is_left_out_where_no_loss_has_some():
    member = Member("equal", 0, {"label_smoothing": 0.1}, {"sign": {"name": "focal"}})
    assert "label_smoothing" not in make_recipe("tiny", Tiny(), Settings.of(Tiny.recipe), member).training
    plain = Member("equal", 0, {"label_smoothing": 0.1})
    assert make_recipe("tiny", Tiny(), Settings.of(Tiny.recipe), plain).training["label_smoothing"] == 0.1


def test_what_no_option_can_say_is_said():
    class Clipped(Tiny):
        recipe = {**Tiny.recipe, "clip": 1.0, "patience": 2}  # noqa: RUF012

    settings = Settings.of(Clipped.recipe, {})
    with pytest.raises(ValueError, match="clip=none: the benchmark has 1"):
        make_recipe("clipped", Clipped(), settings, Member("equal", 0, {"clip": None}))
    patient = make_recipe("clipped", Clipped(), settings, Member("equal", 0, {"patience": None}))
    assert patient.training["patience"] > settings.epochs  # it never stops early

    class Compiled(Tiny):
        recipe = {**Tiny.recipe, "compile": True}  # noqa: RUF012

    with pytest.raises(ValueError, match="compile=false: the benchmark has it"):
        make_recipe("compiled", Compiled(), Settings.of(Tiny.recipe), Member("equal", 0))


TEXTS = {
    "optimizer": "sgd:nesterov=true",
    "schedule": "step:every=0.3",
    "model": "mlp:width=8",
    "architecture": "cross-stitch",
    "augment": "flip",
    "heads": "left:lr=0.1,dropout=0.2",
}
OTHERS = {"epochs": 7, "momentum": 0.5, "dropout": 0.3, "ema": 0.9, "accumulate": 2}
BESIDE = {"momentum": {"optimizer": "sgd"}}  # what has to be set for another setting to have an effect


def another(name, domain, usual):
    """A value of a setting that is not its default."""
    if name in TEXTS or name in OTHERS:
        return {**TEXTS, **OTHERS}[name]
    if domain.choices:
        return next(choice for choice in domain.choices if choice != usual)
    if isinstance(usual, bool):
        return not usual
    kinds = kinds_of(Settings, name)
    assert kinds & {int, float}, f"{name}: give the test a value for it"
    return 3 if int in kinds else 0.012345678901234567


@pytest.mark.parametrize("name", [*domains(Settings)])
def test_every_setting_is_read_back_as_it_was(name, tmp_path):
    usual = Settings.of(Tiny.recipe)
    values = {**BESIDE.get(name, {}), name: another(name, domains(Settings)[name], getattr(usual, name))}
    settings = Settings.of(Tiny.recipe, values)
    strategy = "auto-lambda" if name == "align_data" else "equal"
    recipe = make_recipe("multidigits", Tiny(), settings, Member(strategy, 4))
    (tmp_path / "best.yaml").write_text(recipe.text())
    read = read_arguments(["train", "--config", str(tmp_path / "best.yaml")])
    typed = read_arguments(shlex.split(recipe.line())[1:])
    assert (read.benchmark, read.strategy, read.seed) == (typed.benchmark, typed.strategy, typed.seed)
    for found in (read, typed):
        got = Settings.of(Tiny.recipe, found.training)
        assert dataclasses.replace(got, model="", architecture="") == dataclasses.replace(
            settings, model="", architecture=""
        )
        assert getattr(got, name) == getattr(settings, name)
