"""What `--vary` names, and its values: losses, training settings, parameters of losses and of strategies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mtl.benchmarks.benchmark import Benchmark
from mtl.hyperparameters import domains, parse
from mtl.losses import Loss, make_loss
from mtl.losses.spec import in_full
from mtl.strategies import units
from mtl.strategies.strategy import Strategy
from mtl.suggestions import nearest
from mtl.train import Settings
from mtl.train.heads import HEADS, head_names

LOSS = "loss."  # begins the name of what varies a task's loss, or a parameter of it
STRATEGY = "strategy."  # begins the name of what varies a parameter of a strategy


def read_values(
    varied: Mapping[str, Sequence[str]],
    strategies: Sequence[Strategy],
    benchmark: Benchmark,
    given: Collection[str],
    *,
    tuned: bool = False,
) -> dict[str, list[Any]]:
    """The values of each name, checked; losses are specs, with all that they set.

    Args:
        varied: choices as they were written, by name.
        strategies: that are compared.
        benchmark: has the tasks.
        given: names of settings, and `loss.TASK`, that have been given one value for all.
        tuned: what a loss does not set is tuned, so that a loss may stand beside itself with a default that it sets.

    Raises:
        ValueError: a name that does not exist or is given too, a value that cannot be, or nothing to choose from; one
            line.
    """
    tasks = [task.name for task in benchmark.tasks]
    losses = {task.name: [task.loss] for task in benchmark.tasks}
    found: dict[str, list[Any]] = {}
    for name, texts in varied.items():
        if name.startswith(LOSS) and (task := name.removeprefix(LOSS)) in tasks:
            found[name] = [_loss(name, text) for text in texts]
            losses[task] = [make_loss(spec) for spec in found[name]]
    heads = head_names(tasks)
    parameters: dict[str, list[Any]] = {}
    for task, owners in losses.items():
        for owner in owners:
            for key in domains(owner) if isinstance(owner, Loss) else ():
                parameters.setdefault(f"{LOSS}{task}.{key}", []).append(owner)
    for strategy in strategies:
        for unit in units(strategy):
            for key in domains(unit):
                parameters.setdefault(f"{STRATEGY}{unit.name}.{key}", []).append(unit)
    for name, texts in varied.items():
        if name in found:
            pass
        elif name in domains(Settings):
            found[name] = [_value(Settings, name, name, text) for text in texts]
        elif name in parameters:
            key = name.rpartition(".")[2]
            found[name] = [_value(type(parameters[name][0]), key, name, text) for text in texts]
        elif name in heads:
            found[name] = [_value(Settings, heads[name], name, text) for text in texts]
        else:
            raise ValueError(_unknown(name, tasks, parameters))
        same = found[name]
        if name.removeprefix(LOSS) in tasks and not tuned:
            same = [str(make_loss(spec)) for spec in same]
        _check(name, texts, same, given)
    return {name: found[name] for name in varied}


def _unknown(name: str, tasks: Sequence[str], parameters: Collection[str]) -> str:
    if name in ("strategy", "strategies"):
        return f"--vary {name}: --strategies names the strategies"
    if name.startswith(LOSS) and (task := name.removeprefix(LOSS).partition(".")[0]) not in tasks:
        return f"--vary {name}: there is no task {task!r}: {nearest(task, tasks)}"
    if name.startswith(HEADS):
        return f"--vary {name}: no task's head has this value: {nearest(name, head_names(tasks))}"
    if name.startswith((LOSS, STRATEGY)):
        alike = [known for known in parameters if known.partition(".")[0] == name.partition(".")[0]]
        hint = nearest(name, alike) if alike else "it has none"
        return f"--vary {name}: nothing that is compared has this parameter: {hint}"
    known = [*domains(Settings), *(f"{LOSS}{task}" for task in tasks), *parameters]
    hint = nearest(name, known, "`mtl compare --help` shows the settings")
    return f"--vary {name}: there is no such setting: {hint}"


def _check(name: str, texts: Sequence[str], values: Sequence[Any], given: Collection[str]) -> None:
    """Refuse a name with one value for all, a value that stands twice, and a single one."""
    if name in given:
        option = f"loss {name.removeprefix(LOSS)}" if name.startswith(LOSS) else name.replace("_", "-")
        raise ValueError(f"--vary {name}: --{option} gives it one value for all; leave one of the two out")
    for value, text in zip(values, texts, strict=True):
        if values.count(value) > 1:
            raise ValueError(f"--vary {name}={','.join(texts)}: it has {text} twice")
    if len(values) == 1:
        raise ValueError(f"--vary {name}={texts[0]}: there is nothing to compare with; join choices by commas")


def _loss(name: str, text: str) -> str:
    try:
        return in_full(text)
    except ValueError as error:
        raise ValueError(f"--vary {name}={text}: {error}") from error


def _value(owner: type, key: str, name: str, text: str) -> Any:
    where = "--vary" if name == key else f"--vary {name}"
    value = parse(owner, key, text, where)
    if complaint := domains(owner)[key].complaint(value):
        raise ValueError(f"--vary {name}={text}: {complaint}")
    return value
