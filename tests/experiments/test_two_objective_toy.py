import math
from pathlib import Path

import pytest
import torch

from experiments.two_objective_toy.run import Toy, main, on_front

NEEDED = ["equal", "mgda", "pcgrad", "cagrad", "nash", "famo"]


def toy(scale: float = 1.0) -> Toy:
    return Toy(*(torch.tensor(value, dtype=torch.float64) for value in (scale, 1.0, (0.0, 0.0))))


def test_the_losses_are_those_of_the_public_code() -> None:
    x, y = 1.3, 2.1
    weight = math.tanh(y / 2)
    first = math.log(abs(0.5 * (-x - 7) - math.tanh(-y))) + 6
    second = math.log(abs(0.5 * (-x + 3) + math.tanh(-y) + 2)) + 6
    ours = toy(0.1).losses(torch.tensor([x, y], dtype=torch.float64))
    torch.testing.assert_close(ours, torch.tensor([0.1 * weight * first, weight * second], dtype=torch.float64))
    below = toy().losses(torch.tensor([x, -y], dtype=torch.float64))
    bowl = [((-x + sign * 7) ** 2 + 0.1 * (y - 8) ** 2) / 10 - 20 for sign in (1, -1)]
    torch.testing.assert_close(below, weight * torch.tensor(bowl, dtype=torch.float64))


def test_the_gradient_at_the_kink_is_not_zero() -> None:
    gradient = torch.func.jacrev(toy().losses)(torch.zeros(2, dtype=torch.float64))
    assert bool((gradient.norm(dim=1) > 1).all())


def test_points_beyond_the_ends_are_not_on_the_front() -> None:
    points = torch.tensor([[0.0, -8.36], [7.0, -8.43], [8.0, -8.36], [0.0, -8.0]])
    assert on_front(points).tolist() == [True, True, False, False]


@pytest.mark.slow
def test_the_claims_of_three_papers_hold(tmp_path: Path) -> None:
    claims = {claim.text: claim for claim in main(["--strategies", *NEEDED, "--out", str(tmp_path)])}
    assert len(claims) == 10
    assert [text for text, claim in claims.items() if claim.holds is False] == []
    assert sum(claim.holds is None for claim in claims.values()) == 2
    assert (tmp_path / "results.json").exists() and (tmp_path / "picture.png").exists()
