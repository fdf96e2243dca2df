"""The page docs/losses.md and the pictures of the losses, from the code; `docs/generate.py` writes them."""

from __future__ import annotations

from pathlib import Path

from generate import INK, UPDATE, cell, described, parameters, save

from mtl.hyperparameters import domains
from mtl.losses import FAMILIES, LOSSES, Learned, Loss
from mtl.losses.torch_losses import torch_names
from mtl.losses.view import curve, view_of

COLOURS = ("#0072b2", UPDATE, "#d55e00")

INTRODUCTION = """\
# Losses

A task's loss is named by a spec, on the command line, in YAML and in Python alike:

| spec | loss |
| --- | --- |
| `huber:delta=0.5` | one of ours, below |
| `SmoothL1Loss:beta=0.5` | any of `torch.nn`, by its own name and arguments |
| `package.module:Class:margin=1` | a class or function of any library; its arguments are hyperparameters |
| `path.py:Name` | the same of a file of yours |
| `mae+0.1*path.py:Gradient` | a weighed sum; `weight1`, `weight2` ... are hyperparameters, as are those of its parts |
| `apart:mae+0.1*path.py:Gradient` | the same sum, each part of which the strategy weighs as a loss of its own |

    mtl train multidigits --loss left=focal:gamma=1 right=cross-entropy+0.5*poly
    mtl compare multidigits --vary loss.left=cross-entropy,focal:gamma=1,poly
    mtl search multidigits --search loss.left=cross-entropy,focal,poly loss.left.gamma=0.5:4
    mtl check-loss huber:delta=0.5
    mtl list losses

A loss is refused before anything is trained, with the name of its task, if it cannot take the task's outputs and
labels.

**In Python.** A loss takes predictions and labels and gives their mean, with `reduction="none"` one number for each
term. Missing labels (NaN, or -100 among whole numbers) are left out one by one; the mean of none is NaN. Continuous
parameters may be tensors, so that each member of a population has its own under `torch.func.vmap`. Half precision is
computed with in float32, as in torch's autocast, and values and gradients are finite at predictions of ±10000.

    import torch
    from mtl.losses import check_loss, make_loss, suggest

    labels = torch.tensor([0] * 90 + [1] * 25 + [2] * 5)
    found = suggest(labels, outputs=3)
    print(found.figures["imbalance"], *found.losses, sep="\\n")
    loss = make_loss("cross-entropy:class_weights=effective").fitted(labels, outputs=3)
    print(loss, loss(torch.zeros(120, 3), labels), check_loss(loss).passed)

**Parts that a strategy weighs.** The parts of a sum are often what has to be balanced. With `apart:` before the sum
each part is a loss of its own to the strategy, beside those of the other tasks: below it weighs three losses, `left`,
`right.cross_entropy` and `right.hinge`, in this order.

    mtl train multidigits --loss right=apart:cross-entropy+0.5*hinge --strategy gradnorm
    mtl compare multidigits --vary loss.right=cross-entropy+0.5*hinge,apart:cross-entropy+0.5*hinge --strategies famo
    mtl search multidigits --loss right=apart:cross-entropy+0.5*hinge --strategies static

The weights of the sum stay within its parts, so equal weights train the sum itself. Weights and training losses are
recorded and drawn by part; validation losses, metrics, Δm and the single-task baselines stay those of tasks, and a
baseline trains the sum. Every strategy, architecture and command takes such losses. With one task alone there are its
parts to weigh. In a search all choices of a task's loss have as many parts apart; `--vary` compares others too. A loop
of one's own needs none of this, for a balancer weighs whatever losses it is given:

    import torch
    import mtl

    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    balancer = mtl.Balancer("uncertainty", shared=model.parameters())
    error = model(torch.randn(16, 3)) - torch.randn(16, 1)
    balancer.backward({"depth.mae": error.abs().mean(), "depth.mse": error.square().mean()})
    print(balancer.weights)

**Pictures.** `gradient` compares the differences of neighbouring pixels, so edges, and `ssim` how alike windows look.
Both go beside a loss of the pixels themselves. `l1` is another name of `mae`:

    mtl compare scenes --loss depth=l1+0.1*gradient --strategies equal uncertainty
    mtl compare scenes --vary loss.depth=mse,mse+0.1*ssim,apart:mse+0.1*ssim --strategies equal gradnorm
    mtl search scenes --loss depth=l1+gradient --search loss.depth.weight2=0.01:10:log

Labels are (N, H, W), (N, C, H, W) or (N, H, W, C); the shorter axis is taken for the channels if `channels` does not
say. The range of values that `ssim` needs is that of the training labels if `data_range` is not given.

**Classes of unlike size.** `class_weights=inverse` makes every class weigh the same in all, `effective` lets large
classes stop growing (Cui et al., CVPR 2019, with beta 0.999), `priors=training` and `positive_weight=inverse` are of
the same kind. They are taken from the labels of the training split alone before training starts, have the mean 1 over
them, and are recorded as numbers.

**A loss that is searched.** `taylor` (classes, yes or no) and `taylor-numbers` are polynomials of prediction and label
whose coefficients a search sets, for each task its own:

    mtl search multidigits --method epbt --search loss.left=taylor loss.right=taylor,cross-entropy

What is found is a spec like any other, so `--loss` takes it, on another benchmark too, and so it does the file that the
search leaves of it: `--loss left=DIR/losses/found/left.json`. The report has it as an equation and as a picture beside
the usual loss. It need not be better. On multidigits, 1200 steps, test accuracy of the
left digit over 5 fresh seeds, and its difference from cross-entropy (95 % intervals):

| loss of the left digit | accuracy | difference |
| --- | --- | --- |
| neither loss tuned: cross-entropy | 0.951 ± 0.005 | |
| `taylor` as it starts | 0.950 ± 0.005 | −0.002 ± 0.005 |
| `taylor` as `cmaes` found it | 0.959 ± 0.005 | +0.008 ± 0.007 |
| both tuned by `cmaes`, 96 runs each: cross-entropy with label smoothing | 0.973 ± 0.006 | |
| `taylor` | 0.966 ± 0.010 | −0.008 ± 0.006 |
| both digits tuned by `epbt`, 64 runs each: cross-entropy with label smoothing | 0.973 ± 0.008 | |
| `taylor` | 0.966 ± 0.015 | −0.007 ± 0.011 |

    mtl compare multidigits --vary loss.left=cross-entropy,taylor,taylor:theta0=... --lr 0.005 \\
        --steps 1200 --seeds 5 --no-single-task
    mtl compare multidigits --vary loss.left=cross-entropy,taylor loss.right=cross-entropy,taylor \\
        --tune cmaes --budget 96 --steps 1200 --seeds 5 --no-single-task
    mtl compare multidigits --vary loss.left=cross-entropy,taylor loss.right=cross-entropy,taylor \\
        --tune epbt --budget 64 --steps 1200 --seeds 5 --no-single-task

The table has one of the three variants with `taylor` of each tuned study; the other two were worse. Tuned by `cmaes`,
both digits with `taylor`: left −0.010 ± 0.005, right −0.027 ± 0.012; the right digit alone: −0.009 ± 0.010. Tuned by
`epbt`, both digits: left −0.019 ± 0.009, right −0.016 ± 0.010; the right digit alone: −0.014 ± 0.006. By the mean gain
over all three tasks tuned cross-entropy ranks first in both studies, and under `epbt` two of the three variants with
`taylor` are significantly worse. The untuned +0.008 has p = 0.04 for the left digit by itself, and p = 0.43 in the
command's own test, of the mean gain over tasks with Holm's correction.

So a search over the loss found one that may be better than cross-entropy as it is, for one task, and none that is
better than cross-entropy whose label smoothing, one number instead of seven, was searched at equal cost. Before
searches refused such losses (below), one schedule of `epbt` failed (`taylor` for the right digit alone): on fresh seeds
it had an accuracy of 0.0005, as its first loss pushed away from the true class. Its later losses made that good in the
run that it was found in, and did not under other seeds. So train what was found again, from the start and under other
seeds, before it is used, as `mtl compare --tune` does.

No run of a search begins with a `taylor` loss that pushes away from the true class where all n classes are as likely,
as they are at the start: that is so unless theta5 + theta6 (1/n - theta1) + theta7 (1/2 - theta0) is above 0. Such
points are refused, others are taken in their place, and a line says how many (51 to 202 in each search of the study by
`epbt`; that by `cmaes` was made before); `mtl check-loss` warns of them. That a rule for the start of training can
spare a search such losses is of Gonzalez & Miikkulainen (arXiv:2010.00788); ours is read off the gradient of the loss
as it is here, and may differ from theirs. What `pbt`, `pb2` and `epbt` make of a loss while a run goes on, and Ray
Tune's own trials, are not held to it.

The same loss on another benchmark, multi-fashion, after 150 steps: 0.624 ± 0.028 for the left picture, 0.024 ± 0.010
below cross-entropy, while the other task gains 0.018 ± 0.009. On census, both losses of `income` with a tuned learning
rate, 300 steps: an area under the curve of 0.938 ± 0.001, 0.005 ± 0.001 below binary cross-entropy. It did not carry
over.

    mtl compare multi-fashion --vary loss.left=cross-entropy,taylor:theta0=... --lr 0.002 --steps 150 --seeds 5 \\
        --no-single-task
    mtl compare census --vary loss.income=binary-cross-entropy,taylor:theta0=... --tune random --budget 8 \\
        --steps 300 --seeds 5 --no-single-task

**A loss that is learned** while the model trains is a small network of label and prediction (ML3, AdaLFL). With every
step of the model it takes one of its own, towards what lowers the loss `of` after a step of the model down the network:

    mtl train multidigits --loss left=learned:of=cross-entropy,rate=1e-3,hidden=40
    mtl compare multidigits --vary loss.left=cross-entropy,learned --tune random
    mtl search multidigits --search loss.left=learned,cross-entropy

The loss `of` is what the network starts near, learns from, and what validation and test data are measured by. A run
leaves each loss that it has learned, as it was at the best evaluation, in `losses/` of its directory; the report draws
it, and terminal and report say what `--loss` takes. `learned:rate=0,start=FILE` trains on a loss that stays as it is in
the file, `learned:start=FILE` goes on learning from there; `of=` is given as it was learned with. Any strategy can
weigh such a loss but those that compare losses of different times or splits, such as famo and auto-lambda, which are
refused. The level of a learned loss means little: it tends to grow while it learns, and takes weight from other tasks
where the strategy lets it. A step takes two more forward and three more backward passes for each loss that is learned.

It can learn before training, too, as AdaLFL does in its offline phase:

    mtl train multidigits --loss left=learned:start=random,offline_steps=1000,rate=1e-5
    mtl train multidigits --loss left=learned:start=random,offline_steps=1000,inner_steps=3,rate=0 --strategy famo

The network takes `offline_steps` steps, each on a new model that makes `inner_steps` plain steps down the network, is
judged by the loss `of`, and is thrown away. `start=random` begins from random weights, as the papers do; without it
the steps begin from the fit to the loss `of`. With `rate=0` the loss stays as it is then (ML3), and every strategy
can weigh it. These steps precede the first one of the model and are made once: a signal stops in them, `--resume`
goes on where they were, and a member that takes over another's state takes what came of them. They follow from seed,
data and settings alone, so that a run by itself, one in a population and one of several processes learn the same;
members of a population make theirs one after another. The terminal says how far they are; where runs are only tried for
a moment, as by `mtl auto` for their speed, they are left out, and their time is part of its plan. Their time and passes
are in `cost`, whose `steps` are the model's alone. What one run has learned so, others begin with by `start=FILE`.

In a loop of your own:

    import torch
    from mtl.losses import LearnedLoss, make_loss

    inputs, labels = torch.randn(300, 8), torch.randint(0, 3, (300,))
    model = torch.nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = LearnedLoss("cross-entropy", rate=1e-3)
    for step in range(20):
        batch = torch.randperm(300)[:32]
        loss.meta_step(model, inputs[batch], labels[batch], lr=0.1)  # the loss learns
        optimizer.zero_grad()
        loss(model(inputs[batch]), labels[batch]).backward()  # the model learns from the loss
        optimizer.step()
    loss.save("found.json")
    print(make_loss("learned:rate=0,start=found.json")(model(inputs), labels))

`LearnedLoss("cross-entropy", offline_steps=1000).begin(make_model, batches, lr=0.1)` learns before such a loop.

On multidigits, 1200 steps, test accuracy of the left digit whose loss is varied, and of the right digit whose loss is
not, over 5 seeds, with the difference from cross-entropy (95 % intervals):

| loss of the left digit | left | difference | right | difference |
| --- | --- | --- | --- | --- |
| cross-entropy | 0.951 ± 0.005 | | 0.966 ± 0.003 | |
| cross-entropy with label smoothing 0.1 | 0.969 ± 0.006 | +0.018 ± 0.004 | 0.967 ± 0.004 | +0.001 ± 0.006 |
| `learned` | 0.975 ± 0.005 | +0.024 ± 0.003 | 0.946 ± 0.004 | −0.020 ± 0.003 |
| `learned:rate=0`, the network as it starts | 0.957 ± 0.002 | +0.006 ± 0.005 | 0.966 ± 0.003 | 0.000 ± 0.003 |
| `learned:rate=0,start=FILE`, as one run learned it | 0.976 ± 0.005 | +0.024 ± 0.002 | 0.940 ± 0.007 | −0.026 ± 0.007 |

    mtl compare multidigits --vary loss.left=cross-entropy,cross-entropy:label_smoothing=0.1,learned --lr 0.005 \\
        --steps 1200 --seeds 5 --no-single-task
    mtl compare multidigits --vary loss.left=cross-entropy,learned:rate=0,learned:rate=0,start=FILE --lr 0.005 \\
        --steps 1200 --seeds 5 --no-single-task

The learned loss gains on its own task, and another pays: its slope grows to six times that of cross-entropy. By the
mean gain over all three tasks it is level with cross-entropy (+0.3 ± 0.9 %), and label smoothing is ahead (+2.4 ± 1.2
%). The gain is not one of weight, as cross-entropy gains nothing from `static:weights=3/1/1` (−0.003 ± 0.004) or 10/1/1
(0.000 ± 0.004). So it is one of shape: in the report's picture the slope stays large where an answer is right already.
Under imtl-g, to which the level of a loss is nothing, no task pays, and what is learned is as good as label smoothing:
against cross-entropy +0.019 ± 0.007 left and +0.006 ± 0.005 right, with label smoothing +0.019 ± 0.003 and +0.007 ±
0.006.

    mtl compare multidigits --strategies equal static:weights=3/1/1 static:weights=10/1/1 --lr 0.005 --steps 1200 \\
        --seeds 5 --no-single-task
    mtl compare multidigits --strategies imtl-g --vary \\
        loss.left=cross-entropy,cross-entropy:label_smoothing=0.1,learned --lr 0.005 --steps 1200 --seeds 5 \\
        --no-single-task

With both digits learned the left one gains 0.023 ± 0.009, and the right one 0.003 ± 0.028.

With all tuned by 16 runs each, where cross-entropy has its label smoothing searched, the learned loss is not better at
its own task (+0.005 ± 0.011) and worse at the others (right −0.019 ± 0.014; mean gain −3.3 ± 1.6 %, p = 0.01 after
Holm's correction); read on validation data it is no better (left −0.006 ± 0.029, mean gain −3.4 ± 4.3 %). A step of a
run by itself takes 4.2 times the time of a CPU with one loss that is learned (2.1 and 8.8 ms), of a population of 16
6.3 times (14 and 90 ms).

    mtl compare multidigits --vary loss.left=cross-entropy,learned loss.right=cross-entropy,learned --lr 0.005 \\
        --steps 1200 --seeds 5 --no-single-task
    mtl compare multidigits --vary loss.left=cross-entropy,learned,learned:on=validation --tune random --budget 16 \\
        --steps 1200 --seeds 5 --no-single-task

On census, 300 steps, a learned loss of `income` gains nothing. The area under the curve is 0.9386 ± 0.0006 with binary
cross-entropy, and differs from that by −0.0209 ± 0.0062 with `rate=1e-3`, −0.0019 ± 0.0017 with 1e-4 and −0.0001 ±
0.0001 with 1e-5.

    mtl compare census --vary loss.income=binary-cross-entropy,learned:of=binary-cross-entropy --steps 300 --seeds 5 \\
        --no-single-task
    mtl compare census --vary loss.income=binary-cross-entropy,learned:of=binary-cross-entropy,rate=1e-4 --steps 300 \\
        --seeds 5 --no-single-task

The fit is where a learned loss starts unless told otherwise: it costs nothing, and gains more at its own task than
offline steps do; in the mean over the tasks the two are level. On multidigits as above, with 1000 offline steps from
random weights:

| loss of the left digit | left | difference | right | difference | forward passes |
| --- | --- | --- | --- | --- | --- |
| `learned` | 0.975 ± 0.005 | +0.024 ± 0.003 | 0.946 ± 0.004 | −0.020 ± 0.003 | 3600 |
| 1000 offline steps, `rate=0` | 0.966 ± 0.010 | +0.015 ± 0.007 | 0.956 ± 0.009 | −0.009 ± 0.011 | 3200 |
| 1000 offline steps, `rate=1e-5` | 0.965 ± 0.012 | +0.014 ± 0.009 | 0.953 ± 0.016 | −0.013 ± 0.017 | 5600 |
| 1000 offline steps, `rate=1e-3` | 0.947 ± 0.011 | −0.004 ± 0.012 | 0.936 ± 0.017 | −0.030 ± 0.018 | 5600 |

    mtl compare multidigits --vary loss.left=cross-entropy,learned:start=random,offline_steps=1000,rate=1e-5 \\
        --lr 0.005 --steps 1200 --seeds 5 --no-single-task

So a loss that was learned before training is to change little or not at all in it. With imtl-g and `rate=1e-5` the
left digit gains 0.002 ± 0.007 and the right one 0.015 ± 0.005, where the fit gains 0.019 ± 0.007 and 0.006 ± 0.005.
One step before training takes 9 ms of a CPU here, one of training with a learned loss 12, with cross-entropy 3.
Offline steps from the fit are no way: after 500 of them, and 600 steps with imtl-g over 3 seeds, the left digit is at
0.76 ± 0.35, and at 0.95 ± 0.04 without. New models have no good predictions yet, so that these steps do not hold what
the fit says of those.

So try label smoothing first, which is one number and costs nothing. A learned loss is for a task that matters more than
the others, or for a strategy that does not mind the level of a loss, and its rate is to be tuned.

**A loss of your own** is a function, a class or an `nn.Module` that takes predictions and labels in one shape (where
there is one prediction for each label) and returns their mean, without changing them in place. `mtl check-loss
path.py:Name` tests its gradient, sign, scale, mean over the batch, the edges, half precision, `vmap` and missing
labels, and exits 1 if something fails. An argument called as what every loss has is written with `_`: `kind_`, `name_`.
Where every pixel or word has a class, such a loss gets the classes on the second axis, as torch and other libraries
have them: predictions (N, C, H, W) for labels (N, H, W), wherever the model has them.
Missing labels reach it as NaN, or -100 among classes, and are for it to leave out. A loss is a function
of both and keeps nothing, since runs are trained together, resumed and evaluated by it: a module is made anew for each
batch, its buffers where the predictions are. One that changes a buffer or a number that it holds (a running mean, a
counter of steps), draws its buffers at random, or has parameters that are not frozen is refused; nothing hands it the
step or the epoch. Such losses are for a loop of your own, with a `Balancer`. Where `reduction` is `none` or `sum`
unless given, it is set to `mean`. Random numbers of torch that it draws follow from seed and step.

**Losses of torch.nn**: {torch}. Class logits have the classes on the last axis, as everywhere here; a loss of several
inputs gets them as pieces of one prediction (`TripletMarginLoss`: (N, 3, D); `CosineEmbeddingLoss`: (N, 2, D);
`MarginRankingLoss`: (N, 2); `GaussianNLLLoss`: mean and variance). `mtl check-loss` tests each on predictions and
labels that it takes. Some have faults that ours have not: `PoissonNLLLoss` and `SoftMarginLoss` are infinite for large
predictions, `MultiMarginLoss` and `MultiLabelMarginLoss` hide one that is NaN, and at such a one `BCELoss` ends a run
with an error.

In the pictures: the loss (left) and its slope (right) over what the axis says; black with the default parameters,
blue and orange at the ends of the range that a search tries for the first of them.
"""


