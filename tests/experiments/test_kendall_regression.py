import json
from pathlib import Path

import pytest

from experiments.kendall_regression.run import PUBLISHED, TRUTH, companion, main, notebook


@pytest.mark.slow
def test_uncertainty_weighting_finds_the_notebooks_noise() -> None:
    first, second = notebook()[-1]
    assert first == pytest.approx(PUBLISHED[0], abs=0.05)
    assert second == pytest.approx(PUBLISHED[1], abs=0.005)


@pytest.mark.slow
def test_uncertainty_weighting_finds_the_true_noise_of_many_points() -> None:
    assert companion("sum_to_k", steps=4000)[-1] == pytest.approx(TRUTH, rel=0.02)


def test_claims_of_an_unfinished_run_do_not_hold(tmp_path: Path) -> None:
    claims = main(["--epochs", "2", "--steps", "20", "--out", str(tmp_path)])
    assert len(claims) == 6
    assert not any(claim.holds for claim in claims)
    assert [claim["holds"] for claim in json.loads((tmp_path / "results.json").read_text())["claims"]] == [False] * 6
    assert (tmp_path / "picture.png").exists()
