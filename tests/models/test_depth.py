"""Stochastic depth: against forward passes in plain lines with the same masks, and members against single runs."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mtl.benchmarks import Split, Task
from mtl.losses import MSE, CrossEntropy
from mtl.metrics import mae
from mtl.models import make_trunk
from mtl.models.trunks.depth import StochasticDepth
from mtl.search.plan import check_searched_models
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.study.setup import StudySetup
from mtl.train import Cohort, Member, Settings, check_trunk, train
from tests.population.problem import Pictures, Three, assert_is_the_single_run
from tests.tiny import Tiny

pytestmark = pytest.mark.usefixtures("float64")

RATE = 0.6


def masks_of(examples, blocks):
    """What the blocks of a network draw, in their order: 0 or 1 / (1 - their rate) for each example."""
    found = []
    for number in range(1, blocks + 1):
        keep = 1 - RATE * (number / blocks)
        found.append(torch.empty(examples).bernoulli_(keep) / keep)
    return found


def resnet(stages, value, masks):
    """He et al. 2016, block by block."""
    masks, value = iter(masks), stages.stages[0][0](value)
    for blocks in stages.stages[1:]:
        for block in [*blocks[0], blocks[1]]:
            inside = block.second_norm(block.second(block.first_norm(block.first(value)).relu()))
            value = (inside * next(masks)[:, None, None, None] + block.around(value)).relu()
    return value.mean((2, 3))


def transformer(stages, tokens, masks):
    masks = iter(masks)
    value = stages.embed(tokens) + stages.positions
    for attention, forward in stages.stages:
        seen = torch.ones(tokens.shape, dtype=torch.bool)
        value = value + (_without(attention, value, seen) - value) * next(masks)[:, None, None]
        value = value + forward.layers(value) * next(masks)[:, None, None]
    return stages.norm(value).mean(1)


def _without(attention, value, seen):
    """Attention in evaluation, when nothing is left out."""
    attention.eval()
    found = attention(value, seen)
    attention.train()
    return found


def schnet(stages, inputs, masks):
    masks = iter(masks)
    value, (distances, window, mask) = stages.begin(inputs)
    for each in stages.stages:
        gathered = (each.filter(distances) * window[..., None] * each.inward(value)[:, None]).sum(2)
        value = value + each.outward(gathered) * next(masks)[:, None, None]
    return (stages.atoms(value) * mask[..., None]).sum(1)


def molecules():
    mask = torch.arange(4) < torch.tensor([[4], [3], [4], [2], [4], [3]])
    return {"numbers": torch.randint(1, 9, (6, 4)) * mask, "positions": torch.randn(6, 4, 3), "mask": mask}


CASES = {
    "resnet18:width=4": (lambda: torch.randn(6, 3, 8, 8), (3, 8, 8), 8, resnet),
    "resnet34:width=4,norm=group": (lambda: torch.randn(6, 3, 8, 8), (3, 8, 8), 16, resnet),
    "transformer:vocabulary=9,width=8,depth=3": (lambda: torch.randint(9, (6, 5)), (5,), 6, transformer),
    "schnet:width=8,depth=3": (molecules, {"numbers": (4,), "positions": (4, 3), "mask": (4,)}, 3, schnet),
}


@pytest.mark.parametrize("name", CASES)
def test_equal_to_plain_lines_with_the_same_masks(name):
    make, shape, blocks, plain = CASES[name]
    torch.manual_seed(1)
    stages, _ = make_trunk(f"{name},stochastic_depth={RATE}").build(shape)
    inputs = make()
    torch.manual_seed(5)
    found = stages.train()(inputs)
    torch.manual_seed(5)
    masks = masks_of(6, blocks)
    assert {float(mask.min()) for mask in masks[blocks // 2 :]} == {0.0}
    torch.testing.assert_close(found, plain(stages, inputs, masks), atol=1e-12, rtol=0)
    assert [part.rate for part in stages.modules() if isinstance(part, StochasticDepth)] == [
        RATE * (number / blocks) for number in range(1, blocks + 1)
    ]


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_out_in_evaluation_and_no_parameter_is_renamed(name):
    make, shape, _, _ = CASES[name]
    torch.manual_seed(1)
    dropping, _ = make_trunk(f"{name},stochastic_depth={RATE}").build(shape)
    torch.manual_seed(1)
    whole, _ = make_trunk(name).build(shape)
    inputs = make()
    assert list(dropping.state_dict()) == list(whole.state_dict())
    assert torch.equal(dropping.eval()(inputs), whole.eval()(inputs))


def test_each_example_draws_by_itself_and_the_mean_stays():
    torch.manual_seed(0)
    layer = StochasticDepth(0.8, 0.5)
    found = layer(torch.ones(4000, 2, 3))
    assert bool((found == found[:, :1, :1]).all()) and set(found.unique().tolist()) == {0.0, 1 / 0.6}
    assert float(found.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(layer.eval()(found), found)


class Theirs(nn.Module):
    """As timm leaves out paths, with draws of its own."""

    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob


@pytest.fixture
def timm(monkeypatch):
    """A timm with two models: the real one needs torchvision."""

    def create_model(name, *, drop_path_rate=0.0, **_):
        if name == "straight" and drop_path_rate:
            raise TypeError("unexpected keyword argument 'drop_path_rate'")
        rates = [] if name == "straight" else [0.0, 0.5 * drop_path_rate, drop_path_rate]
        model = nn.Sequential(nn.Flatten(), *(nn.Sequential(Theirs(rate)) for rate in rates))
        model.num_features = 5
        return model

    layers = SimpleNamespace(DropPath=Theirs)
    module = SimpleNamespace(create_model=create_model, is_model=lambda _: True, layers=layers)
    monkeypatch.setitem(sys.modules, "timm", module)


@pytest.mark.usefixtures("timm")
def test_timm_has_ours_in_the_places_of_its_own():
    stages, _ = make_trunk(f"timm:residual,stochastic_depth={RATE}").build((3, 4, 4))
    ours = [part.rate for part in stages.modules() if isinstance(part, StochasticDepth)]
    assert ours == pytest.approx([0.0, 0.5 * RATE, RATE])
    assert not any(isinstance(part, Theirs) for part in stages.modules())
    make_trunk("timm:straight").build((3, 4, 4))
    with pytest.raises(ValueError, match=r"timm: stochastic_depth=0\.6: timm leaves no .* of straight out"):
        make_trunk(f"timm:straight,stochastic_depth={RATE}").build((3, 4, 4))


class Texts(Three):
    """Token ids of length 4 in place of numbers."""

    name = "texts"
    trunk = "transformer:vocabulary=5,width=8,heads=2,depth=2"
    recipe = {"steps": 12, "batch_size": 16, "lr": 1e-2}  # noqa: RUF012
    tasks = (Task("sum", MSE(), (mae,)), Task("first", CrossEntropy(), Three.tasks[0].metrics, 5))

    @staticmethod
    def _split(size, generator):
        tokens = torch.randint(5, (size, 4), generator=generator)
        return Split(tokens, {"sum": tokens.double().mean(1), "first": tokens[:, 0]})


MEMBERS = [
    {"stochastic_depth": 0.3, "dropout": 0.2},
    {"stochastic_depth": 0.7, "dropout": 0.1},
    {"stochastic_depth": 0.5, "dropout": 0.4, "heads": "sum:lr=0.1"},
    {"stochastic_depth": 0.0, "dropout": 0.1},
    {"dropout": 0.1},
]


@pytest.mark.parametrize("strategy", ["equal", "famo"])
def test_a_member_is_the_single_run(strategy):
    settings, splits, told = Settings(steps=12, batch_size=16, lr=1e-2), Texts().load(), []
    members = [Member(strategy, seed, own) for seed, own in enumerate(MEMBERS)]
    cohort = Cohort(Texts(), splits, members, settings, tell=told.append)
    cohort.advance(12)
    assert not told and sorted(len(group.ids) for group in cohort._groups.all) == [1, 1, 3]
    for member, result in zip(members, cohort.results(), strict=True):
        assert_is_the_single_run(result, Texts(), splits, member, settings)
    without = train(Texts(), splits, strategy, settings.over({"dropout": 0.2}), seed=0)
    assert without.metrics != cohort.results()[0].metrics


def test_a_member_of_pictures_is_the_single_run_and_may_change_its_rate():
    settings = Settings(steps=6, batch_size=8, lr=1e-2, model="resnet18:width=4", stochastic_depth=0.2)
    splits = Pictures().load()
    members = [Member("equal", seed, {"stochastic_depth": rate}) for seed, rate in enumerate((0.2, 0.8))]
    cohort = Cohort(Pictures(), splits, [Member("equal", 0), Member("equal", 1)], settings)
    cohort.replace(dict(enumerate(members)))
    cohort.advance(6)
    for member, result in zip(members, cohort.results(), strict=True):
        assert_is_the_single_run(result, Pictures(), splits, member, settings)


def test_a_model_without_residual_blocks_is_one_line():
    said = r"stochastic_depth=0\.2: the model 'mlp:width=8,depth=1' has no stochastic depth to set"
    with pytest.raises(ValueError, match=said):
        check_trunk(Three(), Settings(stochastic_depth=0.2))
    setting = StudySetup(Three(), Three().load(), Settings(), torch.device("cpu"))
    space = build_space(Three(), ["equal"], read_options(["stochastic_depth=0:0.5"]))
    with pytest.raises(ValueError, match=r"has no stochastic depth to set"):
        check_searched_models(space, setting)
    space = build_space(Pictures(), ["equal"], read_options(["stochastic_depth=0:0.5", "model=resnet18:width=4"]))
    check_searched_models(space, StudySetup(Pictures(), Pictures().load(), Settings(), torch.device("cpu")))


def test_a_model_of_a_users_own_is_not_called_by_a_trunk_that_it_does_not_have():
    class Own(Tiny):
        name = "own"
        trunk = "mlp"  # as a benchmark has it that says nothing of it

        def model(self, tasks, inputs):
            raise NotImplementedError

    with pytest.raises(
        ValueError, match=r"stochastic_depth=0\.1: the model of benchmark 'own' has no stochastic depth"
    ):
        check_trunk(Own(), Settings(stochastic_depth=0.1))
