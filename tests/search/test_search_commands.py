"""`mtl search`, `mtl replay` and `mtl compare --tune` on a tiny benchmark."""

import json
import os
import re
import signal
import time

import pytest
import yaml

from mtl.cli.main import main
from tests.processes import finish, start
from tests.written import events_of, records_of, summary_of

TINY = "tests/tiny.py:Tiny"
PBT = ["search", TINY, "--strategy=gradnorm", "--members=6", "--interval=4", "--wandb=disabled"]


def call(*arguments):
    return main([str(argument) for argument in arguments])


def _out(capsys):
    return capsys.readouterr().out


def _lines(out):
    return (out / "results.jsonl").read_text()


def comparable(out):
    """Everything that may not depend on the clock or on an interruption."""
    kept = [{k: v for k, v in r.items() if k != "cost"} for r in records_of(out)]
    return (out / "schedule.jsonl").read_text(), kept, summary_of(out)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("search") / "run"
    assert call(*PBT, f"--out={out}") == 0
    return out


def test_a_search_leaves_its_files(finished):
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["search"]["method"] == "pbt" and config["search"]["space"]["lr"] == "0.0001:0.01:log"
    lines = records_of(finished)
    assert len(lines) == 6 and {line["phase"] for line in lines} == {"search"}
    assert all(line["cost"]["steps"] == 24 for line in lines)
    events = events_of(finished)
    assert {"step", "target", "source", "before", "after", "scores"} <= set(events[0])
    found = summary_of(finished)
    assert found["best"]["objective"]["selection"] == max(line["objective"]["selection"] for line in lines)
    assert found["exploits"] == sum(event["source"] is not None for event in events) == 5 * 2
    assert found["budget"]["steps"] == 6 * 24
    page = (finished / "report.html").read_text()
    for name in ("progress", "parallel", "lineage", "schedule"):
        assert f'id="figure-{name}"' in page and (finished / "figures" / f"{name}.png").stat().st_size > 1000
    assert "mathdefault" not in page, "labels of axes are plain numbers"
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize("objective", ["product/mae", "sign/accuracy"])
def test_the_best_shown_last_is_the_one_that_was_reached(objective, tmp_path, capsys):
    """Epochs end after 8 steps, intervals after 5, and the mean skill prefers other evaluations than the objective."""
    out = tmp_path / "run"
    arguments = ["--method=pbt", "--members=6", "--interval=5", f"--objective={objective}", "--lr=0.03"]
    assert call("search", TINY, *arguments, "--wandb=disabled", f"--out={out}") == 0
    shown = re.search(rf"best {objective} (\S+);", capsys.readouterr().out)[1]
    best = summary_of(out)["best"]["objective"][objective]
    assert shown == f"{best:.4f}"
    heard = [
        score
        for record in records_of(out)
        for (score,) in json.loads((out / record["history"]).read_text())["search_scores"]
    ]
    assert best == abs(max(heard))


def test_a_replay_reaches_what_was_recorded(finished, capsys):
    before = sorted(path.name for path in finished.iterdir())
    assert call("replay", finished) == 0
    assert "reaches every recorded metric, bit for bit" in capsys.readouterr().out
    assert sorted(path.name for path in finished.iterdir()) == before


