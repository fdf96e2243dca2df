"""The command line, in this process for speed; the same through real processes in test_commands.py."""

import fcntl
import json
import os
import subprocess
import sys

import pytest
import yaml

from mtl.cli.config_file import read_arguments
from mtl.cli.main import main

TINY = "tests/tiny.py:Tiny"


def call(*arguments, **kwargs):
    return main([*map(str, arguments), *(f"--{key}={value}" for key, value in kwargs.items())])


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", TINY, "--strategies", "gradnrom"], "unknown strategy 'gradnrom': did you mean gradnorm"),
        (["compare", TINY, "--strategies", "gradnorm:aplha=1"], "no hyperparameter 'aplha': did you mean alpha"),
        (["compare", TINY, "--strategies", "gradnorm:alpha=-2"], "alpha=-2.0 must be at least 0"),
        (["compare", TINY, "--strategies", "equal", "equal"], "strategy 'equal' is given twice"),
        (["compare", TINY, "--strategies", "static:weights=1/2/3"], "weights has 3 numbers, one a loss would be 2"),
        (["compare", TINY, "--strategies", "equal", "--reference", "rlw"], "not among the strategies"),
        (["compare", TINY, "--seeds", "0"], "--seeds 0: must be at least 1"),
        (["compare", TINY, "--seeds", "few"], "invalid int value"),
        (["compare", "multidigts"], "unknown benchmark 'multidigts': did you mean multidigits"),
        (["compare", "tests/tiny.py:NoModel"], "lacks 'model'"),
        (["compare", "tests/tiny.py:WithNaN"], "NaN or infinite features"),
        (["compare", "tests/tiny.py:NeedsPackage"], "pip install no-such-package"),
        (["train", TINY, "--model", "mlp:widht=3"], "mlp has no hyperparameter 'widht': did you mean width"),
        (["train", TINY, "--model", "conv"], "conv: inputs have shape (10,)"),
        (["train", TINY, "--lr", "-1"], "lr=-1.0 must be at least 0"),
        (["train", TINY, "--optimizer", "lion"], "unknown optimizer 'lion': did you mean"),
        (["train", TINY, "--epochz", "1"], "unrecognized arguments"),
        (["train", TINY, "--config", "absent.yaml"], "No such file"),
        (["report", "nowhere"], "holds no results.jsonl"),
        (["lst"], "invalid choice: 'lst': did you mean list?"),
        (["train", TINY, "--wandb", "onlin"], "argument --wandb: invalid choice: 'onlin': did you mean online"),
        ([], "required"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_2_before_any_work(arguments, message, out, capsys):
    extra = ["--out", str(out)] if arguments[:1] in (["compare"], ["train"]) else []
    assert main([*arguments, *extra]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (out / "results.jsonl").exists()


def test_cuda_is_refused_where_there_is_none(out, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert call("train", TINY, out=out, device="cuda") == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_a_directory_in_use_is_refused(out, capsys):
    out.mkdir()
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert call("train", TINY, out=out) == 2
    assert "is in use by another run" in capsys.readouterr().err


def test_an_unwritable_directory_is_refused(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert call("train", TINY, out=blocked / "run") == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_refused(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert call("train", TINY, out=tmp_path / "run") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_train_writes_the_files_of_a_run(out, capsys):
    assert call("train", TINY, "--strategy=uncertainty:lr=0.02", out=out, wandb="disabled", seed=4) == 0
    [record] = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert {"benchmark", "strategy", "hyperparameters", "seed", "phase", "metrics", "cost", "status"} <= set(record)
    assert (record["strategy"], record["seed"], record["phase"]) == ("uncertainty:lr=0.02", 4, "final")
    assert record["hyperparameters"]["lr"] == 0.02
    assert set(record["cost"]) == {"steps", "forwards", "backwards", "seconds", "peak_memory_mb"}
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["versions"]["torch"] and config["training"]["epochs"] == 3
    history = json.loads((out / record["history"]).read_text())
    assert len(history["weights"]) == len(history["step"]) == 24
    assert (out / "report.html").stat().st_size > 1000
    assert {path.name for path in (out / "checkpoints").glob("*")} == {"best.pt", "best.json"}
    assert "report.html" in capsys.readouterr().out


def test_a_finished_directory_is_refused_without_resume_and_grows_with_it(out, capsys):
    options = {"out": out, "wandb": "disabled", "steps": 4}
    assert call("compare", TINY, "--strategies", "equal", "--seeds=1", **options) == 0
    first = (out / "results.jsonl").read_bytes()
    assert call("compare", TINY, "--strategies", "equal", "--seeds=1", **options) == 2
    assert "--resume continues it" in capsys.readouterr().err
    assert call("compare", TINY, "--strategies", "equal", "rlw", "--seeds=2", "--resume", **options) == 0
    grown = (out / "results.jsonl").read_bytes()
    assert grown.startswith(first)
    assert len(grown.splitlines()) == 2 * (2 + 2)
    assert call("compare", TINY, "--strategies", "equal", "--seeds=1", "--resume", **(options | {"steps": 5})) == 2
    assert "was started with steps=4, now steps=5" in capsys.readouterr().err


def test_a_nan_loss_is_counted_shown_and_ends_as_diverged(out, capsys):
    arguments = ["compare", "tests/tiny.py:Diverging", "--strategies", "equal", "mgda", "--no-single-task"]
    assert call(*arguments, "--seeds=1", "--nan-limit=3", out=out, wandb="disabled") == 1
    records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    # The loss of that benchmark counts its calls across runs, so the first run has five good steps and the second none.
    assert [record["status"] for record in records] == ["diverged", "diverged"]
    assert records[0]["skipped"] == {"nonfinite_loss": 4}
    printed = capsys.readouterr().out
    assert "diverged" in printed and "4 nonfinite_loss" in printed


def test_a_strategy_that_raises_is_recorded_and_the_others_go_on(out, monkeypatch):
    from mtl.strategies import REGISTRY

    def broken(*_called):
        raise RuntimeError("no luck")

    monkeypatch.setattr(REGISTRY["rlw"], "__call__", broken)
    arguments = ["compare", TINY, "--strategies", "rlw", "equal", "--no-single-task", "--seeds=1"]
    assert call(*arguments, out=out, wandb="disabled") == 0
    records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [(r["status"], r["error"]) for r in records] == [("failed", "RuntimeError: no luck"), ("done", None)]


def test_a_config_file_stands_under_the_command_line(out, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("epochs: 2\nlr: 0.005\nstrategy: rlw\nwandb: disabled\nbatch-size: 64\n")
    assert call("train", TINY, f"--config={config}", "--lr=0.02", out=out) == 0
    training = yaml.safe_load((out / "config.yaml").read_text())
    assert training["strategies"] == ["rlw"]
    assert [training["training"][k] for k in ("epochs", "lr", "batch_size")] == [2, 0.02, 64]


def test_a_length_on_the_command_line_replaces_the_other_kind_of_length_in_a_config_file(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("epochs: 2\nwandb: disabled\n")
    assert main(["train", TINY, "--config", str(config), "--steps=3", "--quiet", f"--out={tmp_path / 'run'}"]) == 0
    training = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["training"]
    assert training["steps"] == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lr: 1\nepocs: 2", "c.yaml, line 2: unknown setting 'epocs': did you mean epochs"),
        ("learning_rate: 0.1", "line 1: unknown setting 'learning_rate': did you mean lr?"),
        ("epochs: 2\nepochs: 3", "line 2: 'epochs' stands in line 1 already"),
        ("resume: yes", "line 1: resume='yes' must be true or false"),
        ("seed: 1e3", "seed='1e3' is not a valid int"),
        ("strategy: [equal, famo]", "must be a single value"),
        ("epochs: many", "epochs='many' is not a valid int"),
        ("wandb: sometimes", "must be one of offline, online, disabled"),
        ("resume: 3", "must be true or false"),
        ("- a\n- b", "a mapping of names to values"),
        ("a: [", "not YAML"),
    ],
)
def test_a_bad_config_file_is_refused(content, message, out, tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text(content)
    assert call("train", TINY, f"--config={config}", out=out) == 2
    assert message in capsys.readouterr().err


def test_a_config_file_is_read_by_the_types_of_the_options(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("seed: 010\nlr: 1e-3\nstrategies: [equal, no]\nwarmup: 0x10\nsteps: ~\nno-single-task: true\n")
    args = read_arguments(["compare", TINY, f"--config={config}"])
    assert (args.seed, args.training, args.no_single_task) == (10, {"lr": 1e-3, "warmup": 16}, True)
    assert args.strategies == ["equal", "no"]


def test_lists_given_in_pieces_grow_and_single_values_are_given_once(capsys):
    search = ["search", TINY, "--search", "lr=1e-3:1e-1", "l1=0:1", "--objective", "delta_m", "--search", "noise=0:1"]
    args = read_arguments(search)
    assert args.search == ["lr=1e-3:1e-1", "l1=0:1", "noise=0:1"] and args.objective == ["delta_m"]
    compare = read_arguments(["compare", TINY, "--strategies", "equal", "--strategies", "famo", "--quiet", "--quiet"])
    assert compare.strategies == ["equal", "famo"] and compare.given == {"benchmark", "strategies", "quiet"}
    ours = ["--override", "--seed=3", "--override", "--out=b"]  # what batch scripts add
    args = read_arguments(["compare", TINY, "--seed=1", "--seeds=5", "--out=a", *ours])
    assert (args.seed, args.seeds, str(args.out)) == (3, 5, "b")
    assert main(["train", TINY, "--lr", "0.1", "--lr=0.2"]) == 2
    assert "argument --lr: it is given twice, the second time with 0.2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", TINY, "--learning-rate", "0.1"], "--learning-rate 0.1: did you mean --lr?"),
        (["train", TINY, "--learning_rate=0.1"], "did you mean --lr?"),
        (["search", TINY, "--method", "bayesian"], "unknown method 'bayesian': did you mean tpe, gp?"),
        (["search", TINY, "--method", "genetic"], "did you mean nsga2, evolution?"),
        (
            ["search", TINY, "--search", "learning_rate=0:1"],
            "--search: unknown parameter 'learning_rate': did you mean lr",
        ),
    ],
)
def test_names_of_other_libraries_lead_to_ours(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", TINY, "--search", "lr=0:1"], "--search is an option of `mtl search`; did you mean --searcher,"),
        (["train", TINY, "--seeds=3"], "--seeds is an option of `mtl compare`, `mtl auto`; did you mean --seed,"),
        (["search", TINY, "--eval", "3"], "--eval 3: did you mean --evaluate-every,"),
        (["train", TINY, "--epoch=3"], "--epoch=3: did you mean --epochs"),
        (["train", TINY, "epochs", "3"], "epochs 3: did you mean --epochs"),
        (["compare", TINY, "famo"], "no option takes 'famo'; `mtl compare --help` shows all"),
        (["submit", "train", TINY, "--epoch=3"], "--epoch=3: did you mean --epochs"),
    ],
)
def test_options_are_written_in_full_and_what_is_none_of_them_leads_to_one(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("mtl: unrecognized arguments: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", TINY, "--strategy=gradnorm:alpha=0.5", "--steps=3", "--seed=7", "--lr=0.0123456789", "--dropout=0.1"],
        ["compare", TINY, "--strategies", "equal", "famo", "--seeds=1", "--seed=4", "--no-single-task", "--steps=2"],
        ["search", TINY, "--method=random", "--members=2", "--steps=4", "--search", "lr=1e-3:1e-2:log", "l1=default"],
    ],
)
def test_the_config_of_a_run_serves_as_a_config_file(arguments, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert call(*arguments, "--quiet", out=first, wandb="disabled") == 0
    assert call(arguments[0], TINY, "--quiet", config=first / "config.yaml", out=second) == 0
    configs = [yaml.safe_load((out / "config.yaml").read_text()) for out in (first, second)]
    assert configs[0].pop("study") != configs[1].pop("study")
    # The second has the first's training settings as its options; they were the benchmark's own there.
    options = [config.pop("options") for config in configs]
    assert options[0].items() <= options[1].items() and options[1]["wandb"] == "disabled"
    assert configs[0] == configs[1]
    metrics = [
        [json.loads(x)["metrics"] for x in (o / "results.jsonl").read_text().splitlines()] for o in (first, second)
    ]
    assert metrics[0] == metrics[1]
    other = "train" if arguments[0] != "train" else "compare"
    assert call(other, TINY, config=first / "config.yaml", out=tmp_path / "third") == 2
    assert f"it is of `mtl {arguments[0]}`, not of `mtl {other}`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", TINY, "--patience", "3"], "--patience 3: runs of a search end when the method says"),
        (["compare", TINY, "--tune", "random", "--patience", "3"], "--patience 3: runs of --tune METHOD"),
        (["train", "tests/tiny.py:OwnModel", "--dropout", "0.5"], "dropout=0.5: benchmark 'own-model' builds its own"),
        (
            ["train", "tests/tiny.py:OwnModel", "--model", "mlp"],
            "model=mlp: benchmark 'own-model' builds its own model",
        ),
        (["search", "tests/tiny.py:OwnModel", "--search", "dropout=0:0.5"], "dropout: benchmark 'own-model' builds"),
        (["train", TINY, "--epochs", "1", "--steps", "3"], "--epochs 1 and --steps 3: give one"),
        (
            ["train", TINY, "--momentum=0.5", "--optimizer=sgd:momentum=0.9"],
            "--momentum 0.5: --optimizer sgd:momentum=0.9 says it too",
        ),
        (
            ["search", TINY, "--search", "optimizer=adam,rprop"],
            "optimizer 'rprop': it has no weight decay, which is searched",
        ),
        (
            ["train", TINY, "--optimizer", "torch.optim:Muon"],
            "optimizer 'torch.optim:Muon': Muon only supports 2D parameters",
        ),
        (["train", TINY, "--momentum", "0.5"], "--momentum 0.5: it is a setting of sgd, and the optimizer is adam"),
        (["train", TINY, "--align-data", "train"], "no strategy here reads gradients of another split"),
        (["search", TINY, "--method", "random", "--quantile", "0.5"], "--quantile 0.5: random has no use for it"),
        (["search", TINY, "--eta", "2"], "--eta 2.0: pbt has no use for it"),
        (["search", TINY, "--asynchronous"], "--asynchronous: there is nothing to wait for in one process"),
        (["search", TINY, "--strategy", "famo", "--strategies", "equal", "rlw"], "--strategy famo: --strategies names"),
        (["search", TINY, "--strategy", "famo", "--search", "strategy=equal,rlw"], "--strategy: --search names"),
        (["search", TINY, "--members", "100000"], "--members 100000: one process trains at most"),
        (["search", TINY, "--method", "grid", "--grid-points", "100000"], "grid: the space has 10000000000 points"),
        (["compare", TINY, "--seeds", "100000"], "--seeds 100000: one process trains at most"),
    ],
)
def test_what_would_do_nothing_or_never_end_is_refused(arguments, message, out, capsys):
    assert call(*arguments, out=out) == 2
    assert message in capsys.readouterr().err
    assert not (out / "config.yaml").exists()


