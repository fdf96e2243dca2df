"""What installing brings: torch alone for the library, extras for the commands, types for a user's own checks."""

import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import mtl
from mtl.cli.main import main
from mtl.extras import DISTRIBUTION, EXTRAS, install, missing
from tests.bounds import requirements

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Packages whose names to install are not those to import.
IMPORTED = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}

#: Makes every package of the extras impossible to import, as where it is not installed; torch itself needs jinja2.
ABSENT = sorted({name for packages in EXTRAS.values() for name in packages} - {"jinja2"})
WITHOUT_EXTRAS = f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))\n"


def test_the_distribution_needs_torch_alone():
    assert PROJECT["name"] == DISTRIBUTION
    assert [re.match(r"[\w-]+", need)[0] for need in PROJECT["dependencies"]] == ["torch"]


def test_messages_name_the_packages_that_the_extras_bring():
    extras = PROJECT["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        needed = [re.match(r"[\w-]+", need)[0].lower() for need in extras[extra]]
        assert {IMPORTED.get(name, name) for name in needed if name != DISTRIBUTION} == set(packages), extra
    assert extras["all"] == [f"{DISTRIBUTION}[study,wandb,ray,data]"]


def test_the_training_loop_of_the_readme_runs_with_torch_alone():
    block = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS + block], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "tensor(" in done.stdout


@pytest.mark.parametrize("command", [["compare", "multidigits"], ["list", "strategies"]])
def test_a_command_whose_extra_is_absent_says_what_to_install(command):
    script = WITHOUT_EXTRAS + f"from mtl.cli.main import main; sys.exit(main({command}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]  # torch itself warns before that where there is no NumPy
    assert "is not installed; the extra 'study' brings it: pip install 'mtl-lab[study]'" in said


def test_an_import_that_no_extra_explains_is_not_taken_for_one(monkeypatch):
    def broken(_args):
        raise ModuleNotFoundError("No module named 'mine'", name="mine")

    monkeypatch.setattr("mtl.cli.showing.list", broken)
    with pytest.raises(ModuleNotFoundError, match="mine"):
        main(["list", "strategies"])
    assert missing(ModuleNotFoundError("x", name="optuna.samplers")) == (
        "'optuna' is not installed; the extra 'study' brings it: " + install("study")
    )


def test_no_message_offers_the_name_that_belongs_to_another_project():
    for path in [*ROOT.glob("mtl/**/*.py"), *ROOT.glob("docs/*.md"), *ROOT.glob("slurm/*"), ROOT / "README.md"]:
        assert not re.search(r"pip install '?mtl\b(?!-lab)", path.read_text(encoding="utf-8")), path


@pytest.mark.slow
def test_a_users_script_passes_a_strict_type_check_against_the_wheel(tmp_path):
    wheel = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT]
    subprocess.run([sys.executable, "-m", "pip", *wheel], check=True, cwd=tmp_path)
    (built,) = tmp_path.glob("mtl_lab-*.whl")
    with zipfile.ZipFile(built) as archive:
        names = set(archive.namelist())
        assert "mtl/py.typed" in names
        sources = {str(path.relative_to(ROOT)) for path in (ROOT / "mtl").glob("**/*.py")}
        assert sources <= names and not any("peers/" in name for name in names)
        archive.extractall(tmp_path / "installed")
    block = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    script = tmp_path / "script.py"
    script.write_text(block + "\nreveal_type(balancer.weights)\nmtl.Balancer('equal', shared=3)\n", encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--no-incremental",
            "--config-file=",
            script,
        ],
        cwd=tmp_path,
        env={"MYPYPATH": str(tmp_path / "installed"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert 'note: Revealed type is "torch._tensor.Tensor"' in done.stdout, done.stdout
    assert len(errors) == 1 and 'has incompatible type "int"' in errors[0], done.stdout


def test_the_lowest_versions_that_are_tried_are_the_declared_ones():
    lowest = requirements("lowest")
    assert "torch==2.6" in lowest and "numpy==1.26" in lowest and all("==" in need for need in lowest)
    assert [need.partition("==")[0] for need in lowest] == requirements("newest")


def test_what_a_package_says_that_it_has_is_there():
    for module in pkgutil.walk_packages(mtl.__path__, "mtl."):
        if module.ispkg:
            found = importlib.import_module(module.name)
            assert not [name for name in getattr(found, "__all__", []) if not hasattr(found, name)], module.name
