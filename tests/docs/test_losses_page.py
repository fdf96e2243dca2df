"""The page of the losses has every loss, and its pictures show what they say."""

import sys
from pathlib import Path

import pytest
import torch

from mtl.losses import LOSSES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def generate(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import generate_losses

    yield generate_losses
    for name in ("generate", "generate_losses"):
        sys.modules.pop(name, None)


def test_every_loss_has_a_part_of_the_page_and_a_picture():
    text = (DOCS / "losses.md").read_text(encoding="utf-8")
    for name, cls in LOSSES.items():
        assert f"\n### {name}\n" in text and f"`{cls.formula}`" in text
        assert f"(losses/{name}.svg)" in text and (DOCS / "losses" / f"{name}.svg").exists()


@pytest.mark.parametrize("name", LOSSES)
def test_a_picture_draws_the_loss_and_its_slope(name, generate):
    cls = LOSSES[name]
    loss = generate.variants(cls)[-1][1]
    points, values, slopes = generate.curve(loss, generate.view_of(cls))
    assert all(torch.tensor(each).isfinite().all() for each in (values, slopes))
    assert max(values) > min(values)
    step = points[1] - points[0]
    seen = (torch.tensor(values[2:]) - torch.tensor(values[:-2])) / (2 * step)
    # Kinks aside, the drawn slope is that of the drawn curve.
    wrong = (seen - torch.tensor(slopes[1:-1])).abs() > 0.05 * (1 + torch.tensor(slopes).abs().max())
    assert wrong.sum() <= 12