def test_a_replay_that_differs_says_so_and_fails(finished, tmp_path, capsys):
    copied = tmp_path / "copy"
    copied.mkdir()
    for name in ("config.yaml", "results.jsonl", "schedule.jsonl"):
        (copied / name).write_text((finished / name).read_text())
    best = summary_of(finished)["best"]["trial"]
    events = events_of(copied)
    for event in events:
        if event["target"] == best:
            event["after"]["lr"] *= 1.5
    (copied / "schedule.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert call("replay", copied) == 1
    assert "the replay differs from what was recorded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("random", ["--trials=8", "--members=4"]),
        ("asha", ["--trials=8", "--members=4"]),
        ("hyperband", ["--members=4"]),
        ("bohb", ["--members=4", "--search", "optimizer=adam,sgd", "warmup=0:8", "lr=1e-4:1e-1:log"]),
        ("evolution", ["--trials=8", "--members=4", "--objective=product/mae"]),
        ("grid", ["--grid-points=1", "--search", "lr=1e-3,1e-2", "optimizer=adam,sgd", "mixup=0,0.3"]),
    ],
)
def test_every_kind_of_method_runs_and_replays(method, more, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--strategies", "gradnorm", "uncertainty", f"--method={method}", "--interval=4"]
    assert call("search", TINY, *arguments, "--wandb=disabled", "--quiet", f"--out={out}", *more) == 0
    capsys.readouterr()
    assert call("replay", out, "--quiet") == 0
    assert re.fullmatch(r"The replay reaches every recorded metric, bit for bit \(\d+ numbers\)\.\n", _out(capsys))


def test_a_replay_of_files_that_do_not_say_how_runs_were_trained_together_is_judged_by_rounding(
    finished, tmp_path, capsys
):
    copied = tmp_path / "copy"
    copied.mkdir()
    for name in ("config.yaml", "results.jsonl", "schedule.jsonl"):
        (copied / name).write_text(re.sub(r'"spent": \d+', '"spent": null', (finished / name).read_text()))
    assert call("replay", copied) == 0
    told = " ".join(_out(capsys).split())
    assert "cannot be trained again as it was, to the last bit: its files do not say when its runs began" in told
    assert "reaches every recorded metric" in told


def test_runs_of_one_loss_have_one_skill_whichever_command_trains_them(tmp_path):
    spec = "quantile:q=0.9"  # whose best constant is far from that of the benchmark's own loss
    shared = [TINY, "--steps=24", "--keep-models=none", "--wandb=disabled", "--quiet"]
    space = [f"loss.product={spec}", "lr=0.01", "weight_decay=0"]
    searched = ["--method=random", "--trials=1", "--members=1", "--interval=8", "--search", *space]
    varied = ["--vary", f"loss.product=mse,{spec}", "--seeds=1", "--no-single-task"]
    assert call("train", *shared, "--loss", f"product={spec}", f"--out={tmp_path / 'train'}") == 0
    assert call("search", *shared, *searched, f"--out={tmp_path / 'search'}") == 0
    assert call("compare", *shared, *varied, f"--out={tmp_path / 'compare'}") == 0
    found = [records_of(tmp_path / command)[-1] for command in ("train", "search", "compare")]
    assert [record["seed"] for record in found] == [0] * 3 and spec in found[-1]["strategy"]
    for record in found[1:]:
        assert record["selection"] == pytest.approx(found[0]["selection"], abs=1e-5)
        assert record["best_step"] == found[0]["best_step"]


def test_several_objectives_give_a_front(tmp_path):
    out = tmp_path / "run"
    arguments = ["--method=nsga2", "--objective", "sign", "product", "--members=4", "--trials=12", "--interval=12"]
    assert call("search", TINY, *arguments, "--wandb=disabled", f"--out={out}") == 0
    found = summary_of(out)
    points = [r["objective"] for r in records_of(out)]
    for member in found["front"]:
        point = member["objective"]
        assert not any(
            other["sign/accuracy"] > point["sign/accuracy"] and other["product/mae"] < point["product/mae"]
            for other in points
        )
    assert found["hypervolume"] > 0 and 'id="figure-front"' in (out / "report.html").read_text()


def test_delta_m_trains_the_baselines_first(tmp_path):
    out = tmp_path / "run"
    arguments = ["--method=random", "--members=2", "--objective=delta_m", "--interval=12"]
    assert call("search", TINY, *arguments, "--wandb=disabled", f"--out={out}") == 0
    assert [r["phase"] for r in records_of(out)] == ["single_task"] * 2 + ["search"] * 2
    assert call("replay", out, "--quiet") == 0


def test_single_task_baselines_are_tuned_like_the_strategies(tmp_path):
    out = tmp_path / "run"
    arguments = ["compare", TINY, "--strategies", "equal", "--seeds=2", "--tune=random", "--budget=3"]
    arguments += ["--steps=16", "--wandb=disabled", f"--out={out}"]
    assert call(*arguments) == 0
    lines = records_of(out)
    for task in ("sign", "product"):
        searched = [line for line in lines if line["phase"] == "search" and line["task"] == task]
        final = [line for line in lines if line["phase"] == "single_task" and line["task"] == task]
        assert len(searched) == 3 and len({line["hyperparameters"]["lr"] for line in searched}) == 3
        best = max(searched, key=lambda line: line["selection"])
        assert [line["seed"] for line in final] == [0, 1]
        assert all(line["hyperparameters"] == best["hyperparameters"] for line in final)
        assert all([*line["metrics"]] == [task] for line in searched + final)
        assert all([*line["metrics_without"]] == [task] for line in final)
        entry = summary_of(out)["single_task"][task]
        assert entry["runs"] == 2 and entry["search_budget"]["trials"] == 3
    assert summary_of(out)["strategies"]["equal"]["search_budget"]["trials"] == 3
    text = (out / "report.html").read_text()
    assert "So was each single-task baseline: sign 3, product 3." in text
    assert "sign alone" in text[text.index("What tuning chose") :]


def test_tuning_gives_every_strategy_the_same_trials_and_reruns_on_other_seeds(tmp_path):
    out = tmp_path / "run"
    arguments = ["compare", TINY, "--strategies", "equal", "gradnorm", "--seeds=2", "--tune=pbt", "--budget=4"]
    arguments += ["--steps=16", "--no-single-task", "--wandb=disabled", f"--out={out}"]
    assert call(*arguments) == 0
    lines = records_of(out)
    tuned = {line["seed"] for line in lines if line["phase"] == "search"}
    final = {line["seed"] for line in lines if line["phase"] == "final"}
    assert final == {0, 1} and not tuned & final
    assert all(("metrics_without" in line) == (line["phase"] == "final") for line in lines)
    assert summary_of(out)["strategies"]["gradnorm"]["over_examples"]["p_value"] is not None
    for entry in summary_of(out)["strategies"].values():
        assert entry["runs"] == 2
        assert entry["search_budget"]["trials"] == 4 and entry["search_budget"]["steps"] == 4 * 16
    assert "tuned on other seeds" in (out / "report.html").read_text()
    before = (out / "results.jsonl").read_bytes()
    assert call(*arguments, "--resume") == 0
    assert (out / "results.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--evaluate-every=2"], "--evaluate-every 2: a search evaluates its runs at every --interval"),
        (["--checkpoint-minutes=2"], "--checkpoint-minutes 2: a search writes a checkpoint at every --interval"),
        (["--method=ptb"], "unknown method 'ptb': did you mean pbt"),
        (["--search", "lr=1:0.1"], "the lower bound must be below"),
        (["--space=absent.yaml"], "No such file"),
        (["--objective", "accuracy"], "--objective 'accuracy'"),
        (["--objective", "sign", "product"], "pbt pursues one objective; nsga2 takes several"),
        (["--members=1"], "--members 1: pbt needs at least 2"),
        (["--interval=1000"], "--interval 1000: a run has only 24 steps"),
        (["--quantile=0.9"], "quantile=0.9 must be in"),
        (["--strategies", "famo", "famo"], "is given twice"),
        (["--method=asha", "--interval=7"], "asha needs a divisor of the 24 steps"),
        (["--search", "dropout=0:0.9999"], "must be in [0, 0.95]"),
        (["--search", "ema=none,0.9", "swa=none,0.5"], "ema=0.9 and swa=0.5 are both averages of weights"),
        (["--search", "swa=0.5:0.9", "--ema=0.9"], "ema=0.9 and swa=0.5 are both averages of weights"),
        (["--search", "batch_size=1:8", "--accumulate=2"], "accumulate=2 must be at most batch_size=1"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_2_before_any_work(arguments, message, tmp_path, capsys):
    assert call("search", TINY, *arguments, f"--out={tmp_path / 'run'}") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["replay", "nowhere"], "is no run directory"),
        (["compare", TINY, "--budget=4"], "--budget 4: it is an option of --tune METHOD"),
        (["compare", TINY, "--shards=2"], "--shards 2: it is an option of --tune METHOD"),
        (["compare", TINY, "--engine=ray"], "--engine ray: without --tune METHOD there is no search"),
        (["compare", TINY, "--tune=pbt", "--nodes=2"], "--nodes 2: it is an option of --engine ray"),
        (
            ["compare", TINY, "--strategies=equal", "--tune=grid"],
            "--tune grid: the number of its trials cannot be given; random takes one",
        ),
    ],
)
def test_other_commands_refuse_what_does_not_fit(arguments, message, tmp_path, capsys):
    extra = [] if arguments[0] == "replay" else [f"--out={tmp_path / 'run'}"]
    assert call(*arguments, *extra) == 2
    assert message in capsys.readouterr().err


