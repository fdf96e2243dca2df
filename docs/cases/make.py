"""Makes the pages of docs/cases: runs the commands that stand in a page, and writes what came out into it.

    python docs/cases/make.py               all pages, about half an hour on one core
    python docs/cases/make.py outliers      one of them
    python docs/cases/make.py --write       from the kept results, without training anything

A page says what is wanted between `<!-- show: ... -->` and `<!-- end -->`; everything else in it is written by hand.
Numbers are kept in NAME.json beside it, so that pages can be written again, and checked, without training. Commands
go on with runs that are there (in runs/, not in version control), so that one that was stopped can be called again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from draw import draw
from show import shown

import mtl
from mtl.cli.main import main as command_line
from mtl.files.json_lines import read_lines
from mtl.files.yaml_files import read_values

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
#: What cuts a command to a few steps, for the tests.
SMALL = {
    "compare": {"--steps": "4", "--seeds": "2", "--budget": "2"},
    "search": {"--steps": "4", "--interval": "2"},
}
_BLOCK = re.compile(r"(<!-- show: (?P<what>[^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
_LISTS = re.compile(r"\[[-+.e\d,\snul]+\]")
_LOOP = re.compile(r"for (\w+) in (.+?); do")


def pages() -> list[str]:
    """The names of all cases."""
    return sorted(path.stem for path in HERE.glob("*.md") if path.stem != "README")


def commands(page: str) -> list[list[str]]:
    """The `mtl compare` and `mtl search` lines of the shell blocks of a page, loops unrolled."""
    text = "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).replace("\\\n", " ")
    for name, value in re.findall(r'^([A-Z]+)="?([^"\n]+)"?$', text, re.MULTILINE):
        text = text.replace(f"${name}", value)
    lines = text.splitlines()
    found = [shlex.split(line)[1:] for line in _unrolled(lines) if re.match(r"\s*mtl (compare|search) ", line)]
    for arguments in found:
        if "--out" not in arguments:
            raise ValueError(f"mtl {' '.join(arguments)}: the line has no --out")
    return found


def _unrolled(lines: Sequence[str]) -> Iterator[str]:
    """Lines of a shell without `for NAME in WORDS; do` ... `done`, which may be nested."""
    place = 0
    while place < len(lines):
        loop = _LOOP.match(lines[place].strip())
        if loop is None:
            yield lines[place]
            place += 1
            continue
        depth, end = 1, place
        while depth:
            end += 1
            word = lines[end].strip()
            depth += bool(_LOOP.match(word)) - (word == "done")
        for value in loop[2].split():
            name = re.compile(rf"\$({loop[1]}\b|{{{loop[1]}}})")
            yield from _unrolled([name.sub(value, line) for line in lines[place + 1 : end]])
        place = end + 1


def run(arguments: Sequence[str], runs: Path, small: bool) -> str:
    """Carry out one command and return the name of its directory."""
    arguments = list(arguments)
    place = arguments.index("--out")
    name = Path(arguments[place + 1]).name
    del arguments[place : place + 2]
    for option, value in SMALL[arguments[0]].items() if small else ():
        if option in arguments:
            del arguments[(place := arguments.index(option)) : place + 2]
        if option != "--budget" or "--tune" in arguments:
            arguments += [option, value]
    code = command_line([*arguments, "--out", str(runs / name), "--resume", "--quiet", "--wandb", "disabled"])
    if code:
        raise SystemExit(f"mtl {' '.join(arguments)} ended with {code}")
    return name


def collected(folder: Path) -> dict[str, Any]:
    """What is kept of one run: its tasks and the numbers of each of its records."""
    config = read_values(folder / "config.yaml")
    constant = (config.get("data") or {}).get("constant") or {}
    tasks = {}
    for task, facts in config["tasks"].items():
        about = {
            metric: {
                "higher_is_better": each["higher_is_better"],
                "perfect": float(each["computed"].rpartition("perfect ")[2]),
                "constant": constant.get(task, {}).get(metric),
            }
            for metric, each in facts["metrics"].items()
        }
        tasks[task] = {"primary": facts["primary"], "metrics": about}
    kept = ("strategy", "seed", "hyperparameters", "metrics", "validation", "selection", "status")
    records = [line.value for line in read_lines(folder / "results.jsonl").whole]
    finals = [record for record in records if record["phase"] == "final"]
    return {
        "reference": config.get("reference"),
        "objective": config.get("objective"),
        "tasks": tasks,
        "steps": sum(record["cost"]["steps"] for record in records),
        "searched": sum(record["phase"] == "search" for record in records),
        "runs": [{key: record[key] for key in kept} | _without(record) for record in finals or _best(records)],
        "curves": _curves(folder, finals),
    }


def _without(record: dict[str, Any]) -> dict[str, Any]:
    """The test metrics without each fold of the examples in turn, to six digits, where they were measured."""
    metrics = record.get("metrics_without")
    return {"without": _rounded(metrics)} if metrics else {}


def _rounded(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _rounded(each) for key, each in found.items()}
    return [None if each is None else float(f"{each:.6g}") for each in found]


def _best(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a search: its winner."""
    done = [record for record in records if record["status"] == "done"]
    return sorted(done, key=lambda record: -record["selection"])[:1]


