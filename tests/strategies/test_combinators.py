import pytest
import torch

import mtl
from mtl.strategies import make
from mtl.strategies.combinators.normalize import sum_to_k
from tests.problems import random_signals, run


def test_a_chain_shows_the_second_strategy_the_scaled_problem():
    signals = random_signals(3)
    first, second = make("static:weights=1/2/5"), make("mgda")
    scale, _ = first(first.init(signals["losses"]), signals)
    rows = scale[:, None] * signals["jacobian"]
    scaled = {"losses": scale * signals["losses"], "gramian": rows @ rows.T}
    expected = scale * second(second.init(signals["losses"]), scaled)[0]
    both = mtl.chain(first, second)
    weights, _ = both(both.init(signals["losses"]), signals)
    torch.testing.assert_close(weights, expected)


def test_the_min_norm_update_does_not_depend_on_a_chained_uniform_scale():
    signals = random_signals(4)
    plain, scaled = make("mgda"), make("static+mgda")
    direction = [s(s.init(signals["losses"]), signals)[0] @ signals["jacobian"] for s in (plain, scaled)]
    torch.testing.assert_close(direction[0], 4 * direction[1])


def test_a_chain_passes_needs_and_state():
    chained = make("uncertainty+gradnorm+famo")
    assert chained.needs == {"losses", "gramian", "after"}
    state = chained.init(torch.ones(3))
    assert len(state) == 3


def test_every_updates_on_multiples_of_n_and_holds_in_between():
    held = make("rlw+every:n=3")
    weights = run(held, [random_signals(3, seed) for seed in range(7)])
    fresh = run(make("rlw"), [random_signals(3, seed) for seed in range(7)])
    for step in range(7):
        torch.testing.assert_close(weights[step], fresh[step - step % 3])


def test_every_asks_for_its_signals_only_when_due():
    held = make("mgda+every:n=3")
    assert [sorted(held.needs_at(step)) for step in range(4)] == [
        ["gramian", "losses"],
        ["losses"],
        ["losses"],
        ["gramian", "losses"],
    ]
    signals = [random_signals(3, seed) for seed in range(4)]
    full = run(held, signals)
    frugal = run(held, [{k: s[k] for k in held.needs_at(t)} for t, s in enumerate(signals)])
    torch.testing.assert_close(torch.stack(full), torch.stack(frugal))


def test_nested_every_multiplies():
    nested = make("rlw+every:n=2+every:n=3")
    weights = run(nested, [random_signals(3, seed) for seed in range(13)])
    changes = [t for t in range(1, 13) if not torch.equal(weights[t], weights[t - 1])]
    assert changes == [6, 12]


def test_ema_starts_at_the_first_weights_and_averages():
    signals = [random_signals(3, seed) for seed in range(3)]
    plain, smooth = run(make("rlw"), signals), run(mtl.ema(make("rlw"), 0.5), signals)
    expected = plain[0]
    torch.testing.assert_close(smooth[0], expected)
    for t in (1, 2):
        expected = 0.5 * expected + 0.5 * plain[t]
        torch.testing.assert_close(smooth[t], expected)


def test_normalize_and_clip():
    signals = [random_signals(4)]
    assert run(make("rlw+normalize"), signals)[0].sum() == pytest.approx(4)
    clipped = run(make("rlw+clip:low=0.2,high=0.3"), signals)[0]
    assert clipped.min() >= 0.2 and clipped.max() <= 0.3


def test_sum_to_k_counts_absolute_values_and_survives_zeros():
    torch.testing.assert_close(sum_to_k(torch.tensor([1.0, -3.0])), torch.tensor([0.5, -1.5]))
    assert torch.equal(sum_to_k(torch.zeros(3)), torch.zeros(3))
