"""Imports a user's Python file."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from mtl.messages import in_one_line

_FOLDERS = re.compile(r"[^+*,=:]*/(?=[^/+*,=:]+\.(py|csv|tsv):)", re.IGNORECASE)


def without_folders(spec: str) -> str:
    """A spec in which files have their names alone, for people to read."""
    return _FOLDERS.sub("", spec)


def imported(path: Path, what: str) -> ModuleType:
    """The file as a module; what stands beside it can be imported by it.

    Args:
        path: of the file.
        what: it is, for messages, such as `loss file`.

    Raises:
        ValueError: it does not exist, is not Python, or fails; one line.
    """
    if not path.is_file():
        raise ValueError(f"{what} {str(path)!r} does not exist")
    spec = importlib.util.spec_from_file_location(f"mtl_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{what} {str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    if (beside := str(path.resolve().parent)) not in sys.path:
        sys.path.append(beside)  # for what the file imports from beside itself; what is installed comes before it
    sys.modules[spec.name] = module  # dataclasses in the file look themselves up here
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{what} {str(path)!r} fails to import: {in_one_line(error)}") from error
    return module
