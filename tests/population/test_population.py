"""A population in a loop of one's own, against the balancer and torch.optim in the same loop."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mtl
from mtl.population import Population

SEEDS = (3, 4, 5)


class Network(nn.Module):
    def __init__(self, kind="plain"):
        super().__init__()
        middle = {
            "plain": lambda: [nn.Tanh()],
            "dropout": lambda: [nn.Tanh(), nn.Dropout(0.3)],
            "norm": lambda: [nn.BatchNorm1d(8), nn.ReLU()],
            "layer norm": lambda: [nn.LayerNorm(8), nn.GELU()],
        }
        self.trunk = nn.Sequential(nn.Linear(5, 8, bias=kind != "norm"), *middle[kind]())
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(3))

    def features(self, x):
        return self.trunk(x)

    def shared_parameters(self):
        return self.trunk.parameters()


class Words(Network):
    """Embedded words that attend to each other, dropout within."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.ModuleDict(
            {
                "embed": nn.Embedding(7, 8),
                "layer": nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True),
            }
        )

    def features(self, x):
        words = (x.abs() * 2).long().clamp(max=6)
        return self.trunk["layer"](self.trunk["embed"](words)).mean(1)


class Frozen(Network):
    """The first layer is not trained, and one head is tied to another."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8))
        self.trunk[0].requires_grad_(False)
        self.heads[2].weight = self.heads[0].weight


class Attending(Network):
    """Attention without dropout, for which a CPU has a form of its own."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(5, 24)

    def features(self, x):
        query, key, value = self.trunk(x.reshape(4, 4, 5)).chunk(3, -1)
        return F.scaled_dot_product_attention(query, key, value).reshape(16, 8)


def losses(model, batch):
    x, y = batch
    features = model.features(x)
    each = {}
    for k, head in enumerate(model.heads):
        each[str(k)] = (k + 1) * (head(features)[:, 0] - y[:, k]).square().mean()
    return each


def batch_of(seed, step, stream=0):
    generator = torch.Generator().manual_seed(1000 * seed + 10 * step + stream)
    return torch.randn(16, 5, generator=generator), torch.randn(16, 3, generator=generator)


def batches(step, stream=0, seeds=SEEDS):
    return tuple(
        torch.stack(tensors) for tensors in zip(*(batch_of(seed, step, stream) for seed in seeds), strict=True)
    )


def single(make_model, spec, seed, steps, lr):
    torch.manual_seed(seed)
    model = make_model()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=lr)
    balancer = mtl.Balancer(spec, model.shared_parameters(), seed=seed, steps_per_epoch=100)
    for step in range(steps):
        streams = iter((2, 3))
        optimizer.zero_grad()
        balancer.backward(
            losses(model, batch_of(seed, step)),
            recompute=lambda step=step: losses(model, batch_of(seed, step)),
            validation=lambda step=step: losses(model, batch_of(seed, step, 1)),
            fresh=lambda step=step, streams=streams: losses(model, batch_of(seed, step, next(streams))),
            lookahead_lr=lr,
        )
        optimizer.step()
    return model.state_dict()


MODELS = {
    "plain": Network,
    "dropout": lambda: Network("dropout"),
    "norm": lambda: Network("norm"),
    "layer norm": lambda: Network("layer norm"),
    "words": Words,
    "frozen": Frozen,
    "attending": Attending,
}


SPECS = ["equal", "famo", "gradnorm", "graddrop", "auto-lambda", "sdmgrad", "moco", "gradnorm+auto-lambda"]
# The gradient of an attention's key bias is zero but for rounding, and graddrop goes by its sign.
ATTEND = ("words", "attending")
PAIRS = [(model, spec) for model in MODELS for spec in SPECS if not (model in ATTEND and spec == "graddrop")]


