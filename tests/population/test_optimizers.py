"""Each optimizer equals the one of torch.optim, with other settings for every member."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mtl.population.optimizers import make_optimizer

OPTIMIZERS = {
    "adam": (torch.optim.Adam, {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-2, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    "sgd": (torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.1, "dampening": 0.2}),
    "nesterov": (torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 1e-2, "alpha": 0.9, "momentum": 0.5, "weight_decay": 0.1}),
    "adagrad": (
        torch.optim.Adagrad,
        {"lr": 1e-2, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2},
    ),
    "adadelta": (torch.optim.Adadelta, {"lr": 0.5, "rho": 0.8, "eps": 1e-5, "weight_decay": 0.1}),
    "adamax": (torch.optim.Adamax, {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
    "nadam": (torch.optim.NAdam, {"lr": 1e-2, "betas": (0.8, 0.95), "weight_decay": 0.1, "momentum_decay": 0.1}),
    "nadam apart": (torch.optim.NAdam, {"lr": 1e-2, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "radam": (torch.optim.RAdam, {"lr": 1e-2, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    "radam apart": (torch.optim.RAdam, {"lr": 1e-2, "weight_decay": 0.1, "decoupled_weight_decay": True}),
}


def settings_of(member, given):
    """The settings of a member: the second half of them differs from the first's."""
    scaled = {"lr": given["lr"] * (member + 1)}
    if "weight_decay" in given:
        scaled["weight_decay"] = given["weight_decay"] * member
    if "betas" in given:
        scaled["betas"] = tuple(beta ** (member + 1) for beta in given["betas"])
    return {**given, **scaled}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("gaps", [False, True])
def test_equal_to_torch(name, gaps):
    cls, given = OPTIMIZERS[name]
    optimizer = make_optimizer("sgd" if name == "nesterov" else name.partition(" ")[0])
    members, shapes = 3, [(4, 2), (5,)]
    each = [settings_of(member, given) for member in range(members)]
    complete = [optimizer.complete(values) for values in each]
    values = {key: torch.tensor([[float(own[key])] for own in complete]) for key in complete[0]}
    theirs = [[torch.nn.Parameter(torch.randn(shape)) for shape in shapes] for _ in range(members)]
    ours = torch.stack([torch.cat([p.detach().flatten() for p in own]) for own in theirs])
    owner = torch.tensor([0] * 8 + [1] * 5)
    state = optimizer.init(ours, values, 2)
    peers = [cls(own, **settings) for own, settings in zip(theirs, each, strict=True)]
    for step in range(12):
        gradients = torch.randn(members, 13)
        stepped = torch.rand(members, 2) > 0.4 if gaps and step % 3 else None
        for member, own in enumerate(theirs):
            for tensor, piece in enumerate(gradients[member].split([8, 5])):
                taken = stepped is None or bool(stepped[member, tensor])
                own[tensor].grad = piece.view(shapes[tensor]).clone() if taken else None
        for peer in peers:
            peer.step()
        optimizer.step(ours, gradients, state, values, owner, stepped, even=not gaps)
    wanted = torch.stack([torch.cat([p.detach().flatten() for p in own]) for own in theirs])
    torch.testing.assert_close(ours, wanted, atol=1e-12, rtol=0)


def test_unknown_names_are_one_line():
    with pytest.raises(ValueError, match="unknown optimizer 'adan': did you mean"):
        make_optimizer("adan")
    with pytest.raises(ValueError, match="sgd has no setting 'nesterof': did you mean nesterov"):
        make_optimizer("sgd").complete({"nesterof": 1})


class Scarce(TorchDispatchMode):
    """Memory runs out at the so-manieth operation that would allocate some; operations in place and views go on."""

    def __init__(self, left):
        super().__init__()
        self.left = left

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        returned = func._schema.returns
        if "out" not in kwargs and not any(value.alias_info for value in returned):
            self.left -= 1
            if self.left < 0:
                raise torch.OutOfMemoryError("stands for a full GPU")
        return func(*args, **kwargs)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("name", [*OPTIMIZERS])
def test_a_step_for_which_memory_does_not_suffice_changes_nothing(name, gaps):
    """Whichever allocation fails: the step is made wholly or not at all."""
    optimizer = make_optimizer("sgd" if name == "nesterov" else name.partition(" ")[0])
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(3, 5, generator=generator)
    settings = optimizer.complete(OPTIMIZERS[name][1])
    values = {key: torch.full((3, 1), float(value), dtype=torch.float64) for key, value in settings.items()}
    state, owner = optimizer.init(parameters, values, 2), torch.tensor([0, 0, 1, 1, 1])
    stepped = torch.tensor([[True, False], [True, True], [False, True]]) if gaps else None
    optimizer.step(parameters, torch.randn(3, 5, generator=generator), state, values, owner)
    gradients = torch.randn(3, 5, generator=generator)
    for allowed in itertools.count():
        now, held = parameters.clone(), {key: value.clone() for key, value in state.items()}
        try:
            with Scarce(allowed):
                optimizer.step(now, gradients, held, values, owner, stepped)
            break
        except torch.OutOfMemoryError:
            assert torch.equal(now, parameters) and all(torch.equal(held[key], state[key]) for key in state)
    assert allowed > 5 and not torch.equal(now, parameters)
