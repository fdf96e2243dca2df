"""Trunks against plain references, and in a population against single runs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mtl
from mtl.models import MODELS, make_model, make_trunk, shape_of
from mtl.population import Population
from tests.models.cases import TRUNKS, batch, losses, molecules, stacked, texts

OUTPUTS = {"a": 1, "b": 3}


def test_there_is_a_case_for_every_trunk_of_its_own():
    assert {spec.partition(":")[0] for spec in TRUNKS} >= MODELS.keys() - {"resnet34", "timm", "hf"}


@pytest.mark.parametrize("spec", TRUNKS)
def test_members_of_a_population_are_single_runs(spec):
    examples = batch(TRUNKS[spec], 2)

    def make():
        return make_model("hard-sharing", spec, OUTPUTS, examples)

    seeds, steps = (3, 4), 3
    drawn = [[batch(TRUNKS[spec], 5, 100 * seed + step) for seed in seeds] for step in range(steps)]
    population = Population(make, losses, "uncertainty", seeds, optimizer="sgd", lr=0.01)
    for each in drawn:
        population.step(stacked(each))
    predicted = population.evaluate(lambda model, inputs: model(inputs), examples)
    for member, seed in enumerate(seeds):
        torch.manual_seed(seed)
        model = make()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        balancer = mtl.Balancer("uncertainty", model.shared_parameters(), seed=seed)
        for each in drawn:
            optimizer.zero_grad()
            balancer.backward(losses(model, each[member]))
            optimizer.step()
        torch.testing.assert_close(population.state_dict_of(member), model.state_dict(), atol=1e-5, rtol=1e-5)
        for task, wanted in model.eval()(examples).items():
            torch.testing.assert_close(predicted[task][member], wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("spec", TRUNKS)
def test_features_are_of_the_size_that_is_said_and_stages_make_the_whole(spec):
    examples = batch(TRUNKS[spec], 3)
    trunk, features = make_trunk(spec).build(shape_of(examples))
    trunk.eval()
    found = trunk(examples)
    assert found.shape[:2] == (3, features)
    assert (found.ndim == 4) == (trunk.pixels is not None)
    value, carried = trunk.begin(examples)
    for index in range(trunk.count):
        value, carried = trunk.run(index, value, carried)
    torch.testing.assert_close(trunk.end(value, carried), found)
    parts = [*trunk.entry(), *trunk.tail(), *(m for k in range(trunk.count) for m in trunk.stage(k))]
    assert {id(p) for m in parts for p in m.parameters()} == {id(p) for p in trunk.parameters()}
    if trunk.pixels is not None:
        model = make_model("hard-sharing", spec, OUTPUTS, examples)
        assert model(examples)["b"].shape == (3, *examples.shape[2:], 3)


@pytest.mark.parametrize("spec", sorted(MODELS))
def test_every_trunk_drops_what_it_is_told_to(spec):
    assert str(make_trunk(f"{spec}:dropout=0.5")) == f"{spec}:dropout=0.5"


@pytest.mark.parametrize("spec", [spec for spec in TRUNKS if "dropout" in spec])
def test_dropout_applies_in_training_alone(spec):
    examples = batch(TRUNKS[spec], 3)
    trunk, _ = make_trunk(spec).build(shape_of(examples))
    assert any(isinstance(module, nn.Dropout) for module in trunk.modules())
    trunk.eval()
    assert torch.equal(trunk(examples), trunk(examples))


@pytest.mark.parametrize(("name", "parameters"), [("resnet18", 11_176_512), ("resnet34", 21_284_672)])
def test_residual_networks_have_as_many_parameters_as_the_published_ones(name, parameters):
    trunk, features = make_trunk(name).build((3, 64, 64))
    assert (sum(p.numel() for p in trunk.parameters()), features) == (parameters, 512)


def test_a_residual_network_is_its_blocks_one_after_another():
    torch.manual_seed(0)
    trunk, _ = make_trunk("resnet18:width=4,norm=none").build((2, 8, 8))
    images = torch.randn(2, 2, 8, 8)
    value = F.relu(F.conv2d(images, trunk.stages[0][0][0].weight, trunk.stages[0][0][0].bias, padding=1))
    for number, stage in enumerate(trunk.stages[1:]):
        for position, block in enumerate([*stage[0], stage[1]]):
            stride = 2 if number and not position else 1
            inside = F.relu(F.conv2d(value, block.first.weight, block.first.bias, stride, 1))
            inside = F.conv2d(inside, block.second.weight, block.second.bias, 1, 1)
            if stride == 2:
                value = F.conv2d(value, block.around[0].weight, block.around[0].bias, 2)
            value = F.relu(inside + value)
    torch.testing.assert_close(trunk(images), value.mean((2, 3)))


def test_the_way_up_of_a_unet_is_an_up_convolution():
    trunk, _ = make_trunk("unet:width=2,depth=1,norm=none").build((1, 6, 6))
    images = torch.randn(2, 1, 6, 6)
    down = trunk.seconds[0](trunk.firsts[0](images))
    bottom = trunk.seconds[1](trunk.firsts[1](F.max_pool2d(down, 2)))
    up = trunk.firsts[2].up
    kernel = up.weight.reshape(2, 2, 2, 4).permute(3, 0, 1, 2)
    raised = F.conv_transpose2d(bottom, kernel, stride=2) + up.bias.reshape(2, 2, 2).repeat(1, 3, 3)
    wanted = trunk.seconds[2](trunk.firsts[2].convolution(torch.cat([down, raised], 1)))
    torch.testing.assert_close(trunk(images), wanted)


def test_segnet_returns_maxima_to_their_places():
    trunk, _ = make_trunk("segnet:width=2,depth=2,norm=none").build((1, 8, 8))
    images = torch.randn(2, 1, 8, 8)
    places, value = [], images
    for index in (0, 1):
        value = trunk.rests[index](trunk.firsts[index](value))
        value, found = F.max_pool2d(value, 2, return_indices=True)
        places.append(found)
    for index in (2, 3):
        value = trunk.rests[index](trunk.firsts[index](F.max_unpool2d(value, places.pop(), 2)))
    torch.testing.assert_close(trunk(images), value)


def test_segnet_has_the_convolutions_of_vgg_16():
    trunk, _ = make_trunk("segnet").build((3, 32, 32))
    found = [tuple(m.weight.shape[:2]) for m in trunk.modules() if isinstance(m, nn.Conv2d)]
    down = [(64, 3), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (256, 256)]
    down += [(512, 256)] + [(512, 512)] * 5
    assert sorted(found) == sorted(down + [(before, after) for after, before in down[1:]] + [(64, 64)])


def test_a_transformer_is_that_of_torch_without_what_is_masked():
    torch.manual_seed(0)
    trunk, _ = make_trunk("transformer:vocabulary=20,width=8,heads=2,depth=1").build({"tokens": (7,), "mask": (7,)})
    layer = nn.TransformerEncoderLayer(8, 2, 32, dropout=0, activation="gelu", batch_first=True, norm_first=True)
    attention, forward = trunk.stages[0]
    pairs = [
        (layer.norm1, attention.norm),
        (layer.self_attn.out_proj, attention.out),
        (layer.norm2, forward.layers[0]),
        (layer.linear1, forward.layers[1]),
        (layer.linear2, forward.layers[4]),
    ]
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        layer.self_attn.in_proj_weight.copy_(attention.all.weight)
        layer.self_attn.in_proj_bias.copy_(attention.all.bias)
    inputs = batch(texts, 6)
    for tokens, mask, found in zip(inputs["tokens"], inputs["mask"], trunk(inputs), strict=True):
        length = int(mask.sum())
        if not length:
            assert torch.equal(found, torch.zeros(8))
            continue
        value = trunk.embed(tokens[None, :length]) + trunk.positions[:length]
        torch.testing.assert_close(found, trunk.norm(layer(value))[0].mean(0))


def test_tokens_without_a_mask_all_count():
    trunk, _ = make_trunk("transformer:vocabulary=20,width=8,heads=2").build((7,))
    tokens = torch.randint(0, 20, (3, 7))
    torch.testing.assert_close(trunk(tokens), trunk({"tokens": tokens, "mask": torch.ones(3, 7)}))


@pytest.mark.parametrize("pool", ["sum", "mean"])
def test_schnet_is_a_loop_over_atoms_and_their_neighbours(pool):
    torch.manual_seed(0)
    recipe = make_trunk(f"schnet:width=4,gaussians=5,depth=2,cutoff=2,pool={pool}")
    trunk, _ = recipe.build({"numbers": (6,), "positions": (6, 3), "mask": (6,)})
    inputs = batch(molecules, 3)
    found = trunk(inputs)
    for molecule in range(3):
        size = int(inputs["mask"][molecule].sum())
        places = inputs["positions"][molecule]
        atoms = [trunk.embed(inputs["numbers"][molecule, i]) for i in range(size)]
        for layer in trunk.stages:
            gathered = []
            for i in range(size):
                total = torch.zeros(4)
                for j in range(size):
                    distance = (places[i] - places[j]).norm()
                    if i == j or distance >= 2:
                        continue
                    gaussians = torch.stack([torch.exp(-2 * (distance - 0.5 * k) ** 2) for k in range(5)])
                    window = 0.5 * (torch.cos(torch.pi * distance / 2) + 1)
                    total = total + layer.inward(atoms[j]) * layer.filter(gaussians) * window
                gathered.append(total)
            atoms = [atom + layer.outward(total) for atom, total in zip(atoms, gathered, strict=True)]
        each = torch.stack([trunk.atoms(atom) for atom in atoms])
        torch.testing.assert_close(found[molecule], each.sum(0) if pool == "sum" else each.mean(0))


def test_schnet_has_a_gradient_by_the_positions():
    trunk, _ = make_trunk("schnet:width=4,gaussians=5").build({"numbers": (6,), "positions": (6, 3), "mask": (6,)})
    inputs = batch(molecules, 3)
    inputs["positions"].requires_grad_()
    (gradient,) = torch.autograd.grad(trunk(inputs).sum(), inputs["positions"])
    assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("lenet", (1, 12, 12), "lenet: inputs have shape (1, 12, 12); (channels, height, width) of 16 x 16 or more"),
        ("resnet18", {"a": (3,)}, "resnet18: inputs have shape {a: (3,)}; (channels, height, width) is wanted"),
        ("unet:depth=4", (1, 12, 12), "unet:depth=4: inputs are 12 x 12"),
        ("segnet", (1, 16, 16), "segnet:depth=5: inputs are 16 x 16"),
        ("transformer", (1, 8, 8), "transformer: inputs have shape (1, 8, 8); token ids"),
        ("transformer", {"tokens": (4,), "masks": (4,)}, "a dict of tokens and mask, are wanted"),
        ("schnet", (5,), "schnet: inputs have shape (5,); a dict of numbers"),
        ("schnet", {"numbers": (4,), "positions": (4,), "mask": (4,)}, "positions (atoms, 3)"),
    ],
)
def test_inputs_that_a_trunk_cannot_read_are_named(spec, shape, message):
    with pytest.raises(ValueError) as caught:
        make_trunk(spec).build(shape)
    assert message in str(caught.value)


def test_heads_of_attention_divide_the_width():
    with pytest.raises(ValueError, match="transformer: heads=3 does not divide width=128"):
        make_trunk("transformer:heads=3")


def test_an_mlp_takes_numbers_only():
    model = make_model("hard-sharing", "mlp:width=4", OUTPUTS, {"a": torch.zeros(2, 3), "b": torch.zeros(2).long()})
    with pytest.raises(ValueError, match=r"mlp: inputs hold a tensor of torch\.int64"):
        model({"a": torch.zeros(2, 3), "b": torch.zeros(2, 1).long()})
