"""One step of a population between its forward pass and the optimizer: the three parts of `mtl.Balancer.backward`.

What the balancer decides for one run, this decides for each member: a member whose losses, gradients or weights are not
finite keeps its previous weights and strategy state, while the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import vmap
from torch.utils import _pytree as pytree

from mtl.population.measure import MEASURERS, Measurement, task_gradients
from mtl.population.program import Losses
from mtl.population.strategies import substituted
from mtl.step.measure import CLOSURES, KEEPS_GRAPH, NEEDS_GRADIENTS
from mtl.strategies.combinators.normalize import sum_to_k

if TYPE_CHECKING:
    from mtl.population.population import Population

Flags = npt.NDArray[np.bool_]


class Step:
    """One step of N members with K tasks.

    Attributes:
        weights: (N, K) or (N, K, D), to apply; `state` the strategies' state after the step.
        gradient: (N, P), what `.grad` would hold.
        counts: numbers to add to the members' counts.
        whole: (N,), members all of whose losses are finite.
        reads_after: whether the strategy wants to know this batch's losses after the step.
    """

    gradient: Tensor

    def __init__(
        self,
        population: Population,
        forward: Losses,
        leaf: Tensor,
        losses: Sequence[Tensor],
        values: Tensor,
        closures: Mapping[str, Any],
    ) -> None:
        self.population, self.forward = population, forward
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
        self._by_rows = False
        strategy = population.strategies[0]
        updates = set(population.counts["updates"][self.whole].tolist())
        self.needs = frozenset().union(*(strategy.needs_at(number) for number in updates))
        self.reads_after = "after" in self.needs

    def run(self) -> None:
        """Measure, weigh and apply."""
        elementwise = self.population.strategies[0].elementwise
        self._check_closures()
        if self.needs & NEEDS_GRADIENTS or elementwise:
            self._by_rows = True
            self._by_jacobian()
        else:
            signals = self._cheap_signals()
            if self.needs & MEASURERS.keys():
                self._measure(signals, None, self.whole)
            self._weigh(signals, self.whole)
            if self.whole.all():
                self._by_backward()
            else:
                rows = task_gradients(self.losses, self.leaf)
                self.gradient = self._combined(rows, self._guarded(rows, self.whole), self.whole, elementwise=False)
            self.counts["backward"] = self.counts["backward"] + np.where(self.whole, 1, self._present())

    def _check_closures(self) -> None:
        wanted = {name for signal in CLOSURES.keys() & self.needs for name in CLOSURES[signal]}
        missing = [name for name in sorted(wanted & self.closures.keys()) if self.closures[name] is None]
        if missing:
            strategy = self.population.strategies[0]
            raise ValueError(f"{strategy} reads further batches: call step(batch, {'=..., '.join(missing)}=...)")

    def _present(self) -> npt.NDArray[np.int64]:
        present: npt.NDArray[np.int64] = self.finite.sum(1).cpu().numpy()
        return present

    # --- measure ---------------------------------------------------------------------------------------------------

    def _cheap_signals(self) -> dict[str, Tensor]:
        population, members, like = self.population, len(self.values), self.values
        signals = {"losses": self.values}
        if "noise" in self.needs:
            noise = torch.zeros(members, self.tasks, self.tasks, dtype=torch.float64)
        if "dither" in self.needs:
            dither = torch.zeros(members, population.program.dimension, dtype=torch.float32)
        if self.needs & {"noise", "dither"}:
            for member in np.flatnonzero(self.whole).tolist():
                generator = population.noise[member]
                if "noise" in self.needs:
                    noise[member].normal_(generator=generator)
                if "dither" in self.needs:
                    dither[member].uniform_(generator=generator)
        if "noise" in self.needs:
            signals["noise"] = noise.to(like)
        if "dither" in self.needs:
            signals["dither"] = dither.to(like)
        if "epoch" in self.needs:
            epochs = torch.from_numpy(population.counts["steps"] // population.steps_per_epoch)
            signals["epoch"] = epochs.to(like.device)
        if "after" in self.needs:
            signals["after"] = torch.where(population.state["seen"][:, None], population.state["after"], like)
        return signals

    def _measure(self, signals: dict[str, Tensor], gradients: Tensor | None, who: Flags) -> None:
        population = self.population

        def current() -> Tensor:
            weights: Tensor = self._mapped(
                lambda strategy, state, own: self._on_scale(strategy.current(state, own)), signals
            )
            return weights

        def read(closure: str, at: Tensor) -> Sequence[Tensor]:
            masks = population.masks(who.tolist())
            losses, _ = population.program.losses(
                self.forward, at, population.state["fixed"], self.closures[closure](), masks
            )
            self.counts["forward"] = self.counts["forward"] + who
            return losses

        def count(number: Any) -> None:
            number = number.cpu().numpy() if isinstance(number, Tensor) else number
            self.counts["backward"] = self.counts["backward"] + number * who

        options: dict[str, Any] = {"lookahead_lr": population.values["lr"]}
        options |= self._options()
        empty = self.values[:, :, None]
        step = Measurement(
            self.leaf,
            population.program.dimension,
            self.losses,
            empty if gradients is None else gradients,
            current,
            read,
            options,
            count,
        )
        for name, measure in MEASURERS.items():
            if name in self.needs:
                measured = measure(step)
                signals[name] = torch.where(measured.isfinite(), measured, 0).to(self.values.dtype).detach()

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

    def _mapped(self, function: Callable[..., Any], signals: Mapping[str, Tensor]) -> Any:
        """`function(strategy, state, signals)` of every member."""
        template = self.population.strategies[0]

        def one(state: Any, own: dict[str, Tensor], different: dict[str, Tensor]) -> Any:
            return function(substituted(template, different), state, own)

        with torch.no_grad():
            return vmap(one)(self.population.state["strategy"], dict(signals), self.population.different)

    def _on_scale(self, weights: Tensor) -> Tensor:
        return sum_to_k(weights) if self.population.scale == "sum_to_k" else weights

    def _weigh(self, signals: Mapping[str, Tensor], who: Flags) -> Flags:
        """New weights and state of the members in `who`; where they are not finite, and of the others, the previous.

        Returns:
            The members whose strategy was updated.
        """
        if not who.any():
            return who

        def weigh(strategy: Any, state: Any, own: dict[str, Tensor]) -> tuple[Tensor, Tensor, Any]:
            weights, state = strategy(state, own)
            return weights.isfinite().all(), self._on_scale(weights), state

        good, weights, state = self._mapped(weigh, signals)
        if not (who.all() and bool(good.all())):
            sound: Flags = good.cpu().numpy()
            self.counts["nonfinite_weights"] = who & ~sound
            who = who & sound
            keep = torch.from_numpy(who).to(weights.device)
            weights = _where(keep, weights, self.weights)
            state = pytree.tree_map(lambda new, old: _where(keep, new, old), state, self.state)
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

    def _by_jacobian(self) -> None:
        dimension, strategy = self.population.program.dimension, self.population.strategies[0]
        rows = task_gradients(self.losses, self.leaf, retain_graph=bool(self.needs & KEEPS_GRAPH))
        self.counts["backward"] = self.counts["backward"] + self._present()
        signals = self._cheap_signals()
        shared = rows[:, :, :dimension]
        raw, who = rows, self.whole
        clean = bool(who.all()) and bool(rows.sum().isfinite())
        if not clean:
            fine: Flags = (shared.isfinite().all(2) | ~self.finite).all(1).cpu().numpy()
            usable = self._present() > 0
            self.counts["nonfinite_gradient"] = ~fine & usable & (self.whole | strategy.elementwise)
            who = who & fine
        if self.needs and who.any():
            signals["jacobian"] = shared
            if "gramian" in self.needs:
                signals["gramian"] = shared @ shared.mT
            if self.needs & MEASURERS.keys():
                self._measure(signals, rows, who)
            updated = self._weigh(signals, who)
            if strategy.tracking:
                tracked = self._tracked(shared)
                chosen = (
                    tracked if updated.all() else _where(torch.from_numpy(updated).to(rows.device), tracked, shared)
                )
                rows = torch.cat([chosen, rows[:, :, dimension:]], 2)
        if not clean:
            rows = self._guarded(rows, self.whole | strategy.elementwise)
        self.gradient = self._combined(raw, rows, self.whole, elementwise=strategy.elementwise)

    def _tracked(self, shared: Tensor) -> Tensor:
        template = self.population.strategies[0]

        def one(state: Any, rows: Tensor, different: dict[str, Tensor]) -> Tensor:
            kept: Tensor = substituted(template, different).gradients(state, rows)
            return kept

        tracked: Tensor = vmap(one)(self.state, shared, self.population.different)
        return tracked

    def _guarded(self, rows: Tensor, whole_rows: Flags) -> Tensor:
        """Gradients without what is not finite: a task's whole shared row, or in broken steps single entries.

        Rows of tasks whose loss is not finite count as absent.
        """
        split = self.population.program.dimension
        present = self.finite[:, :, None]
        by_row = torch.from_numpy(whole_rows).to(rows.device)[:, None, None]
        shared, heads = rows[:, :, :split], rows[:, :, split:]
        sound = torch.where(by_row, shared.isfinite().all(2, keepdim=True), shared.isfinite())
        kept = torch.where(present & sound, shared, 0)
        entries = torch.where(present & (by_row | heads.isfinite()), heads, 0)
        if not self._by_rows:
            whole = torch.from_numpy(self.whole).to(rows.device)[:, None, None]
            return torch.where(whole, rows, torch.cat([kept, entries], 2))
        return torch.cat([kept, entries], 2)

    def _combined(self, raw: Tensor, rows: Tensor, whole: Flags, *, elementwise: bool) -> Tensor:
        """The gradient (N, P) from task gradients (N, K, P) and the weights."""
        split = self.population.program.dimension
        if not whole.all() and not elementwise:
            broken = torch.from_numpy(~whole).to(rows.device)[:, None, None]
            lost = (~raw.isfinite() & self.finite[:, :, None] & broken).flatten(1).any(1).cpu().numpy()
            self.counts["nonfinite_gradient"] = self.counts.get("nonfinite_gradient", 0) + lost
        shared, heads = rows[:, :, :split], rows[:, :, split:]
        weights = self.weights.to(rows.dtype)
        combined = (weights * shared).sum(1) if elementwise else (weights[:, None] @ shared)[:, 0]
        if elementwise or self.population.head_weighting == "own":
            on_heads = heads.sum(1)
        else:
            on_heads = (weights[:, None] @ heads)[:, 0]
        return torch.cat([combined, on_heads], 1).to(self.leaf.dtype)

    def stepped(self) -> Tensor | None:
        """The parameter tensors (N, T) that got a gradient, None when all did."""
        reach, shared = self.population.reach, self.population.program.shared_tensors
        if self.whole.all() and bool(reach.any(0)[shared if self._by_rows else 0 :].all()):
            return None
        reached = (self.finite.to(torch.float64) @ reach.to(torch.float64)) > 0
        if self._by_rows:  # a Jacobian has zeros where a task does not reach, and they count
            lenient = torch.from_numpy(self.whole | self.population.strategies[0].elementwise).to(reached.device)
            reached[:, :shared] |= (lenient & self.finite.any(1))[:, None]
        return reached


def _where(members: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(members.view(-1, *[1] * (new.ndim - 1)), new, old)
