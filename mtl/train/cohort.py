"""N members of one benchmark trained together, whatever their strategies and settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.benchmarks.benchmark import Benchmark, Splits, Task
from mtl.train.batches import steps_per_epoch
from mtl.train.ground import Ground, Observe
from mtl.train.groups import Groups
from mtl.train.job import Job
from mtl.train.member import Evaluation, Member
from mtl.train.offline import PIECE
from mtl.train.outcome import Result
from mtl.train.processes import Processes
from mtl.train.settings import Settings
from mtl.train.state import RunState
from mtl.train.surroundings import threads


def _silent(_text: str) -> None:
    """Nobody listens."""


def check_state(saved: Mapping[str, Any]) -> None:
    """Raise `ValueError` for what is not the state of a cohort as this version saves it."""
    if "groups" not in saved:
        raise ValueError("the state of the runs was saved by another version, which alone can go on with it")


class Cohort:
    """N members of one benchmark trained together; members of equal structure form one vectorised program.

    Member i is the run of `mtl.train.train` with its strategy, seed and settings, to rounding. What `vmap` cannot do
    runs one at a time, as in `train`, and is said once. Where a program runs out of memory it is split in two. Nothing
    of it depends on torch's global generators or changes them, nor on the number of threads.

    Args:
        benchmark: gives the model and the tasks.
        splits: its data.
        members: at least one.
        settings: training settings that members override.
        tasks: a subset of the benchmark's, for single-task baselines.
        device: where to train.
        memory_limit: bytes that one program may take, parameters and everything else; None for no limit.
        vectorised: False trains every member by itself.
        told: the driver decides: members are evaluated by `evaluate` alone, each time a point of their curves, and the
            best evaluation is the one that `remember` was called after; otherwise at the ends of epochs, by selection.
            Members whose training step raises an error fail then, and the others go on.
        tell: called with what a user should know.
        observe: called with (number of a member, its step, values by name) at each new point of its curves.
        processes: that train each run together, one run after another; each makes such a cohort, and calls the same.

    Attributes:
        members: as they are now.

    Raises:
        ValueError: a member's strategy, setting or loss does not exist or is out of range.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        splits: Splits,
        members: Sequence[Member],
        settings: Settings,
        *,
        tasks: Sequence[Task] | None = None,
        device: torch.device | str = "cpu",
        memory_limit: int | None = None,
        vectorised: bool = True,
        told: bool = False,
        tell: Callable[[str], None] = _silent,
        observe: Observe | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.settings = settings
        self.members: list[Member] = []
        with threads(settings.threads):
            self._ground = Ground.of(
                benchmark,
                splits,
                list(tasks or benchmark.tasks),
                torch.device(device),
                told=told,
                observe=observe,
                processes=processes,
            )
        self._groups = Groups(self._ground, memory_limit, vectorised and processes is None, tell)
        self.add(members)
        if not self.members:
            raise ValueError("members is empty: a cohort has at least one")

    @property
    def step(self) -> int:
        """Optimizer steps made by the member that has made the most."""
        return max(group.step_number for group in self._groups.all)

    @property
    def length(self) -> int:
        """Optimizer steps of the member that is to make the most."""
        return max(run.job.length for group in self._groups.all for run in group.runs)

    @property
    def stretch(self) -> int:
        """Steps from one evaluation to the next, by the cohort's own settings."""
        return steps_per_epoch(self._ground.splits.train, self.settings.batch_size) * self.settings.evaluate_every

    @property
    def states(self) -> list[RunState]:
        """Where each member's run is."""
        return [group.runs[row].state for group, row in self._groups.places()]

    @property
    def over(self) -> bool:
        """Whether no member has anything left to do."""
        return all(group.over for group in self._groups.all)

    def finished(self) -> list[bool]:
        """Which members have nothing left to do."""
        return [group.runs[row].finished for group, row in self._groups.places()]

    def advance(self, steps: int, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Make so many optimizer steps with every member that is not finished; between two steps ask `should_stop`.

        What precedes the first step comes before them.
        """
        made = 0
        while made < steps and not self.over and not should_stop():
            if not self.begin():
                self._groups.step()
                made += 1

    def begin(self, seconds: float = PIECE) -> bool:
        """Do a piece of what precedes the first step of members; whether any was left to do.

        Args:
            seconds: that it takes, about; at 0 every program makes one step of the losses that learn before training.
        """
        return self._groups.begin(seconds)

    def try_steps(self, steps: int) -> None:
        """Make steps of which only the cost counts; what precedes the first, and may take long, is left out."""
        for _ in range(steps):
            self._groups.step()

    @property
    def learning(self) -> tuple[int, int] | None:
        """While losses learn before training, how many of their steps were made, and how many there are in all."""
        return self._groups.learning

    @property
    def waiting(self) -> int:
        """Steps that losses have yet to make before training, those of all members together."""
        made, steps = self._groups.before()
        return steps - made

    def agreed(self, wish: bool) -> bool:
        """Whether this process wishes it, or any of those that train together."""
        processes = self._ground.processes
        return wish if processes is None else processes.agreed(wish)

    def evaluate(self) -> list[Evaluation]:
        """Each member on validation data, at its present parameters."""
        found: list[Evaluation] = self._in_order((group.ids, group.evaluations()) for group in self._groups.all)
        if any(evaluation.failure for evaluation in found):
            self._groups.retire()
        return found

    def remember(self, numbers: Sequence[int]) -> None:
        """The present state of these members, evaluated just now, is their best: what their results are of."""
        self._check(numbers)
        for number in numbers:
            group, row = self._groups.place(number)
            group.remember(row)

    def results(self, folds: int = 0) -> list[Result]:
        """The result of each member: test split, parameters that did best on validation data.

        Args:
            folds: into which the test split is divided at random, always in the same way: results have the metrics
                without each of them too, by which `mtl.stats.paired_over_examples` knows what other examples could
                change. 0 for none; there are none either where a fold would have fewer than two examples.
        """
        return self._in_order((group.ids, group.results(folds)) for group in self._groups.all)

    def close(self) -> None:
        """End processes that read batches ahead; they begin again at the next step."""
        for group in self._groups.all:
            group.stepper.close()

    def weights(self, number: int) -> dict[str, Tensor]:
        """The parameters and buffers of one member's best evaluation, as a `state_dict` of its model."""
        self._check([number])
        group, row = self._groups.place(number)
        return group.best(row)

    def exploit(self, sources: Mapping[int, int], keeping: Collection[int] = ()) -> None:
        """Give each target member the state of its source member: parameters, buffers, optimizer and strategy state,
        and the best evaluation so far. Seed and hyperparameters of the target stay; where its structure is another, it
        takes those of the source.

        All sources are read before any target is written.

        Args:
            sources: by target.
            keeping: targets that keep their own best evaluation.
        """
        self._check([*sources, *sources.values()])
        copies = {target: self._groups.extracted(source) for target, source in sources.items()}
        models = {target: self.members[source] for target, source in sources.items()}
        for target, copied in copies.items():
            self._take_over(target, copied, models[target], best=target not in keeping)
        self._groups.regroup()

    def extract(self, number: int) -> dict[str, Any]:
        """A copy of one member as tensors and plain values, for `adopt` of any cohort of the same benchmark."""
        self._check([number])
        return {"member": self.members[number].plain(), "group": self._groups.extracted(number).state_dict()}

    def adopt(self, target: int, saved: Mapping[str, Any], *, best: bool = True) -> None:
        """What `exploit` does, with a source that another cohort extracted; `best`: its best evaluation too."""
        self._check([target])
        source = Member(**saved["member"])
        copied = self._groups.loaded(self._here(saved["group"]), [self._job(source)])
        self._take_over(target, copied, source, best=best)
        self._groups.regroup()

    def replace(self, changes: Mapping[int, Member]) -> None:
        """Change members: continuous values in place; a member of another structure moves to the program of its like.

        It keeps its parameters, and optimizer and strategy state where they have the same form.

        Raises:
            ValueError: a member's parameters do not fit its new model, or it has another seed.
        """
        self._check(changes)
        for number, member in changes.items():
            if member.seed != self.members[number].seed:
                raise ValueError(f"member {number} has seed {self.members[number].seed}, which cannot be changed")
        self._groups.change({number: self._job(member) for number, member in changes.items()})
        for number, member in changes.items():
            self.members[number] = member
        self._groups.regroup()

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all members but those at `indices`, which are numbered anew in that order."""
        self._check(indices)
        if not indices:
            raise ValueError("keep: at least one member must stay")
        self._groups.keep({old: new for new, old in enumerate(indices)})
        self.members = [self.members[old] for old in indices]

    def add(self, members: Sequence[Member]) -> None:
        """New members, which begin at a step 0 of their own."""
        self._groups.add([self._job(member) for member in members], len(self.members))
        self.members += members
        self._groups.regroup()

    # --- checkpoint ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the steps to come depend on, as tensors and plain values."""
        return {
            "members": [member.plain() for member in self.members],
            "groups": self._groups.state_dict(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`, bit for bit, with the members that it holds.

        Raises:
            ValueError: it is not such a state, as one of another version is not.
        """
        check_state(saved)
        # A strategy without a spec is not in the state, but in the member that the cohort was made with.
        known = [(member.plain(), member) for member in self.members]
        self.members = [next((m for p, m in known if p == plain), Member(**plain)) for plain in saved["members"]]
        jobs = [self._job(member) for member in self.members]
        self._groups.load([self._here(group) for group in saved["groups"]], jobs.__getitem__)

    def release(self) -> dict[str, Any]:
        """`state_dict()`, and the cohort holds no tensors any more until `load_state_dict`."""
        saved = self.state_dict()
        self._groups.all = []
        return saved

    def _here(self, saved: Any) -> Any:
        """On this cohort's device, which need not be where it was saved."""
        device = self._ground.device
        return pytree.tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, saved)

    # --- members ---------------------------------------------------------------------------------------------------

    def _job(self, member: Member) -> Job:
        return Job.of(member, self.settings, self._ground)

    def _check(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if not 0 <= number < len(self.members):
                raise ValueError(f"member {number} does not exist: there are {len(self.members)}")

    def _in_order(self, found: Iterable[tuple[Sequence[int], Sequence[Any]]]) -> list[Any]:
        each = {number: value for ids, values in found for number, value in zip(ids, values, strict=True)}
        return [each[number] for number in range(len(self.members))]

    def _take_over(self, target: int, copied: Any, source: Member, *, best: bool) -> None:
        group, row = self._groups.place(target)
        if group.key != copied.key:
            member = Member(source.strategy, self.members[target].seed, source.settings, source.losses)
            self._groups.move(target, self._job(member))
            self.members[target] = member
            group, row = self._groups.place(target)
        group.take_over(row, copied, best=best)
