"""Who won, in numbers and words."""

import dataclasses

import pytest
import torch
from scipy import stats

from mtl.auto.finals import choose_finalists
from mtl.auto.space import USUAL
from mtl.auto.verdict import compare
from mtl.auto.winner import recipe_for
from mtl.auto.words import notes
from mtl.auto.words import tested as reached_on_test
from mtl.auto.words import verdict as in_words
from mtl.benchmarks import find_benchmark
from mtl.train import Settings

TINY = "tests/tiny.py:Tiny"
SELECTION = {"selection": True}


def final(label, seed, score, seconds=1.0, selected=None):
    picked = {"strategy": label, "seed": seed, "objective": {"selection": score if selected is None else selected}}
    return {**picked, "holdout_score": score, "cost": {"seconds": seconds}}


def finals(**scores):
    named = {label.replace("_", "-"): values for label, values in scores.items()}
    return [final(label, seed, score) for label, values in named.items() for seed, score in enumerate(values)]


def test_a_finalist_that_is_better_under_every_seed_is_taken():
    found = compare(finals(default=[0.5, 0.6, 0.55, 0.5, 0.58], found_1=[0.6, 0.69, 0.66, 0.6, 0.68]), SELECTION)
    assert (found.winner, found.chosen, found.rivals) == ("found-1", "found-1", [])
    assert found.of("found-1").against.difference.mean == pytest.approx(0.1, abs=0.01)


def test_one_that_cannot_be_told_apart_from_the_default_is_not():
    found = compare(finals(default=[0.5, 0.6, 0.55], found_1=[0.7, 0.5, 0.56]), SELECTION)
    assert (found.winner, found.chosen) == ("found-1", "default") and "default" in found.rivals


@pytest.mark.parametrize(("differences", "taken"), [([0.02, -0.005, 0.02], True), ([0.02, -0.02, 0.005], False)])
def test_one_that_is_probably_better_is_taken(differences, taken):
    usual = [0.5, 0.6, 0.55]
    records = finals(default=usual, found_1=[score + gain for score, gain in zip(usual, differences, strict=True)])
    found = compare(records, SELECTION)
    one_sided = stats.ttest_1samp(differences, 0.0, alternative="greater").pvalue
    assert found.of("found-1").doubt == pytest.approx(one_sided) and not found.of("found-1").better
    assert found.chosen == ("found-1" if taken else "default") and taken == (one_sided <= 1 / 3)


@pytest.mark.parametrize(("swing", "taken"), [(0.0, True), (0.02, True), (0.2, False)])
def test_seeds_that_agree_on_examples_that_do_not_are_no_reason_to_take_one(swing, taken):
    folds = torch.linspace(-1, 1, 20)
    records = finals(default=[0.5, 0.6, 0.55], found_1=[0.53, 0.62, 0.58])
    for record in records:
        shift = swing * folds if record["strategy"] == "found-1" else 0 * folds
        record["holdout_without"] = (record["holdout_score"] + shift).tolist()
    found = compare(records, SELECTION)
    against = found.of("found-1").against
    assert found.chosen == ("found-1" if taken else "default")
    of_examples = 19 / 20 * float((swing * folds).square().sum())
    assert against.of_examples == pytest.approx(of_examples / (of_examples + against.spread**2 / 3), abs=1e-6)
    assert found.of("found-1").better == (swing < 0.005) and found.rivals == ([] if swing < 0.005 else ["default"])


def test_what_intervals_hold_for_is_said():
    default, found = entry("default", 0.0, None), entry("found-1", 0.05, 0.003)

    def covered(examples=750, **known):
        against = {**found["against_default"], **known}
        entries = [
            {**each, "steps": 0, "without_result": 0} for each in (found | {"against_default": against}, default)
        ]
        summary = {
            "holdout": {"examples": examples, "from": "validation"}, "race": {"diverged": 0, "failed": 0},
            "finalists": entries, "winner": None, "seeds": [1, 2, 3], "plan": None, "time": {"ended": {}},
        }  # fmt: skip
        return notes(summary, [])[1]

    assert "The choice of examples has 40% of the variance." in covered(of_examples=0.4)
    assert "other examples could tell otherwise" in covered(of_examples=None)
    assert "of fewer than 40 examples" in covered(30, of_examples=None)
    assert "undefined without some of them" in covered(of_examples=None)