def _curves(folder: Path, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each variant: steps, and the mean over seeds of the selection on validation data at them."""
    found: dict[str, dict[int, list[float]]] = {}
    for record in records:
        if record["status"] != "done" or not (record.get("history") and (folder / record["history"]).exists()):
            continue
        history = json.loads((folder / record["history"]).read_text(encoding="utf-8"))
        of = found.setdefault(record["strategy"], {})
        for step, value in zip(history["eval_step"], history["validation_selection"], strict=True):
            if value is not None:
                of.setdefault(step, []).append(value)
    return {
        variant: {"step": list(of), "selection": [round(sum(each) / len(each), 5) for each in of.values()]}
        for variant, of in found.items()
        if len(of) > 1
    }


def make(name: str, runs: Path, out: Path, *, small: bool = False) -> None:
    """Run the commands of a page, and write its numbers, pictures and text to `out`."""
    begun = time.perf_counter()
    page = (HERE / f"{name}.md").read_text(encoding="utf-8")
    os.chdir(ROOT)  # where a reader types the commands
    lines = commands(page)
    if small:
        lines = [line for line in lines if "--seed" not in line or line[line.index("--seed") + 1] == "0"]
    names = [run(arguments, runs, small) for arguments in lines]
    results = {
        "runs": {each: collected(runs / each) for each in names},
        "seconds": round(time.perf_counter() - begun),
        "versions": {"mtl": mtl.__version__, "torch": torch.__version__.partition("+")[0]},
    }
    out.mkdir(parents=True, exist_ok=True)
    text = _LISTS.sub(_in_a_line, json.dumps(results, indent=1)).replace(f"{ROOT}/", "")  # of losses in files
    (out / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    write(name, out)


def _in_a_line(numbers: re.Match[str]) -> str:
    """A list of numbers without line breaks."""
    return re.sub(r",\s+", ", ", re.sub(r"\[\s+|\s+\]", lambda end: end[0].strip(), numbers[0]))


def write(name: str, out: Path) -> None:
    """Write a page and its pictures from the kept numbers in `out`."""
    (out / f"{name}.md").write_text(written(name, out), encoding="utf-8")
    results = kept(name, out)
    for picture, words in pictures(name).items():
        draw(words, results, out / picture)


def kept(name: str, out: Path) -> Any:
    """The numbers of a case."""
    return json.loads((out / f"{name}.json").read_text(encoding="utf-8"))


def pictures(name: str) -> dict[str, list[str]]:
    """What each picture of a page shows, by its file: `![RUN METRIC](FILE)`."""
    page = (HERE / f"{name}.md").read_text(encoding="utf-8")
    return {file: shlex.split(words) for words, file in re.findall(r"!\[(.+?)\]\((.+?\.svg)\)", page)}


def written(name: str, out: Path) -> str:
    """The page with the numbers of `out` in it."""
    results = kept(name, out)
    page = (HERE / f"{name}.md").read_text(encoding="utf-8")

    def filled(block: re.Match[str]) -> str:
        return f"{block[1]}\n{shown(shlex.split(block['what']), results)}\n\n{block[3]}"

    return _BLOCK.sub(filled, page)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(pages())}; default: all")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "cases", help="where runs go")
    parser.add_argument("--write", action="store_true", help="write pages from kept numbers alone")
    options = parser.parse_args()
    if unknown := set(options.names) - set(pages()):
        sys.exit(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(pages())}")
    for name in options.names or pages():
        if options.write:
            write(name, HERE)
        else:
            make(name, options.runs.resolve(), HERE)


if __name__ == "__main__":
    main()
