"""Members of populations: some of one by themselves, those of several together, one in the place of another.

These are the moves of a search. Whatever a member owns (`Population.state`, `counts`, `values`, its random numbers, its
strategy) moves here and nowhere else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mtl.population.held import HeldMembers
from mtl.population.program import Program, concatenated, members_of
from mtl.population.streams import Streams
from mtl.population.values import in_one

_Population = TypeVar("_Population", bound=HeldMembers)

#: Steps by what was wrong in them, as in `Balancer.skipped`.
KINDS = ("nonfinite_loss", "absent_task", "nonfinite_weights", "nonfinite_gradient", "nonfinite_signal")


def drawn(
    make_model: Callable[[], nn.Module],
    shared: Callable[[nn.Module], Iterable[Tensor]],
    seeds: Sequence[int],
    device: torch.device,
) -> tuple[Program, Tensor, dict[str, Tensor], list[Tensor]]:
    """New members, each drawn from its seed; torch's own random numbers stay as they were.

    Args:
        make_model: a new model.
        shared: its shared parameters.
        seeds: one a member.
        device: where to train.

    Returns:
        The program of the first model; parameters (N, P); buffers and frozen parameters by name, (N, ...) each; and the
        state of each member's random numbers after its model was made.

    Raises:
        ValueError: there is no member, or models differ in structure.
    """
    if not len(seeds):
        raise ValueError("seeds is empty: a population has at least one member")
    program: Program | None = None
    rows, fixed, states = [], [], []
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for seed in seeds:
            torch.manual_seed(seed)
            model = make_model().to(device)
            program = program or Program(model, shared)
            row, held = program.row(model)
            rows.append(row)
            fixed.append(held)
            states.append(torch.get_rng_state())
    assert program is not None
    stacked = {name: torch.stack([held[name] for held in fixed]) for name in program.fixed}
    return program, torch.stack(rows), stacked, states


def selected(population: _Population, rows: Sequence[int]) -> _Population:
    """A population of the members at `rows`, in that order; it shares nothing with the one given."""
    index = torch.tensor(list(rows), dtype=torch.int64, device=population.device)
    chosen = copy.copy(population)
    chosen.size = len(rows)
    chosen.state = members_of(population.state, index)
    chosen.counts = {name: number[list(rows)] for name, number in population.counts.items()}
    chosen.values = {name: value[index] for name, value in population.values.items()}
    chosen.noise, chosen.random = population.noise.select(rows), population.random.select(rows)
    chosen.dropout = None if population.dropout is None else [population.dropout[row] for row in rows]
    chosen.set_values()
    chosen.set_strategies([population.strategies[row] for row in rows])
    return chosen


def joined(populations: Sequence[_Population]) -> _Population:
    """One population of the members of several, which must be of one structure and have begun."""
    for population in populations:
        population.read_after()
    made = copy.copy(populations[0])
    made.size = sum(population.size for population in populations)
    made.state = concatenated([population.state for population in populations])
    made.counts = {
        name: np.concatenate([population.counts[name] for population in populations]) for name in made.counts
    }
    made.values = {name: in_one([p.values[name] for p in populations]) for name in made.values}
    made.set_values()
    made.noise = Streams.joined([population.noise for population in populations])
    made.random = Streams.joined([population.random for population in populations])
    if made.dropout is not None:
        made.dropout = [rate for population in populations for rate in population.dropout or ()]
    inspected = next((population for population in populations if len(population.reach)), made)
    made.reach, made.dropouts = inspected.reach, inspected.dropouts
    made.even = all(population.even for population in populations)
    made.set_strategies([strategy for population in populations for strategy in population.strategies])
    return made


def copy_into(population: HeldMembers, target: int, source: HeldMembers, row: int) -> None:
    """Give member `target` the parameters, buffers, optimizer and strategy state of a member of one structure.

    Its own random numbers, hyperparameters and cost stay.
    """
    source.read_after()
    population.read_after()
    kept = {name: value for name, value in population.state.items() if name != "pending"}

    def place(old: Tensor, new: Tensor) -> None:
        old[target] = new[row]

    pytree.tree_map(place, kept, {name: source.state[name] for name in kept})
    for name in ("updates", *KINDS):
        population.counts[name][target] = source.counts[name][row]
    population.even = population.even and source.even


def adopt(population: HeldMembers, source: HeldMembers, *, optimizer: bool, strategy: bool) -> None:
    """Begin from the parameters and random numbers of a population of as many members, but other structure.

    Args:
        population: the one that begins.
        source: its models have the same parameters, in the same order.
        optimizer: take over the optimizer's state too.
        strategy: take over the strategies' state too.

    Raises:
        ValueError: the parameters do not fit.
    """
    if source.program.shapes != population.program.shapes:
        raise ValueError("a member cannot keep its parameters: the model of its new settings has others")
    source.read_after()
    state = population.state
    state["parameters"] = source.state["parameters"].clone()
    state["fixed"] = {
        name: value.clone() for name, value in zip(state["fixed"], source.state["fixed"].values(), strict=True)
    }
    taken = [("optimizer", optimizer), ("directions", "directions" in state and "directions" in source.state)]
    taken += [(name, strategy) for name in ("strategy", "weights", "after", "seen")]
    for name, wanted in taken:
        if wanted:
            state[name] = pytree.tree_map(torch.clone, source.state[name])
    fresh = () if strategy else ("updates",)
    population.counts |= {name: number.copy() for name, number in source.counts.items() if name not in fresh}
    population.noise, population.random = source.noise, source.random
    population.even = population.even and (source.even or not optimizer)
