"""L1, dropout, input noise and mixup of the trainer, against their definitions."""

import pytest
import torch

from mtl.benchmarks import Split, load_checked
from mtl.train import Settings, Stopped, train
from mtl.train.augment import augment
from tests.tiny import Tiny


def test_l1_adds_the_sign_of_each_parameter_to_its_gradient():
    """One step of plain SGD from the same start: parameters differ by lr * l1 * sign."""
    benchmark, splits, moved = Tiny(), load_checked(Tiny()), {}
    begun = []
    for l1 in (0.0, 0.25):
        made = []

        class Watched(Tiny):
            def model(self, tasks, inputs, made=made):
                made.append(super().model(tasks, inputs))
                return made[-1]

        settings = Settings(steps=1, optimizer="sgd", momentum=0.0, lr=0.1, l1=l1, batch_size=32)
        torch.manual_seed(3)
        begun.append(
            torch.cat(
                [p.detach().flatten() for p in benchmark.model(benchmark.tasks, splits.train.inputs).parameters()]
            )
        )
        train(Watched(), splits, "equal", settings, seed=3)
        moved[l1] = torch.cat([p.detach().flatten() for p in made[0].parameters()])
    torch.testing.assert_close(moved[0.25] - moved[0.0], -0.1 * 0.25 * begun[0].sign(), atol=1e-6, rtol=0)


def test_mixup_blends_inputs_as_it_blends_targets():
    x = torch.randn(64, 5)
    batch = Split(x, {"index": torch.arange(64)})
    mixed = augment(batch, 0.0, 0.7, seed=1, step=4)
    partner = mixed.partner.targets["index"]
    assert sorted(partner.tolist()) == list(range(64)) and 0 < mixed.share < 1
    torch.testing.assert_close(mixed.batch.inputs, mixed.share * x + (1 - mixed.share) * x[partner])


def test_shares_of_mixup_follow_the_beta_distribution():
    batch = Split(torch.zeros(2, 1), {})
    shares = torch.tensor([augment(batch, 0.0, 0.4, seed=0, step=step).share for step in range(1500)])
    beta = torch.distributions.Beta(torch.tensor(0.4), torch.tensor(0.4))
    assert shares.mean() == pytest.approx(0.5, abs=0.04)
    assert shares.var() == pytest.approx(float(beta.variance), rel=0.1)


def test_noise_has_the_deviation_asked_for_and_repeats_by_seed_and_step():
    batch = Split(torch.zeros(4000, 1), {})
    drawn = [augment(batch, 0.3, 0.0, seed, step).batch.inputs for seed, step in ((1, 2), (1, 2), (1, 3), (2, 2))]
    assert drawn[0].std() == pytest.approx(0.3, rel=0.05)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[3])


def test_dropout_is_set_in_the_model_and_refused_where_there_is_none():
    splits, settings = load_checked(Tiny()), Settings(steps=1, dropout=0.4)
    made = []

    class Watched(Tiny):
        def model(self, tasks, inputs):
            made.append(super().model(tasks, inputs))
            return made[-1]

    train(Watched(), splits, "equal", settings)
    assert [part.p for part in made[0].modules() if isinstance(part, torch.nn.Dropout)] == [0.4]


def test_dropout_is_refused_where_there_is_no_trunk_to_have_it():
    class WithoutTrunk(Tiny):
        trunk = ""

    with pytest.raises(ValueError, match=r"dropout=0.4: the model of benchmark 'tiny' has no dropout"):
        train(WithoutTrunk(), load_checked(Tiny()), "equal", Settings(steps=1, dropout=0.4))


def test_a_regularized_run_resumes_to_the_same_result(tmp_path):
    settings = Settings(epochs=4, batch_size=32, lr=1e-2, l1=1e-4, dropout=0.2, noise=0.1, mixup=0.3, clip=1.0)
    splits, path, asked = load_checked(Tiny()), tmp_path / "run.pt", iter(range(100))
    whole = train(Tiny(), splits, "famo", settings, seed=2)
    with pytest.raises(Stopped):
        train(Tiny(), splits, "famo", settings, seed=2, checkpoint_path=path, should_stop=lambda: next(asked) == 13)
    resumed = train(Tiny(), splits, "famo", settings, seed=2, checkpoint_path=path)
    assert resumed.metrics == whole.metrics and resumed.history == whole.history
