"""Physical constants of organic molecules, most of them measured for some of the molecules only."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Benchmark, Split, Splits, Task
from mtl.benchmarks.packaged import package_file
from mtl.benchmarks.shuffled import shuffled_parts, standardised
from mtl.losses import make_loss
from mtl.metrics import mae, r2

#: By task, the file of the package and its column.
_SOURCES = {
    "melting": ("Phase Change/OpenNotebook Melting Points.tsv", "Tm"),
    "boiling": ("Phase Change/Yaws Boiling Points.tsv", "Tb"),
    "critical_temperature": ("Critical Properties/Yaws Collection.tsv", "Tc"),
    "critical_pressure": ("Critical Properties/Yaws Collection.tsv", "Pc"),
    "critical_volume": ("Critical Properties/Yaws Collection.tsv", "Vc"),
    "acentric": ("Critical Properties/Yaws Collection.tsv", "omega"),
    "formation": ("Reactions/Yaws Hf S0 (g).tsv", "Hfg"),
}
_LOGARITHMS = ("critical_pressure", "critical_volume")  # positive, and spread over several powers of ten
_IDENTIFIERS = tuple(f"Identifiers/chemical identifiers pubchem {size}.tsv" for size in ("large", "small"))
_ELEMENTS = ("C", "H", "N", "O", "F", "P", "S", "Cl", "Br", "I", "Si", "B", "Na", "K")
_TOKEN = re.compile(r"\[[^\]]*\]|Cl|Br|[A-Za-z]|[=#()/\\+-]|%\d\d|\d|\.|@")
_TOKENS = ("c", "n", "o", "s", "=", "#", "(", "1", "2", "3", "4", "5", ".", "/", "[NH+]", "[O-]", "[N+]", "[C@H]")
_FARTHEST = 8.0  # standard deviations of an input; rare symbols would be at fifty
_ATOM = re.compile(r"([A-Z][a-z]?)(\d*)")


class Chemicals(Benchmark):
    """Seven regressions for 19,000 molecules: melting and boiling point, critical temperature, pressure and volume,
    acentric factor, enthalpy of formation. Nearly two thirds of the labels are missing.

    Inputs are counts of elements in the formula and of symbols in the SMILES string, as logarithms, and the molar mass.
    Constants are from one collection each, and estimated ones are left out. The molecules are split 70/15/15 at
    random, once and for all. Inputs and targets are standardised by the training split, so errors are in standard
    deviations; critical pressure and volume enter as logarithms.
    """

    name: ClassVar[str] = "chemicals"
    trunk = "mlp:width=256"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 30, "batch_size": 256, "lr": 1e-3}
    install: ClassVar[str] = "pip install --no-deps chemicals==1.5.2"
    tasks = tuple(Task(name, make_loss("huber"), (mae, r2)) for name in _SOURCES)

    def files(self) -> Sequence[Path]:
        """Those of each task in turn, then those of identifiers."""
        paths = [*(path for path, _ in _SOURCES.values()), *_IDENTIFIERS]
        return [package_file(self.name, self.install, "chemicals", *path.split("/")) for path in paths]

    def load(self) -> Splits:
        files = self.files()
        columns = zip(files, _SOURCES.items(), strict=False)
        constants = {name: _column(path, column) for path, (name, (_, column)) in columns}
        known = set().union(*constants.values())
        molecules = {}
        for path in files[len(_SOURCES) :]:
            for number, formula, mass, smiles in _identifiers(path):
                if number in known:
                    molecules[number] = _features(formula, mass, smiles)
        numbers = sorted(molecules)
        inputs = torch.tensor([molecules[number] for number in numbers])
        targets = torch.stack([_labels(values, numbers, name in _LOGARITHMS) for name, values in constants.items()], 1)
        parts = shuffled_parts(len(numbers), 0.7, 0.15)
        inputs, targets = (
            standardised(inputs, parts[0]).clamp(-_FARTHEST, _FARTHEST).float(),
            standardised(targets, parts[0]).float(),
        )
        return Splits(
            *(Split(inputs[part], {name: targets[part, k] for k, name in enumerate(_SOURCES)}) for part in parts)
        )


def _rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _column(path: Path, column: str) -> dict[str, float]:
    """The numbers of one column by the molecule's CAS number."""
    head, *rows = _rows(path)
    place = head.index(column)
    return {row[0]: float(row[place]) for row in rows if len(row) > place and row[place]}


def _identifiers(path: Path) -> list[tuple[str, str, float, str]]:
    """CAS number, formula, molar mass and SMILES of each molecule."""
    return [(row[1], row[2], float(row[3]), row[4]) for row in _rows(path)]


def _features(formula: str, mass: float, smiles: str) -> list[float]:
    atoms: Counter[str] = Counter()
    for element, count in _ATOM.findall(formula):
        atoms[element] += int(count or 1)
    tokens = Counter(_TOKEN.findall(smiles))
    others = sum(count for element, count in atoms.items() if element not in _ELEMENTS)
    bracketed = sum(count for token, count in tokens.items() if token[0] == "[" and token not in _TOKENS)
    counts = [*(atoms[each] for each in _ELEMENTS), others, *(tokens[each] for each in _TOKENS), bracketed, len(smiles)]
    return [*(math.log1p(count) for count in counts), math.log(mass)]


def _labels(values: Mapping[str, float], numbers: list[str], logarithm: bool) -> Tensor:
    """(N,), NaN where there is none."""
    labels = torch.tensor([values.get(number, math.nan) for number in numbers], dtype=torch.float64)
    return labels.log10() if logarithm else labels
