"""The strategies and solvers timed here in other libraries, with the settings that make them compute the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

#: Makes TorchJD's aggregator for K tasks, from its module `torchjd.aggregation`.
AGGREGATORS: dict[str, Callable[[Any, int], Any]] = {
    "mgda": lambda jd, _k: jd.MGDA(),
    "imtl-g": lambda jd, _k: jd.IMTLG(),
    "cagrad": lambda jd, _k: jd.CAGrad(c=0.4, norm_eps=0.0),
    "nash": lambda jd, k: jd.NashMTL(n_tasks=k, max_norm=0.0),
    "aligned": lambda jd, _k: jd.AlignedMTL(),
    "fairgrad": lambda jd, _k: jd.FairGrad(alpha=2.0),
    "upgrad": lambda jd, _k: jd.UPGrad(),
    "dualproj": lambda jd, _k: jd.DualProj(),
    "pcgrad": lambda jd, _k: jd.PCGrad(),
    "config": lambda jd, _k: jd.ConFIG(),
}
#: Draw an order of the tasks, so that updates of two libraries differ.
RANDOM = ("pcgrad",)


def load_torchjd(bench: str) -> ModuleType:
    """`torchjd.aggregation`; a ValueError says how to install it and the solvers under it."""
    try:
        import cvxpy
        import quadprog
        import torchjd.aggregation
    except ImportError as error:
        raise ValueError(
            f"mtl bench {bench} compares with TorchJD, CVXPY and quadprog, and {error.name} is not installed: "
            "pip install 'mtl[peers]'"
        ) from error
    assert cvxpy and quadprog
    return torchjd.aggregation


@contextmanager
def cvxpy_warnings_ignored() -> Iterator[None]:
    """CVXPY warns that TorchJD's and nash-mtl's problem is compiled again in each solve."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not DPP")
        yield


def torchjd_name() -> str:
    """With its version."""
    return f"TorchJD {version('torchjd')}"


def cagrad_by_slsqp(c: float = 0.4) -> Callable[[Tensor], Tensor]:
    """Weights of CAGrad as its authors and LibMTL find them: SciPy's SLSQP on the host."""

    def weigh(jacobian: Tensor) -> Tensor:
        gramian = (jacobian @ jacobian.T).cpu().double().numpy()
        size = len(gramian)
        uniform = np.full(size, 1 / size)
        radius = c * np.sqrt(gramian.mean() + 1e-8)

        def objective(w: Any) -> float:
            return float(w @ gramian @ uniform + radius * np.sqrt(w @ gramian @ w + 1e-8))

        sums_to_one = {"type": "eq", "fun": lambda w: 1 - w.sum()}
        w = minimize(objective, uniform, bounds=[(0, 1)] * size, constraints=sums_to_one).x
        weights = uniform + radius / np.sqrt(w @ gramian @ w + 1e-8) * w
        return torch.as_tensor(weights).to(jacobian)

    return weigh
