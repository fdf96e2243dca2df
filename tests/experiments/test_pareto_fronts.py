from pathlib import Path

import pytest
import torch

from experiments.pareto_fronts.run import front, hypervolume, main


def test_a_dominated_point_adds_no_hypervolume() -> None:
    points = torch.tensor([[0.5, 0.3], [0.6, 0.9], [0.2, 0.6], [1.2, 0.0]], dtype=torch.float64)
    assert hypervolume(points) == pytest.approx((1 - 0.2) * (1 - 0.6) + (1 - 0.5) * (0.6 - 0.3))


def test_the_front_runs_from_one_optimum_to_the_other() -> None:
    ends = front(11)[[0, -1]]
    far = 1 - torch.exp(torch.tensor(-4.0, dtype=torch.float64))
    torch.testing.assert_close(ends, torch.stack([torch.stack([far, 0 * far]), torch.stack([0 * far, far])]))


@pytest.mark.slow
def test_every_strategy_ends_where_its_paper_says(tmp_path: Path) -> None:
    claims = {claim.text: claim.holds for claim in main(["--out", str(tmp_path)])}
    assert len(claims) == 7
    assert False not in claims.values(), claims
    assert (tmp_path / "results.json").exists() and (tmp_path / "picture.png").exists()
