"""One run made by the balancer as a user's own loop would: slow, obvious, and for what `vmap` cannot do."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from mtl.balancer import Balancer
from mtl.benchmarks.benchmark import Examples, Split
from mtl.benchmarks.own import OwnExamples
from mtl.population.strategies import structure
from mtl.step.arguments import HeadWeighting, Scale
from mtl.train.accumulate import cut, mean_losses, scale_gradients
from mtl.train.augment import Augmented, augment
from mtl.train.average import copied
from mtl.train.averaged import Average
from mtl.train.batch_losses import BatchLosses
from mtl.train.batches import Batches, derived_seed, micro_batches
from mtl.train.compiled import CompiledParts
from mtl.train.evaluate import Measured, measure_model
from mtl.train.ground import Ground
from mtl.train.job import Job
from mtl.train.learning import lost, still_learned, with_learned, with_lost, without_learned
from mtl.train.meta_steps import BACKWARDS, FORWARDS, steps_alone
from mtl.train.model import build_model
from mtl.train.moving import Mover
from mtl.train.parts import lookahead_factor, optimizer_groups, parts_of, values_of
from mtl.train.penalties import Penalties
from mtl.train.precision import scaler_of
from mtl.train.processes import Divided, check_parts
from mtl.train.scaled import ScaledSteps
from mtl.train.settings import Settings
from mtl.train.stepper import MOST_FRESH, Snapshot
from mtl.train.surroundings import Randomness

_RANKS = 7  # tells the seeds of what processes draw from those of batches


class Single:
    """A stepper of one row: a model, its optimizer and a balancer.

    Args:
        ground: benchmark, data and device.
        jobs: exactly one.
    """

    most = 1

    def __init__(self, ground: Ground, jobs: Sequence[Job]) -> None:
        self._ground = ground
        self._open(*jobs)

    def _open(self, job: Job) -> None:
        """Begin the job from nothing."""
        ground, settings, seed = self._ground, job.settings, job.member.seed
        train, validation = ground.splits.train, ground.splits.validation
        self._job = job
        self._random = Randomness(ground.device, seed)
        with self._random.drawing():
            model = build_model(ground.benchmark, job.tasks, train.first(2), settings)
            self.model = with_learned(model, job.tasks).to(ground.device)
        self._compiled = CompiledParts(self.model) if settings.compile else None
        self._losses_of = BatchLosses(ground, job, self.model)
        parts = parts_of(self.model, settings.of_heads)
        self._optimizer = settings.make_optimizer(optimizer_groups(self.model, settings))
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._lookahead = settings.lr * lookahead_factor(parts)
        values = {name: values_of(settings, part) for name, part in parts.items()}
        self._penalties = Penalties(self.model, settings, values, seed)
        self._batches = self._of_split(train, settings, seed, 0)
        self._mover = Mover(settings.augment, job.tasks)
        self._cuts = micro_batches(settings.accumulate, self._batches.sizes)
        if ground.processes is not None:
            check_parts(self._batches.sizes.values(), self._cuts, ground.processes.size)
        scaler = scaler_of(settings, ground.device)
        self._balancer = Balancer(
            job.strategy,
            self.model.shared_parameters(),  # type: ignore[operator]
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
        aligned_on = validation if settings.align_data == "validation" else train
        self._align_batches = self._of_split(aligned_on, settings, seed, 1)
        self._fresh_batches = self._of_split(train, settings, seed, 2)
        self._average = Average(job, self.model, train) if settings.averages else None
        self._made = 0  # forward passes, but for the balancer's and those of learned losses
        self._learned = 0  # steps of learned losses
        self._losses: dict[str, Tensor] = {}
        self._weights = torch.empty(0)

    def _of_split(self, split: Examples, settings: Settings, seed: int, stream: int) -> Batches:
        """The batches of a split; what is mixed with other examples is read whole by each of several processes."""
        processes, divide = self._ground.processes, None
        if processes is not None and not settings.mixes:
            divide = partial(Divided, processes, settings.accumulate)
        return Batches(split, settings.batch_size, seed, stream, settings.sampling, divide)

    def step(self, steps: Sequence[int], falls: Sequence[int]) -> None:
        """One optimizer step."""
        processes = self._ground.processes
        with self._random.drawing():
            if processes is not None and not processes.leads:  # what dropout draws is its own, and needs no checkpoint
                torch.manual_seed(derived_seed(self._job.member.seed, _RANKS, processes.rank, *steps))
            self._step(*steps, *falls)

    def _step(self, step: int, falls: int) -> None:
        settings = self._job.settings
        factor = self._job.factor(step, falls)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        seed = self._job.member.seed
        moved = self._mover.moved_alone(self._batches[step], seed, step)
        drawn = augment(moved, settings.noise, settings.mixup, seed, step, settings.cutmix)
        self.model.train()
        self._optimizer.zero_grad(set_to_none=True)
        batches = cut(drawn, self._cuts)
        sizes = [len(each.batch) for each in batches]
        steps_of_losses = self._steps_of_losses(batches[0], step, self._lookahead * factor)
        fresh = itertools.count(MOST_FRESH * step)
        found = []
        for number, batch in enumerate(batches):
            if number:  # what is there is in units of this micro-batch now, so that each counts by its size
                scale_gradients(self.model.parameters(), sizes[number - 1] / sizes[number])
            with nullcontext() if self._compiled is None else self._compiled.step():
                weights, losses = self._backward(batch, step, fresh, self._lookahead * factor)
            if not number:  # the others have the same ones
                self._weights = weights
            found.append(losses)
        scale_gradients(self.model.parameters(), sizes[-1] / len(drawn.batch))
        self._scaled.unscale()
        self._penalties.apply()
        self._scaled.step()
        for make in steps_of_losses:
            make()
        if self._ground.processes is not None:
            self._ground.processes.average_statistics(self.model)
        if self._average is not None:
            self._average.follow(self.model, step)
        self._losses = mean_losses(found, sizes)

    def _backward(
        self, batch: Augmented, step: int, fresh: Iterator[int], lookahead: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradients of one micro-batch; the weights applied, and its losses."""
        with nullcontext() if self._compiled is None else self._compiled.forward():
            losses = self._losses_of(batch)
        self._made += 1
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

        steps = steps_alone(self.model, self._job.tasks, batch, ahead, lr)
        self._learned += len(steps)
        return steps

    def _of_a_step(self, batch: Split | OwnExamples) -> Augmented:
        """As much of a batch as goes through the model at once."""
        return cut(Augmented(batch), min(self._cuts, len(batch)))[0]

    def noted(self) -> tuple[list[list[float]], list[list[float | None]]]:
        """Weights and losses of the step just made."""
        weights = self._weights.mean(1) if self._weights.ndim == 2 else self._weights
        losses = [self._losses.get(name) for name in self._job.losses]
        return [weights.tolist()], [[None if loss is None else float(loss) for loss in losses]]

    def skipped(self, row: int) -> dict[str, int]:  # noqa: ARG002
        """Steps by what was wrong in them."""
        return with_lost(self._scaled.counted(self._balancer.skipped), lost(self.model))

    def passes(self, row: int) -> tuple[int, int]:  # noqa: ARG002
        """Forward and backward passes so far: one forward pass a micro-batch, and what the balancer made."""
        forward, backward = (self._balancer.passes[name] for name in ("forward", "backward"))
        return self._made + forward + FORWARDS * self._learned, backward + BACKWARDS * self._learned

    def close(self) -> None:
        """End processes that read batches ahead; they begin again at the next step."""
        for batches in (self._batches, self._align_batches, self._fresh_batches, self._average):
            if batches is not None:
                batches.close()

    def sound(self) -> list[bool]:
        """Whether the parameters are finite."""
        return [all(bool(each.isfinite().all()) for each in self.model.parameters())]

    def stumbled(self) -> list[bool]:
        """Whether a loss of the last step was not finite."""
        return [not all(bool(loss.isfinite()) for loss in self._losses.values())]

    # --- evaluation ------------------------------------------------------------------------------------------------

    def measured(self, rows: Sequence[int], split: Examples) -> list[Measured]:
        """Loss and metrics on a split, at the present parameters or their average."""
        if self._average is not None:
            self._average.renew(self.model)
            return self.measured_at(rows, [self._average.values for _ in rows], split)
        return [self._measure(split) for _ in rows]

    def measured_at(self, rows: Sequence[int], snapshots: Sequence[Snapshot], split: Examples) -> list[Measured]:
        """The same at the parameters of a snapshot."""
        present, found = copied(self.model.state_dict()), []
        try:
            for _, snapshot in zip(rows, snapshots, strict=True):
                self.model.load_state_dict(snapshot)
                found.append(self._measure(split))
        finally:
            self.model.load_state_dict(present)
        return found

    def _measure(self, split: Examples) -> Measured:
        """The model on a split; of several processes the leading one measures it for all."""
        processes = self._ground.processes
        measure = partial(measure_model, self.model, self._job.tasks, split)
        return measure() if processes is None else processes.said(measure)

    def snapshot(self, row: int) -> Snapshot:  # noqa: ARG002
        """A copy of the present parameters and buffers, or of their average, by name."""
        return copied(self.model.state_dict() if self._average is None else self._average.values)

    def weights(self, snapshot: Snapshot) -> dict[str, Tensor]:
        """A snapshot as a `state_dict` of the model, with the learned losses that it holds."""
        return dict(snapshot)

    # --- exploit and explore ---------------------------------------------------------------------------------------

    def select(self, rows: Sequence[int]) -> Single:
        """A copy."""
        (_,) = rows
        copied = Single(self._ground, [self._job])
        copied.load_state_dict(copy.deepcopy(self.state_dict()))
        return copied

    def join(self, others: Sequence[Single]) -> Single:
        """This one: there is no room for others."""
        if others:
            raise ValueError(f"{1 + len(others)} runs cannot be trained as one")
        return self

    def take_over(self, row: int, source: Single, source_row: int) -> None:  # noqa: ARG002
        """Take over the state of a run of the same structure, but for its random numbers, settings and cost."""
        self.model.load_state_dict(source.model.state_dict())
        if self._average is not None:
            self._average.go_on_from(source._average, self.model)
        self._penalties.go_on_from(source._penalties)
        self._load_optimizer(source)
        self._load_balancer(source._balancer, self._balancer.state_dict())
        self._scaled.load_state_dict(source._scaled.state_dict())
        self._losses = source._losses

    def change(self, jobs: Sequence[Job]) -> None:
        """Go on with another job of the same structure; what reads ahead goes on too."""
        before = copy.copy(self)
        self._open(*jobs)
        self._go_on_from(before)
        if before._average is not None:
            before._average.close()
        self._batches = before._batches
        self._align_batches, self._fresh_batches = before._align_batches, before._fresh_batches

    def restructured(self, row: int, job: Job) -> Single:  # noqa: ARG002
        """A copy with a job of another structure, and what of its state still has its form."""
        moved = Single(self._ground, [job])
        moved._go_on_from(self.select([0]))
        return moved

    def _go_on_from(self, before: Single) -> None:
        """Take the state of a run with another job that ends here."""
        job, old = self._job, before._job
        try:
            theirs = before.model.state_dict()
            learned = still_learned(self.model.state_dict(), theirs)
            self.model.load_state_dict({**without_learned(theirs), **learned})
        except RuntimeError as error:
            raise ValueError("a member cannot keep its parameters: the model of its new settings has others") from error
        if self._average is not None:
            self._average.go_on_from(before._average, self.model)
        self._penalties.go_on_from(before._penalties)
        if old.optimizer.name == job.optimizer.name:
            self._load_optimizer(before)
        saved = before._balancer.state_dict()
        if structure(old.strategy) == structure(job.strategy):
            self._load_balancer(before._balancer, saved)
        else:
            kept = {name: saved[name] for name in ("noise", "steps", "passes", "skipped")}
            self._balancer.load_state_dict({**self._balancer.state_dict(), **kept})
        self._random, self._made, self._losses = before._random, before._made, before._losses
        self._learned = before._learned
        self._scaled.load_state_dict(before._scaled.state_dict())

    def _load_optimizer(self, source: Single) -> None:
        """The state of the optimizer of another run, which is of the same class, with the own settings."""
        theirs = dict(zip(source._stepped(), itertools.count(), strict=False))
        saved = source._optimizer.state_dict()["state"]
        state = {k: saved[theirs[name]] for k, name in enumerate(self._stepped()) if theirs[name] in saved}
        self._optimizer.load_state_dict({"state": state, "param_groups": self._optimizer.state_dict()["param_groups"]})

    def _stepped(self) -> list[str]:
        """The names of the parameters in the order of the optimizer's groups."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return [names[id(parameter)] for group in self._optimizer.param_groups for parameter in group["params"]]

    def _load_balancer(self, source: Balancer, own: Mapping[str, Any]) -> None:
        """The state of another balancer, with the random numbers and cost of `own`."""
        kept = {name: own[name] for name in ("noise", "steps", "passes")}
        kept |= {"strategy": str(self._job.strategy), "tasks": list(self._job.losses)}
        self._balancer.load_state_dict({**source.state_dict(), **kept})

    # --- checkpoint ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on but the job."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "balancer": self._balancer.state_dict(),
            "random": self._random.state_dict(),
            "directions": self._penalties.directions,
            "average": None if self._average is None else self._average.state_dict(),
            "losses": self._losses,
            "made": self._made,
            "learned": self._learned,
            "scaled": self._scaled.state_dict(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.model.load_state_dict(saved["model"])
        self._optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))  # it writes to its state
        self._balancer.load_state_dict(saved["balancer"])
        self._random.load_state_dict(saved["random"])
        self._losses, self._made = dict(saved["losses"]), saved["made"]
        self._learned = saved.get("learned", 0)
        self._scaled.load_state_dict(saved.get("scaled", {}))
        self._penalties.directions = dict(saved["directions"])
        if self._average is not None:
            self._average.load_state_dict(saved["average"])
