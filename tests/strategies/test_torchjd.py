"""TorchJD's methods as strategies, in a balancer beside ours."""

import pytest
import torch

import mtl
from mtl.strategies import from_torchjd, make
from tests.problems import TwoLayers, random_signals

peers = pytest.importorskip("torchjd.aggregation", reason="needs torchjd, of the extra `peers`")


def gradients(strategy, **options):
    """The gradients of all parameters after three steps on one problem."""
    model = TwoLayers()
    balancer = mtl.Balancer(strategy, model.trunk.parameters(), scale="raw", **options)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(3):
        optimizer.zero_grad()
        balancer.backward(model.losses(), fresh=model.losses)
        optimizer.step()
    assert not balancer.skipped
    return [p.grad for p in model.trunk.parameters()], [p.grad for p in model.heads.parameters()]


@pytest.mark.parametrize(
    ("method", "ours", "needs"),
    [
        (peers.UPGrad(), "upgrad", "gramian"),
        (peers.DualProjWeighting(), "dualproj", "gramian"),
        (peers.MGDA(epsilon=1e-12, max_iters=20000), "mgda", "gramian"),
        (peers.IMTLG(), "imtl-g", "gramian"),
        (peers.AlignedMTL(torch.ones(3, dtype=torch.float64)), "aligned", "gramian"),
        (peers.Krum(n_byzantine=0, n_selected=1), "krum", "gramian"),
        (peers.PCD(tau=0.02), "pcd", "gramian"),
        (peers.Sum(), "equal", "jacobian"),
        (peers.ExcessMTL(robust_step_size=0.2, n_warmup_steps=1), "excess:lr=0.2", "jacobian"),
        (peers.ConFIG(), "config", "jacobian"),
        (peers.TrimmedMean(trim_number=1), "trimmed-mean:fraction=0.34", "jacobian"),
    ],
    ids=str,
)
def test_a_wrapped_method_trains_the_trunk_as_ours_does(method, ours, needs):
    strategy = from_torchjd(method)
    assert strategy.needs == {"losses", needs} and not strategy.vmappable
    own = {"head_weighting": "own"}  # aggregators say nothing about heads
    for one, other in zip(gradients(strategy, **own), gradients(ours, **own), strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_modo_reads_the_product_of_two_further_batches():
    strategy = from_torchjd(peers.MoDoWeighting(gamma=0.05, rho=0.0), reads="cross")
    for one, other in zip(gradients(strategy), gradients("modo:gamma=0.05"), strict=True):
        torch.testing.assert_close(one, other)


def test_wrapped_methods_go_into_chains_and_wrappers():
    strategy = mtl.chain(make("uncertainty"), mtl.every(from_torchjd(peers.UPGrad()), 2))
    assert not strategy.vmappable and make("uncertainty+mgda+ema").vmappable
    for one, other in zip(gradients(strategy), gradients("uncertainty+[upgrad+every:n=2]"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_wrapped_method_resumes():
    strategy, model = from_torchjd(peers.ConFIG()), TwoLayers()
    first, second = (mtl.Balancer(strategy, model.trunk.parameters()) for _ in range(2))
    first.backward(model.losses())
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.backward(model.losses()), second.backward(model.losses()))


def test_vmap_is_refused_by_name():
    signals = {name: value[None] for name, value in random_signals(3).items()}
    strategy = from_torchjd(peers.UPGrad())
    with pytest.raises(RuntimeError, match="does not work under vmap"):
        torch.func.vmap(lambda given: strategy((), given)[0])(signals)


@pytest.mark.parametrize(
    ("method", "reads", "message"),
    [
        ("upgrad", None, "not a weighting or an aggregator"),
        (peers.UPGrad, None, "give an instance"),
        (peers.CRMOGMWeighting(peers.MeanWeighting()), None, "cannot be told"),
        (peers.UPGrad(), "losses", "must be one of gramian, jacobian, cross"),
    ],
    ids=str,
)
def test_what_cannot_be_wrapped_is_refused(method, reads, message):
    with pytest.raises(ValueError, match=message):
        from_torchjd(method, reads)
