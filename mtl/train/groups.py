"""The members of a cohort in groups: those of one structure together, as many as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch

from mtl.messages import in_one_line
from mtl.population.memory import bytes_a_member
from mtl.train.compiled import further_passes
from mtl.train.ground import Ground
from mtl.train.group import Group
from mtl.train.job import Job
from mtl.train.lbfgs import remark
from mtl.train.single import Single
from mtl.train.stepper import Stepper
from mtl.train.surroundings import threads
from mtl.train.unvectorised import REFUSALS, cause
from mtl.train.vmapped import Vmapped


class Groups:
    """Groups of runs.

    What `vmap` cannot do is in groups of one, which is said once. Where a group runs out of memory it is split in two.

    Args:
        ground: what all runs stand on.
        memory_limit: bytes that one group may take, parameters and everything else; None for no limit.
        vectorised: False makes groups of one.
        tell: called with what a user should know.
    """

    def __init__(self, ground: Ground, memory_limit: int | None, vectorised: bool, tell: Callable[[str], None]) -> None:
        self._ground, self._limit, self._vectorised, self._tell = ground, memory_limit, vectorised, tell
        self.all: list[Group] = []
        #: While losses learn before training, how many of their steps were made, and all. Another thread may read it.
        self.learning: tuple[int, int] | None = None
        #: Runs that one group of a structure holds; 0 where they cannot be vectorised.
        self._rooms: dict[Hashable, int] = {}
        self._said: set[str] = set()

    def place(self, number: int) -> tuple[Group, int]:
        """The group of a member, and its row there."""
        return next((group, group.ids.index(number)) for group in self.all if number in group.ids)

    def places(self) -> list[tuple[Group, int]]:
        """The same for all members in the order of their numbers."""
        found = {number: (group, row) for group in self.all for row, number in enumerate(group.ids)}
        return [found[number] for number in range(len(found))]

    def begin(self, seconds: float) -> bool:
        """A piece of what precedes the first step of runs that are not finished; whether there was any left to do.

        Args:
            seconds: that a group takes for it, about.
        """
        more = False
        for group in [group for group in self.all if not group.over]:
            try:
                more = group.begin(seconds) or more
            except torch.OutOfMemoryError:
                raise  # one model at a time is made, so that fewer runs would not help
            except Exception as error:
                self._failed(group, error)
                self._retire(group)
        self.learning = self.before() if more else None
        return more

    def before(self) -> tuple[int, int]:
        """Steps of losses that learn before training, of runs that are not finished: those that were made, and all."""
        each = [group.before() for group in self.all if not group.over]
        return sum(made for made, _ in each), sum(steps for _, steps in each)

    def step(self) -> bool:
        """One optimizer step of every run that is not finished; False if there is none."""
        running = [group for group in self.all if not group.over]
        for group in running:
            self._step(group)
        return bool(running)

    def _step(self, group: Group) -> None:
        try:
            look = group.step()
        except torch.OutOfMemoryError:
            if len(group.ids) == 1:
                raise
            for half in self._halves(group):
                self._step(half)
            return
        except Exception as error:
            self._failed(group, error)
            look = True
        if look:
            self._retire(group)

    def _failed(self, group: Group, error: Exception) -> None:
        """What a loss or a model of a user's raises, which may be anything, ends the group where others may go on."""
        if not self._ground.told:
            raise error
        group.fail(f"a training step raises {in_one_line(error)}")

    def _halves(self, group: Group) -> list[Group]:
        torch.cuda.empty_cache()
        half = len(group.ids) // 2
        self._rooms[group.key] = half
        self._tell(f"out of memory with {len(group.ids)} members at once: going on with {half}")
        rows = range(len(group.ids))
        halves = [group.select(some) for some in (rows[:half], rows[half:])]
        self._put(group, halves)
        return halves

    def retire(self) -> None:
        """Set finished members apart, so that the others go on without them."""
        for group in list(self.all):
            self._retire(group)

    def _retire(self, group: Group) -> None:
        finished = group.look()
        if any(finished) and not group.over:
            rest = group.select([row for row, over in enumerate(finished) if not over])
            done = group.select([row for row, over in enumerate(finished) if over])
            done.over = True
            self._put(group, [rest])
            self.all.append(done)

    def add(self, jobs: Sequence[Job], first: int) -> None:
        """New runs before their first step, numbered from `first`."""
        kinds: dict[Hashable, list[int]] = {}
        self._say(next(filter(None, (job.late_warmup for job in jobs)), ""), "warmup")
        self._say(next(filter(None, (remark(job.settings) for job in jobs if job.optimizer.searches)), ""), "lbfgs")
        for offset, job in enumerate(jobs):
            kinds.setdefault(job.key, []).append(offset)
        for offsets in kinds.values():
            some = [jobs[offset] for offset in offsets]
            self._say(further_passes(some[0].settings, some[0].strategy))
            size = self._room(some) or 1
            for start in range(0, len(some), size):
                part = some[start : start + size]
                ids = [first + offset for offset in offsets[start : start + size]]
                self.all.append(Group.begun(self._ground, self._stepper(part), part, ids))

    def _say(self, text: str, about: str = "") -> None:
        """Tell the user, once; of several lines `about` one thing the first."""
        if text and (about or text) not in self._said:
            self._said.add(about or text)
            self._tell(text)

    def keep(self, numbers: Mapping[int, int]) -> None:
        """Drop all members but those that have a new number, by the old one."""
        left = []
        for group in self.all:
            rows = [row for row, number in enumerate(group.ids) if number in numbers]
            if not rows:
                continue
            over = group.over
            if len(rows) < len(group.ids):
                group = group.select(rows)
            group.over, group.ids = over, [numbers[number] for number in group.ids]
            left.append(group)
        self.all = left

    def extracted(self, number: int) -> Group:
        """A copy of one member."""
        group, row = self.place(number)
        return group.select([row])

    def change(self, jobs: Mapping[int, Job]) -> None:
        """Give members other jobs: in place where the structure is the same, otherwise they move."""
        for group in list(self.all):
            here = {row: jobs[number] for row, number in enumerate(group.ids) if number in jobs}
            same = {row: job for row, job in here.items() if job.key == group.key}
            if same:
                group.change(same)
            for number in [group.ids[row] for row in here if row not in same]:
                self.move(number, jobs[number])

    def move(self, number: int, job: Job) -> None:
        """Take a member out of its group and into one of its own, with a job of another structure."""
        group, row = self.place(number)
        before = group.runs[row].job
        if len(before.losses) != len(job.losses):
            raise ValueError(
                f"member {number} weighs {len(before.losses)} losses ({', '.join(before.losses)}) and cannot go on "
                f"with {len(job.losses)} ({', '.join(job.losses)})"
            )
        vectorised = self._room([job]) > 0
        with threads(job.settings.threads):
            moved = group.restructured(row, job, vectorised=vectorised)
        self._put(group, [group.without(row)] if len(group.ids) > 1 else [])
        self.all.append(moved)

    def regroup(self) -> None:
        """Bring members of one structure together again, finished ones apart from the others."""
        kinds: dict[tuple[Hashable, bool], list[Group]] = {}
        self.retire()
        for group in self.all:
            kinds.setdefault((group.key, group.over), []).append(group)
        self.all = []
        for (key, over), groups in kinds.items():
            batches: list[list[Group]] = []
            for group in groups:
                together = sum(len(other.ids) for other in [*(batches[-1] if batches else []), group])
                if batches and together <= self._rooms.get(key, 0):
                    batches[-1].append(group)
                else:
                    batches.append([group])
            for first, *others in batches:
                joined = first.join(others) if others else first
                joined.over = over
                self.all.append(joined)

    def state_dict(self) -> list[dict[str, Any]]:
        """All groups as tensors and plain values, each with the room of its structure."""
        return [{**group.state_dict(), "room": self._rooms[group.key]} for group in self.all]

    def load(self, saved: Sequence[Mapping[str, Any]], job_of: Callable[[int], Job]) -> None:
        """Groups as they were saved, with the jobs of the members by number."""
        self.all = [self.loaded(each, [job_of(number) for number in each["ids"]]) for each in saved]
        for group, each in zip(self.all, saved, strict=True):
            group.look()
            # Whatever this cohort was made with: members that come apart are to find together as before.
            self._rooms[group.key] = each["room"] if "room" in each else self._room([run.job for run in group.runs])

    def loaded(self, saved: Mapping[str, Any], jobs: Sequence[Job]) -> Group:
        """A group as it was saved, on the device of this cohort."""
        with threads(jobs[0].settings.threads):
            stepper: Stepper = (Vmapped if saved["vmapped"] else Single)(self._ground, jobs)
        return Group.of(self._ground, stepper, jobs, saved)

    def _put(self, group: Group, others: Sequence[Group]) -> None:
        """Others in the place of a group."""
        place = self.all.index(group)
        self.all[place : place + 1] = others

    # --- how many fit ----------------------------------------------------------------------------------------------

    def _stepper(self, jobs: Sequence[Job]) -> Stepper:
        with threads(jobs[0].settings.threads):
            return (Vmapped if self._room(jobs) else Single)(self._ground, jobs)

    def _room(self, jobs: Sequence[Job]) -> int:
        """Runs that one group of jobs like these holds; 0 when they cannot be vectorised, which is said."""
        key = jobs[0].key
        if key not in self._rooms:
            with threads(jobs[0].settings.threads):
                self._rooms[key] = self._tried(jobs)
        return self._rooms[key]

    def _tried(self, jobs: Sequence[Job]) -> int:
        if not self._vectorised:
            return 0
        strategy = jobs[0].strategy
        if not strategy.vmappable:
            self._tell(f"{strategy} cannot be vectorised: its members are trained one at a time")
            return 0
        if jobs[0].settings.accumulate > 1:
            self._tell(f"accumulate={jobs[0].settings.accumulate}: runs with {strategy} are trained one at a time")
            return 0
        if jobs[0].settings.compile and self._ground.missing:
            self._tell(f"compile: labels are missing, so runs with {strategy} are trained one at a time")
            return 0
        if jobs[0].settings.amp == "fp16":
            self._tell(
                f"amp=fp16: each run has a scale of its own, and those with {strategy} are trained one at a time"
            )
            return 0
        if not jobs[0].optimizer.side_by_side:
            self._say(f"optimizer {jobs[0].settings.optimizer} is stepped one member at a time")
            return 0
        try:
            trial = Vmapped(self._ground, [jobs[0], jobs[-1]])
            trial.population.compiled = None  # a program for two would be made for nothing
            if self._limit is None:  # only measured where it counts: `torch.func` in a loss cannot be measured
                trial.step([0, 0], [0, 0])
                return trial.most
            return max(1, int(self._limit / bytes_a_member(trial.population, lambda: trial.step([0, 0], [0, 0]))))
        except torch.OutOfMemoryError:
            return 1
        except ValueError:
            if not self._ground.told:
                raise
            return 0  # each member tells by itself
        except REFUSALS as error:
            self._say(cause(self._ground, jobs[0], error))
            return 0
