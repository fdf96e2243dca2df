"""What is logged to W&B, read back from its files; and what becomes of a study when the logging fails."""

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from mtl.cli.main import main
from mtl.tracking import Tracker, client
from tests.processes import descendants, finish, start, wait
from tests.wandb_files import read_files
from tests.written import events_of, records_of, summary_of

pytest.importorskip("wandb", reason="reads back what W&B wrote: pip install 'mtl-lab[wandb]'")

TINY = "tests/tiny.py:Tiny"
_LONG = 200
SEARCH = ["search", TINY, "--strategy=gradnorm", "--members=4", "--interval=4", "--quiet"]


def table(file, key):
    content = json.loads(file.media(key).read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def _told(whole):
    """What the study put into the summary itself."""
    names = {"members", "steps", "exploits", "failures", "replaced_nonfinite", "stopped", "objective/selection"}
    return {key for key in whole.summary if key in names or key.startswith(("best/", "test/"))}


def test_a_search_reads_back(tmp_path):
    out = tmp_path / "run"
    assert main([*SEARCH, "--steps=12", "--seed=5", f"--out={out}"]) == 0
    files = {name: found for name, [found] in read_files(out).items()}
    summary = summary_of(out)
    schedule = events_of(out)
    whole = files.pop("search-gradnorm-5")
    assert whole.about["job_type"] == "search" and whole.about["tags"] == ["tiny", "gradnorm", "pbt"]
    assert whole.about["config"]["update"]["training"]["batch_size"] == 32
    assert [*whole.rows] == [16, 32, 48] and whole.exit == 0
    best = [whole.rows[step]["objective/selection/best"] for step in (16, 32, 48)]
    assert best == sorted(best)
    assert {key: whole.summary[key] for key in ("members", "failures", "exploits", "best/run", "steps")} == {
        "members": 4,
        "failures": 0,
        "exploits": summary["exploits"],
        "best/run": summary["best"]["run"],
        "steps": 48,
    }
    assert whole.summary["objective/selection"] == pytest.approx(summary["best"]["objective"]["selection"])
    winner = {key: value for key, value in summary["best"]["hyperparameters"].items() if key != "strategy"}
    assert whole.summary["best/strategy"] == summary["best"]["strategy"]
    for name, value in winner.items():
        assert whole.summary[f"best/{name}"] == (pytest.approx(value) if isinstance(value, float) else value)
    shared = {key for row in whole.rows.values() for key in row} & _told(whole)
    assert shared == {"exploits", "replaced_nonfinite"}  # equal in both: no row can put another run's values there
    lineage = table(whole, "lineage")
    assert [(row["step"], row["target"], row["source"]) for row in lineage] == [
        (event["step"], event["target"], event["source"]) for event in schedule
    ]
    [exploit] = [row for row in lineage if row["kind"] == "exploit"][:1]
    [event] = [event for event in schedule if event["source"] is not None][:1]
    assert f"lr: {event['before']['lr']:.4g} → {event['after']['lr']:.4g}" in exploit["changed"]
    drawn = {path.stem for path in (out / "figures").glob("*.png")}
    assert {"lineage", "progress"} <= drawn
    for name in drawn:
        assert whole.media(f"figures/{name}").read_bytes() == (out / "figures" / f"{name}.png").read_bytes()

    assert sorted(files) == [f"search-gradnorm-5-{number:04d}" for number in range(4)]
    for record, name in zip(sorted(records_of(out), key=lambda r: r["trial"]), sorted(files), strict=True):
        member = files[name]
        history = json.loads((out / record["history"]).read_text())
        assert (member.about["job_type"], member.about["run_group"]) == ("member", whole.about["run_group"])
        assert [*member.rows] == [0, *history["search_step"]]
        logged = [member.rows[step]["validation/selection"] for step in history["search_step"]]
        assert logged == pytest.approx([score for [score] in history["search_scores"]])
        assert {"weight/sign", "train_loss/product", "validation/product/mae"} <= member.rows[12].keys()
        own = [event for event in schedule if event["target"] == record["trial"]]
        for step, row in member.rows.items():  # the values in force from that step on
            in_force = [event["after"]["lr"] for event in own if event["step"] <= step][-1]
            assert row["hyperparameters/lr"] == pytest.approx(in_force)
        assert member.about["config"]["update"]["lr"] == pytest.approx(own[0]["after"]["lr"])
        assert member.summary["test/sign/accuracy"] == pytest.approx(record["metrics"]["sign"]["accuracy"])
        assert member.exit == 0
    assert not (out / "wandb" / client.SPOOL).exists() and (out / "wandb" / "tracker.log").read_text() == ""


def test_a_comparison_reads_back(tmp_path):
    out = tmp_path / "run"
    arguments = ["compare", TINY, "--strategies", "equal", "uncertainty", "--seeds=1", "--steps=6"]
    assert main([*arguments, f"--out={out}"]) == 0
    files = {name: found for name, [found] in read_files(out).items()}
    assert sorted(file.about["job_type"] for file in files.values()) == [
        *("final", "final", "report", "single-task", "single-task")
    ]
    report = files.pop("report-run")
    for record in records_of(out):
        file = files[record["run"]]
        assert [*file.rows] == [*range(7)]
        assert file.summary["cost/steps"] == record["cost"]["steps"] == 6
        assert {f"weight/{record['task'] or 'sign'}", "validation/selection"} <= file.summary.keys()
        for task, metrics in record["metrics"].items():
            for metric, value in metrics.items():
                assert file.summary[f"test/{task}/{metric}"] == pytest.approx(value)
    summary = summary_of(out)
    assert [row["strategy"] for row in table(report, "ranking")] == summary["ranking"]
    for row in table(report, "ranking"):
        gain = summary["strategies"][row["strategy"]]["delta_m"]["gain_over_tasks"]["mean"]
        assert row["delta_m"] == report.summary[f"delta_m/{row['strategy']}"] == pytest.approx(gain)
    for path in (out / "figures").glob("*.png"):
        assert report.media(f"figures/{path.stem}").read_bytes() == path.read_bytes()


def test_tuned_strategies_are_logged_apart(tmp_path):
    out = tmp_path / "run"
    arguments = ["--strategies", "equal", "uncertainty", "--tune=pbt", "--budget=2", "--seeds=1", "--steps=8"]
    assert main(["compare", TINY, *arguments, "--no-single-task", "--quiet", f"--out={out}"]) == 0
    files = {name: found for name, [found] in read_files(out).items()}
    expected = {"final-equal-0", "final-uncertainty-0", "report-run"}
    for search in ("search-equal-1", "search-uncertainty-1"):
        expected |= {search, f"{search}-0000", f"{search}-0001"}
        assert table(files[search], "lineage")[0]["kind"] == "begin"
        assert files[search].summary["members"] == 2
    assert files.keys() == expected
    assert files["final-equal-0"].about["job_type"] == "final"
    assert {file.exit for file in files.values()} == {0}


def stop_amid_logging(out, process):
    """Stop the search after a few segments, and wait until it and its four members are being logged."""
    spool = out / "wandb" / client.SPOOL
    wait(process, lambda: spool.exists() and spool.read_text().count('"members/alive"') > 3)
    process.send_signal(signal.SIGSTOP)
    wait(process, lambda: len([*(out / "wandb").glob("offline-run-*/*.wandb")]) == 5)


def wait_until_gone(processes):
    deadline = time.monotonic() + 60
    while left := [process for process in processes if Path(f"/proc/{process}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM to all", "kill -9"])
def test_a_resumed_search_continues_its_wandb_runs(tmp_path, how):
    """W&B replaces what one file says of a run by what the next says: there must be one, with all steps in order."""
    out, arguments = tmp_path / "run", [*SEARCH, f"--steps={_LONG}"]
    process = start(*arguments, f"--out={out}")
    stop_amid_logging(out, process)
    logging = descendants(process.pid)
    assert "wandb-core" in [Path(f"/proc/{each}/comm").read_text().strip() for each in logging]
    if how == "kill -9":
        process.kill()
        process.communicate()
    else:
        for target in [process.pid, *(logging if how == "SIGTERM to all" else [])]:
            os.kill(target, signal.SIGINT if how == "Ctrl-C" else signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        err = finish(process, code=75)
        assert err.count("\n") == 1 and "--resume" in err
    wait_until_gone(logging)
    first = read_files(out)
    assert len(first) == 5 and all(file.exit == 75 for [file] in first.values())
    assert main([*arguments, "--resume", f"--out={out}"]) == 0
    resumed = read_files(out)
    for name, [file] in resumed.items():
        steps = [*range(0, _LONG + 1, 4)] if name[-5] == "-" else [*range(16, 4 * _LONG + 1, 16)]
        missing = len(steps) - len(file.rows)  # a segment checkpointed, and not told to anyone before the kill
        assert [step for step in steps if step in file.rows] == [*file.rows] and missing <= (how == "kill -9")
        [before] = first[name]
        assert file.about["run_id"] == before.about["run_id"]
        shared = [step for step in before.rows if step != max(before.rows)]
        assert len(shared) > 1 and [plain(before.rows[step]) for step in shared] == [
            plain(file.rows[step]) for step in shared
        ]
        assert file.exit == 0
    if how != "Ctrl-C":
        return
    assert main([*arguments, "--resume", f"--out={out}"]) == 0  # there is nothing left to do, nor to log
    assert {name: [file.path for file in files] for name, files in read_files(out).items()} == {
        name: [file.path for file in files] for name, files in resumed.items()
    }


def plain(row):
    return {key: value for key, value in row.items() if not key.startswith("_")}


def logged(tracker, rows):
    tracker.begin("some-run", job_type="final", tags=["a"], config={"lr": 0.1})
    for step in range(rows):
        tracker.row("some-run", step, {"loss": 1 / (step + 1)})


@pytest.fixture
def said():
    return []


@pytest.fixture
def tracked(tmp_path, said):
    def track(mode="offline"):
        return Tracker(mode, tmp_path, {"study": "a study/of mine"}, said.append)

    return track


def test_the_death_of_the_logging_process_is_said_once_and_nothing_is_lost(tmp_path, tracked, said):
    with tracked() as tracker:
        logged(tracker, 10)
        os.kill(tracker._process.pid, signal.SIGKILL)
        tracker._process.wait()
        logged(tracker, 10)
        logged(tracker, 10)
    assert len(said) == 1 and "logging stopped" in said[0]
    with tracked() as tracker:  # as a resumed study does
        tracker.row("some-run", 10, {"loss": 0.0})
        tracker.end("some-run")
    assert len(said) == 1
    [file] = read_files(tmp_path)["some-run"]
    assert [*file.rows] == [*range(11)] and file.exit == 0
    assert file.about["run_id"] == "a-study-of-mine-some-run"


def test_long_names_have_ids_of_their_own_that_leave_room_for_tables(tmp_path, said):
    runs = ["one" + "x" * 130, "two" + "x" * 130]
    with Tracker("offline", tmp_path, {"study": "study" * 30}, said.append) as tracker:
        for run in runs:
            tracker.begin(run, job_type="run", tags=[], config={})
            tracker.table(run, 0, "ranking", ["strategy", "rank"], [["equal", 1]])
            tracker.end(run)
    assert said == []
    files = read_files(tmp_path)
    ids = {file.about["run_id"] for run in runs for file in files[run]}
    assert len(ids) == 2 and max(map(len, ids)) <= 96


def test_a_logging_process_that_hangs_holds_nothing_up(tracked, said, monkeypatch):
    monkeypatch.setattr(client, "_CLOSE_SECONDS", 0.5)
    tracker = tracked()
    os.kill(tracker._process.pid, signal.SIGSTOP)
    study = threading.Thread(target=lambda: (logged(tracker, 20_000), tracker.close()), daemon=True)
    study.start()  # logs many times what a pipe holds
    study.join(timeout=120)
    assert not study.is_alive()
    assert len(said) == 1 and "did not finish" in said[0]


def test_a_full_disk_is_said_once(tmp_path, tracked, said):
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / client.SPOOL).symlink_to("/dev/full")
    with tracked() as tracker:
        logged(tracker, 10)
    assert len(said) == 1 and f"No space left on device: '{tmp_path / 'wandb' / client.SPOOL}'" in said[0]


@pytest.mark.parametrize("answer", ["refused", "silence"])
def test_online_without_a_server_logs_offline_and_ends_by_itself(tmp_path, tracked, said, monkeypatch, answer):
    monkeypatch.setattr(client, "_CLOSE_SECONDS", 40)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answer != "refused":
            server.listen()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        with tracked("online") as tracker:
            logged(tracker, 10)
            tracker.end("some-run")
    [line] = said
    assert "offline" in line and "wandb sync" in line and "did not finish" not in line
    [file] = read_files(tmp_path)["some-run"]
    assert [*file.rows] == [*range(10)]
