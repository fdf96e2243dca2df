"""Whatever is done with torch's generators and threads, runs are the same; and they leave both as they were."""

import pytest
import torch

from mtl.benchmarks import Task
from mtl.metrics import mae
from mtl.train import Cohort, Member, Settings, train
from tests.tiny import Tiny, TinyWithDropout

SETTINGS = Settings.of(TinyWithDropout.recipe, {"steps": 12})


def meddle(step):
    """What a caller may do between two steps."""
    torch.manual_seed(step)
    torch.rand(step + 1)


def trained(meddles):
    benchmark = TinyWithDropout()
    watch = (lambda step, _total: meddle(step)) if meddles else (lambda *_: None)
    return train(benchmark, benchmark.load(), "famo", SETTINGS, seed=3, progress=watch)


def test_a_run_does_not_depend_on_the_generator_of_its_caller():
    torch.manual_seed(1)
    one = trained(meddles=False)
    torch.manual_seed(2)
    other = trained(meddles=True)
    assert one.history == other.history and one.metrics == other.metrics


@pytest.mark.parametrize("vectorised", [True, False])
def test_members_do_not_depend_on_the_generator_of_their_caller(vectorised):
    benchmark, found = TinyWithDropout(), []
    for meddles in (False, True):
        members = [Member("famo", 1), Member("equal", 2)]
        cohort = Cohort(benchmark, benchmark.load(), members, SETTINGS, vectorised=vectorised)
        for step in range(12):
            if meddles:
                meddle(step)
            cohort.advance(1)
        found.append([result.history for result in cohort.results()])
    assert found[0] == found[1]


class Drawing(Tiny):
    """A loss of it draws at random."""

    tasks = (
        Task("product", lambda p, t: (p + 0.1 * torch.randn_like(p) - t).square().mean(), (mae,)),
        *Tiny.tasks[:1],
    )


@pytest.mark.parametrize("vectorised", [True, False])
def test_what_a_loss_draws_follows_from_the_seed_and_goes_on_from_a_checkpoint(vectorised):
    benchmark, found = Drawing(), []
    for cut in (None, 5, 7):
        torch.manual_seed(cut or 0)
        members = [Member("equal", 1), Member("equal", 2)]
        cohort = Cohort(benchmark, benchmark.load(), members, SETTINGS, vectorised=vectorised)
        if cut:
            cohort.advance(cut)
            saved, cohort = cohort.state_dict(), Cohort(benchmark, benchmark.load(), members, SETTINGS)
            cohort.load_state_dict(saved)
        cohort.advance(100)
        found.append([(result.history, result.metrics, result.validation) for result in cohort.results()])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("vectorised", [True, False])
def test_training_leaves_generator_and_threads_as_they_were(vectorised):
    benchmark, threads = TinyWithDropout(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(5)
        before = torch.get_rng_state()
        cohort = Cohort(
            benchmark, benchmark.load(), [Member("famo", 1), Member("mgda", 2)], SETTINGS, vectorised=vectorised
        )
        cohort.advance(5)
        cohort.exploit({0: 1})
        cohort.evaluate()
        cohort.advance(100)
        cohort.results()
        trained(meddles=False)
        assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_threads_are_those_of_the_settings_while_a_step_is_made():
    seen = []

    class Looks(TinyWithDropout):
        def model(self, tasks, inputs):
            model = super().model(tasks, inputs)
            model.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
            return model

    benchmark = Looks()
    settings = Settings.of(benchmark.recipe, {"steps": 2, "threads": 2})
    train(benchmark, benchmark.load(), "equal", settings)
    assert set(seen) == {2} and torch.get_num_threads() == 1


def test_a_step_that_raises_puts_the_generator_back():
    class Raises(TinyWithDropout):
        def model(self, *_given):
            torch.rand(3)
            raise RuntimeError("no model")

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no model"):
        train(Raises(), Raises().load(), "equal", SETTINGS)
    assert torch.equal(torch.get_rng_state(), before)
