"""Spaces: what may be written, what comes out."""

import dataclasses
import re

import numpy as np
import optuna
import pytest

from mtl.search.methods.cmaes import _Coordinates
from mtl.search.space import make_member
from mtl.search.space.build import SETTINGS, build_space
from mtl.search.space.grammar import read_file, read_options
from mtl.search.space.parameters import Choice, Number, Simplex
from mtl.strategies import REGISTRY
from mtl.train import Member
from tests.tiny import Tiny

RNG = np.random.default_rng(0)


def space(*given, strategies=("gradnorm",)):
    return build_space(Tiny(), strategies, read_options(given))


def test_a_strategys_declared_ranges_are_searched_with_the_learning_rate_and_weight_decay():
    described = space().describe()
    assert described == {
        "strategy": "gradnorm",
        "strategy.gradnorm.alpha": "0.05:3:log",
        "strategy.gradnorm.lr": "0.001:0.1:log",
        "lr": "0.0001:0.01:log",
        "weight_decay": "1e-06:0.01:log",
    }


def test_models_and_architectures_are_specs_to_choose_among():
    made = space("architecture=hard-sharing,mmoe:experts=2", "model=mlp:width=8,depth=1,mlp")
    assert made.describe()["architecture"] == "hard-sharing,mmoe:experts=2"
    assert made.dimensions["model"].parameter.grid(1) == ["mlp:width=8,depth=1", "mlp"]
    assert make_member(made.sample(RNG), 0).settings["architecture"] in ("hard-sharing", "mmoe:experts=2")
    for given, message in (("architecture=mmoo", "did you mean mmoe"), ("model=mlpp", "did you mean mlp")):
        with pytest.raises(ValueError, match=message):
            space(given)


def test_what_is_given_replaces_adds_fixes_or_leaves_out():
    described = space("lr=1e-3:0.1:linear", "optimizer=adam,sgd", "warmup=0:10", "weight_decay=default").describe()
    assert described["lr"] == "0.001:0.1" and described["optimizer"] == "adam,sgd" and described["warmup"] == "0:10"
    assert "weight_decay" not in described
    assert "strategy.gradnorm.alpha" not in space(strategies=["gradnorm:alpha=0.5"]).describe()
    assert make_member(space("lr=0.5").sample(RNG), 0).settings["lr"] == 0.5


def test_each_choice_searches_what_its_own_spec_leaves_open():
    made = space("loss.sign=cross-entropy,cross-entropy:label_smoothing=0,focal", strategies=["equal"])
    drawn = [made.sample(RNG) for _ in range(60)]
    assert {values["loss.sign"] for values in drawn} == {*made.dimensions["loss.sign"].parameter.grid(1)}
    for values in drawn:
        assert ("loss.sign.label_smoothing" in values) == (values["loss.sign"] == "cross-entropy")
        assert ("loss.sign.gamma" in values) == (values["loss.sign"] == "focal")
        make_member(values, 0).tasks(Tiny.tasks)
    both = space("loss.sign=focal:gamma=1,focal", strategies=["gradnorm:alpha=0.5", "gradnorm", "equal"])
    for values in (both.sample(RNG) for _ in range(60)):
        assert ("loss.sign.gamma" in values) == (values["loss.sign"] == "focal")
        assert ("strategy.gradnorm.alpha" in values) == (values["strategy"] == "gradnorm")
        assert ("strategy.gradnorm.lr" in values) == (values["strategy"] != "equal")


def test_a_range_that_is_given_is_of_all_choices_that_have_it():
    given = "loss.sign.label_smoothing=0.1:0.2"
    made = space("loss.sign=cross-entropy,cross-entropy:label_smoothing=0,focal", given, strategies=["equal"])
    for values in (made.sample(RNG) for _ in range(40)):
        assert ("loss.sign.label_smoothing" in values) == (values["loss.sign"] != "focal")


def test_a_yaml_file_says_the_same_as_the_command_line(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "strategy: [gradnorm, 'static']\nlr: {low: 1e-3, high: 0.1, log: false}\noptimizer: [adam, sgd]\n"
        "clip: [null, 1.0]\nwarmup: 0:10\nstrategy.static.weights: simplex\nbatch_size: 64\n"
    )
    options = ["strategy=gradnorm,static", "lr=1e-3:0.1:linear", "optimizer=adam,sgd", "clip=none,1.0", "warmup=0:10"]
    options += ["strategy.static.weights=simplex", "batch_size=64"]
    assert build_space(Tiny(), [], read_file(path)).describe() == space(*options).describe()