def test_the_chance_of_a_finalist_that_lags_behind_and_of_one_seed():
    found = compare(finals(default=[0.5, 0.6, 0.55], found_1=[0.4, 0.55, 0.4]), {"selection": True})
    assert found.of("found-1").doubt == pytest.approx(
        stats.ttest_1samp([-0.1, -0.05, -0.15], 0.0, alternative="greater").pvalue
    )
    alone = compare(finals(default=[0.5], found_1=[0.9]), SELECTION)
    assert alone.of("found-1").doubt is None and alone.chosen == "default"


def test_runs_that_are_too_short_to_tell_leave_the_default():
    records = finals(default=[0.5, 0.6, 0.55, 0.5, 0.58], found_1=[0.6, 0.69, 0.66, 0.6, 0.68])
    found = compare(records, SELECTION, telling=False)
    assert found is not None and (found.winner, found.chosen) == ("found-1", "default")


def test_the_winner_is_picked_by_other_examples_than_it_is_tested_on():
    records = finals(default=[0.5, 0.6, 0.55], found_1=[0.6, 0.71, 0.66], found_2=[0.9, 0.97, 0.91])
    for record in records:
        record["objective"]["selection"] = {"default": 0.1, "found-1": 0.8, "found-2": 0.7}[record["strategy"]]
    found = compare(records, SELECTION)
    assert (found.winner, found.chosen) == ("found-1", "found-1")
    for record in records:
        record["objective"]["selection"] *= -1
    assert compare(records, {"selection": False}).winner == "found-1", "lower may be better"


def test_a_finalist_with_a_run_that_has_no_result_cannot_win():
    found = compare(finals(default=[0.5, 0.6, 0.55], found_1=[0.9, None, 0.95], found_2=[0.6, 0.71, 0.64]), SELECTION)
    assert found.winner == "found-2" and found.compared[-1].label == "found-1"


def test_without_a_default_there_is_no_verdict():
    assert (
        compare(finals(default=[None, None], found_1=[1.0, 1.0]), SELECTION) is None and compare([], SELECTION) is None
    )


def trial(number, score, status="done", **values):
    return {"trial": number, "status": status, "objective": {"mae": score}, "hyperparameters": {**USUAL, **values}}


def test_finalists_are_the_best_points_each_once_after_the_default():
    records = [
        trial(0, 0.1),
        trial(1, 0.5, lr=0.01),
        trial(2, 0.3, "stopped", lr=0.02),
        trial(3, 0.3, lr=0.02),
        trial(4, 0.05, "diverged", lr=0.03),
        trial(5, None, lr=0.04),
        trial(6, 0.4, **{"strategy.static.weights": [0.5, 0.5]}),
    ]
    found = choose_finalists(records, {"mae": False}, 2, USUAL)
    assert [(each.label, each.trial) for each in found] == [("default", None), ("found-1", 2), ("found-2", 6)]
    assert found[2].values["strategy.static.weights"] == (0.5, 0.5)
    assert [each.trial for each in choose_finalists(records, {"mae": True}, 1, USUAL)] == [None, 1]


def test_finalists_are_of_unlike_structure_where_the_best_of_the_race_are():
    records = [
        trial(0, 0.10, lr=0.01, strategy="famo"),
        trial(1, 0.11, lr=0.02, strategy="famo"),
        trial(2, 0.12, lr=0.03, strategy="famo"),
        trial(3, 0.13, lr=0.04, strategy="dwa"),
        *(trial(number, 0.2 + number / 100, lr=number / 100, strategy="famo") for number in range(4, 10)),
        trial(10, 0.4, lr=0.5, strategy="imtl-l"),
    ]
    found = choose_finalists(records, {"mae": False}, 3, USUAL)
    assert [each.trial for each in found] == [None, 0, 3, 1], "imtl-l is not among the best"
    assert [each.trial for each in choose_finalists(records[:3], {"mae": False}, 3, USUAL)] == [None, 0, 1, 2]


def test_of_points_that_came_to_the_same_there_is_one_finalist():
    records = [trial(0, 0.1, clip=7.0), trial(1, 0.1, clip=10.0), trial(2, 0.2, clip=0.1)]
    assert [each.trial for each in choose_finalists(records, {"mae": False}, 3, USUAL)] == [None, 0, 2]


def test_a_point_that_the_race_tried_under_two_seeds_is_one_finalist():
    records = [trial(0, 0.1, **{"loss.y": "mae"}), trial(1, 0.12, **{"loss.y": "mae"}), trial(2, 0.2, lr=0.5)]
    assert [each.trial for each in choose_finalists(records, {"mae": False}, 3, USUAL)] == [None, 0, 2]


