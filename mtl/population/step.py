"""One step of a population between its forward pass and the optimizer: measure, weigh and apply, as a balancer does.

The rules are the balancer's own (`mtl.step.weigh`, `mtl.step.guard`, `mtl.step.measure`); what the balancer decides for
one run, this decides for each member. A member whose losses, gradients or weights are not finite keeps its previous
weights and strategy state, while the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtl.population.held import HeldMembers
from mtl.population.mapped import mapped
from mtl.population.probe import RowProbe, task_gradients
from mtl.population.program import LossFunction
from mtl.population.strategies import substituted
from mtl.population.values import lookahead_lr
from mtl.step.draw import draws, sent
from mtl.step.guard import cleared, combination, finite_part, harmless_gramian, harmless_losses, of_tasks, sound_tasks
from mtl.step.measure import KEEPS_GRAPH, MEASURERS, NEEDS_GRADIENTS, measured, refuse_missing
from mtl.step.weigh import kept, scale_of, weighed

Flags = npt.NDArray[np.bool_]


class PopulationStep:
    """One step of N members with K tasks.

    Attributes:
        weights: (N, K) or (N, K, D), to apply; `state` the strategies' state after the step.
        gradient: (N, P), what `.grad` would hold.
        counts: numbers to add to the members' counts.
        finite: (N, K), which losses are; `whole` (N,), members all of whose losses are.
        reads_after: (N,), members whose strategy wants to know this batch's losses after the step.
    """

    gradient: Tensor

    def __init__(
        self,
        population: HeldMembers,
        forward: LossFunction,
        leaf: Tensor,
        losses: Sequence[Tensor],
        values: Tensor,
        closures: Mapping[str, Any],
    ) -> None:
        self.population, self.forward, self.strategy = population, forward, population.strategies[0]
        self.leaf, self.losses, self.values = leaf, losses, values
        self.closures = closures
        self.state, self.weights = population.state["strategy"], population.state["weights"]
        members, self.tasks = values.shape
        self.finite = values.isfinite()
        self.whole: Flags = np.ones(members, bool)
        if not bool(self.finite.all()):
            self.whole = self.finite.all(1).cpu().numpy()
        zeros = np.zeros(members, np.int64)
        self.counts: dict[str, Any] = {"steps": 1, "forward": 1, "backward": zeros, "updates": zeros}
        # Of members whose strategies were updated unlike often, some may measure in a step in which others do not.
        self._updates = population.counts["updates"]
        self._needs = {number: self.strategy.needs_at(number) for number in set(self._updates[self.whole].tolist())}
        self.needs = frozenset().union(*self._needs.values())
        self.reads_after: Flags = self._reading({"after"})
        self._by_gradients: Flags = self._reading(NEEDS_GRADIENTS) | self.strategy.elementwise

    def run(self) -> None:
        """Measure, weigh and apply."""
        refuse_missing(self.strategy, self.needs, self.closures, "step(batch")
        if self._by_gradients.any():
            self._from_gradients()
            return
        self._weigh(self._measure_others(self._at_hand(), None, self.whole), self.whole)
        if self.whole.all():
            self._by_backward()
        else:
            rows = task_gradients(self.losses, self.leaf)
            self.gradient = self._combined(self._guarded(rows, self.finite, self.whole))
        self._count("backward", self._one_each())

    def _reading(self, signals: Collection[str]) -> Flags:
        """(N,) the members that are whole and read one of these signals in this step."""
        numbers = [number for number, needs in self._needs.items() if not needs.isdisjoint(signals)]
        return self.whole if len(numbers) == len(self._needs) else self.whole & np.isin(self._updates, numbers)

    def _count(self, name: str, number: Any) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    def _present(self) -> npt.NDArray[np.int64]:
        """(N,) the number of tasks that a member has."""
        present: npt.NDArray[np.int64] = self.finite.sum(1).cpu().numpy()
        return present

    def _one_each(self) -> npt.NDArray[np.int64]:
        """(N,) the backward passes of members whose weights are applied in one, if all their tasks are there."""
        return np.where(self.whole, 1, self._present())

    def _on_device(self, flags: Flags) -> Tensor:
        return torch.from_numpy(flags).to(self.values.device)

    # --- measure ---------------------------------------------------------------------------------------------------

    def _at_hand(self) -> dict[str, Tensor]:
        """The signals that take no pass; members draw the random numbers that they read, and none if not whole."""
        population, like = self.population, self.values
        signals = {"losses": like if self.whole.all() else harmless_losses(like)}
        if self.needs & {"noise", "dither"}:
            each = [self._drawn(member) for member in range(len(self.whole))]
            signals |= {name: sent(torch.stack([drawn[name] for drawn in each]), like) for name in each[0]}
        if "epoch" in self.needs:
            epochs = torch.from_numpy(population.counts["steps"] // population.steps_per_epoch)
            signals["epoch"] = epochs.to(like.device)
        if "after" in self.needs:
            signals["after"] = torch.where(population.state["seen"][:, None], population.state["after"], like)
        return signals

    def _drawn(self, member: int) -> dict[str, Tensor]:
        """The random numbers of a member; zeros for those that others read alone."""
        size = self.tasks, self.population.program.dimension
        own = self._needs[int(self._updates[member])] if self.whole[member] else frozenset()
        return draws(self.needs - own, *size, None) | draws(own, *size, self.population.noise[member] if own else None)

    def _measure_others(self, signals: dict[str, Tensor], gradients: Tensor | None, who: Flags) -> dict[str, Tensor]:
        """The signals and those that `MEASURERS` measure, of the members in `who` that read them."""
        for name in MEASURERS:
            if name in self.needs:
                signals = signals | {name: self._measured(name, signals, gradients, who & self._reading({name}))}
        return signals

    def _measured(self, name: str, signals: dict[str, Tensor], gradients: Tensor | None, who: Flags) -> Tensor:
        """One of the signals that `MEASURERS` measure, of the members in `who`."""
        population = self.population

        def current(strategy: Any, state: Any, own: dict[str, Tensor]) -> Tensor:
            return scale_of(population.scale)(strategy.current(state, own))

        def read(closure: str, at: Tensor) -> Sequence[Tensor]:
            masks = population.masks(who.tolist())
            losses, _ = population.program.losses(
                self.forward, at, population.state["fixed"], self.closures[closure](), masks
            )
            self._count("forward", who)
            return losses

        def count(number: Any) -> None:
            self._count("backward", (number.cpu().numpy() if isinstance(number, Tensor) else number) * who)

        probe = RowProbe(
            self.leaf,
            population.program.dimension,
            self.losses,
            self.values[:, :, None] if gradients is None else gradients,
            lambda: self._mapped(current, self.population.state["strategy"], signals),
            read,
            self._options(),
            lookahead_lr(population.values, population.program.shared_tensors),
            count,
        )
        found, broken = measured(probe, name, self.values)
        self.counts["nonfinite_signal"] = self.counts.get("nonfinite_signal", False) | (broken.cpu().numpy() & who)
        return found

    def _options(self) -> dict[str, Any]:
        """`Strategy.measuring`, (N, 1) where members differ."""
        each = [strategy.measuring for strategy in self.population.strategies]
        like = self.leaf
        return {
            name: value
            if all(other[name] == value for other in each)
            else torch.tensor([other[name] for other in each], dtype=like.dtype, device=like.device)[:, None]
            for name, value in each[0].items()
        }

    # --- weigh -----------------------------------------------------------------------------------------------------

    def _mapped(self, function: Callable[..., Any], *trees: Any) -> Any:
        """`function(strategy, *trees)` of every member; the trees' tensors have a leading member axis."""
        template = self.strategy

        def one(different: dict[str, Tensor], *own: Any) -> Any:
            return function(substituted(template, different), *own)

        with torch.no_grad():
            return mapped(one, len(self.values))(self.population.different, *trees)

    def _weigh(self, signals: dict[str, Tensor], who: Flags) -> Flags:
        """New weights and state of the members in `who`; where they are not finite, and of the others, the previous.

        Returns:
            The members whose strategy was updated.
        """
        if not who.any():
            return who
        scale = scale_of(self.population.scale)

        def weigh(strategy: Any, state: Any, held: Tensor, own: dict[str, Tensor]) -> tuple[Tensor, Any, Tensor]:
            return weighed(strategy, state, held, own, None, scale)

        weights, state, good = self._mapped(weigh, self.state, self.weights, signals)
        if not (who.all() and bool(good.all())):
            sound: Flags = good.cpu().numpy()
            self.counts["nonfinite_weights"] = who & ~sound
            who = who & sound
            weights, state = kept(self._on_device(who), (weights, state), (self.weights, self.state))
        self.weights, self.state = weights, state
        self.counts["updates"] = who.astype(np.int64)
        return who

    # --- apply -----------------------------------------------------------------------------------------------------

    def _by_backward(self) -> None:
        losses = torch.stack(list(self.losses), 1)
        weighted = (losses * self.weights.to(losses.dtype)).sum()
        own = self.population.head_weighting == "own"
        (gradient,) = torch.autograd.grad(weighted, self.leaf, retain_graph=own)
        if own:
            (plain,) = torch.autograd.grad(losses.sum(), self.leaf)
            split = self.population.program.dimension
            gradient = torch.cat([gradient[:, :split], plain[:, split:]], 1)
        self.gradient = gradient

    def _from_gradients(self) -> None:
        dimension, strategy = self.population.program.dimension, self.strategy
        rows = task_gradients(self.losses, self.leaf, retain_graph=bool(self.needs & KEEPS_GRAPH))
        self._count("backward", np.where(self._by_gradients, self._present(), self._one_each()))
        shared, who = rows[:, :, :dimension], self.whole
        gramian = shared @ shared.mT if "gramian" in self.needs else None
        squares = gramian.diagonal(dim1=1, dim2=2) if gramian is not None else shared.square().sum(2)
        sound = sound_tasks(squares) & self.finite
        clean = bool(sound.all())
        lost: Flags = np.zeros(len(who), bool)
        if not clean:
            lost = (self.finite & ~sound).any(1).cpu().numpy() & self._by_gradients
            self.counts["nonfinite_gradient"] = lost
            who = who & ~lost
        signals = self._at_hand()  # a step draws its random numbers whatever comes of it
        if self.needs and who.any():
            signals["jacobian"] = shared if clean else of_tasks(shared, sound)
            if gramian is not None:
                signals["gramian"] = gramian if clean else harmless_gramian(gramian, sound)
            updated = self._weigh(self._measure_others(signals, rows, who), who)
            if strategy.tracking:
                tracked = self._mapped(lambda one, state, own: one.gradients(state, own), self.state, shared)
                chosen = tracked if updated.all() else kept(self._on_device(updated), tracked, shared)
                rows = torch.cat([chosen, rows[:, :, dimension:]], 2)
        if not clean:
            looked_at = kept(self._on_device(self._by_gradients), sound, self.finite)
            rows = self._guarded(rows, looked_at, self.whole | strategy.elementwise)
        gradient = self._combined(rows)
        self.gradient = kept(self._on_device(lost), cleared(gradient), gradient) if lost.any() else gradient

    def _guarded(self, rows: Tensor, sound: Tensor, by_task: Flags) -> Tensor:
        """Gradients without what is not finite, and without those of tasks whose loss is not.

        Args:
            rows: (N, K, P).
            sound: (N, K), whose gradients are finite.
            by_task: (N,) members that lose a task as a whole; the others lose single numbers, which is counted.
        """
        whole_tasks = self._on_device(by_task)
        entries, known = finite_part(rows)
        if not by_task.all():
            lost = (~known & self.finite[:, :, None]).flatten(1).any(1).cpu().numpy()
            self._count("nonfinite_gradient", lost & ~by_task)
        return of_tasks(kept(whole_tasks, rows, entries), kept(whole_tasks, sound, self.finite))

    def _combined(self, rows: Tensor) -> Tensor:
        """The gradient (N, P) from task gradients (N, K, P) and the weights."""
        split, weights = self.population.program.dimension, self.weights.to(rows.dtype)
        shared, heads = rows[:, :, :split], rows[:, :, split:]
        own = self.strategy.elementwise or self.population.head_weighting == "own"
        on_heads = heads.sum(1) if own else combination(weights, heads)
        return torch.cat([combination(weights, shared), on_heads], 1).to(self.leaf.dtype)

    def stepped(self) -> Tensor | None:
        """The parameter tensors (N, T) that got a gradient, None when all did."""
        reach, shared = self.population.reach, self.population.program.shared_tensors
        if self.whole.all() and bool(reach.any(0)[shared if self._by_gradients.all() else 0 :].all()):
            return None
        reached = (self.finite.to(torch.float64) @ reach.to(torch.float64)) > 0
        # A Jacobian has zeros where a task does not reach, and they count.
        reached[:, :shared] |= (self._on_device(self._by_gradients) & self.finite.any(1))[:, None]
        return reached
