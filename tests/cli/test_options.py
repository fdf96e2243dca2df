"""MethodOptions are declared once, and everything that reads or shows them follows."""

import dataclasses
from pathlib import Path

import pytest

from mtl.cli.config_file import options_of, read_arguments
from mtl.cli.declared import declared
from mtl.cli.options import COMMANDS, ENGINE_OPTIONS, CompareOptions, SearchOptions, TrainOptions
from mtl.cli.parser import build_parser
from mtl.hyperparameters import domains, kinds_of
from mtl.search.options import MethodOptions
from mtl.train import Settings

TRAINS = (TrainOptions, CompareOptions, SearchOptions)


@pytest.mark.parametrize("command", TRAINS)
def test_every_training_setting_is_an_option_and_a_key_of_yaml(command, tmp_path):
    path = tmp_path / "c.yaml"
    for name, domain in domains(Settings).items():
        if name == "steps":
            continue
        switch = kinds_of(Settings, name) == {bool}
        value = "True" if switch else domain.choices[0] if domain.choices else "mlp" if domain.text else "1"
        path.write_text(f"{name}: {value.lower()}\n")
        written = read_arguments([command.command, "digits", f"--config={path}"])
        dashed = f"--{name.replace('_', '-')}"
        typed = read_arguments([command.command, "digits", dashed if switch else f"{dashed}={value}"])
        assert written.training == typed.training and list(typed.training) == [name] and written.given >= {name}
        assert str(typed.training[name]).rstrip("0").rstrip(".") == value


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_has_every_option_with_what_it_is(command, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for each in declared(COMMANDS[command]).values():
        if not each.option.place:
            assert f" {each.dashed} " in shown.replace("]", " ") and " ".join(each.help().split()) in shown


def test_options_of_a_method_are_those_of_the_search():
    typed = read_arguments(["search", "digits", "--members=4", "--asynchronous", "--resample=0.5"])
    assert typed.method_options == {"members": 4, "asynchronous": True, "resample": 0.5}
    assert {each.name for each in declared(SearchOptions).values() if each.sheet == "method_options"} == {
        *domains(MethodOptions)
    }


def test_options_are_values_that_nothing_changes():
    options = read_arguments(["train", "digits"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.seed = 3


def test_what_is_at_its_default_is_not_recorded_and_null_leaves_it_there(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 0\nlr: null\nkeep-models: ~\nstrategies: [equal]\n")
    options = read_arguments(["compare", "digits", f"--config={tmp_path / 'c.yaml'}", "--tune=pbt", "--epochs=2"])
    assert options_of(options) == {"strategies": ["equal"], "tune": "pbt", "epochs": 2}
    assert options.keep_models == "best" and options.given >= {"lr", "keep_models", "seed"}


def test_every_option_of_an_engine_says_which_engines_take_it():
    assert {engine for engines in ENGINE_OPTIONS.values() for engine in engines} == {"ray", "tune"}
    assert {"address", "nodes", "shards", "gpus_per_shard", "scheduler", "searcher", "gpus_per_trial"} == {
        *ENGINE_OPTIONS
    }


def test_only_the_parser_knows_argparse():
    package = Path(__file__).parents[2] / "mtl"
    knows = [path for path in package.rglob("*.py") if "import argparse" in path.read_text()]
    assert [path.relative_to(package).as_posix() for path in knows] == ["cli/parser.py"]


def test_what_was_meant_is_said_by_one_function():
    package = Path(__file__).parents[2] / "mtl"
    says = [path for path in package.rglob("*.py") if "difflib" in path.read_text()]
    assert [path.relative_to(package).as_posix() for path in says] == ["suggestions.py"]
