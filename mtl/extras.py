"""The optional packages that each part of `mtl` needs, and the command that installs them.

The library itself needs torch alone; everything else comes with an extra of the distribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: The name on the package index, where `mtl` belongs to another project.
DISTRIBUTION = "mtl-lab"

#: The packages of each extra, by the names under which they are imported.
EXTRAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "study": (
            "cmaes",
            "jinja2",
            "matplotlib",
            "moocore",
            "msgspec",
            "numpy",
            "optuna",
            "rich",
            "scipy",
            "sklearn",
            "tabulate",
            "threadpoolctl",
            "yaml",
        ),
        "ray": ("ray",),
        "wandb": ("wandb",),
        "data": ("PIL", "pandas", "pyarrow"),
        "encoders": ("safetensors", "timm", "transformers"),
        "peers": ("clarabel", "cvxpy", "ecos", "qpsolvers", "quadprog", "torchjd"),
    }
)


def install(extra: str) -> str:
    """The command that brings an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def missing(error: ModuleNotFoundError) -> str | None:
    """What to install after a failed import, in one line; None where the package belongs to no extra."""
    package = (error.name or "").partition(".")[0]
    for extra, packages in EXTRAS.items():
        if package in packages:
            return f"{package!r} is not installed; the extra {extra!r} brings it: {install(extra)}"
    return None
