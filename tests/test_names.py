"""One name, one thing."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Names that two classes have, and why.
SHARED: dict[str, str] = {}


def test_no_two_classes_have_one_name():
    found = defaultdict(list)
    for path in sorted((ROOT / "mtl").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(ROOT)))
    twice = {name: paths for name, paths in found.items() if len(paths) > 1 and name not in SHARED}
    assert not twice
