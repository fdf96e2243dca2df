"""Micro-batches of the trainer, against the whole batch and against a loop of one's own."""

import pytest
import torch

from mtl import Balancer
from mtl.train import Cohort, Member, Settings, Stopped, train
from mtl.train.augment import augment
from mtl.train.batches import Batches
from tests.population.problem import Normed, Three, ThreeMissing, close

pytestmark = pytest.mark.usefixtures("float64")

STRATEGIES = ["equal", "uncertainty", "mgda", "famo"]


class ThreeUnlabelled(ThreeMissing):
    """Every fifth example has no label at all."""

    name = "three-unlabelled"

    def load(self):
        splits = super().load()
        for target in splits.train.targets.values():
            target[torch.arange(320) % 5 == 0] = torch.nan if target.is_floating_point() else -100
        return splits


def trained(benchmark, strategy, seed=1, **settings):
    return train(
        benchmark, benchmark.load(), strategy, Settings(**{"lr": 1e-2, "batch_size": 16} | settings), seed=seed
    )


@pytest.mark.parametrize("count", [2, 3, 16])
def test_equal_weights_make_the_steps_of_the_whole_batch(count):
    chosen = {"steps": 12, "clip": 1.0, "l1": 1e-3, "noise": 0.1, "mixup": 0.3}
    whole, cut = trained(Three(), "equal", **chosen), trained(Three(), "equal", accumulate=count, **chosen)
    for key, curve in whole.history.items():
        close(cut.history[key], curve, 1e-10)
    for name, value in whole.weights.items():
        torch.testing.assert_close(cut.weights[name], value, atol=1e-9, rtol=0)
    assert cut.cost["steps"] == whole.cost["steps"] == 12
    assert cut.cost["forwards"] == count * whole.cost["forwards"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_loop_of_ones_own_with_the_balancer_makes_the_same_steps(strategy):
    benchmark, splits = Normed(), Normed().load()
    found = trained(benchmark, strategy, steps=6, accumulate=4)
    assert benchmark.seen[-24:] == [4] * 24

    torch.manual_seed(1)
    model = benchmark.model(benchmark.tasks, splits.train.inputs).train()
    names = [task.name for task in benchmark.tasks]
    balancer = Balancer(strategy, model.shared_parameters(), tasks=names, update_every=4, steps_per_epoch=20, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batches = Batches(splits.train, 16, 1)
    for step in range(6):
        optimizer.zero_grad()
        for part in range(4):
            micro = batches[step].take(slice(4 * part, 4 * part + 4))

            def losses(micro=micro):
                predictions = model(micro.inputs)
                return {t.name: t.loss(predictions[t.name], micro.targets[t.name]) for t in benchmark.tasks}

            balancer.backward(losses(), recompute=losses)
        for parameter in model.parameters():
            parameter.grad /= 4
        optimizer.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found.weights[name], value, atol=1e-10, rtol=0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_in_micro_batches_resumes_to_the_same_result(strategy, tmp_path):
    settings, path, asked = (
        Settings(steps=45, lr=1e-2, batch_size=16, accumulate=3),
        tmp_path / "run.pt",
        iter(range(99)),
    )
    whole = train(Normed(), Three().load(), strategy, settings, seed=2)
    with pytest.raises(Stopped):
        train(
            Normed(),
            Three().load(),
            strategy,
            settings,
            seed=2,
            checkpoint_path=path,
            should_stop=lambda: next(asked) == 27,
        )
    resumed = train(Normed(), Three().load(), strategy, settings, seed=2, checkpoint_path=path)
    assert resumed.metrics == whole.metrics and resumed.history == whole.history
    assert all(torch.equal(value, whole.weights[name]) for name, value in resumed.weights.items())


@pytest.mark.parametrize("strategy", ["sdmgrad", "auto-lambda"])
def test_what_else_a_strategy_reads_is_as_large_as_a_micro_batch(strategy):
    benchmark = Normed()
    trained(benchmark, strategy, steps=3, accumulate=4)
    assert set(benchmark.seen[-12:]) == {4}


def test_micro_batches_may_lack_a_task_and_all_of_them():
    found = trained(ThreeUnlabelled(), "uncertainty", steps=30, batch_size=8, accumulate=8)
    assert (found.status, set(found.skipped)) == ("done", {"absent_task"}) and found.skipped["absent_task"] > 30
    assert all(value.isfinite().all() for value in found.weights.values())


def test_a_cohort_says_that_it_trains_such_members_one_at_a_time():
    told, members = [], [Member("equal", 0), Member("equal", 1), Member("famo", 0)]
    settings = Settings(steps=5, lr=1e-2, batch_size=16, accumulate=2)
    cohort = Cohort(Normed(), Three().load(), members, settings, tell=told.append)
    cohort.advance(5)
    for member, found in zip(members, cohort.results(), strict=True):
        assert found.metrics == train(Normed(), Three().load(), member.strategy, settings, seed=member.seed).metrics
    assert told == [
        "accumulate=2: runs with equal are trained one at a time",
        "accumulate=2: runs with famo are trained one at a time",
    ]


def test_more_micro_batches_than_examples_are_refused():
    with pytest.raises(ValueError, match=r"^training: accumulate=9 must be at most batch_size=8$"):
        Settings(batch_size=8, accumulate=9)


def test_of_a_mix_that_a_micro_batch_has_one_side_of_that_side_counts():
    """Some halves of a batch know a product and not that of the partner, or the other way round; nothing is trained."""
    benchmark, steps = ThreeMissing(), 24
    found = trained(benchmark, "equal", steps=steps, batch_size=4, accumulate=2, mixup=0.3, lr=0.0)
    assert found.status == "done" and not found.skipped.get("nonfinite_loss")
    model = benchmark.model(benchmark.tasks, benchmark.load().train.inputs).train()
    model.load_state_dict(found.weights)
    batches, one_sided = Batches(benchmark.load().train, 4, 1), 0
    for step, (_, product, _) in enumerate(found.history["train_loss"]):
        drawn = augment(batches[step], 0.0, 0.3, 1, step)
        predicted, halves = model(drawn.batch.inputs)["product"][:, 0].detach(), []
        for half in (slice(0, 2), slice(2, 4)):
            sides = []
            for batch, share in ((drawn.batch, drawn.share), (drawn.partner, 1 - drawn.share)):
                errors = (predicted[half] - batch.targets["product"][half]).square()
                sides += [share * errors[~errors.isnan()].mean()] * bool((~errors.isnan()).any())
            one_sided += len(sides) == 1
            halves += [sum(sides)] * bool(sides)
        assert product == (pytest.approx(float(sum(halves)) / len(halves)) if halves else None)
    assert one_sided > 3
