"""What a search asks of the population beyond single values: changes of structure, several at once."""

import pytest

from mtl.benchmarks import load_checked
from mtl.losses import Huber
from mtl.train import Cohort, Member, Settings, train
from tests.tiny import Tiny

SETTINGS = Settings(steps=8, batch_size=32)


def cohort(members):
    return Cohort(Tiny(), load_checked(Tiny()), members, SETTINGS)


def test_several_members_of_one_program_change_their_structure_at_once():
    made = cohort([Member("equal", seed) for seed in range(4)])
    made.advance(4)
    before = [evaluation.selection for evaluation in made.evaluate()]
    changed = {0: Member("uncertainty", 0), 1: Member("equal", 1, {"optimizer": "sgd"}), 3: Member("famo", 3)}
    made.replace(changed)
    assert [evaluation.selection for evaluation in made.evaluate()] == pytest.approx(before, abs=1e-6)
    assert [member.strategy for member in made.members] == ["uncertainty", "equal", "equal", "famo"]
    made.exploit({0: 1, 3: 2})
    after = [evaluation.selection for evaluation in made.evaluate()]
    assert after == pytest.approx([before[1], before[1], before[2], before[2]], abs=1e-6)
    made.advance(4)
    assert {result.status for result in made.results()} == {"done"}


def test_a_member_can_have_another_loss_than_its_benchmark():
    class WithHuber(Tiny):
        tasks = (Tiny.tasks[0], type(Tiny.tasks[1])("product", Huber(delta=0.3), Tiny.tasks[1].metrics))

    made = cohort([Member("equal", 5, losses={"product": {"name": "huber", "delta": 0.3}}), Member("equal", 5)])
    made.advance(8)
    single = train(WithHuber(), load_checked(Tiny()), "equal", SETTINGS, seed=5)
    found = made.results()
    assert found[0].metrics["product"]["mae"] == pytest.approx(single.metrics["product"]["mae"], abs=1e-5)
    assert found[1].metrics["product"]["mae"] != pytest.approx(single.metrics["product"]["mae"], abs=1e-4)