def test_members_that_memory_cannot_hold_are_refused(out, capsys, monkeypatch):
    monkeypatch.setattr("mtl.cli.size.free_memory", lambda _device: 1e6)
    assert call("search", TINY, "--members=300", out=out) == 2
    assert "--members 300: parameters and state of so many take" in capsys.readouterr().err


def test_a_model_of_a_users_own_that_looks_at_the_trunk_hears_of_it(out):
    assert call("train", "tests/tiny.py:OwnTrunk", "--model=anything", "--steps=2", "--quiet", out=out) == 0
    assert yaml.safe_load((out / "config.yaml").read_text())["training"]["model"] == "anything"


def test_brackets_in_specs_and_paths_are_printed_as_they_are(tmp_path, capsys):
    out, spec = tmp_path / "lr[best]" / "[" / "b]", "uncertainty+[mgda+every:n=4]"
    assert call("compare", TINY, "--strategies", spec, steps=2, seeds=1, wandb="disabled", out=out) == 0
    printed = capsys.readouterr().out
    assert "[/b]/report.html" in printed.replace("\n", "") and "lr[best]" in printed and spec in printed


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_a_terminal_of_another_encoding_ends_nothing(encoding, out):
    command = [sys.executable, "-m", "mtl", "compare", TINY, "--strategies", "equal", "rlw", "--steps=2", "--seeds=2"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([*command, "--wandb=disabled", f"--out={out}"], env=environment, capture_output=True)
    assert done.returncode == 0 and b"report.html" in done.stdout


def test_a_benchmark_finds_what_is_beside_its_file_and_is_found_from_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "beside_mine.py").write_text("from tests.tiny import Tiny\n")
    (tmp_path / "mine.py").write_text("from beside_mine import Tiny\nclass Mine(Tiny):\n    name = 'mine'\n")
    monkeypatch.syspath_prepend(os.getcwd())
    monkeypatch.chdir(tmp_path)
    options = {"steps": 2, "wandb": "disabled"}
    assert call("train", "mine.py:Mine", out=tmp_path / "run", **options) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["benchmark"] == f"{tmp_path}/mine.py:Mine"
    assert call("train", "../mine.py:Mine", "--resume", out=tmp_path / "run", **options) == 0


