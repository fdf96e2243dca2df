"""Where the peers of the benches are: in the folder `benchmarks/peers` of a checkout, not in an installed package."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

#: Of a checkout, and the folder in it.
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "peers"
_PACKAGE = "mtl_bench_peers"  # the folder's name for imports, which no other package has


def check_peers_are_here() -> None:
    """Raise `ValueError` where this package was installed without the peers, in one line that says where they are."""
    if not (FOLDER / "__init__.py").is_file():
        raise ValueError(
            "this bench compares with other libraries, and what runs them is not in an installed mtl but in the folder "
            "benchmarks/peers of its source: get that and, inside it, pip install -e '.[all,peers]'"
        )


def peer_module(name: str) -> ModuleType:
    """The module of that name in `benchmarks/peers`.

    Raises:
        ValueError: there is no such folder, because the package was installed without it.
    """
    check_peers_are_here()
    if _PACKAGE not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            _PACKAGE, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
        )
        assert spec is not None and spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules[_PACKAGE] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"{_PACKAGE}.{name}")
