"""The loss in a file: one that a search found, or one that a run has learned."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mtl.files.learned import read_loss_file
from mtl.losses.learned import is_learned, learned_in

_ENDING, _FORMAT = ".json", "mtl loss"
_ARGUMENT = re.compile(r":\s*[A-Za-z_]\w*=")


def content(spec: str) -> str:
    """What the file of a loss with this spec consists of."""
    return json.dumps({"format": _FORMAT, "loss": spec}, indent=1) + "\n"


def resolved(spec: str) -> str:
    """The spec that stands in a file, where a spec is the path of one (`runs/a/losses/found/left.json`); or itself.

    Of a loss that was learned it is the loss as it stays in the file.

    Raises:
        ValueError: there is no loss in the file; one line.
    """
    name = spec.strip()
    if not name.endswith(_ENDING) or _ARGUMENT.search(name):
        return spec
    path = Path(name).expanduser().resolve()
    about = read_loss_file(path, f"loss {name!r}: the file")
    if isinstance(about, dict) and about.get("format") == _FORMAT and isinstance(about.get("loss"), str):
        return str(about["loss"])
    if is_learned(about):
        return str(learned_in(path))
    raise ValueError(f"loss {name!r}: it is not the file of a loss that was found or learned")
