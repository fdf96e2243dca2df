"""Studies: plans of many runs, carried out so that nothing finished is lost, in a directory of their own."""

from mtl.study.execute import execute
from mtl.study.plan import Plan, RunPlan, compare_plan
from mtl.study.rundir import RunDirectory

__all__ = ["Plan", "RunDirectory", "RunPlan", "compare_plan", "execute"]