def test_a_search_that_found_nothing_better_than_a_constant_prediction_says_so(tmp_path, capsys):
    out = tmp_path / "run"
    options = ["--method=random", "--members=2", "--interval=12", "--search", "lr=3:5", "--wandb=disabled"]
    assert call("search", TINY, *options, f"--out={out}") == 0
    said = "It is worse than a constant prediction: its mean skill is −"
    assert summary_of(out)["skill"] < 0 and said in " ".join(_out(capsys).split())
    assert said in (out / "report.html").read_text()


def test_a_headline_has_numbers_that_can_be_read(finished, capsys):
    assert call("report", finished) == 0
    line = " ".join(_out(capsys).split())
    assert re.search(r"pbt reached selection 0\.\d+ on validation data with gradnorm:alpha=[\d.]+,lr=[\d.]+ \(", line)
    headline = line.partition("Best run")[0]  # whose values are written to the last bit
    assert not re.search(r"\d\.\d{7}", headline) and "constant prediction" not in line


def test_importance_of_runs_that_took_over_each_other_is_that_of_their_beginnings(tmp_path):
    out = tmp_path / "run"
    assert call(*[each.replace("=6", "=10") for each in PBT], f"--out={out}", "--quiet") == 0
    found, events = summary_of(out), events_of(out)
    first = min(event["step"] for event in events if event["source"] is not None)
    assert found["importance_at"] == first == 4
    assert set(found["importance"]) == {"strategy.gradnorm.alpha", "strategy.gradnorm.lr", "lr", "weight_decay"}
    page = " ".join((out / "report.html").read_text().split())
    assert "for their scores after 4 steps: until then no run had taken over another" in page
    (out / "results.jsonl").write_text(
        re.sub(r'"objective": \{[^}]*\}', '"objective": {"selection": 0.5}', _lines(out))
    )
    assert call("report", out) == 0 and summary_of(out)["importance"] == found["importance"]


