"""What an asynchronous method remembers of runs that report one after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mtl.search.methods.method import Report


class ReportHistory:
    """The reports of each living run, since it last took over another."""

    def __init__(self) -> None:
        self._reports: dict[int, list[Report]] = {}

    def add(self, reports: Sequence[Report]) -> None:
        """Add reports. A finished run is forgotten, because its state is not kept."""
        for report in reports:
            self._reports.setdefault(report.trial, []).append(report)
        self.forget(report.trial for report in reports if report.finished)

    def forget(self, trials: Iterable[int]) -> None:
        """Forget these runs: they have another state now, which nobody has evaluated yet."""
        for trial in trials:
            self._reports.pop(trial, None)

    def at(self, step: int) -> list[Report]:
        """Of each run the report nearest to a step, the later one of two that are equally near.

        A run whose last report is not finite gives that one.
        """
        return [
            reports[-1] if reports[-1].broken else min(reversed(reports), key=lambda report: abs(report.step - step))
            for _, reports in sorted(self._reports.items())
        ]

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {
            "reports": [dataclasses.asdict(report) for reports in self._reports.values() for report in reports],
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._reports = {}
        for report in saved["reports"]:
            made = Report(**{**report, "scores": tuple(report["scores"]), "kept": tuple(report["kept"])})
            self._reports.setdefault(made.trial, []).append(made)
