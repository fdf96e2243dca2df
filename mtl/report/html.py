"""Pages of reports from templates: one file each, which opens anywhere, without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

_PACKAGE = "mtl.report"  # has `base.html` and `macros.html`, which the templates of all packages build on


def rendered(package: str, template: str, figures: Mapping[str, str], **values: Any) -> str:
    """A page; every text that comes from a study is escaped.

    Args:
        package: in whose folder the template is.
        template: its file, which extends `base.html`.
        figures: SVGs by name.
        values: that the template and `base.html` read.
    """
    loaders = [PackageLoader(package, ""), PackageLoader(_PACKAGE, "")]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = _breakable
    text = environment.get_template(template).render(
        style=Markup((resources.files(_PACKAGE) / "style.css").read_text(encoding="utf-8")),
        figures={name: Markup(svg) for name, svg in figures.items()},
        **values,
    )
    return text.strip() + "\n"


def _breakable(text: str) -> Markup:
    """Let a long spec break between its parts, and nowhere else."""
    return Markup(re.sub(r"(?<=[+:,])(?=[a-z])", "<wbr>", str(escape(text))))


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as (dotted name, text)."""
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            yield from flatten(item, f"{name}.")
        elif isinstance(item, list | tuple):
            yield name, ", ".join(map(str, item)) or "–"
        else:
            yield name, "–" if item is None else str(item)


def settings_of(config: Mapping[str, Any], *sections: str) -> dict[str, list[tuple[str, str]]]:
    """What a page shows of config.yaml: `settings`, which are these sections, and `environment`."""
    return {
        "settings": list(flatten({key: config[key] for key in sections if key in config})),
        "environment": list(flatten({key: config[key] for key in ("versions", "machine") if key in config})),
    }