def test_a_finished_search_goes_on_with_more_trials_and_with_nothing_else(tmp_path, capsys):
    out = tmp_path / "run"
    command = ["search", TINY, "--method=tpe", "--interval=12", "--wandb=disabled", f"--out={out}"]
    assert call(*command, "--trials=4") == 0
    told = " ".join(_out(capsys).split())
    assert "2 of 4 proposals had seen scores" in told
    first = records_of(out)
    assert call(*command, "--trials=6", "--resume") == 0
    assert records_of(out)[:4] == first and len(records_of(out)) == 6 == summary_of(out)["runs"]
    assert yaml.safe_load((out / "config.yaml").read_text())["search"]["trials"] == 6
    assert summary_of(out)["missing"] == 0 and summary_of(out)["proposals"] == {"all": 6, "informed": 4}
    assert "4 of 6 proposals of tpe had seen scores of other runs" in (out / "report.html").read_text()
    capsys.readouterr()
    for change in ("--trials=4", "--trials=8 --members=3"):
        assert call(*command, *change.split(), "--resume") == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "was started with" in error
    assert len(records_of(out)) == 6
    assert call("replay", out, "--quiet") == 0


def test_a_finished_search_is_refused_without_resume_and_unchanged_with_it(finished, capsys):
    before = comparable(finished)
    assert call(*PBT, f"--out={finished}") == 2
    assert "--resume continues it" in capsys.readouterr().err
    assert call(*PBT, "--quantile=0.4", "--resume", f"--out={finished}") == 2
    assert "was started with quantile=0.25, now quantile=0.4" in capsys.readouterr().err
    assert call(*PBT, "--resume", f"--out={finished}") == 0
    assert comparable(finished) == before


LONG = ["search", TINY, "--strategies", "gradnorm", "uncertainty", "--search", "noise=0:0.2", "optimizer=adam,sgd"]
LONG += ["--members=6", "--interval=4", "--steps=80", "--wandb=disabled", "--quiet"]


def wait_for_segments(out, process):
    """Until the schedule has exploits, so that there is something to lose."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        path = out / "schedule.jsonl"
        if path.exists() and path.read_text().count('"target"') > 10:
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate())


@pytest.mark.slow
def test_interrupted_and_killed_searches_continue_to_the_same_files(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert call(*LONG, f"--out={whole}") == 0
    process = start(*LONG, f"--out={cut}")
    wait_for_segments(cut, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75 and "--resume" in err and "Traceback" not in err
    events = (cut / "schedule.jsonl").read_text()
    process = start(*LONG, "--resume", f"--out={cut}")
    while (cut / "schedule.jsonl").read_text() == events and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    lost = (whole / "schedule.jsonl").read_text()
    assert lost.startswith((cut / "schedule.jsonl").read_text().rpartition("\n")[0])
    finish(start(*LONG, "--resume", f"--out={cut}"))
    assert comparable(cut) == comparable(whole)
