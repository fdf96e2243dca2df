import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_imports_flow_down_the_floors():
    """The contracts stand in pyproject.toml; an arrow that runs back up fails here."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_importing_the_library_brings_torch_and_none_of_the_heavy_packages():
    script = (
        "import sys, mtl; heavy = {'sklearn', 'scipy', 'matplotlib', 'wandb', 'pandas', 'rich', 'ray', 'torchjd'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_tests_stand_in_folders_named_as_those_of_what_they_test():
    whole = {"docs", "experiments", "slurm", "oracles", "package"}  # of no folder of the library
    rooms = {path.name for path in (ROOT / "mtl").iterdir() if path.is_dir()} | whole
    modules = {path.stem for path in (ROOT / "mtl").glob("*.py")}
    tests = ROOT / "tests"
    assert {path.parent.name for path in tests.glob("*/test_*.py")} <= rooms
    assert {path.stem.removeprefix("test_") for path in tests.glob("test_*.py")} <= modules | {"names"}