@pytest.mark.parametrize(("model", "spec"), PAIRS)
def test_each_member_is_a_balancer_in_the_same_loop(model, spec):
    rates = [1e-2, 2e-2, 3e-2]
    population = Population(MODELS[model], losses, spec, SEEDS, lr=rates)
    for step in range(12):
        streams = iter((2, 3))
        population.step(
            batches(step),
            validation=lambda step=step: batches(step, 1),
            fresh=lambda step=step, streams=streams: batches(step, next(streams)),
        )
    for member, (seed, lr) in enumerate(zip(SEEDS, rates, strict=True)):
        wanted = single(MODELS[model], spec, seed, 12, lr)
        got = population.state_dict_of(member)
        assert list(got) == list(wanted)
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", list(MODELS))
@pytest.mark.parametrize("spec", ["famo", "gradnorm+auto-lambda"])
def test_a_member_alone_is_that_balancer_too(model, spec):
    population = Population(MODELS[model], losses, spec, [4], lr=2e-2)
    x, _ = batch_of(0, 0)
    for step in range(12):
        population.step(batches(step, seeds=[4]), validation=lambda step=step: batches(step, 1, [4]))
    torch.testing.assert_close(population.state_dict_of(0), single(MODELS[model], spec, 4, 12, 2e-2), atol=1e-5, rtol=0)
    model = MODELS[model]()
    model.load_state_dict(population.state_dict_of(0))
    (found,) = population.evaluate(lambda model, x: model.features(x), x)
    torch.testing.assert_close(found, model.eval().features(x))


def test_attention_of_members_is_evaluated_as_that_of_one():
    population = Population(Attending, losses, "equal", SEEDS)
    x, _ = batch_of(0, 0)
    found = population.evaluate(lambda model, x: model.features(x), x)
    for member, seed in enumerate(SEEDS):
        torch.manual_seed(seed)
        torch.testing.assert_close(found[member], Attending().features(x))


def test_members_have_hyperparameters_of_their_own():
    specs = [f"gradnorm:alpha={alpha},lr={lr}" for alpha, lr in ((0.1, 0.01), (1.5, 0.1), (3, 0.03))]
    population = Population(Network, losses, specs, SEEDS, lr=1e-2)
    for step in range(12):
        population.step(batches(step))
    for member, (spec, seed) in enumerate(zip(specs, SEEDS, strict=True)):
        torch.testing.assert_close(population.state_dict_of(member), single(Network, spec, seed, 12, 1e-2))


def test_evaluation_is_that_of_each_model():
    population = Population(lambda: Network("dropout"), losses, "equal", SEEDS)
    population.step(batches(0))
    x, _ = batch_of(9, 0)
    got = population.evaluate(lambda model, inputs: model.features(inputs), x)
    for member in range(3):
        model = Network("dropout").eval()
        model.load_state_dict(population.state_dict_of(member))
        torch.testing.assert_close(got[member], model.features(x))


def test_a_broken_member_leaves_the_others_alone():
    whole = Population(Network, losses, "famo", SEEDS)
    broken = Population(Network, losses, "famo", SEEDS)
    for step in range(5):
        batch = batches(step)
        whole.step(batch)
        if step == 2:
            batch[1][1, :, 0] = torch.nan
        broken.step(batch)
    for member in (0, 2):
        torch.testing.assert_close(whole.state_dict_of(member), broken.state_dict_of(member))
    assert broken.counts["nonfinite_loss"].tolist() == [0, 1, 0]
    assert all(bool(value.isfinite().all()) for value in broken.state_dict_of(1).values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategies": ["equal", "famo", "equal"]}, "differ in structure"),
        ({"lr": [0.1, 0.2]}, "lr has 2 values for 3 members"),
        ({"seeds": []}, "seeds is empty"),
        ({"optimizer": "adamm"}, "did you mean"),
        ({"shared": lambda _model: []}, "shared holds no parameter"),
        ({"momentum": 0.9}, "adam has no setting 'momentum'"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, message):
    given = {"strategies": "equal", "seeds": SEEDS, **arguments}
    with pytest.raises(ValueError, match=message) as caught:
        Population(Network, losses, **given)
    assert "\n" not in str(caught.value)


def test_further_batches_are_asked_for():
    population = Population(Network, losses, "auto-lambda", SEEDS)
    with pytest.raises(
        ValueError, match=r"auto-lambda reads align: call step\(batch, validation=lambda: a_validation_batch\(\)\)"
    ):
        population.step(batches(0))
