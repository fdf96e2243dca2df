"""Makes the space of a search from the strategies, the ranges that they declare, and what the user wrote."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from mtl.benchmarks.apart import tasks_of_losses
from mtl.benchmarks.benchmark import Benchmark, Task
from mtl.hyperparameters import Domain, defaults, domains, kinds_of, parse
from mtl.losses import Loss, make_loss
from mtl.losses.spec import in_full, said
from mtl.search.space.dimension import Condition, Dimension
from mtl.search.space.grammar import Bounds, Range, Word
from mtl.search.space.parameters import Choice, Number, Parameter, Simplex
from mtl.search.space.space import Space
from mtl.strategies import hyperparameters_said, make, units
from mtl.strategies.strategy import Strategy
from mtl.suggestions import nearest
from mtl.train import Settings, check_trunk
from mtl.train.heads import head_names
from mtl.train.optimizers import read_optimizer
from mtl.train.schedules import read_schedule

#: Training settings that may differ between the members of a search.
SETTINGS = tuple(name for name, domain in domains(Settings).items() if domain.varies)
_SEARCHED = ("lr", "weight_decay")  # without being asked for
#: What to do about a setting that is not searched, where that is not to give it.
_INSTEAD: Mapping[str, str] = MappingProxyType(
    {"patience": "the best evaluation of each counts, and asha and its like stop those that fall behind"}
)


def build_space(
    benchmark: Benchmark, strategies: Sequence[str], given: Mapping[str, Range], fixed: Collection[str] = ()
) -> Space:
    """The space of a search.

    Unless the user says otherwise, these are searched: the hyperparameters of each strategy that declare a range, the
    learning rate, and weight decay. A hyperparameter that a spec sets (`gradnorm:alpha=0.5`) keeps its value.

    Args:
        benchmark: has the tasks, whose losses may be searched.
        strategies: specs; those in `given`, if it has some, replace them.
        given: ranges by name, as the user wrote them. They replace the declared ones.
        fixed: names of hyperparameters of strategies that keep their values too, unless they are in `given`.

    Raises:
        ValueError: a name that does not exist, or a range outside what is accepted; one line.
    """
    given = dict(given)
    listed = given.pop("strategy", None)
    if isinstance(listed, Word | Bounds):
        raise ValueError("strategy: specs joined by commas are wanted, such as strategy=famo,gradnorm")
    asked = listed.choices if listed is not None else strategies
    specs = [str(make(spec)) for spec in asked]
    if len(set(specs)) < len(specs):
        raise ValueError(f"strategy: {', '.join(specs)} has one twice")
    dimensions = {"strategy": Dimension(Choice(tuple(specs)))}
    tasks = {task.name: task for task in benchmark.tasks}
    for name in [name for name in given if name.startswith("loss.") and name.removeprefix("loss.") in tasks]:
        dimensions[name] = Dimension(_losses(name, given.pop(name)))
    weighed = _number_weighed(tasks, dimensions)
    for spec in specs:
        make(spec).check_tasks(weighed)
    kept = {spec: {*fixed, *set_by([written])} for spec, written in zip(specs, asked, strict=True)}
    searchable: dict[str, _Searchable | _Shared] = {
        **_of_strategies(kept),
        **_of_losses(tasks, dimensions),
        **_of_settings(tasks),
    }
    for name, text in given.items():
        if name not in searchable:
            if name in domains(Settings):
                instead = _INSTEAD.get(name, f"--{name.replace('_', '-')} gives it")
                raise ValueError(f"{text.where}: {name} is one for all runs of a search: {instead}")
            raise ValueError(f"{text.where}: unknown parameter {name!r}: {_unknown(name, specs, tasks, searchable)}")
    for name, one in searchable.items():
        written = given.get(name)
        if written == Word("default") or (written is None and not one.searched):
            continue
        if written is not None:
            parameter, choices = one.read(name, written, weighed), [*one.having]
        else:
            parameter, choices = one.declared(name, weighed), one.free
        dimensions[name] = Dimension(parameter, _beside(dimensions.get(one.parent), one.parent, choices))
    _check_models(benchmark, dimensions)
    _check_optimizers(dimensions)
    for spec in dimensions["schedule"].parameter.grid(1) if "schedule" in dimensions else ():
        read_schedule(spec)
    space = Space(dimensions)
    space.check(weighed)
    return space


_ALWAYS = ""  # in place of a choice, where nothing is chosen from


class _Searchable:
    """Something that can be searched: a hyperparameter of a strategy or of a loss, or a training setting.

    Args:
        owner: the strategy, loss or settings, or its class.
        key: its name there.
        parent: what it depends on, such as `strategy`; empty for nothing.
        having: of each choice of the parent that has it, whether it is free there: searched unless the user says
            otherwise, if it declares a range. What the spec of a choice sets keeps its value.
        classes: outputs of the task whose loss it is a parameter of.
    """

    def __init__(
        self, owner: Any, key: str, parent: str, having: Mapping[str, bool], classes: int | None = None
    ) -> None:
        self.owner, self.key, self.parent, self.having = owner, key, parent, having
        self.domain: Domain = domains(owner)[key]
        self.free = [choice for choice, free in having.items() if free]
        self.searched = bool(self.free) and self.domain.search is not None
        usual = defaults(owner)[key]
        self.integer = isinstance(usual, int) and not isinstance(usual, bool)
        kinds = kinds_of(owner if isinstance(owner, type) else type(owner), key)
        self.several = tuple in kinds
        self.numeric = not self.domain.choices and bool(kinds & {int, float, Any})
        # Of weights of classes there are as many as the task has outputs.
        self.classes = classes if self.domain.tasks == "class ratios" else None
        self.weights = self.domain.tasks == "ratios" or self.classes is not None

    def declared(self, _name: str, losses: int) -> Parameter:
        """The range that it declares itself."""
        if self.weights:
            return Simplex(self.classes or losses)
        low, high = self.domain.search or (0.0, 1.0)
        return Number(low, high, self.domain.log, self.integer)

    def read(self, name: str, text: Range, losses: int) -> Parameter:
        """The range that the user wrote, checked; a `ValueError` says what is wrong with it."""
        if isinstance(text, Word):
            if not self.weights:
                raise ValueError(f"{text.where}: {name}=simplex: {self._off_the_simplex()}")
            return Simplex(self.classes or losses)
        if isinstance(text, Bounds):
            return self._interval(name, text)
        cls = type(self.owner) if not isinstance(self.owner, type) else self.owner
        try:
            values = tuple(parse(cls, self.key, choice, name) for choice in text.choices)
        except ValueError:
            raise ValueError(f"{text.where}: {name}={text}: {self._unread()}") from None
        for value in values:
            if complaint := self.domain.complaint(value):
                raise ValueError(f"{text.where}: {name}={value!r} {complaint}")
        if len(set(values)) < len(values):
            raise ValueError(f"{text.where}: {name}={text} has a value twice")
        return Choice(values)

    def _unread(self) -> str:
        """What may be written for it, where something else was."""
        if self.weights:
            words = "".join(f", {word}" for word in self.domain.words)
            return f"wanted are `simplex`{words}, or lists of numbers such as 1/2,2/1"
        if self.several:
            return "lists of numbers such as 1/2,2/1 are wanted"
        if self.numeric:
            return "LOW:HIGH, LOW:HIGH:log or numbers joined by commas are wanted"
        return "values joined by commas are wanted, each as a spec has it"

    def _off_the_simplex(self) -> str:
        """Why there is no simplex for it, and what may be written instead."""
        if self.several:
            why, wanted = "each of its numbers counts by itself", "values joined by commas, such as 1/2,2/1, are wanted"
        else:
            ranges = "a range or " if self.numeric else ""
            why, wanted = "it is no list of weights", f"{ranges}values joined by commas are wanted"
        return f"on the simplex lie weights of which ratios alone count, and {why}: {wanted}"

    def _interval(self, name: str, text: Bounds) -> Number:
        written = f"{text.where}: {name}={text.low}:{text.high}"
        if not self.numeric:
            raise ValueError(f"{written}: it is not a number, so no range; list its values, joined by commas")
        try:
            low, high = float(text.low), float(text.high)
        except ValueError:
            raise ValueError(f"{written}: the bounds must be numbers") from None
        for bound in (low, high):
            if complaint := self.domain.complaint(bound):
                raise ValueError(f"{written}: {bound:g} {complaint}")
        if not low < high:
            raise ValueError(f"{written}: the lower bound must be below the upper one")
        if self.integer and not (low.is_integer() and high.is_integer()):
            raise ValueError(f"{written}: the bounds must be integers")
        log = text.log if text.log is not None else self.domain.log and low > 0
        if log and low <= 0:
            raise ValueError(f"{written}: a logarithmic range must begin above 0")
        return Number(low, high, log, self.integer)


class _Shared:
    """A parameter that losses of a task have by one name; each judges by itself what is searched of it.

    Args:
        each: by the spec of the loss; at least one.
    """

    def __init__(self, each: Mapping[str, _Searchable]) -> None:
        self._each, first = each, next(iter(each.values()))
        self.parent, self.having = first.parent, first.having
        self._unasked = {spec: one for spec, one in each.items() if one.searched}
        self.searched, self.free = bool(self._unasked), [spec for spec in first.free if spec in self._unasked]

    def declared(self, name: str, losses: int) -> Parameter:
        """The range that they declare themselves; a `ValueError` where they declare unlike ones."""
        found = {spec: one.declared(name, losses) for spec, one in self._unasked.items()}
        return _alike(name, found, "is searched unasked")

    def read(self, name: str, text: Range, losses: int) -> Parameter:
        """What the user wrote, as each reads it; a `ValueError` says which of them cannot take it."""
        found = {}
        for spec, one in self._each.items():
            try:
                found[spec] = one.read(name, text, losses)
            except ValueError as error:
                raise ValueError(f"{error} (it is a parameter of {spec})" if spec else str(error)) from None
        return _alike(f"{text.where}: {name}={text}", found, "is read")


def _alike(where: str, found: Mapping[str, Parameter], how: str) -> Parameter:
    """The range that losses have in common.

    Raises:
        ValueError: one has another than the first, since trials with either draw from one range.
    """
    (first, parameter), *others = found.items()
    for spec, other in others:
        if other != parameter:
            each = f"{parameter.describe()} of {first}, {other.describe()} of {spec}"
            raise ValueError(f"{where} {how} in unlike ways ({each}): write a range for both, or search one of them")
    return parameter


def _unknown(name: str, specs: Sequence[str], tasks: Collection[str], searchable: Collection[str]) -> str:
    """What is unknown about the name of a parameter, and what may have been meant: the part that is wrong is said."""
    kind, _, rest = name.partition(".")
    owner, _, key = rest.rpartition(".")
    keys = [each.rpartition(".")[2] for each in searchable if each.rpartition(".")[0] == f"{kind}.{owner}"]
    if owner and kind == "strategy":
        parts = [[part.name for part in units(make(spec))] for spec in specs]
        if twice := [spec for spec, names in zip(specs, parts, strict=True) if names.count(owner) > 1]:
            return f"{owner} stands twice in {twice[0]}, and a name would be of both"
        if not any(owner in names for names in parts):
            known = dict.fromkeys(name for names in parts for name in names)
            return f"no strategy of this search is {owner!r}: {nearest(owner, known)}"
        return f"{owner} has no hyperparameter {key!r}: {nearest(key, keys)}"
    if owner and kind == "loss":
        if owner not in tasks:
            return f"there is no task {owner!r}: {nearest(owner, tasks)}"
        return f"no loss of task {owner!r} here has a hyperparameter {key!r}: {nearest(key, keys)}"
    return nearest(name, ["strategy", *(f"loss.{task}" for task in tasks), *searchable])


def _check_models(benchmark: Benchmark, dimensions: Mapping[str, Dimension]) -> None:
    """Raise `ValueError` for a trunk or an architecture that cannot be read, or that would have no effect."""
    for name in ("model", "architecture"):
        if name in dimensions:
            for spec in dimensions[name].parameter.grid(1):
                check_trunk(benchmark, Settings(**{name: spec}))


def _check_optimizers(dimensions: Mapping[str, Dimension]) -> None:
    """Raise `ValueError` for an optimizer that cannot be read, or for a search of momentum that none would hear of."""
    if "optimizer" in dimensions:
        specs = [read_optimizer(spec) for spec in dimensions["optimizer"].parameter.grid(1)]
        if "momentum" in dimensions and not any(spec.hears_momentum for spec in specs):
            texts = ", ".join(spec.text for spec in specs)
            raise ValueError(f"momentum: it is a setting of sgd, where its spec has none, and optimizer is {texts}")


def set_by(strategies: Sequence[str]) -> set[str]:
    """The names of the hyperparameters that specs of strategies set."""
    return {f"strategy.{name}" for spec in strategies for name in hyperparameters_said(spec)}


def _of_strategies(kept: Mapping[str, Collection[str]]) -> dict[str, _Searchable]:
    """Those of strategies, by name; `kept` has the specs, and names of what keeps its value in each."""
    owners: dict[str, Strategy] = {}
    having: dict[str, dict[str, bool]] = {}
    for spec, still in kept.items():
        parts = units(make(spec))
        names = [part.name for part in parts]
        for part in parts:
            for key in defaults(part):
                name = f"strategy.{part.name}.{key}"
                if names.count(part.name) > 1:
                    continue  # a name for both would be ambiguous
                owners[name] = part
                having.setdefault(name, {})[spec] = name not in still
    return {
        name: _Searchable(owner, name.rpartition(".")[2], "strategy", having[name]) for name, owner in owners.items()
    }


def _of_losses(tasks: Mapping[str, Task], dimensions: Mapping[str, Dimension]) -> dict[str, _Shared]:
    searchable = {}
    for task in tasks.values():
        place = f"loss.{task.name}"
        if place in dimensions:
            owners = {spec: make_loss(spec) for spec in dimensions[place].parameter.grid(1)}
        else:  # nothing is searched of a loss that nobody names
            owners = {_ALWAYS: task.loss} if isinstance(task.loss, Loss) else {}
        for key in dict.fromkeys(key for owner in owners.values() for key in domains(owner)):
            those = {spec: owner for spec, owner in owners.items() if key in domains(owner)}
            having = {spec: spec != _ALWAYS and key not in said(spec) for spec in those}
            searchable[f"{place}.{key}"] = _Shared(
                {spec: _Searchable(owner, key, place, having, task.outputs) for spec, owner in those.items()}
            )
    return searchable


def _of_settings(tasks: Iterable[str]) -> dict[str, _Searchable]:
    of_all = {name: _Searchable(Settings, name, "", {_ALWAYS: name in _SEARCHED}) for name in SETTINGS}
    return of_all | {
        name: _Searchable(Settings, like, "", {_ALWAYS: False}) for name, like in head_names(tasks).items()
    }


def _number_weighed(tasks: Mapping[str, Task], dimensions: Mapping[str, Dimension]) -> int:
    """How many losses a strategy weighs; the same whichever of the choices of a task's loss is taken."""
    total = 0
    for task in tasks.values():
        chosen = dimensions.get(f"loss.{task.name}")
        losses = [task.loss] if chosen is None else [make_loss(spec) for spec in chosen.parameter.grid(1)]
        counts = [len(tasks_of_losses([replace(task, loss=loss)])) for loss in losses]
        if len(set(counts)) > 1:
            each = ", ".join(f"{loss}: {count}" for loss, count in zip(losses, counts, strict=True))
            raise ValueError(
                f"loss.{task.name}: a search has as many losses to weigh in all its trials ({each}); "
                "mtl compare --vary compares such choices"
            )
        total += counts[0]
    return total


def _beside(parent: Dimension | None, name: str, choices: Sequence[str]) -> Condition | None:
    """The condition that `parent`, of that name, is one of these choices; None where it always is, or is not there."""
    if parent is None or {*choices} == {*parent.parameter.grid(1)}:
        return None
    return Condition(name, frozenset(choices))


def _losses(name: str, text: Range) -> Choice:
    if isinstance(text, Word | Bounds):
        raise ValueError(f"{text.where}: {name}: names of losses joined by commas are wanted, such as {name}=mse,huber")
    found = []
    for choice in text.choices:
        try:
            found.append(in_full(choice))  # that of a file by its whole path, for processes that run elsewhere
        except ValueError as error:
            raise ValueError(f"{text.where}: {name}={choice}: {error}") from None
    return Choice(tuple(found))
