"""N members of one benchmark trained together, whatever their strategies and settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.benchmarks.benchmark import Benchmark, Splits, Task
from mtl.benchmarks.checked import in_one_line
from mtl.population.memory import bytes_a_member
from mtl.train.alone import Alone
from mtl.train.member import Evaluation, Member, Resolved
from mtl.train.record import Record
from mtl.train.settings import Settings
from mtl.train.shard import Setting, Shard
from mtl.train.trainer import Result

_MOST = 2**31  # members of one program where memory sets no limit


def _silent(_text: str) -> None:
    """Nobody listens."""


@dataclass
class _Part:
    """Members that are stepped together: a shard, and the members' numbers in the cohort by its rows."""

    key: Hashable
    shard: Shard | Alone
    ids: list[int]
    done: bool = False

    def record(self, row: int) -> Record:
        return self.shard.record if isinstance(self.shard, Alone) else self.shard.slots[row].record


class Cohort:
    """N members of one benchmark trained together; members of equal structure form one vectorised program.

    Member i is the run of `mtl.train.train` with its strategy, seed and settings, to rounding. What `vmap` cannot do
    runs one at a time with the plain trainer, said once. Where a program runs out of memory it is split in two.

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
    ) -> None:
        self.settings = settings
        self.members: list[Member] = []
        self._setting = Setting.of(benchmark, splits, list(tasks or benchmark.tasks), torch.device(device), told=told)
        self._limit, self._tell, self._vectorised = memory_limit, tell, vectorised
        self._capacities: dict[Hashable, int] = {}
        self._parts: list[_Part] = []
        self.add(members)
        if not self.members:
            raise ValueError("members is empty: a cohort has at least one")

    @property
    def step(self) -> int:
        """Optimizer steps made by the member that has made the most."""
        return max(record.step for record in self.records)

    @property
    def stretch(self) -> int:
        """Steps from one evaluation to the next, by the cohort's own settings."""
        examples = len(self._setting.splits.train)
        return examples // min(self.settings.batch_size, examples) * self.settings.evaluate_every

    @property
    def records(self) -> list[Record]:
        """The record of each member's run."""
        return [part.record(row) for part, row in self._places()]

    def finished(self) -> list[bool]:
        """Which members have nothing left to do."""
        return [part.done or part.shard.finished(row) for part, row in self._places()]

    def advance(self, steps: int, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Make so many optimizer steps with every member that is not finished; between two steps ask `should_stop`."""
        for _ in range(steps):
            running = [part for part in self._parts if not part.done]
            if not running or should_stop():
                break
            for part in running:
                self._step(part)
            self._retire(running)

    def evaluate(self) -> list[Evaluation]:
        """Each member on validation data, at its present parameters."""
        found: dict[int, Evaluation] = {}
        for part in self._parts:
            found |= zip(part.ids, part.shard.evaluations(), strict=True)
        return [found[number] for number in range(len(self.members))]

    def remember(self, numbers: Sequence[int]) -> None:
        """The present state of these members, evaluated just now, is their best: what their results are of."""
        self._check(numbers)
        for part in self._parts:
            for row, number in enumerate(part.ids):
                if number in numbers:
                    part.shard.remember(row)

    def results(self) -> list[Result]:
        """The result of each member: test split, parameters that did best on validation data."""
        found: dict[int, Result] = {}
        for part in self._parts:
            found |= zip(part.ids, part.shard.results(), strict=True)
        return [found[number] for number in range(len(self.members))]

    def weights(self, number: int) -> dict[str, Tensor]:
        """The parameters and buffers of one member's best evaluation, as a `state_dict` of its model."""
        self._check([number])
        part, row = self._place(number)
        if isinstance(part.shard, Alone):
            return part.shard.run.best_model
        return part.shard.population.program.state_dict(*part.shard.slots[row].best)

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
        copies = {target: self._extracted(source) for target, source in sources.items()}
        models = {target: self.members[source] for target, source in sources.items()}
        for target, copied in copies.items():
            self._take_over(target, copied, models[target], best=target not in keeping)
        self._regroup()

    def extract(self, number: int) -> dict[str, Any]:
        """A copy of one member as tensors and plain values, for `adopt` of any cohort of the same benchmark."""
        self._check([number])
        return {"member": _plain(self.members[number]), "part": _saved(self._extracted(number))}

    def adopt(self, target: int, saved: Mapping[str, Any], *, best: bool = True) -> None:
        """What `exploit` does, with a source that another cohort extracted; `best`: its best evaluation too."""
        self._check([target])
        source = Member(**saved["member"])
        self._take_over(target, self._loaded(saved["part"], [self._resolved(source)]), source, best=best)
        self._regroup()

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
        resolved = {number: self._resolved(member) for number, member in changes.items()}
        for part in list(self._parts):
            here = {row: resolved[number] for row, number in enumerate(part.ids) if number in resolved}
            same = {row: who for row, who in here.items() if self._key(who) == part.key}
            if same and isinstance(part.shard, Shard):
                part.shard.replace(same)
            # Moving a member renumbers the rows behind it.
            leaving = [part.ids[row] for row in here if row not in same or isinstance(part.shard, Alone)]
            for number in leaving:
                self._move(number, resolved[number], self._key(resolved[number]))
        for number, member in changes.items():
            self.members[number] = member
        self._regroup()

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all members but those at `indices`, which are numbered anew in that order."""
        self._check(indices)
        if not indices:
            raise ValueError("keep: at least one member must stay")
        numbers = {old: new for new, old in enumerate(indices)}
        for part in self._parts:
            rows = [row for row, number in enumerate(part.ids) if number in numbers]
            if len(rows) < len(part.ids) and rows and isinstance(part.shard, Shard):
                part.shard = part.shard.select(rows)
            part.ids = [numbers[part.ids[row]] for row in rows]
        self._parts = [part for part in self._parts if part.ids]
        self.members = [self.members[old] for old in indices]

    def add(self, members: Sequence[Member]) -> None:
        """New members, which begin at a step 0 of their own."""
        resolved = [self._resolved(member) for member in members]
        groups: dict[Hashable, list[int]] = {}
        for offset, who in enumerate(resolved):
            groups.setdefault(self._key(who), []).append(offset)
        first = len(self.members)
        self.members += members
        for key, offsets in groups.items():
            self._parts += self._made(key, [resolved[k] for k in offsets], [first + k for k in offsets])
        self._regroup()

    # --- checkpoint ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the steps to come depend on, as tensors and plain values."""
        return {
            "members": [_plain(member) for member in self.members],
            "parts": [_saved(part) for part in self._parts],
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`, bit for bit, with the members that it holds."""
        self.members = [Member(**plain) for plain in saved["members"]]
        self._parts = []
        for old in saved["parts"]:
            self._parts.append(self._loaded(old, [self._resolved(self.members[number]) for number in old["ids"]]))

    def release(self) -> dict[str, Any]:
        """`state_dict()`, and the cohort holds no tensors any more until `load_state_dict`."""
        saved = self.state_dict()
        self._parts = []
        return saved

    # --- parts -----------------------------------------------------------------------------------------------------

    def _resolved(self, member: Member) -> Resolved:
        return Resolved.of(member, self.settings, self._setting.tasks, self._setting.splits.train)

    def _key(self, who: Resolved) -> Hashable:
        return who.key()

    def _check(self, numbers: Sequence[int] | Mapping[int, Any]) -> None:
        for number in numbers:
            if not 0 <= number < len(self.members):
                raise ValueError(f"member {number} does not exist: there are {len(self.members)}")

    def _places(self) -> list[tuple[_Part, int]]:
        found = {number: (part, row) for part in self._parts for row, number in enumerate(part.ids)}
        return [found[number] for number in range(len(self.members))]

    def _place(self, number: int) -> tuple[_Part, int]:
        return next((part, part.ids.index(number)) for part in self._parts if number in part.ids)

    def _made(self, key: Hashable, members: list[Resolved], ids: list[int]) -> list[_Part]:
        """New parts, as large as memory allows."""
        if self._capacities.get(key) != 0:
            if key not in self._capacities:
                self._capacities[key] = self._probed(members)
            size = self._capacities[key]
            if size:
                return [
                    _Part(key, Shard(self._setting, members[start : start + size]), ids[start : start + size])
                    for start in range(0, len(ids), size)
                ]
        return [_Part(key, Alone(self._setting, [who]), [number]) for who, number in zip(members, ids, strict=True)]

    def _probed(self, members: Sequence[Resolved]) -> int:
        """Members that one program can hold; 0 when they cannot be vectorised, which is said."""
        if not self._vectorised:
            return 0
        who = members[0]
        if not who.strategy.vmappable:
            self._tell(f"{who.strategy} cannot be vectorised: its members are trained one at a time")
            return 0
        try:
            trial = Shard(self._setting, [who, members[-1]])
            taken = bytes_a_member(trial.population, trial.step)
            return _MOST if self._limit is None else max(1, int(self._limit / taken))
        except torch.OutOfMemoryError:
            return 1
        except ValueError:
            if not self._setting.told:
                raise
            return 0  # each member tells by itself
        except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            self._tell(
                f"{who.strategy} on this model cannot be vectorised, its members are trained one at a time: {reason}"
            )
            return 0

    def _step(self, part: _Part) -> None:
        try:
            part.shard.step()
        except torch.OutOfMemoryError:
            if len(part.ids) == 1 or isinstance(part.shard, Alone):
                raise
            torch.cuda.empty_cache()
            half = len(part.ids) // 2
            self._capacities[part.key] = half
            self._tell(f"out of memory with {len(part.ids)} members at once: going on with {half}")
            rows = range(len(part.ids))
            halves = [part.shard.select(some) for some in (rows[:half], rows[half:])]
            other = _Part(part.key, halves[1], part.ids[half:])
            part.shard, part.ids = halves[0], part.ids[:half]
            self._parts.append(other)
            self._step(part)
            self._step(other)
            return
        except Exception as error:  # a loss or a model of a user's may raise anything
            if not self._setting.told:
                raise
            part.shard.fail(f"a training step raises {in_one_line(error)}")
            return
        part.shard.conclude()

    def _retire(self, parts: Sequence[_Part]) -> None:
        """Set finished members apart, so that the others go on without them."""
        for part in parts:
            over = [part.shard.finished(row) for row in range(len(part.ids))]
            if all(over):
                part.done = True
            elif any(over):
                assert isinstance(part.shard, Shard)
                done = [row for row, is_over in enumerate(over) if is_over]
                rest = [row for row, is_over in enumerate(over) if not is_over]
                self._parts.append(_Part(part.key, part.shard.select(done), [part.ids[row] for row in done], True))
                part.shard, part.ids = part.shard.select(rest), [part.ids[row] for row in rest]

    def _loaded(self, saved: Mapping[str, Any], members: list[Resolved]) -> _Part:
        shard = (Shard if saved["vmapped"] else Alone)(self._setting, members)
        device = self._setting.device  # which need not be where it was saved
        shard.load_state_dict(
            pytree.tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, saved["state"])
        )
        return _Part(self._key(members[0]), shard, [*saved["ids"]], saved["done"])

    def _take_over(self, target: int, copied: _Part, source: Member, *, best: bool) -> None:
        part, row = self._place(target)
        if part.key != copied.key:
            member = Member(source.strategy, self.members[target].seed, source.settings, source.losses)
            self._move(target, self._resolved(member), copied.key)
            part, row = self._place(target)
        if isinstance(part.shard, Alone):
            assert isinstance(copied.shard, Alone)
            part.shard.exploit(copied.shard, best=best)
        else:
            assert isinstance(copied.shard, Shard)
            part.shard.exploit(row, copied.shard, 0, best=best)
        part.done = False

    def _extracted(self, number: int) -> _Part:
        """A copy of one member's part."""
        part, row = self._place(number)
        shard = part.shard.copy() if isinstance(part.shard, Alone) else part.shard.select([row])
        return _Part(part.key, shard, [number])

    def _move(self, number: int, who: Resolved, key: Hashable) -> None:
        """Take a member out of its part and into one of its own, with other settings."""
        part, row = self._place(number)
        if not isinstance(part.shard, Alone) and self._capacity_of(key, who):
            shard: Shard | Alone = part.shard.restructured(row, who)
        elif isinstance(part.shard, Alone) and not self._capacity_of(key, who):
            shard = part.shard.restructured(who)
        else:
            raise ValueError(
                f"member {number} cannot become {who.strategy}: one of the two is trained one at a time, the other not"
            )
        self.members[number] = who.member
        if len(part.ids) > 1:
            assert isinstance(part.shard, Shard)
            rest = [other for other in range(len(part.ids)) if other != row]
            part.shard, part.ids = part.shard.select(rest), [part.ids[other] for other in rest]
        else:
            self._parts.remove(part)
        self._parts.append(_Part(key, shard, [number]))

    def _capacity_of(self, key: Hashable, who: Resolved) -> int:
        if key not in self._capacities:
            self._capacities[key] = self._probed([who])
        return self._capacities[key]

    def _regroup(self) -> None:
        """Bring members of one structure together again, finished ones apart from the others."""
        groups: dict[tuple[Hashable, bool], list[_Part]] = {}
        for part in self._parts:
            part.done = all(part.shard.finished(row) for row in range(len(part.ids)))
            groups.setdefault((part.key, part.done), []).append(part)
        self._parts = []
        for (key, done), parts in groups.items():
            joined: _Part | None = None
            for part in parts:
                room = self._capacities.get(key, 0)
                if joined is None or isinstance(part.shard, Alone) or len(joined.ids) + len(part.ids) > room:
                    joined = part
                    self._parts.append(part)
                else:
                    assert isinstance(joined.shard, Shard)
                    joined.shard, joined.ids = Shard.join([joined.shard, part.shard]), joined.ids + part.ids
                    joined.done = done


def _saved(part: _Part) -> dict[str, Any]:
    return {"ids": part.ids, "done": part.done, "vmapped": part.shard.vmapped, "state": part.shard.state_dict()}


def _plain(member: Member) -> dict[str, Any]:
    losses = {task: dict(values) for task, values in member.losses.items()}
    return {"strategy": member.strategy, "seed": member.seed, "settings": dict(member.settings), "losses": losses}
