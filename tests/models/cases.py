"""Small inputs of every kind, and a trunk of every kind that reads them."""

import torch
from torch.utils import _pytree as pytree


def numbers(size, generator):
    return torch.randn(size, 5, generator=generator)


def several(size, generator):
    return {"a": torch.randn(size, 2, generator=generator), "b": (torch.randn(size, 3, 2, generator=generator),)}


def pictures(*sides):
    return lambda size, generator: torch.randn(size, 2, *sides, generator=generator)


def texts(size, generator):
    """Texts of 0 to 7 tokens."""
    lengths = torch.randint(0, 8, (size, 1), generator=generator)
    return {"tokens": torch.randint(0, 20, (size, 7), generator=generator), "mask": torch.arange(7) < lengths}


def tables(size, generator):
    return {
        "codes": torch.randint(0, 9, (size, 3), generator=generator),
        "numbers": torch.randn(size, 2, generator=generator),
    }


def molecules(size, generator):
    """Molecules of 2 to 6 atoms."""
    mask = torch.arange(6) < torch.randint(2, 7, (size, 1), generator=generator)
    elements = torch.randint(1, 9, (size, 6), generator=generator)
    return {
        "numbers": elements * mask,
        "positions": torch.randn(size, 6, 3, generator=generator) * mask[..., None],
        "mask": mask,
    }


#: By spec, what makes a batch of inputs for it.
TRUNKS = {
    "mlp:width=8,dropout=0.2": numbers,
    "mlp:width=8,depth=1": several,
    "table:codes=9,embedding=2,width=8,dropout=0.1": tables,
    "conv:channels=3,width=8,batch_norm=true,dropout=0.2": pictures(8, 8),
    "lenet:channels=3,width=8,dropout=0.1": pictures(16, 17),
    "resnet18:width=4,dropout=0.1": pictures(8, 8),
    "resnet18:width=4,norm=group,stem=large,maps=true": pictures(33, 20),
    "unet:width=4,depth=2,dropout=0.1": pictures(7, 9),
    "unet:width=4,norm=group,depth=1": pictures(8, 8),
    "segnet:width=2,depth=2,dropout=0.1": pictures(7, 9),
    "transformer:vocabulary=20,width=8,heads=2,dropout=0.1": texts,
    "schnet:width=8,gaussians=5,depth=2,dropout=0.1": molecules,
}


def batch(make, size, seed=0):
    return make(size, torch.Generator().manual_seed(seed))


def stacked(batches):
    """Batches of several members with a leading member axis."""
    return pytree.tree_map(lambda *leaves: torch.stack(leaves), *batches)


def losses(model, inputs):
    """One loss a task that every output takes part in."""
    return {task: (found - 0.3).square().mean() for task, found in model(inputs).items()}
