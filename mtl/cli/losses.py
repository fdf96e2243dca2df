"""`mtl check-loss`: tests a loss and says in plain words what it found."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from mtl.cli.console import console
from mtl.cli.errors import BadInput
from mtl.cli.options import CheckLossOptions
from mtl.losses import make_loss
from mtl.losses.check import FAIL, NOTE
from mtl.losses.check import check_loss as check

_STYLES = {FAIL: "bold red", NOTE: "yellow"}


def check_loss(options: CheckLossOptions) -> int:
    """`mtl check-loss`; 1 if something failed."""
    try:
        loss = make_loss(options.loss)
        checked = check(loss, options.kind)
    except ValueError as error:
        raise BadInput(str(error)) from error
    table = Table("test", "result", "what was found", show_edge=False, pad_edge=False)
    for finding in checked.findings:
        style = _STYLES.get(finding.status, "green")
        table.add_row(finding.name, f"[{style}]{finding.status}[/]", escape(finding.text))
    console.print(table)
    failed = [finding.name for finding in checked.findings if finding.status == FAIL]
    verdict = f"failed: {', '.join(failed)}" if failed else "can be used"
    console.print(f"{loss}: {verdict}", highlight=False, markup=False, soft_wrap=True)
    return 1 if failed else 0