def entry(label, mean, p, seconds=1.0):
    against = {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "n": 5, "p_value": p, "effect_size": 1.0}
    known = {"better": bool(p and p < 0.05), "doubt": p and p / 2}
    return {"label": label, "against_default": None if label == "default" else against, "seconds": seconds, **known}


def words_of(winner, chosen, *entries, rivals=(), steps=920, race=920):
    summary = {
        "objective": {"selection": True}, "holdout": {"examples": 750, "from": "validation"}, "winner": winner,
        "chosen": chosen, "rivals": rivals, "finalists": entries,
        "plan": {"length": race, "final_length": steps, "recipe": 920}, "final_steps": steps, "telling": steps > 306,
    }  # fmt: skip
    return in_words(summary)


def test_the_verdict_in_plain_words():
    default = entry("default", 0.0, None)
    better = words_of("found-1", "found-1", entry("found-1", 0.05, 0.003), default)
    assert better == (
        "found-1 is better than the default by 0.050 [0.040, 0.060] in mean skill on the 750 examples that were held "
        "out (5 seeds, p = 0.003): take found-1."
    )
    likely = words_of("found-1", "found-1", entry("found-1", 0.05, 0.3), default)
    assert likely == (
        "found-1 is probably better than the default by 0.050 [0.040, 0.060] in mean skill on the 750 examples that "
        "were held out (5 seeds, p = 0.300, a chance of 15% that it is worse): take found-1."
    )
    alike = words_of("found-1", "default", entry("found-1", 0.005, 0.4), default)
    assert "found-1 and the default cannot be told apart" in alike and alike.endswith("take the default.")
    worse = words_of("default", "default", default, entry("found-1", -0.05, 0.01))
    assert "No finalist has a better mean than the default" in worse and "−0.050" in worse


def test_runs_shorter_than_the_recipe_are_said_with_what_follows():
    default, found = entry("default", 0.0, None), entry("found-1", 0.05, 0.003)
    better = words_of("found-1", "found-1", found, default, steps=400)
    assert better.endswith(
        "All finalists had 400 of the recipe's 920 steps, and so had the model that is kept; the line and the file "
        "train in full."
    )
    alike = words_of("found-1", "default", found, default, steps=400)
    assert alike.endswith("the line and the file train in full.")
    short = words_of("found-1", "default", found, default, steps=300)
    assert "in runs of 300 of the recipe's 920 steps, which say too little" in short and "take the default" in short
    whole = words_of("found-1", "found-1", found, default, race=300)
    assert whole.endswith("take found-1."), "the finals were run in full, and the race long enough"
    hasty = words_of("found-1", "found-1", found, default, race=100)
    assert "The race had time for runs of 100 of the recipe's 920 steps only" in hasty


def test_something_is_trained_again_in_full_or_for_some_steps():
    training = dataclasses.asdict(Settings(epochs=4))
    config = {"benchmark": TINY, "training": training}
    short, full = (recipe_for(USUAL, 7, config, find_benchmark(TINY), steps) for steps in (5, None))
    assert short.training["steps"] == 5 and full.training.get("steps") is None and full.training["epochs"] == 4


def test_a_cheaper_rival_is_named():
    entries = [entry("found-1", 0.05, 0.003, seconds=2.0), entry("found-2", 0.049, 0.003), entry("default", 0, None)]
    assert words_of("found-1", "found-1", *entries, rivals=["found-2"]).endswith(
        "found-2 cannot be told apart from it; found-2 takes 50% less time."
    )


def test_of_many_tasks_the_mean_is_shown():
    def reached(means, metric="auc"):
        return {"test": {f"t{k}": {metric: {"mean": mean}, "f1": {"mean": 0.1}} for k, mean in enumerate(means)}}

    assert reached_on_test(reached([0.5, 0.25])) == "t0 auc 0.5, t1 auc 0.25"
    assert reached_on_test(reached([0.5, 0.25, None, 0.5, 0.75])) == "auc 0.5 in the mean of 4 tasks, 1 without a value"
    mixed = {"test": {**reached([0.5] * 4)["test"], "size": {"mae": {"mean": 2.0}}}}
    assert reached_on_test(mixed) == "auc 0.5 in the mean of 4 tasks, mae 2 in the mean of 1 task"
