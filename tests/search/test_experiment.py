"""The experiment script, with tiny arguments."""

import json

from experiments.pbt_vs_random.run import Arguments, main


def test_pbt_and_random_search_are_compared_at_equal_cost(tmp_path):
    arguments = Arguments("tests/tiny.py:Tiny", members=4, epochs=2, repetitions=2, out=str(tmp_path))
    found = main(arguments)
    assert found["steps"] == {"pbt": 2 * 4 * 16, "random": 2 * 4 * 16}
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["test"] == found["test"] and found["test"]["p_value"] is not None
    assert main(arguments) == found  # what is finished is not trained again
