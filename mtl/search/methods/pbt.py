from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mtl.search.methods.method import Decision, Exploit, Method, Options, Problem, Report, Start, random_starts
from mtl.search.space import Values

_EXPLOIT, _EXPLORE = 1, 2  # streams of the generator


class PBT(Method):
    """Population-based training with truncation selection (Jaderberg et al., arXiv 1711.09846, section 4.1).

    After each interval a run in the bottom `quantile` takes over weights, optimizer and strategy state of a random one
    in the top `quantile`, and its values perturbed by 0.8 or 1.2 or drawn anew. A run that is not finite counts as the
    worst and is replaced however many there are, also during the burn-in.
    """

    name: ClassVar[str] = "pbt"
    about: ClassVar[str] = "population-based training, truncation selection (Jaderberg et al. 2017)"

    def __init__(self, problem: Problem, options: Options) -> None:
        super().__init__(problem, options)
        if options.members < 2:
            raise ValueError(f"--members {options.members}: {self.name} needs at least 2")
        if options.trials not in (None, options.members):
            raise ValueError(f"--trials {options.trials}: {self.name} trains its members and no others")

    def begin(self) -> list[Start]:
        return random_starts(self.problem, self.options.members)

    def decide(self, reports: Sequence[Report]) -> Decision:
        if all(report.finished for report in reports):
            return Decision()
        ranked = sorted(reports, key=lambda report: (-report.score, report.trial))
        sound = [report for report in ranked if not report.broken]
        size = min(max(1, round(self.options.quantile * len(ranked))), len(ranked) // 2)
        best = sound[:size]
        worst = [report for report in ranked if report.broken]
        if self.options.quantile > 0 and reports[0].step >= self.options.burn_in:
            worst += [report for report in ranked[-size:] if not report.broken and report not in best]
        if not best:
            return Decision()
        self.prepare(reports)
        exploits = []
        for report in sorted(worst, key=lambda report: report.trial):
            rng = self.problem.rng(_EXPLOIT, report.step, report.trial)
            source = best[int(rng.integers(len(best)))]
            exploits.append(Exploit(report.trial, source.trial, self.explore(source.values, report)))
        return Decision(exploits)

    def prepare(self, reports: Sequence[Report]) -> None:
        """Hear all reports before the first `explore` of a decision."""

    def explore(self, values: Values, target: Report) -> Values:
        """New values for `target`, which takes over a run that has `values`."""
        rng = self.problem.rng(_EXPLORE, target.step, target.trial)
        return self.space.perturbed(values, rng, self.options.resample)
