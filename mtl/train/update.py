"""How one run makes an optimizer step: the balancer as in a user's own loop, with all that settings change in it."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from mtl.balancer import Balancer
from mtl.benchmarks.benchmark import Examples, Split
from mtl.benchmarks.own import OwnExamples
from mtl.population.strategies import structure
from mtl.step.arguments import HeadWeighting, Scale
from mtl.train.accumulate import cut, mean_losses, scale_gradients
from mtl.train.augment import Augmented, augment
from mtl.train.batch_losses import BatchLosses
from mtl.train.batches import Batches, micro_batches
from mtl.train.compiled import CompiledParts
from mtl.train.ground import Ground
from mtl.train.job import Job
from mtl.train.learning import lost, with_lost
from mtl.train.meta_steps import BACKWARDS, FORWARDS, steps_alone
from mtl.train.moving import Mover
from mtl.train.parts import lookahead_factor, optimizer_groups, parts_of, values_of
from mtl.train.penalties import Penalties
from mtl.train.precision import scaler_of
from mtl.train.processes import Divided, check_parts
from mtl.train.scaled import ScaledSteps
from mtl.train.searched import Searched
from mtl.train.settings import Settings
from mtl.train.stepper import MOST_FRESH


class Updates:
    """The steps of one model.

    Args:
        ground: benchmark, data and device.
        job: what the run is to do.
        model: of the run, on the device.

    Attributes:
        losses: of the last step, by name, detached.
    """

    def __init__(self, ground: Ground, job: Job, model: nn.Module) -> None:
        settings, seed = job.settings, job.member.seed
        train, validation = ground.splits.train, ground.splits.validation
        self._ground, self._job, self._model = ground, job, model
        self._compiled = CompiledParts(model) if settings.compile else None
        self._losses_of = BatchLosses(ground, job, model)
        parts = parts_of(model, settings.of_heads)
        self._optimizer = settings.make_optimizer(optimizer_groups(model, settings))
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._lookahead = settings.lr * lookahead_factor(parts)
        values = {name: values_of(settings, part) for name, part in parts.items()}
        self._penalties = Penalties(model, settings, values, seed)
        self._batches = self._of_split(train, settings, seed, 0)
        self._mover = Mover(settings.augment, job.tasks)
        self._cuts = micro_batches(settings.accumulate, self._batches.sizes)
        if ground.processes is not None:
            check_parts(self._batches.sizes.values(), self._cuts, ground.processes.size)
        scaler = scaler_of(settings, ground.device)
        self._balancer = Balancer(
            job.strategy,
            model.shared_parameters(),  # type: ignore[operator]
            tasks=list(job.losses),
            head_weighting=cast(HeadWeighting, settings.head_weighting),
            scale=cast(Scale, settings.scale),
            update_every=self._cuts,
            steps_per_epoch=job.per_epoch,
            seed=seed,
            scaler=scaler,
            process_group=None if ground.processes is None else ground.processes.group,
            # Processes agree on the tasks of a batch where the host looks.
            host_checks=True if ground.processes is not None and ground.missing else None,
        )
        self._scaled = ScaledSteps(
            self._optimizer,
            scaler,
            lambda balancer=self._balancer: balancer.skipped["nonfinite_gradient"],  # type: ignore[misc]
        )
        self._searched = None
        if job.optimizer.searches:
            self._searched = Searched(self._optimizer, self._penalties, self._balancer, list(job.losses), ground.device)
        aligned_on = validation if settings.align_data == "validation" else train
        self._align_batches = self._of_split(aligned_on, settings, seed, 1)
        self._fresh_batches = self._of_split(train, settings, seed, 2)
        self._made = 0  # forward passes, but for the balancer's and those of learned losses
        self._learned = 0  # steps of learned losses
        self._before = (0, 0)  # forward and backward passes before training
        self.losses: dict[str, Tensor] = {}
        self._weights = torch.empty(0)

    def _of_split(self, split: Examples, settings: Settings, seed: int, stream: int) -> Batches:
        """The batches of a split; what is mixed with other examples is read whole by each of several processes."""
        processes, divide = self._ground.processes, None
        if processes is not None and not settings.mixes:
            divide = partial(Divided, processes, settings.accumulate)
        return Batches(split, settings.batch_size, seed, stream, settings.sampling, divide)

    def make(self, step: int, falls: int) -> None:
        """One optimizer step, at a step of the run after so many falls of the learning rate."""
        settings, seed = self._job.settings, self._job.member.seed
        factor = self._job.factor(step, falls)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        moved = self._mover.moved_alone(self._batches[step], seed, step)
        drawn = augment(moved, settings.noise, settings.mixup, seed, step, settings.cutmix)
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        batches, lookahead = cut(drawn, self._cuts), self._lookahead * factor
        steps_of_losses = self._steps_of_losses(batches[0], step, lookahead)
        fresh = itertools.count(MOST_FRESH * step)
        weigh = partial(self._backward, step=step, fresh=fresh, lookahead=lookahead)
        if self._searched is not None:
            self._search(self._searched, drawn, weigh)
        else:
            self._descend(batches, weigh)
        for make in steps_of_losses:
            make()

    def _descend(
        self, batches: Sequence[Augmented], weigh: Callable[[Augmented], tuple[Tensor, dict[str, Tensor]]]
    ) -> None:
        """A step along the gradients of micro-batches, each counted by its size."""
        sizes, found = [len(each.batch) for each in batches], []
        for number, batch in enumerate(batches):
            if number:  # what is there is in units of this micro-batch now, so that each counts by its size
                scale_gradients(self._model.parameters(), sizes[number - 1] / sizes[number])
            with self._compiling():
                weights, losses = weigh(batch)
            if not number:  # the others have the same ones
                self._weights = weights
            found.append(losses)
        scale_gradients(self._model.parameters(), sizes[-1] / sum(sizes))
        self._scaled.unscale()
        self._penalties.apply()
        self._penalties.clip()
        self._scaled.step()
        self.losses = mean_losses(found, sizes)

    def _search(
        self,
        searched: Searched,
        batch: Augmented,
        weigh: Callable[[Augmented], tuple[Tensor, dict[str, Tensor]]],
    ) -> None:
        """A step that evaluates the losses several times."""
        with self._compiling():
            self._weights, self.losses = searched.step(lambda: weigh(batch), lambda: self._read(batch))

    def _compiling(self) -> Any:
        return nullcontext() if self._compiled is None else self._compiled.step()

    def _read(self, batch: Augmented) -> dict[str, Tensor]:
        """The losses of a batch, by a forward pass of training."""
        self._made += 1
        with nullcontext() if self._compiled is None else self._compiled.forward():
            return self._losses_of(batch)

    def _backward(
        self, batch: Augmented, *, step: int, fresh: Iterator[int], lookahead: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradients of one micro-batch; the weights applied, and its losses."""
        losses = self._read(batch)
        weights = self._balancer.backward(
            losses,
            recompute=lambda: self._losses_of(batch),
            validation=lambda: self._losses_of(self._of_a_step(self._align_batches[step])),
            fresh=lambda: self._losses_of(self._of_a_step(self._fresh_batches[next(fresh)])),
            lookahead_lr=lookahead,
        )
        return weights, {name: loss.detach() for name, loss in losses.items()}

    def _steps_of_losses(self, batch: Augmented, step: int, lr: float) -> list[Callable[[], None]]:
        """Those of the losses that are learned."""

        def ahead() -> Augmented:
            return self._of_a_step(self._align_batches[step])

        steps = steps_alone(self._model, self._job.tasks, batch, ahead, lr, self._ground.processes)
        self._learned += len(steps)
        return steps

    def _of_a_step(self, batch: Split | OwnExamples) -> Augmented:
        """As much of a batch as goes through the model at once."""
        return cut(Augmented(batch), min(self._cuts, len(batch)))[0]

    def noted(self) -> tuple[list[float], list[float | None]]:
        """Weights and losses of the step just made."""
        weights = self._weights.mean(1) if self._weights.ndim == 2 else self._weights
        losses = [self.losses.get(name) for name in self._job.losses]
        return weights.tolist(), [None if loss is None else float(loss) for loss in losses]

    def skipped(self) -> dict[str, int]:
        """Steps by what was wrong in them."""
        counted = self._scaled.counted(self._balancer.skipped)
        if self._searched is not None:
            counted = dict(Counter(counted) + self._searched.left_out)
        return with_lost(counted, lost(self._model))

    def passes(self) -> tuple[int, int]:
        """Forward and backward passes so far: one forward pass a micro-batch, and what the balancer made."""
        forward, backward = (self._balancer.passes[name] for name in ("forward", "backward"))
        backward += 0 if self._searched is None else self._searched.backwards
        forward, backward = forward + self._before[0], backward + self._before[1]
        return self._made + forward + FORWARDS * self._learned, backward + BACKWARDS * self._learned

    def count(self, forwards: int, backwards: int) -> None:
        """Add passes that were made before training."""
        self._before = self._before[0] + forwards, self._before[1] + backwards

    def close(self) -> None:
        """End processes that read batches ahead; they begin again at the next step."""
        for batches in (self._batches, self._align_batches, self._fresh_batches):
            batches.close()

    # --- the state of another run ----------------------------------------------------------------------------------

    def take_over(self, source: Updates) -> None:
        """The state of a run of the same structure, but for its random numbers, settings and cost."""
        self._penalties.go_on_from(source._penalties)
        self._load_optimizer(source)
        self._load_balancer(source._balancer.state_dict(), self._balancer.state_dict())
        self._scaled.load_state_dict(source._scaled.state_dict())
        if self._searched is not None and source._searched is not None:
            self._searched.left_out = source._searched.left_out.copy()
        self.losses = source.losses

    def go_on_from(self, before: Updates) -> None:
        """The state of this run when it had another job, as far as it still has its form."""
        self._penalties.go_on_from(before._penalties)
        if self._job.optimizer.keeps_state_of(before._job.optimizer):
            self._load_optimizer(before)
        saved = before._balancer.state_dict()
        saved["skipped"] = self._counted_on(before, saved["skipped"])
        if structure(before._job.strategy) == structure(self._job.strategy):
            self._load_balancer(saved, saved)
        else:
            kept = {name: saved[name] for name in ("noise", "steps", "passes", "skipped")}
            self._balancer.load_state_dict({**self._balancer.state_dict(), **kept})
        self._made, self._learned, self._before = before._made, before._learned, before._before
        if before._searched is not None and self._searched is None:
            self.count(0, before._searched.backwards)
        self.losses = before.losses
        self._scaled.load_state_dict(before._scaled.state_dict())
        if self._searched is not None and before._searched is not None:
            self._searched.load_state_dict(before._searched.state_dict())

    def _counted_on(self, before: Updates, skipped: Mapping[str, int]) -> dict[str, int]:
        """What the balancer of a run has counted, with what was counted elsewhere and is not any more in this job."""
        found = before._scaled.counted(skipped) if self._scaled.scaler is None else skipped
        if before._searched is not None and self._searched is None:
            found = Counter(found) + before._searched.left_out
        return dict(found)

    def read_on(self, before: Updates) -> None:
        """Go on with the batches of another, which read ahead."""
        self._batches = before._batches
        self._align_batches, self._fresh_batches = before._align_batches, before._fresh_batches

    def _load_optimizer(self, source: Updates) -> None:
        """The state of the optimizer of another run, which is of the same class, with the own settings."""
        place = dict(zip(source.stepped, itertools.count(), strict=False))
        theirs = {own: place[other] for own, other in zip(self._named(), source._named(), strict=True)}
        saved, own = source._optimizer.state_dict()["state"], dict(self._model.named_parameters())
        state = {
            k: self._job.optimizer.completed(saved[theirs[name]], own[name].detach())
            for k, name in enumerate(self.stepped)
            if theirs[name] in saved
        }
        self._optimizer.load_state_dict({"state": state, "param_groups": self._optimizer.state_dict()["param_groups"]})

    @property
    def stepped(self) -> list[str]:
        """The names of the parameters in the order of the optimizer's groups."""
        names = {id(parameter): name for name, parameter in self._model.named_parameters()}
        return [names[id(parameter)] for group in self._optimizer.param_groups for parameter in group["params"]]

    def _named(self) -> list[str]:
        """The names of the parameters in the order of the model."""
        return [name for name, _ in self._model.named_parameters()]

    def _load_balancer(self, state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        """The state of another balancer, with the random numbers and cost of `own`."""
        kept = {name: own[name] for name in ("noise", "steps", "passes")}
        kept["calls"] = 0  # what comes next is the first micro-batch of a step, into however many this run cuts one
        kept |= {"strategy": str(self._job.strategy), "tasks": list(self._job.losses)}
        self._balancer.load_state_dict({**state, **kept})

    # --- checkpoint ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on but the job, the model and its random numbers."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "balancer": self._balancer.state_dict(),
            "directions": self._penalties.directions,
            "losses": self.losses,
            "made": self._made,
            "learned": self._learned,
            "before": [*self._before],
            "scaled": self._scaled.state_dict(),
            "searched": {} if self._searched is None else self._searched.state_dict(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))  # it writes to its state
        self._balancer.load_state_dict(saved["balancer"])
        self.losses, self._made = dict(saved["losses"]), saved["made"]
        self._learned = saved.get("learned", 0)
        self._before = (saved["before"][0], saved["before"][1]) if "before" in saved else (0, 0)
        self._scaled.load_state_dict(saved.get("scaled", {}))
        self._penalties.directions = dict(saved["directions"])
        if self._searched is not None:
            self._searched.load_state_dict(saved["searched"])
