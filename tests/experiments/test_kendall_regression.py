from pathlib import Path

import pytest

from experiments._common import Claim
from experiments.kendall_regression.run import check, main


def verdicts(claims: list[Claim]) -> dict[str, bool | None]:
    return {claim.text: claim.holds for claim in claims}


@pytest.mark.slow
def test_uncertainty_weighting_finds_the_published_and_the_true_noise(tmp_path: Path) -> None:
    claims = verdicts(main(["--out", str(tmp_path)]))
    late = [text for text in claims if "4000 steps, scale=raw" in text]
    assert [claims.pop(text) for text in late] == [False]  # Adam still remembers the first gradients
    assert claims and all(claims.values()), claims
    assert (tmp_path / "results.json").exists() and (tmp_path / "picture.png").exists()


def test_a_claim_fails_outside_its_tolerance() -> None:
    wrong = verdicts(check([8.65, 0.9], {"raw": [[10.3, 1.0]] * 800}))
    assert not any(wrong.values())
