"""The page docs/models.md, from the code; `docs/generate.py` writes it."""

from __future__ import annotations

from generate import cell

from mtl.hyperparameters import defaults, domains, show
from mtl.models import ARCHITECTURES, MODELS, Architecture, Trunk

INTRODUCTION = """\
# Models

A model is a trunk, and an architecture that says how the tasks share it; both are named by specs, which have the sizes
as hyperparameters. Heads follow from the tasks: a linear layer where a trunk gives vectors, a 1 x 1 convolution with
interpolation to the size of the inputs where it gives maps, for a prediction at each pixel.

    mtl train multidigits --model conv:channels=8 --architecture mmoe:experts=2
    mtl compare rf1 --strategies equal mgda --architecture cross-stitch
    mtl search multidigits --method random --search architecture=hard-sharing,mmoe,cgc:experts=1 model=mlp,conv
    mtl list architectures
    mtl list models

`--dropout` sets the dropout of any trunk, `--stochastic-depth` how often those with residual blocks leave some out.
Every trunk and every architecture is trained in a population as it is by itself, to 1e-5 (`tests/models`): batch
normalisation keeps running statistics for each member, dropout draws for each member what it would draw alone, and so
does the noise of `learning-to-branch`. Encoders of Hugging Face branch on values, which a vectorised program cannot:
their members are trained one at a time, and a line says so.

In Python, `make_model` draws the parameters from torch's global generator:

    import torch
    from mtl.models import make_model

    examples = {"tokens": torch.randint(0, 100, (2, 12)), "mask": torch.ones(2, 12, dtype=torch.bool)}
    model = make_model("mmoe:experts=2", "transformer:vocabulary=100,width=16", {"rating": 5, "like": 1}, examples)
    print({task: tuple(found.shape) for task, found in model(examples).items()})
    print(sum(parameter.numel() for parameter in model.shared_parameters()))

**Shared parameters.** Strategies compare the tasks' gradients on `model.shared_parameters()`. For each architecture
they are those that every task's loss reaches; whatever a single task reads, such as its gate, is trained by its
weighted loss like a head.

**Encoders of other libraries** are trunks, `timm:resnet18,weights=FILE` and `hf:FOLDER`, with weights from disk alone
(the extra `encoders`). `freeze=true` keeps an encoder as it is. `model.parameter_groups()` gives the parameters by the
factor of their learning rate: `timm:resnet18,rate_factor=0.1` trains the encoder at a tenth of the rate of all else, in
`mtl train` and in an optimizer of your own.

**A benchmark's own** trunk and architecture are its attributes `trunk` and `architecture`; with a `model()` of its own
it can have any module that returns predictions by task and has `shared_parameters()`.
"""
COPIES = """\
Several copies of a trunk begin with one entry: an embedding stands once, and its rows are shared by all tasks. Gates
read what the experts beside them read: the flattened inputs, pictures averaged to 16 pixels a side where they are
larger, the mean over the tokens or atoms that the mask keeps."""
TRUNKS = """\
Inputs are a tensor, or a dict of tensors where it says so; a trunk refuses what it cannot read, with the shape. Stages
are what architectures mix or attend between."""


def page() -> str:
    """The page in Markdown."""
    parts = [INTRODUCTION, f"## Architectures\n\n{COPIES}\n"]
    parts += [_entry(cls, f"\nShared: {cls.shared}.\n") for cls in ARCHITECTURES.values()]
    parts.append(f"## Trunks\n\n{TRUNKS}\n")
    parts += [_entry(cls, "") for cls in MODELS.values()]
    return "\n".join(parts)


def _entry(cls: type[Architecture] | type[Trunk], more: str) -> str:
    about = "\n".join(line.strip() for line in (cls.__doc__ or "").strip().splitlines())
    source = f"\n{cls.paper}.\n" if cls.paper else ""
    usual = defaults(cls)
    rows = [
        f"| `{key}` | {cell(show(usual[key]) or 'none')} | {cell(domain.interval())} | {cell(domain.doc)} |"
        for key, domain in domains(cls).items()
    ]
    table = "\n".join(["| parameter | default | range | |", "| --- | --- | --- | --- |", *rows])
    return f"### {cls.name}\n\n{about}\n{source}{more}" + (f"\n{table}\n" if rows else "")
