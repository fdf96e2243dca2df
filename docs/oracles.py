"""Every strategy against its independent oracle: `python docs/oracles.py` writes docs/oracles.md.

For K = 2 to 40 tasks and each kind of gradients that a method is defined on (dependent, duplicated, opposed, missing,
scaled from 1e-8 to 1e8), the largest relative difference over the steps of a run, in float64.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the oracles are part of the tests, which are not installed

from mtl.strategies import REGISTRY  # noqa: E402
from tests.oracles import ORACLES, deviation  # noqa: E402
from tests.oracles.base import HARD, SCALED, SINGULAR, WELL  # noqa: E402

SIZES = (2, 3, 5, 10, 20, 40)
SEEDS = (0, 1)
BAR = 1e-5
HEAD = """# Strategies and their oracles

Made by `python docs/oracles.py`. The deviation is the largest relative difference between a strategy and a second
computation of its definition, in float64, over runs of several steps with K = 2, 3, 5, 10, 20 and 40 tasks and two
seeds. Where several weights give the same update, updates are compared; where the definition is an equation or an
optimum, it is by how much the conditions are missed. Kinds of gradients:

* *well*: random, aligned, conflicting, norms that differ 100-fold;
* *singular*: half rank, rank one, duplicated, identical, opposed, a row of zeros;
* *scaled*: norms from 1e-8 to 1e8, one gradient 1e4 times the others.

A method is tested on the kinds that its definition covers: opposed gradients, for one, have no Nash bargaining
solution. On all others its weights are finite, which `tests/strategies/test_conformance.py` checks.

| strategy | oracle | gradients | deviation | largest at |
| --- | --- | --- | --- | --- |
"""


def row(name: str) -> tuple[str, float]:
    """A line of the table and its deviation."""
    oracle = ORACLES[name]
    found = {
        (case, tasks): max(deviation(name, case, tasks, seed) for seed in SEEDS)
        for case in oracle.cases
        for tasks in SIZES
    }
    (case, tasks), worst = max(found.items(), key=lambda item: item[1])
    where = f"{case.replace('_', ' ')}, K = {tasks}" if worst > 1e-12 else ""
    size = f"{worst:.0e}" if worst else "0"
    return f"| {name} | {oracle.how} | {kinds(oracle.cases)} | {size} | {where} |", worst


def kinds(cases: tuple[str, ...]) -> str:
    """The kinds of gradients in few words."""
    if cases == ("random",):
        return "not read"
    if set(HARD) <= set(cases):
        return "all"
    words = []
    for kind, members in (("well", WELL), ("singular", SINGULAR), ("scaled", SCALED)):
        inside = [case for case in members if case in cases]
        words += [kind] if len(inside) == len(members) else [case.replace("_", " ") for case in inside]
    return ", ".join(words)


def main() -> None:
    torch.set_num_threads(1)
    rows = {name: row(name) for name in REGISTRY}
    lines = [line for line, _ in rows.values()]
    over = [name for name, (_, worst) in rows.items() if not worst <= BAR]
    foot = f"\n{len(rows)} strategies, largest deviation {max(worst for _, worst in rows.values()):.0e}.\n"
    (ROOT / "docs" / "oracles.md").write_text(HEAD + "\n".join(lines) + "\n" + foot, encoding="utf-8")
    if over:
        sys.exit(f"above {BAR:g}: {', '.join(over)}")


if __name__ == "__main__":
    main()
