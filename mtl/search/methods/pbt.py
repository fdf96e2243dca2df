from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mtl.search.methods.method import Decision, Exploit, Method, Problem, Report, Start, random_starts
from mtl.search.methods.report_history import ReportHistory
from mtl.search.options import MethodOptions
from mtl.search.space import Values

_EXPLOIT, _EXPLORE = 1, 2  # streams of the generator


class PBT(Method):
    """Population-based training with truncation selection (Jaderberg et al., arXiv 1711.09846, section 4.1).

    After each interval the runs are ranked. A run in the bottom `quantile` takes over a random one in the top
    `quantile`: its parameters, the state of its optimizer and of its strategy, and its values, each multiplied by 0.8
    or 1.2 or drawn anew. A run that is not finite any more counts as the worst. It is replaced whatever the quantile,
    also during the burn-in.

    With `asynchronous`, the runs that come to the end of an interval are ranked among all runs. Each other run counts
    with its score at the step nearest to theirs, and is taken over as it was when it last reported. Runs keep their own
    number of steps.
    """

    name: ClassVar[str] = "pbt"
    hears: ClassVar[frozenset[str]] = frozenset({"quantile", "burn_in", "resample"})
    fewest: ClassVar[int] = 2
    copies: ClassVar[bool] = True
    waits: ClassVar[bool] = False
    shares_seed: ClassVar[bool] = False  # one state after another survives: more initial parameters are more chances
    about: ClassVar[str] = "population-based training, truncation selection (Jaderberg et al. 2017)"

    def __init__(self, problem: Problem, options: MethodOptions) -> None:
        super().__init__(problem, options)
        if options.asynchronous and problem.length % problem.interval:
            raise ValueError(
                f"--interval {problem.interval}: asynchronous training needs a divisor of the {problem.length} steps"
            )
        self._history = ReportHistory()

    def begin(self) -> list[Start]:
        return random_starts(self.problem, self.options.members)

    def decide(self, reports: Sequence[Report]) -> Decision:
        if not self.options.asynchronous:
            return Decision() if all(report.finished for report in reports) else self._among(reports, reports)
        self._history.add(reports)
        exploits: list[Exploit] = []
        for step in sorted({report.step for report in reports if not report.finished}):
            arrived = [report for report in reports if report.step == step]
            exploits += self._among(arrived, self._history.at(step)).exploits
            self._history.forget(exploit.target for exploit in exploits)
        return Decision(exploits)

    def _among(self, arrived: Sequence[Report], everybody: Sequence[Report]) -> Decision:
        """The exploits of the runs that arrived, ranked among all runs."""
        ranked = sorted(everybody, key=lambda report: (-report.score, report.trial))
        sound = [report for report in ranked if not report.broken]
        size = min(max(1, round(self.options.quantile * len(ranked))), len(ranked) // 2)
        best = sound[:size]
        worst = [report for report in ranked if report.broken]
        if self.options.quantile > 0 and arrived[0].step >= self.options.burn_in:
            worst += [report for report in ranked[-size:] if not report.broken and report not in best]
        if not best:
            return Decision()
        self.prepare(everybody)
        exploits = []
        here = {report.trial for report in arrived}
        for report in sorted(worst, key=lambda report: report.trial):
            if report.trial not in here:
                continue
            rng = self.problem.rng(_EXPLOIT, report.step, report.trial)
            source = best[int(rng.integers(len(best)))]
            exploits.append(Exploit(report.trial, source.trial, self.explore(source.values, report)))
        return Decision(exploits)

    def prepare(self, reports: Sequence[Report]) -> None:
        """Called with the reports of all runs before the first `explore` of a decision, for methods that fit a
        model.
        """

    def explore(self, values: Values, target: Report) -> Values:
        """The new values of `target`, which takes over a run that has `values`."""
        rng = self.problem.rng(_EXPLORE, target.step, target.trial)
        return self.space.perturbed(values, rng, self.options.resample)

    def state_dict(self) -> dict[str, Any]:
        return {"heard": self._history.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self._history.load_state_dict(saved["heard"])