def test_colons_in_a_yaml_file_are_ranges_and_no_numbers_to_base_sixty(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("warmup: 1:15\nmomentum: 0:0.9\nstrategy.gradnorm.alpha: 1e-3:3\nbatch_size: [010, 20]\n")
    described = build_space(Tiny(), ["gradnorm"], read_file(path)).describe()
    assert (described["warmup"], described["momentum"], described["batch_size"]) == ("1:15", "0:0.9", "10,20")


def test_an_unknown_name_in_a_yaml_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("lr: 1e-3:1e-2\nlearning_rate: 0:1\n")
    with pytest.raises(ValueError, match=r"space\.yaml, line 2: unknown parameter 'learning_rate': did you mean lr"):
        build_space(Tiny(), ["equal"], read_file(path))


def test_values_become_a_member():
    values = {
        "strategy": "uncertainty+gradnorm", "strategy.gradnorm.alpha": 0.25, "strategy.uncertainty.lr": 0.5,
        "loss.product": "huber", "loss.product.delta": 0.75, "lr": 0.01, "clip": None,
    }  # fmt: skip
    assert make_member(values, 7) == Member(
        "uncertainty:lr=0.5+gradnorm:alpha=0.25",
        7,
        {"lr": 0.01, "clip": None},
        {"product": {"name": "huber", "delta": 0.75}},
    )


def test_tasks_may_have_dots_in_their_names():
    tasks = [
        dataclasses.replace(task, name=name) for task, name in zip(Tiny.tasks, ("Sale.Price", "Sale"), strict=True)
    ]
    values = {"strategy": "equal", "loss.Sale.Price": "huber", "loss.Sale.Price.delta": 0.75, "loss.Sale": "mae"}
    assert [str(task.loss) for task in make_member(values, 0).tasks(tasks)] == ["huber:delta=0.75", "mae"]
    with pytest.raises(ValueError, match="unknown task 'Sold'"):
        make_member({"strategy": "equal", "loss.Sold.Price": "mae"}, 0).tasks(tasks)


def test_conditional_parameters_exist_beside_their_choice_only():
    built = space("loss.product=mse,huber", strategies=["gradnorm", "static", "uncertainty+gradnorm"])
    for number in range(200):
        values = built.sample(np.random.default_rng(number))
        strategy = values["strategy"]
        assert ("strategy.gradnorm.alpha" in values) == ("gradnorm" in strategy)
        assert ("strategy.uncertainty.lr" in values) == ("uncertainty" in strategy)
        assert ("strategy.static.weights" in values) == (strategy == "static")
        assert ("loss.product.delta" in values) == (values["loss.product"] == "huber")
        moved = built.perturbed(values, np.random.default_rng(number), resample=0.5)
        assert [name for name, _ in built.active(moved)] == list(moved)


@pytest.mark.parametrize("name", REGISTRY)
def test_every_strategy_has_a_space_whose_points_can_be_made(name):
    built = build_space(Tiny(), [name], {})
    for number in range(5):
        assert make_member(built.sample(np.random.default_rng(number)), 0).strategy.startswith(name)


def test_every_setting_named_searchable_is_one():
    from mtl.hyperparameters import domains
    from mtl.train import Settings

    assert set(SETTINGS) <= set(domains(Settings))


def test_numbers_are_uniform_on_their_scale():
    linear, log = Number(2.0, 6.0), Number(1e-4, 1e-2, log=True)
    draws = np.array([linear.sample(RNG) for _ in range(2000)])
    assert draws.min() >= 2 and draws.max() <= 6 and abs(draws.mean() - 4) < 0.1
    draws = np.log10([log.sample(RNG) for _ in range(2000)])
    assert draws.min() >= -4 and draws.max() <= -2 and abs(draws.mean() + 3) < 0.05
    assert log.share(log.at(0.3)) == pytest.approx(0.3)
    assert {Number(1, 4, integer=True).sample(RNG) for _ in range(200)} == {1, 2, 3, 4}


def share_of_each(values, low, high):
    return np.bincount(np.array(values) - low, minlength=high - low + 1) / len(values)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 2), (1, 4), (-2, 2), (7, 20)])
