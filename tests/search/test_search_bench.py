"""`mtl bench search`, small."""

import pytest


@pytest.mark.slow
def test_the_population_is_timed_against_ray_in_processes_of_their_own():
    pytest.importorskip("ray")
    from mtl.bench.search import run

    [row] = run(quick=True)
    assert set(row) == {"case", "ours", "peer", "peer_name", "ratio"}
    assert row["ratio"] == row["peer"] / row["ours"] > 1
    assert row["peer_name"].startswith("Ray Tune 2.") and "8 members x 20 steps" in row["case"]