def variants(cls: type[Loss]) -> list[tuple[str, Loss, str]]:
    """Labelled losses and their colours: the default, and both ends of the range of the first parameter searched."""
    decided = {"priors": (0.2, 0.3, 0.5), "data_range": 1.0}  # by training labels
    more = {key: value for key, value in decided.items() if key in domains(cls)}
    default = cls(**more)
    searched = [(key, domain) for key, domain in domains(cls).items() if domain.search]
    searched = [] if cls is Learned else searched  # its rate is no part of its shape
    if not searched:
        return [("", default, COLOURS[1])]
    key, domain = searched[0]
    low, high = domain.search or (0.0, 0.0)
    ends = [
        (f"{key}={end:g}", cls(**{**more, key: end}), colour) for end, colour in ((low, COLOURS[0]), (high, COLOURS[2]))
    ]
    return [ends[0], (f"{key}={getattr(default, key):g}", default, COLOURS[1]), ends[1]]


def draw(cls: type[Loss], path: Path) -> None:
    """Write the picture of a loss; the same file from the same version of Matplotlib."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    view = view_of(cls)
    with mpl.rc_context({"svg.hashsalt": cls.name, "svg.fonttype": "none", "font.size": 7, "axes.linewidth": 0.6}):
        figure = Figure(figsize=(5.2, 1.9), layout="constrained")
        FigureCanvasSVG(figure)
        left, right = figure.subplots(1, 2)
        for label, loss, colour in variants(cls):
            points, values, slopes = curve(loss, view)
            width = 1.6 if colour == COLOURS[1] else 1.0
            left.plot(points, values, color=colour, linewidth=width, label=label)
            right.plot(points, slopes, color=colour, linewidth=width)
        for axes, title in ((left, "loss"), (right, "slope")):
            axes.set_title(title, fontsize=7, color=INK)
            axes.axhline(0, color=INK, linewidth=0.4)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(length=2, width=0.6)
        figure.supxlabel(view.axis, fontsize=7, color=INK)
        if left.get_legend_handles_labels()[1]:
            left.legend(frameon=False, fontsize=6)
        save(figure, path)


def page() -> str:
    """The page."""
    parts = [INTRODUCTION.replace("{torch}", ", ".join(f"`{name}`" for name in torch_names()))]
    for family, classes in FAMILIES.items():
        parts.append(f"## For {family}\n")
        for cls in classes:
            parts += [_section(cls), ""]
    return "\n".join(parts).rstrip() + "\n"


def _section(cls: type[Loss]) -> str:
    first, rest, deviations = described(cls)
    table = parameters(cls)
    return "\n\n".join(
        [
            f"### {cls.name}",
            first,
            *rest,
            *([f"Departs from the paper: {deviations[0].lower()}{deviations[1:]}"] if deviations else []),
            f"`{cls.formula}`",
            f"Use: {cell(cls.use)}.",
            f"![{cls.name} and its slope](losses/{cls.name}.svg)",
            table if table != "None." else "No parameters.",
            f"{cell(cls.paper)}. Code: `{cls.__module__.replace('.', '/')}.py`.",
        ]
    )


def pictures() -> dict[str, type[Loss]]:
    """The losses by the file of their picture."""
    return {f"{name}.svg": cls for name, cls in LOSSES.items()}