def test_each_integer_is_as_likely_as_the_next(low, high):
    number, even = Number(low, high, integer=True), 1 / (high - low + 1)
    cuts = (np.arange(6000) + 0.5) / 6000
    assert share_of_each([number.at(cut) for cut in cuts], low, high) == pytest.approx(even, abs=1e-3)
    points = {"x": 0.0}
    suggested = []
    for points["x"] in cuts:
        suggested.append(number.suggest(_Coordinates(points), "x"))  # as CMA-ES has it
    assert share_of_each(suggested, low, high) == pytest.approx(even, abs=1e-3)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(sampler=sampler)
    drawn = [number.suggest(study.ask(), "x") for _ in range(300)]
    assert share_of_each(drawn, low, high).min() > 0
    assert number.at(0.0) == low and number.at(1.0) == high
    for value in range(low, high + 1):
        assert number.at(number.share(value)) == value and 0 < number.share(value) < 1


def test_integers_on_a_logarithmic_scale_have_the_share_of_their_interval():
    number = Number(1, 4, log=True, integer=True)
    shares = share_of_each([number.at((k + 0.5) / 6000) for k in range(6000)], 1, 4)
    assert shares == pytest.approx(np.diff(np.log([0.5, 1.5, 2.5, 3.5, 4.5])) / np.log(9), abs=1e-3)
    assert all(number.at(number.share(value)) == value for value in range(1, 5))


@pytest.mark.parametrize("log", [False, True])
def test_a_grid_of_integers_loses_no_point(log):
    for low in range(1, 8):
        for high in range(low + 1, low + 40):
            for points in range(1, 9):
                grid = Number(low, high, log, integer=True).grid(points)
                assert len(grid) == min(points, high - low + 1) == len(set(grid)), (low, high, points)
                assert grid == sorted(grid) and low <= grid[0] <= grid[-1] <= high
    assert Number(1, 3, integer=True).grid(2) == [1, 3]
    assert Number(0, 2, integer=True).grid(3) == [0, 1, 2]


def test_the_points_of_a_grid_are_counted_without_making_them():
    built = space("loss.product=mse,huber", "warmup=0:4", strategies=["gradnorm", "static", "uncertainty+gradnorm"])
    for points in (1, 2, 3):
        assert built.count(points) == len(built.grid(points))
    assert Simplex(5).count(10**6) > 10**20


def test_perturbation_is_a_fifth_within_bounds():
    number = Number(0.1, 1.0, log=True)
    assert {round(number.perturbed(0.5, RNG), 6) for _ in range(50)} == {0.4, 0.6}
    assert {round(number.perturbed(0.95, RNG), 6) for _ in range(50)} == {0.76, 1.0}
    assert {Number(1, 9, integer=True).perturbed(1, RNG) for _ in range(50)} == {1, 2}  # an int of 1 can grow
    assert {round(Number(-1.0, 1.0).perturbed(0.0, RNG), 6) for _ in range(50)} == {-0.2, 0.2}
    assert Choice(("a", "b")).perturbed("a", RNG) == "a"


