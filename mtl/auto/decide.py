"""A decision from its beginning to its end: the race, the finals, and the runs between the default and the winner."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtl.auto.clock import Clock
from mtl.auto.dear import Dear, dear_choices, without
from mtl.auto.finals import USUAL_LABEL, Finalist, Finals, choose_finalists
from mtl.auto.holdout import HeldOut
from mtl.auto.narrow import narrowed, narrowings
from mtl.auto.path import importance_in, path_between
from mtl.auto.plan import RACE_SHARE, TimePlan, make_plan
from mtl.auto.race import Race
from mtl.auto.space import USUAL
from mtl.auto.speed import Alone, MakeTried, Speed, lasting, measure_alone, measure_speed, step_seconds
from mtl.auto.state import Leader, read_state
from mtl.auto.usual import changes, usual_point
from mtl.auto.verdict import compare
from mtl.auto.winner import RACE_WEIGHTS
from mtl.benchmarks import Splits
from mtl.report.read import read_runs
from mtl.search.methods import Problem
from mtl.search.objective import Objective
from mtl.search.plan import cohort_maker, decided, run_length, searched_losses
from mtl.search.search import Search, SearchObserver
from mtl.search.space import Space, Values, make_member
from mtl.study.rundir import RunDirectory
from mtl.study.setup import StudySetup
from mtl.train import check_losses
from mtl.train import checkpoint as checkpoints

RACE, FINAL, PATH = "race", "final", "path"
_TRIED, _PROGRAMS = 7, 3  # runs of unlike structure whose speed is measured: the default, and two threes of one each
_PACES = 500  # points of the pace that a figure shows; all of it is written after every segment
_PAIRED = 2  # seeds below which nothing can be said of a difference


@dataclass(frozen=True)
class Wanted:
    """What a user asks for beside the time.

    Attributes:
        seed: of the race; those of the finals come after it.
        seeds: of each finalist, at most.
        finalists: beside the default, at most.
        members: runs of the first bracket; None for the usual number.
    """

    seed: int
    seeds: int
    finalists: int
    members: int | None = None


class Decider:
    """Carries out a decision, or what is left of it.

    Args:
        setting: of the benchmark, with its recipe.
        held: its data, with the holdout apart.
        space: what is decided on.
        objective: what counts.
        wanted: by the user.
        directory: of the study.
        clock: counts the time.
        say: called with a line about each decision.
        observers: of the race and the finals.

    Attributes:
        state: how far it is.
        directory: of the study.
        clock: counts the time.
    """

    def __init__(
        self,
        setting: StudySetup,
        held: HeldOut,
        space: Space,
        objective: Objective,
        wanted: Wanted,
        directory: RunDirectory,
        clock: Clock,
        say: Callable[[str], None],
        observers: Sequence[SearchObserver] = (),
    ) -> None:
        racing = dataclasses.replace(setting, splits=held.of_the_race)
        self._setting, self._held, self._wanted, self._say = setting, held, wanted, say
        self._space, self._objective = decided(space, racing), objective
        self.directory, self.clock, self._observers = directory, clock, list(observers)
        check_losses(setting.benchmark, held.of_the_race, setting.settings, searched_losses(setting.benchmark, space))
        self.state = read_state(directory.path)
        self._search: Search | None = None  # that is carried out

    def carry_out(self, should_stop: Callable[[], bool]) -> None:
        """Decide.

        Raises:
            Stopped: `should_stop` said so; what was done is saved.
            OSError: something could not be written.
        """
        plan = self._planned()
        if RACE not in self.state.ended:
            plan = self._race(plan, should_stop)
        if FINAL not in self.state.ended:
            self._finals(plan, should_stop)
        if PATH not in self.state.ended:
            self._path(plan, should_stop)

    @property
    def learning(self) -> str:
        """While losses of runs learn before training, how far they are; otherwise empty."""
        return "" if self._search is None else self._search.learning

    def keep(self, **changes: object) -> None:
        """Save how far the decision is."""
        self.state = dataclasses.replace(self.state, elapsed=self.clock.elapsed, **changes)  # type: ignore[arg-type]
        self.state.save(self.directory.path)

    # --- the parts -------------------------------------------------------------------------------------------------

    def _planned(self) -> TimePlan:
        """How the time is spent; measured once, so that a resumed decision goes on as it was begun."""
        if self.state.plan is not None:
            self.keep(plan=self.state.plan.within(self.clock.limit))
            return self.state.plan
        recipe = run_length(self._setting)
        alone = self._alone()
        dear = self._dear(recipe, alone)
        space = without(self._space, dear)
        first = self._race_of(Problem(space, recipe, recipe, self._wanted.seed), _TRIED).begin()
        speed = self._speed(alone, [start.values for start in first], _PROGRAMS)
        plan = make_plan(
            self.clock.limit,
            self.clock.elapsed,
            recipe,
            speed,
            [(each.dropped, each.kinds) for each in narrowings(space)],
            finalists=self._wanted.finalists,
            seeds=self._wanted.seeds,
            members=self._wanted.members,
        )
        plan = dataclasses.replace(plan, dear=tuple(dear))
        self.keep(plan=plan)
        for line in plan.words(self.clock.limit):
            self._say(line)
        return plan

    def _alone(self) -> Alone:
        """What the default costs just now."""
        usual = make_member(USUAL, self._wanted.seed)
        return measure_alone(self._cohorts()([usual]), self.clock.limit, self.clock.now)

    def _dear(self, recipe: int, alone: Alone) -> list[Dear]:
        """The choices of architecture for which there is no time."""
        make_cohort, limit, now = self._cohorts(), self.clock.limit, self.clock.now
        return dear_choices(
            self._space,
            USUAL,
            alone.step,
            lambda values: step_seconds(make_cohort([make_member(values, self._wanted.seed)]), limit, now),
            recipe,
            RACE_SHARE * limit,
        )

    def _cohorts(self) -> MakeTried:
        """What trains runs of which only the speed counts."""
        return cohort_maker(lasting(dataclasses.replace(self._setting, splits=self._held.of_the_race)))

    def _speed(self, alone: Alone, points: Sequence[Values], programs: int) -> Speed:
        """What runs cost just now, those of some unlike points too."""
        usual, *others = (make_member(values, self._wanted.seed) for values in (USUAL, *points))
        return measure_speed(self._cohorts(), alone, usual, others, programs, self.clock.limit, self.clock.now)

    def _race_of(self, problem: Problem, members: int, over: Callable[[], bool] = lambda: False) -> Race:
        """What proposes and compares runs."""
        return Race(problem, members, USUAL, usual_point(problem.space, self._setting.settings), over)

    def _race(self, plan: TimePlan, should_stop: Callable[[], bool]) -> TimePlan:
        """Race; the plan with what follows of it."""
        space = narrowed(without(self._space, plan.dear), plan.dropped)
        problem = Problem(space, plan.length, plan.interval, self._wanted.seed)
        method = self._race_of(problem, plan.members, self._ends(plan.race_until))
        setting = self._of_length(plan.length, self._held.of_the_race)
        race = Search(
            RACE, "", method, problem, self._objective, cohort_maker(setting), phase="search", tell=setting.tell
        )
        self._run(race, should_stop)
        records = [record for record in self.directory.records() if record["phase"] == "search"]
        best = choose_finalists(records, self._objective.higher_is_better(), self._wanted.finalists, dict(USUAL))
        recipe, tasks = self._setting.settings, self._setting.benchmark.tasks
        finalists = [dataclasses.replace(each, values=changes(space, recipe, tasks, each.values)) for each in best]
        # How busy the machine is may have changed since the beginning.
        speed = self._speed(self._alone(), [each.values for each in finalists], len(finalists))
        plan = plan.after_the_race(self.clock.elapsed, len(finalists) - 1, self._wanted.seeds, speed)
        self.keep(plan=plan, finalists=tuple(finalists[: plan.finalists + 1]), ended=self._ended(RACE))
        self._say(
            f"The race is over: {len(records)} candidates, {sum(r['status'] == 'done' for r in records)} of them "
            "trained to the end."
        )
        self._say(plan.words_of_finals())
        return plan

    def _finals(self, plan: TimePlan, should_stop: Callable[[], bool]) -> None:
        finals = self._side_by_side(FINAL, FINAL, self.state.finalists, plan.seeds, plan, plan.finals_until)
        self._run(finals, should_stop)
        self.keep(ended=self._ended(FINAL))

    def _path(self, plan: TimePlan, should_stop: Callable[[], bool]) -> None:
        """Train what lies between the default and the winner, where there is time for two seeds at least."""
        verdict = compare(
            [record for record in self.directory.records() if record["phase"] == "final"],
            self._objective.higher_is_better(),
        )
        if verdict is not None and verdict.winner != USUAL_LABEL and not self.state.path:
            winner = next(each for each in self.state.finalists if each.label == verdict.winner)
            race = [run for run in read_runs(self.directory.path)[0] if run.record["phase"] == "search"]
            found = importance_in(race)
            points = path_between(dict(USUAL), winner.values, {} if found is None else found.parts)
            seeds = plan.seeds_until(plan.path_until - self.clock.elapsed, len(points))
            if points and seeds >= _PAIRED:
                self.keep(path=tuple(points), path_seeds=seeds)
            elif points:
                self._say("No time is left for runs between the default and the winner.")
        if self.state.path:
            path = self._side_by_side(PATH, PATH, self.state.path, self.state.path_seeds, plan, plan.path_until)
            self._run(path, should_stop)
        self.keep(ended=self._ended(PATH))

    def _ended(self, part: str) -> dict[str, float]:
        """When each part was over, with this one now."""
        return {**self.state.ended, part: self.clock.elapsed}

    def _side_by_side(
        self, name: str, phase: str, finalists: Sequence[Finalist], seeds: int, plan: TimePlan, until: float
    ) -> Finals:
        setting = self._of_length(plan.final_length, self._held.of_finalists)
        problem = Problem(self._space, plan.final_length, plan.final_interval, self._wanted.seed)
        fresh = [self._wanted.seed + 1 + k for k in range(seeds)]
        return Finals(
            name, finalists, fresh, problem, self._objective, setting, self._held,
            cohort_maker(setting), self._ends(until), phase,
        )  # fmt: skip

    def _run(self, search: Search, should_stop: Callable[[], bool]) -> None:
        self._search = search
        search.run(self.directory, self._setting.benchmark.name, [*self._observers, _Keeper(self)], should_stop)

    def _of_length(self, steps: int, splits: Splits) -> StudySetup:
        """The setting of runs of so many steps."""
        settings = dataclasses.replace(self._setting.settings, steps=steps, patience=None)
        return dataclasses.replace(self._setting, splits=splits, settings=settings)

    def _ends(self, until: float) -> Callable[[], bool]:
        """Whether another segment like the longest so far would end later than it would be missed."""
        last, longest = self.clock.elapsed, 0.0

        def over() -> bool:
            nonlocal last, longest
            now = self.clock.elapsed
            last, longest = now, max(longest, now - last)
            return now + longest / 2 >= until

        return over


class _Keeper:
    """Saves after each segment how far the decision is, and the weights of the best run of the race so far."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider

    def segment(self, search: Search) -> None:
        """Save the time, and a new leader."""
        pace = self._decider.state.pace
        if search.phase == "search":
            now = self._decider.clock.elapsed
            if not pace or now - pace[-1][0] >= self._decider.clock.limit / _PACES:
                pace = (*pace, (now, search.totals.steps))
        self._decider.keep(pace=pace, leader=self._leader(search))

    def trial(self, search: Search, record: dict[str, object]) -> None:  # noqa: ARG002
        """Save the weights of a new leader that ends, while they are there."""
        if (leader := self._leader(search)) != self._decider.state.leader:
            self._decider.keep(leader=leader)

    def _leader(self, search: Search) -> Leader | None:
        """The leader, its weights saved where it is a new one."""
        before = self._decider.state.leader
        if search.phase != "search":
            return before
        able = [
            (trial.best.scores[0], -trial.number, trial, trial.best)
            for trial in search.trials
            if trial.best is not None and trial.status in ("", "done", "stopped") and not trial.broken
        ]
        if not able:
            return before
        *_, trial, best = max(able, key=lambda each: each[:2])
        if before is not None and (before.trial, before.step) == (trial.number, best.step):
            return before
        if trial.number in search.standing.living:
            weights = {name: value.cpu() for name, value in search.weights(trial.number).items()}
            checkpoints.save(self._decider.directory.path / "checkpoints" / RACE_WEIGHTS, weights)
        return Leader(
            search.run_name(trial.number),
            trial.number,
            trial.seed,
            best.values,
            best.step,
            search.objective.natural(best.scores),
            best.selection,
        )
