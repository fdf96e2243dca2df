"""The trace of fixed seeds repeats, and a single changed bit shows."""

import pytest
import torch

from benchmarks import trace


@pytest.mark.parametrize("part", [trace.balancer, trace.population, trace.training])
def test_a_trace_is_the_same_whatever_was_drawn_before(part):
    first = list(part("famo"))
    torch.rand(3)
    assert list(part("famo")) == first
    assert dict(part("uncertainty")).keys() == dict(first).keys()
    assert dict(part("uncertainty")) != dict(first)


@pytest.mark.slow
def test_the_search_of_the_trace_gives_a_line_for_every_run(capsys):
    traced = dict(trace.search())
    runs = [f"search-{run:04}" for run in range(4)]
    assert list(traced) == ["schedule.jsonl", *(f"{what} of {run}" for run in runs for what in ("record", "curves"))]
    assert len(set(traced.values())) == len(traced)
    assert "pbt reached selection" in capsys.readouterr().out


def test_a_changed_bit_type_or_shape_changes_the_digest():
    numbers = torch.arange(6.0)
    changed = numbers.clone()
    changed[3] = torch.nextafter(changed[3], torch.tensor(9.0))
    others = [changed, numbers.double(), numbers.reshape(2, 3)]
    digests = {trace.sha256(numbers), *(trace.sha256(other) for other in others)}
    assert len(digests) == 4
    assert trace.sha256(numbers) == trace.sha256(numbers.clone())