def test_weights_stay_on_the_simplex_and_are_flat_on_it():
    simplex = Simplex(3)
    draws = np.array([simplex.sample(RNG) for _ in range(4000)])
    assert np.allclose(draws.sum(1), 1) and draws.min() > 0
    # The flat Dirichlet distribution has mean 1/3 and variance 2/36 in each coordinate.
    assert np.allclose(draws.mean(0), 1 / 3, atol=0.02) and np.allclose(draws.var(0), 1 / 18, rtol=0.1)
    moved = simplex.perturbed((0.5, 0.3, 0.2), RNG)
    assert sum(moved) == pytest.approx(1)
    ratios = np.array(moved) / np.array([0.5, 0.3, 0.2])
    assert ratios.max() / ratios.min() <= 1.5 + 1e-9
    assert all(sum(point) == pytest.approx(1) and min(point) > 0 for point in simplex.grid(3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lr", "'lr' is not NAME=RANGE"),
        ("lrr=1:2", "unknown parameter 'lrr': did you mean lr"),
        ("lr=1:2:3", "lr=1:2:3: LOW:HIGH, LOW:HIGH:log or numbers joined by commas are wanted"),
        ("lr=1e-4:1e-2:lg", "lr=1e-4:1e-2:lg: LOW:HIGH, LOW:HIGH:log or numbers"),
        ("loss.sign.class_weights=simplx", "class_weights=simplx: wanted are `simplex`, none, inverse, effective, or"),
        ("loss.sgn=focal", "unknown parameter 'loss.sgn': did you mean loss.sign"),
        ("lr=0:1:log", "a logarithmic range must begin above 0"),
        ("lr=1:0.1", "the lower bound must be below the upper one"),
        ("lr=1:x", "the bounds must be numbers"),
        ("lr=-1:1", "-1 must be at least 0"),
        ("lr=simplex", "it is no list of weights: a range or values joined by commas are wanted"),
        ("lr=1e-3,1e-3", "has a value twice"),
        ("lr=1e-3,,1e-2", "a choice is empty"),
        ("optimizer=adam,lion", "unknown optimizer 'lion': did you mean"),
        ("optimizer=sgd,sgd:momentun=0.9", "sgd has no argument 'momentun': did you mean momentum"),
        (["optimizer=adam,sgd:momentum=0.9", "momentum=0:0.9"], "momentum: it is a setting of sgd, where its spec has"),
        ("schedule=cosine,step:evry=0.3", "step has no hyperparameter 'evry': did you mean every"),
        ("optimizer=1:2", "it is not a number, so no range"),
        ("warmup=0.5:3", "the bounds must be integers"),
        ("strategy=gradnrom", "unknown strategy 'gradnrom': did you mean gradnorm"),
        ("strategy=famo,famo", "has one twice"),
        ("strategy=static:weights=1/2/3", "3 numbers"),
        ("strategy.famo.gamma=0:1", "'strategy.famo.gamma': no strategy of this search is 'famo': known are gradnorm"),
        ("strategy.gradnrom.alpha=0:1", "no strategy of this search is 'gradnrom': did you mean gradnorm?"),
        ("strategy.gradnorm.alhpa=0:1", "gradnorm has no hyperparameter 'alhpa': did you mean alpha?"),
        (
            ["strategy=equal", "strategy.equal.alpha=0:1"],
            "unknown parameter 'strategy.equal.alpha': equal has no hyperparameter 'alpha': known are none",
        ),
        (["strategy=equal+equal+famo", "strategy.equal.x=0:1"], "equal stands twice in equal+equal+famo"),
        ("strategy.gradnorm.alpha=-1:2", "-1 must be at least 0"),
        ("loss.product=hubber", "did you mean huber"),
        (
            "loss.sign.delta=1:2",
            "'loss.sign.delta': no loss of task 'sign' here has a hyperparameter 'delta': known are label_smoothing",
        ),
        ("loss.sgn.gamma=1:2", "unknown parameter 'loss.sgn.gamma': there is no task 'sgn': did you mean sign?"),
        (
            ["loss.sign=CrossEntropyLoss", "loss.sign.label_smoothing=0:2"],
            "loss.sign.label_smoothing=0:2: 2 must be in [0, 1]",
        ),
        ("patience=1,3", "patience is one for all runs of a search: the best evaluation of each counts"),
        ("amp=bf16,fp16", "amp is one for all runs of a search: --amp gives it"),
    ],
)
def test_a_bad_space_is_one_clear_line(given, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        space(*([given] if isinstance(given, str) else given))
    assert "\n" not in str(caught.value)


def test_optimizers_are_choices_with_their_arguments():
    choices = space("optimizer=adam,sgd:momentum=0.9,nesterov=true,adafactor:beta2_decay=-0.5,d=2").dimensions[
        "optimizer"
    ]
    assert choices.parameter.grid(1) == ["adam", "sgd:momentum=0.9,nesterov=true", "adafactor:beta2_decay=-0.5,d=2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- lr", "a mapping of names to values is wanted"),
        ("lr: [", "not YAML"),
        ("lr: {low: 1}", "a range has the keys low, high"),
        ("lr: {low: 1, high: 2, log: maybe}", "log='maybe' must be true or false"),
        ("lr: []", "neither a range nor a list"),
        ("lr: !!python/object/apply:os.system ['true']", "line 1: the tag"),
        ("l1: 0:1\nlr: 0:1\nl1: 0:2", "line 3: 'l1' stands in line 1 already"),
    ],
)
def test_a_bad_file_is_one_clear_line(content, message, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_file(path)
    assert "\n" not in str(caught.value)
