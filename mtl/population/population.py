"""N members of one model trained together: measure, weigh and apply as `mtl.Balancer` does, N times in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils import _pytree as pytree

from mtl.population import members
from mtl.population.compiled import CompiledForward
from mtl.population.dropout import Call, Rates, draw
from mtl.population.members import KINDS
from mtl.population.optimizers import make_optimizer
from mtl.population.program import LossFunction, members_of
from mtl.population.regularizer import Regularizer
from mtl.population.step import PopulationStep
from mtl.population.strategies import differing, structure, substituted
from mtl.population.streams import Streams
from mtl.population.values import OTHERS, applied, rows
from mtl.step.autocast import Autocast
from mtl.step.tally import DomainWatch
from mtl.strategies import make
from mtl.strategies.strategy import SIGNALS, Strategy


def _shared(model: nn.Module) -> Iterable[Tensor]:
    return model.shared_parameters()  # type: ignore[operator, no-any-return]


class Population:
    """N members of one model, each with its own parameters, seed, strategy state and continuous hyperparameters.

        population = Population(make_model, losses, "gradnorm", seeds=range(64), optimizer="adam", lr=rates)
        for batch in batches:  # tensors with a leading member axis, (64, 32, 20) for batches of 32
            population.step(batch)
        population.state_dict_of(3)  # of the third member's model, for `load_state_dict`

    Member i is the run that `torch.manual_seed(seeds[i])`, `make_model()`, `mtl.Balancer(..., seed=seeds[i])` and the
    optimizer of the same name in `torch.optim` make, to rounding; dropout included where both run on the CPU. A step
    inside `torch.autocast` runs the forward passes under it, and nothing else.

    Args:
        make_model: a new model, its parameters drawn from torch's global generator.
        losses: from a model and a batch to its losses, (K,) or by task. Runs under `vmap`: no branch on values.
        strategies: one for all members or one each, of one structure: only continuous hyperparameters may differ.
        seeds: one a member: of its parameters, its dropout and its strategy's noise.
        shared: the parameters of a model that all tasks share; by default its `shared_parameters()`.
        optimizer: name of the optimizer.
        head_weighting, scale, steps_per_epoch: as of `mtl.Balancer`.
        dropout: rates in place of the model's own, one a member; or by their kind, see `mtl.population.dropout.Rate`.
        device: where to train.
        settings: of the optimizer and those of `set_values`: one number or one a member.

    Raises:
        ValueError: members of unlike structure, or a setting that does not exist.
    """

    def __init__(
        self,
        make_model: Callable[[], nn.Module],
        losses: LossFunction,
        strategies: str | Strategy | Sequence[str | Strategy],
        seeds: Sequence[int],
        *,
        shared: Callable[[nn.Module], Iterable[Tensor]] = _shared,
        optimizer: str = "adam",
        head_weighting: str = "weighted",
        scale: str = "sum_to_k",
        steps_per_epoch: int = 100,
        dropout: Sequence[float | Rates] | None = None,
        device: torch.device | str = "cpu",
        **settings: Any,
    ) -> None:
        self.device, self.losses = torch.device(device), losses
        #: The losses under the autocast of the last step, which is to be that of its second reading too.
        self._forward = losses
        self.head_weighting, self.scale, self.steps_per_epoch = head_weighting, scale, steps_per_epoch
        #: Makes the forward pass of a step, and none of its further ones; None makes it as it is.
        self.compiled: CompiledForward | None = None
        #: Rates of dropout in place of the model's own, by kind.
        self.dropout: list[Rates] | None = None
        if dropout is not None:
            self.dropout = [rate if isinstance(rate, Mapping) else {"": rate} for rate in dropout]
        self.program, drawn, fixed, states = members.drawn(make_model, shared, seeds, self.device)
        self.size = len(drawn)
        self.noise, self.random = Streams.seeded(seeds), Streams(states)
        self.optimizer = make_optimizer(optimizer)
        sizes = torch.tensor(self.program.sizes)
        self._owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(self.device)
        self.set_strategies([strategies] * self.size if isinstance(strategies, str | Strategy) else strategies)
        self.values: dict[str, Tensor] = {}
        self.set_values(**{name: settings.pop(name, usual) for name, usual in OTHERS.items()})
        self.set_values(**self.optimizer.complete(settings))
        #: Every tensor of a member's state, with a leading member axis.
        self.state: dict[str, Any] = {
            "parameters": drawn,
            "fixed": fixed,
            "optimizer": self.optimizer.init(drawn, self.values, len(self.program.sizes)),
        }
        if (starts := self._regularizer.starts(seeds, drawn[0])) is not None:
            self.state["directions"] = starts
        #: Numbers of each member that the host counts.
        self.counts = {name: np.zeros(self.size, np.int64) for name in ("steps", "updates", "forward", "backward")}
        self.counts |= {kind: np.zeros(self.size, np.int64) for kind in KINDS}
        #: Names of the tasks, for messages.
        self.tasks: Sequence[str] | None = None
        self._watch = DomainWatch(self.strategies[0])
        #: Which tensors the gradient of each task reaches, (K, T); empty before the first step.
        self.reach: Tensor = torch.empty(0)
        #: The calls of dropout in a forward pass.
        self.dropouts: list[Call] = []
        #: Whether all tensors of each member have made equally many optimizer steps.
        self.even = True

    # --- members ---------------------------------------------------------------------------------------------------

    def set_strategies(self, strategies: Sequence[str | Strategy]) -> None:
        """Give each member a strategy of the present structure; its state stays."""
        made = [make(strategy) for strategy in strategies]
        if len(made) != self.size:
            raise ValueError(f"{len(made)} strategies for {self.size} members")
        if len({structure(strategy) for strategy in made}) > 1:
            raise ValueError("the members' strategies differ in structure: make one population of each")
        unknown = made[0].needs - SIGNALS.keys()
        if unknown:
            raise ValueError(f"{made[0]} needs signals that a population cannot measure: {', '.join(sorted(unknown))}")
        self.strategies = made
        dtype = torch.promote_types(self.program.dtype, torch.float32)
        self.different = differing(made, torch.zeros((), dtype=dtype, device=self.device))

    def set_values(self, **settings: Any) -> None:
        """Set settings of the optimizer, `clip` and `clip_value` (None for no limit), penalties, or `lr_factor`.

        The penalties are `l1`, `l2`, `spectral` (of a population that was made with some) and `orthogonal`.

        Args:
            settings: one number or one a member; of a member, one number or one for each tensor of `program.names`.

        Raises:
            ValueError: as many values as there are neither members nor tensors.
        """
        for name, given in settings.items():
            self.values[name] = rows(name, given, self.size, len(self.program.sizes)).to(self.device)
        if settings.keys() == {"lr_factor"}:
            return  # a schedule sets it at every step, and what follows waits for the device
        self._regularizer = Regularizer(self.program, self.values)

    def select(self, rows: Sequence[int]) -> Population:
        """A population of the members at `rows`, in that order; it shares nothing with this one."""
        return members.selected(self, rows)

    @staticmethod
    def join(populations: Sequence[Population]) -> Population:
        """One population of the members of several, which must be of one structure and have begun."""
        return members.joined(populations)

    def copy_member(self, source: Population, row: int, target: int) -> None:
        """Give member `target` the parameters, buffers, optimizer and strategy state of a member of one structure.

        Its own random numbers, hyperparameters and cost stay.
        """
        members.copy_into(self, target, source, row)

    def adopt(self, source: Population, *, optimizer: bool, strategy: bool) -> None:
        """Begin from the parameters and random numbers of a population of as many members, but other structure.

        Args:
            source: its models have the same parameters, in the same order.
            optimizer: take over the optimizer's state too.
            strategy: take over the strategies' state too.

        Raises:
            ValueError: the parameters do not fit.
        """
        members.adopt(self, source, optimizer=optimizer, strategy=strategy)

    def state_dict_of(self, member: int) -> dict[str, Tensor]:
        """The `state_dict` of one member's model."""
        fixed = {name: value[member] for name, value in self.state["fixed"].items()}
        return self.program.state_dict(self.state["parameters"][member], fixed)

    @property
    def weights(self) -> Tensor:
        """The weights applied last, (N, K) or (N, K, D)."""
        if "weights" not in self.state:
            raise RuntimeError("there are no weights before the first step()")
        weights: Tensor = self.state["weights"]
        return weights

    def evaluate(self, function: Callable[[nn.Module, Any], Any], batch: Any) -> Any:
        """`function(model, batch)` of every member on one batch, in evaluation mode: tensors (N, ...)."""
        return self.program.evaluate(function, self.state["parameters"], self.state["fixed"], batch)

    # --- checkpoint ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on but the settings; loads with `weights_only=True`."""
        self.read_after()
        return {
            **{name: value for name, value in self.state.items() if name != "strategy"},
            "strategy": pytree.tree_leaves(self.state["strategy"]),
            "counts": {name: number.tolist() for name, number in self.counts.items()},
            "noise": self.noise.states(),
            "random": self.random.states(),
            "even": self.even,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of a population that was made with the same arguments and has begun."""
        self.state.pop("previous", None)  # a second reading that was due before
        tensors = {name: saved[name] for name in self.state if name != "strategy"}
        self.state |= pytree.tree_map(lambda leaf: leaf.to(self.device, copy=True), tensors)
        spec = pytree.tree_structure(self.state["strategy"])
        leaves = [leaf.to(self.device, copy=True) for leaf in saved["strategy"]]
        self.state["strategy"] = pytree.tree_unflatten(leaves, spec)
        nothing = np.zeros(self.size, np.int64)  # of a kind that an older checkpoint does not know
        self.counts = {name: np.array(saved["counts"].get(name, nothing)) for name in self.counts}
        self.noise, self.random = Streams(saved["noise"]), Streams(saved["random"])
        self.even = saved["even"]

    # --- one step --------------------------------------------------------------------------------------------------

    def step(
        self,
        batch: Any,
        *,
        validation: Callable[[], Any] | None = None,
        fresh: Callable[[], Any] | None = None,
        absent: Tensor | None = None,
    ) -> Tensor:
        """One optimizer step of every member.

        Args:
            batch: tensors (N, ...) in any nesting, each member's own.
            validation: gives a validation batch, for strategies that ask for `align` or `implicit`.
            fresh: gives another training batch, a new one at each call, for strategies that ask for `cross`.
            absent: (N, K), which tasks a member's batch lacks; their losses must be NaN.

        Returns:
            The losses (N, K) at the start of the step.
        """
        try:
            return self._step(batch, validation, fresh, absent)
        except torch.OutOfMemoryError:
            self.noise.rewind()
            self.random.rewind()
            raise

    def _step(self, batch: Any, validation: Any, fresh: Any, absent: Tensor | None) -> Tensor:
        self.noise.mark()
        self.random.mark()
        caller = Autocast(self.device)
        forward = caller.around(self.losses)
        with caller.off():
            if not len(self.reach):
                self._inspect(forward, batch)
            masks = self.masks(None)
            self.read_after(masks)
            self._forward = forward
            leaf = self.state["parameters"].detach().requires_grad_()
            losses, fixed = self.program.losses(forward, leaf, self.state["fixed"], batch, masks, self.compiled)
            values = torch.stack([loss.detach() for loss in losses], 1)
            values = values.to(torch.promote_types(values.dtype, torch.float32))
            if "strategy" not in self.state:
                self.begin(values.shape[1], values.dtype)
            self._watch.see(values, self.tasks, look=True)  # the host waits for the losses anyway
            step = PopulationStep(self, forward, leaf, losses, values, {"validation": validation, "fresh": fresh})
            step.run()
            self._commit(step, fixed, absent)
        if step.reads_after.any():
            self.state |= {"pending": torch.from_numpy(step.reads_after).to(self.device), "previous": batch}
        return values

    def _inspect(self, forward: LossFunction, batch: Any) -> None:
        one = members_of(batch, 0)
        fixed = members_of(self.state["fixed"], 0)
        self.reach, recorded = self.program.reach(forward, self.state["parameters"][0], fixed, one)
        self.dropouts = recorded.calls

    def begin(self, tasks: int, dtype: torch.dtype | None = None) -> None:
        """The state before the first step, of `tasks` losses of a dtype; the first step does this where nobody did."""
        dtype = torch.promote_types(dtype or self.program.dtype, torch.float32)
        values = torch.ones(self.size, tasks, dtype=dtype, device=self.device)
        dimension = self.program.dimension
        strategy = self.strategies[0]
        strategy.check_tasks(tasks)

        def init(losses: Tensor, different: dict[str, Tensor]) -> Any:
            return substituted(strategy, different).init_sized(losses, dimension)

        state = vmap(init)(values, self.different)
        shape = (*values.shape, dimension) if strategy.elementwise else values.shape
        self.state |= {
            "strategy": pytree.tree_map(lambda leaf: leaf.clone(), state),
            "weights": values.new_ones(shape),
            "after": torch.full_like(values, torch.nan),
            "seen": torch.zeros(self.size, dtype=torch.bool, device=self.device),
            "finite": torch.ones(self.size, dtype=torch.bool, device=self.device),
            "pending": torch.zeros(self.size, dtype=torch.bool, device=self.device),
        }

    def read_after(self, masks: list[Tensor] | None = None) -> None:
        """Read the losses of the previous batch at the present parameters, for members that are to know them.

        As in the balancer dropout is that which the coming step draws, whenever this is called.
        """
        if "previous" not in self.state:
            return
        if masks is None:
            self.random.mark()
            masks = self.masks(None)
            self.random.rewind()
        pending, batch = self.state["pending"], self.state["previous"]
        with torch.no_grad(), Autocast(self.device).off():
            read, _ = self.program.losses(self._forward, self.state["parameters"], self.state["fixed"], batch, masks)
        after = torch.where(pending[:, None], torch.stack(read, 1).to(self.state["after"]), self.state["after"])
        read_by, none = pending.cpu().numpy(), torch.zeros_like(pending)
        self.state |= {"after": after, "seen": self.state["seen"] | pending, "pending": none}
        self.counts["forward"] += read_by
        del self.state["previous"]

    def masks(self, who: Sequence[bool] | None) -> list[Tensor]:
        """Dropout masks of one pass; `who` draws, the others get ones."""
        if not self.dropouts:
            return []
        generators = [self.random[i] if who is None or who[i] else None for i in range(self.size)]
        return draw(self.dropouts, generators, self.dropout, self.state["parameters"])

    def _commit(self, step: PopulationStep, fixed: dict[str, Tensor], absent: Tensor | None) -> None:
        parameters, stepped = self.state["parameters"], step.stepped()
        values, starts = applied(self.values, self._owner), self.state.get("directions")
        reached = None if stepped is None else stepped[:, self._owner]
        gradient, turned = self._regularizer(step.gradient, parameters, values, starts, reached)
        if stepped is not None:
            self.even = False
        counts = dict(step.counts)
        finite = (step.finite if absent is None else step.finite | absent).all(1)  # an absent task is not a broken one
        if absent is not None:
            counts["absent_task"] = absent.any(1).cpu().numpy()
        if not step.whole.all():
            counts["nonfinite_loss"] = (~finite).cpu().numpy()
        # From here on the step is made: before it, whatever ran out of memory can be tried again.
        self.optimizer.step(parameters, gradient, self.state["optimizer"], values, self._owner, stepped, even=self.even)
        self.state |= {"fixed": fixed, "strategy": step.state, "weights": step.weights, "finite": finite}
        if turned is not None:
            self.state["directions"] = turned
        for name, number in counts.items():
            self.counts[name] += number
