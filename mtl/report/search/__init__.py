"""The report of a search: what won, what mattered, how the schedule came about."""

from mtl.report.search.write import is_search, write_search_report

__all__ = ["is_search", "write_search_report"]
