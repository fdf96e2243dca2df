"""Architectures against plain loops of their papers' equations, and in a population against single runs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mtl
from mtl.models import ARCHITECTURES, make_architecture, make_model
from mtl.population import Population
from tests.models.cases import batch, losses, numbers, pictures, stacked, tables, texts

OUTPUTS = {"a": 1, "b": 3, "type": 2}
MLP, TEXT, UNET = "mlp:width=6,depth=3", "transformer:vocabulary=20,width=8,heads=2,dropout=0.1", "unet:width=2,depth=1"
IMAGES = pictures(6, 6)

#: Architecture, trunk and inputs that are trained.
CASES = [
    ("hard-sharing", MLP, numbers),
    ("cross-stitch", MLP, numbers),
    ("cross-stitch:per_channel=true", UNET, IMAGES),
    ("cross-stitch:per_channel=true", TEXT, texts),
    ("mmoe:experts=3", MLP, numbers),
    ("mmoe:experts=2", TEXT, texts),
    ("mmoe:experts=2", "table:codes=9,embedding=2,width=8", tables),
    ("cgc", MLP, numbers),
    ("cgc:experts=1", UNET, IMAGES),
    ("ple:levels=3,own=2", MLP, numbers),
    ("ple", "conv:channels=2,width=6", IMAGES),
    ("mtan", MLP, numbers),
    ("mtan", "segnet:width=2,depth=2", IMAGES),
    ("mtan:norm=group", "resnet18:width=4,norm=group", IMAGES),
    ("mtan", TEXT, texts),
    ("dselect-k", MLP, numbers),
    ("learning-to-branch:anneal=10", MLP, numbers),
    ("learning-to-branch:blocks=2", TEXT, texts),
]


def made(architecture, trunk, inputs, seed=0, outputs=OUTPUTS):
    torch.manual_seed(seed)
    return make_model(architecture, trunk, outputs, batch(inputs, 2))


def grouped(model, value):
    """`nn.Sequential` of an MLP trunk as its stages."""
    return [lambda x, s=k: F.relu(model[2 * s + 1](x)) for k in range(value)]


def test_there_is_a_case_for_every_architecture():
    assert {case[0].partition(":")[0] for case in CASES} == set(ARCHITECTURES)


@pytest.mark.parametrize("strategy", ["uncertainty", "famo"])
@pytest.mark.parametrize(("architecture", "trunk", "inputs"), CASES)
def test_members_of_a_population_are_single_runs(architecture, trunk, inputs, strategy):
    seeds, steps = (3, 4), 3
    drawn = [[batch(inputs, 5, 100 * seed + step) for seed in seeds] for step in range(steps)]
    population = Population(
        lambda: make_model(architecture, trunk, OUTPUTS, batch(inputs, 2)),
        losses,
        strategy,
        seeds,
        optimizer="sgd",
        lr=0.01,
    )
    for each in drawn:
        population.step(stacked(each))
    for member, seed in enumerate(seeds):
        model = made(architecture, trunk, inputs, seed)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        balancer = mtl.Balancer(strategy, model.shared_parameters(), seed=seed)
        for each in drawn:
            optimizer.zero_grad()
            inputs_now = each[member]
            balancer.backward(
                losses(model, inputs_now), recompute=lambda model=model, now=inputs_now: losses(model, now)
            )
            optimizer.step()
        torch.testing.assert_close(population.state_dict_of(member), model.state_dict(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("architecture", "trunk", "inputs"), CASES)
def test_shared_parameters_are_those_that_every_task_reaches(architecture, trunk, inputs):
    model = made(architecture, trunk, inputs)
    parameters = list(model.parameters())
    assert len({id(p) for p in parameters}) == len(parameters)
    reached = [
        torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for loss in losses(model, batch(inputs, 4)).values()
    ]
    shared = {id(p) for p in model.shared_parameters()}
    assert len(shared) == len(list(model.shared_parameters()))
    for parameter, *each in zip(parameters, *reached, strict=True):
        if id(parameter) in shared:
            assert all(gradient is not None for gradient in each)
        else:
            assert sum(gradient is not None and bool(gradient.any()) for gradient in each) == 1


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_single_task_has_a_model_too(name):
    model = made(name, MLP, numbers, outputs={"a": 2})
    assert model(batch(numbers, 3))["a"].shape == (3, 2)
    assert list(model.shared_parameters())


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_per_pixel_tasks_share_what_an_architecture_can(name):
    if name in ("ple", "learning-to-branch"):
        with pytest.raises(
            ValueError, match=f"{name}: the model unet:width=2,depth=1 has connections that skip stages"
        ):
            made(name, UNET, IMAGES)
    else:
        assert made(name, UNET, IMAGES)(batch(IMAGES, 3))["b"].shape == (3, 6, 6, 3)


# --- the papers' equations in plain loops --------------------------------------------------------------------------


def test_cross_stitch_mixes_every_activation_of_every_task():
    model = made("cross-stitch:same=0.7", MLP, numbers)
    x = batch(numbers, 4)
    trunks = [grouped(trunk, 3) for trunk in model.trunks]
    values = [x, x, x]
    for stage in range(3):
        values = [trunks[task][stage](values[task]) for task in range(3)]
        values = [sum((0.7 if i == j else 0.15) * values[j] for j in range(3)) for i in range(3)]
    for task, value, head in zip(OUTPUTS, values, model.heads.values(), strict=True):
        torch.testing.assert_close(model(x)[task], head(value))


def test_cross_stitch_mixes_each_channel_by_itself():
    model = made("cross-stitch:per_channel=true", "conv:channels=2,width=6", IMAGES)
    x = batch(IMAGES, 4)
    with torch.no_grad():
        for unit in model.units:
            for row in unit:
                row.normal_()
    values = [x, x, x]
    for stage, (start, stop) in enumerate(((0, 3), (3, 6))):
        values = [trunk[start:stop](value) for trunk, value in zip(model.trunks, values, strict=True)]
        mixed = [torch.zeros_like(value) for value in values]
        for i in range(3):
            for j in range(3):
                for channel in range(values[0].shape[1]):
                    mixed[i][:, channel] += model.units[stage][i][j, channel] * values[j][:, channel]
        values = mixed
    for task, value, trunk, head in zip(OUTPUTS, values, model.trunks, model.heads.values(), strict=True):
        torch.testing.assert_close(model(x)[task], head(trunk[6:](value)))


def test_mmoe_mixes_experts_by_each_tasks_gate():
    model = made("mmoe:experts=3", MLP, numbers)
    x = batch(numbers, 4)
    for task, gate, head in zip(OUTPUTS, model.gates[0].values(), model.heads.values(), strict=True):
        weights = (x @ gate.linear.weight.T).softmax(1)
        for example in range(4):
            mixed = sum(weights[example, e] * expert(x[example : example + 1]) for e, expert in enumerate(model.shared))
            torch.testing.assert_close(model(x)[task][example : example + 1], head(mixed))


def test_cgc_mixes_a_tasks_experts_with_the_shared_ones():
    model = made("cgc:experts=2,own=2", MLP, numbers)
    x = batch(numbers, 4)
    for task, own, gate, head in zip(
        OUTPUTS, model.own.values(), model.gates[0].values(), model.heads.values(), strict=True
    ):
        weights = (x @ gate.linear.weight.T).softmax(1)
        mixed = sum(weights[:, e : e + 1] * expert(x) for e, expert in enumerate([*own, *model.shared]))
        torch.testing.assert_close(model(x)[task], head(mixed))


def test_ple_extracts_level_by_level():
    model = made("ple:levels=3,experts=2,own=1", MLP, numbers)
    x = batch(numbers, 4)
    shared = [grouped(expert, 3) for expert in model.shared]
    own = [[grouped(expert, 3) for expert in experts] for experts in model.own.values()]
    common, each = x, [x, x, x]
    for level in range(3):
        of_shared = [expert[level](common) for expert in shared]
        of_task = [[expert[level](each[k]) for expert in experts] for k, experts in enumerate(own)]
        read = each
        each = []
        for k, gate in enumerate(model.gates[level].values()):
            weights = (read[k] @ gate.linear.weight.T).softmax(1)
            each.append(sum(weights[:, e : e + 1] * value for e, value in enumerate([*of_task[k], *of_shared])))
        if level < 2:
            weights = (common @ model.shared_gates[level].linear.weight.T).softmax(1)
            every = [value for values in of_task for value in values] + of_shared
            common = sum(weights[:, e : e + 1] * value for e, value in enumerate(every))
    for task, value, head in zip(OUTPUTS, each, model.heads.values(), strict=True):
        torch.testing.assert_close(model(x)[task], head(value))


def test_mtan_attends_to_vectors():
    model = made("mtan", MLP, numbers)
    x = batch(numbers, 4)
    stages = grouped(model.trunk, 3)
    for task, name in zip(OUTPUTS, model.heads, strict=True):
        value, attended = x, None
        for index in range(3):
            value = stages[index](value)
            of_task = model.attentions[index][name]
            read = value if attended is None else torch.cat([value, F.relu(of_task.taken[0](attended))], 1)
            mask = torch.sigmoid(of_task.mask[2](F.relu(of_task.mask[0](read))))
            attended = mask * value
        torch.testing.assert_close(model(x)[task], model.heads[name](attended))


def test_mtan_attends_to_the_second_part_of_each_segnet_stage():
    model = made("mtan:norm=none", "segnet:width=2,depth=2,norm=none", pictures(8, 8))
    x = batch(pictures(8, 8), 3)
    trunk = model.trunk
    for task, name in zip(OUTPUTS, model.heads, strict=True):
        value, attended, places = x, None, []
        for index in range(4):
            if index >= 2:
                value = F.max_unpool2d(value, places.pop(), 2)
            first = trunk.firsts[index](value)
            second = trunk.rests[index](first)
            of_task = model.attentions[index][name]
            read = first
            if attended is not None:
                taken = F.relu(F.conv2d(attended, of_task.taken[0].weight, of_task.taken[0].bias, padding=1))
                if index == 1:
                    taken = F.max_pool2d(taken, 2)
                elif index == 3:
                    taken = F.interpolate(taken, scale_factor=2, mode="bilinear")
                read = torch.cat([first, taken], 1)
            mask = torch.sigmoid(of_task.mask[3](F.relu(of_task.mask[0](read))))
            attended = mask * second
            value = second
            if index < 2:
                value, found = F.max_pool2d(second, 2, return_indices=True)
                places.append(found)
        torch.testing.assert_close(model(x)[task], model.heads[name](attended))


def smooth_step(number, gamma):
    if number <= -gamma / 2:
        return 0.0
    if number >= gamma / 2:
        return 1.0
    return -2 / gamma**3 * number**3 + 3 / (2 * gamma) * number + 0.5


def test_dselect_k_writes_an_experts_number_in_smoothed_bits():
    model = made("dselect-k:experts=4,k=2,gamma=0.5", MLP, numbers)
    x = batch(numbers, 4)
    for task, gate, head in zip(OUTPUTS, model.gates[0].values(), model.heads.values(), strict=True):
        with torch.no_grad():
            gate.bits.weight.normal_()
        bits, shares = gate.bits(x).detach(), gate.weights(x).softmax(1).detach()
        for example in range(4):
            mixed = torch.zeros(1, 6)
            for expert in range(4):
                weight = 0.0
                for selector in range(2):
                    product = float(shares[example, selector])
                    for bit in range(2):
                        on = smooth_step(float(bits[example, 2 * selector + bit]), 0.5)
                        product *= on if expert >> bit & 1 else 1 - on
                    weight += product
                mixed += weight * model.shared[expert](x[example : example + 1])
            torch.testing.assert_close(model(x)[task][example : example + 1], head(mixed))


def test_a_gate_of_dselect_k_chooses_at_most_k_experts_when_its_bits_are_decided():
    model = made("dselect-k:experts=8,k=2", MLP, numbers)
    gate = model.gates[0]["a"]
    with torch.no_grad():
        gate.bits.bias.copy_(torch.tensor([1.0, -1, 1, -1, -1, 1]))
        gate.bits.weight.zero_()
    weights = gate(batch(numbers, 4))
    assert (weights > 0).sum(1).tolist() == [2] * 4
    assert (weights[:, [0b101, 0b100]] > 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(4))


def test_a_static_gate_of_dselect_k_is_the_same_for_all_examples():
    model = made("dselect-k:experts=4,k=2,gate=static", MLP, numbers)
    x = batch(numbers, 5)
    for task, gate, head in zip(OUTPUTS, model.gates[0].values(), model.heads.values(), strict=True):
        assert {name: value.shape for name, value in gate.named_parameters()} == {
            "bits.bias": (4,),
            "weights.bias": (2,),
        }
        with torch.no_grad():
            gate.bits.bias.uniform_(-0.4, 0.4)
        weights = gate(x)
        assert torch.equal(weights, weights[:1].expand(5, -1))
        torch.testing.assert_close(weights.sum(1), torch.ones(5))
        mixed = sum(weights[0, expert] * model.shared[expert](x) for expert in range(4))
        torch.testing.assert_close(model(x)[task], head(mixed))


def test_gates_of_dselect_k_begin_where_bits_are_undecided_and_selectors_alike():
    model = made("dselect-k:experts=4,k=2,gamma=2", MLP, numbers)
    for gate in model.gates[0].values():
        for parameter in gate.bits.parameters():
            assert 0 < float(parameter.detach().abs().max()) <= 0.02
        for parameter in gate.weights.parameters():
            assert 0 < float(parameter.detach().abs().max()) <= 0.05


def test_a_tree_reads_what_is_likeliest_in_evaluation():
    model = made("learning-to-branch", MLP, numbers).eval()
    x = batch(numbers, 4)
    with torch.no_grad():
        for choice in [*model.choices, *model.task_choices]:
            choice.normal_()
    blocks = [grouped(block, 3) for block in model.blocks]
    for (task, path), head in zip(model.branches().items(), model.heads.values(), strict=True):
        assert len(path) == 3
        value = x
        for layer, block in enumerate(path):
            value = blocks[block][layer](value)
        torch.testing.assert_close(model(x)[task], head(value))


def test_a_tree_reads_samples_in_training_that_grow_colder():
    model = made("learning-to-branch:temperature=2,coldest=0.1,anneal=4,blocks=2", "mlp:width=6,depth=1", numbers)
    x = batch(numbers, 4)
    with torch.no_grad():
        model.task_choices[0].copy_(torch.tensor([1.0, -1.0]))
    sharpness, first = [], []
    for step in range(400):
        found = model(x)["a"]
        values = [model.heads["a"](F.relu(block[1](x))) for block in model.blocks]
        share = ((found - values[1]) / (values[0] - values[1])).mean()
        (sharpness if step > 4 else first).append(float(share.detach()))
    hard = torch.tensor(sharpness)
    assert abs(float((hard > 0.5).float().mean()) - torch.tensor(2.0).sigmoid().item()) < 0.06
    assert ((hard < 0.05) | (hard > 0.95)).float().mean() > 0.7
    assert 0.05 < first[0] < 0.95


def test_noise_of_a_tree_is_even_and_goes_on_after_a_resume():
    model = made("learning-to-branch", MLP, numbers)
    drawn = torch.cat([model.draws(500)[0] for _ in range(40)])
    uniform = torch.exp(-torch.exp(-drawn))
    counts = torch.histc(uniform, 20, 0, 1)
    assert ((counts - 1000) ** 2 / 1000).sum() < 45  # chi-square of 19 degrees, one in a thousand
    other = made("learning-to-branch", MLP, numbers, seed=1)
    assert not torch.equal(other.draws(9)[0], model.draws(9)[0])
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.draws(9)[0], model.draws(9)[0])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mmoo", "unknown architecture 'mmoo': did you mean mmoe"),
        ("mmoe:expert=2", "mmoe has no hyperparameter 'expert'"),
        ("mmoe:experts=0", "mmoe: experts=0 must be at least 1"),
        ("dselect-k:experts=6", "dselect-k: experts=6 must be a power of two"),
    ],
)
def test_a_spec_that_cannot_be_read_is_named(spec, message):
    with pytest.raises(ValueError) as caught:
        make_architecture(spec)
    assert message in str(caught.value)


def test_levels_of_ple_are_at_most_the_stages_of_the_trunk():
    with pytest.raises(ValueError, match="ple: levels=4, and the model mlp:width=6,depth=3 has 3 stages"):
        made("ple:levels=4", MLP, numbers)


@pytest.mark.parametrize("name", ["mmoe", "cgc", "cross-stitch", "learning-to-branch"])
def test_copies_of_a_trunk_have_one_table_of_embeddings(name):
    model = made(name, TEXT, texts)
    assert sum(isinstance(module, nn.Embedding) for module in model.modules()) == 1