def test_report_prints_the_summary_as_json(out, capsys):
    assert call("compare", TINY, "--strategies", "equal", "rlw", "--seeds=2", out=out, wandb="disabled", steps=4) == 0
    capsys.readouterr()
    assert call("report", out, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((out / "summary.json").read_text())


def test_report_gathers_the_parts_that_a_directory_holds(tmp_path, capsys):
    for seed in range(2):
        part = tmp_path / "study" / f"seed-{seed}"
        assert (
            call("compare", TINY, "--strategies", "equal", steps=2, seeds=1, seed=seed, wandb="disabled", out=part) == 0
        )
    unfinished = tmp_path / "study" / "seed-2"
    unfinished.mkdir()
    (unfinished / "config.yaml").write_text("benchmark: tiny")
    capsys.readouterr()
    assert call("report", tmp_path / "study") == 0
    assert "seed-2' holds no finished run and is left out" in capsys.readouterr().err
    assert json.loads((tmp_path / "study" / "summary.json").read_text())["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("said", "option", "mode"),
    [
        (None, None, "offline"),
        ("", None, "offline"),
        ("online", None, "online"),
        ("disabled", None, "disabled"),
        ("dryrun", None, "offline"),
        ("online", "disabled", "disabled"),
        ("disabled", "offline", "offline"),
    ],
)
def test_wandb_mode_of_the_environment_holds_where_no_option_says_otherwise(said, option, mode, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if said is not None:
        monkeypatch.setenv("WANDB_MODE", said)
    given = [] if option is None else [f"--wandb={option}"]
    assert read_arguments(["train", TINY, *given]).wandb == mode


def test_wandb_mode_of_the_environment_is_what_the_tracker_gets(monkeypatch, out, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert call("train", TINY, steps=2, out=out) == 0
    assert not (out / "wandb").exists()
    monkeypatch.setenv("WANDB_MODE", "of-line")
    assert call("train", TINY, "--resume", steps=2, out=out) == 2
    assert (
        "W&B mode 'of-line', of an option or of WANDB_MODE: must be one of offline, online, disabled"
        in capsys.readouterr().err
    )
    assert call("train", TINY, "--resume", steps=2, out=out, wandb="disabled") == 0


def test_pb2_takes_a_seed_that_has_no_room_in_32_bits(out):
    options = {"method": "pb2", "seed": 4300000000, "members": 4, "steps": 12, "interval": 2, "wandb": "disabled"}
    assert call("search", TINY, "--search", "lr=1e-3:0.1:log", out=out, **options) == 0
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert sorted(line["seed"] for line in lines if line["phase"] == "search") == [4300000000 + k for k in range(4)]
    assert '"source": ' in (out / "schedule.jsonl").read_text()
