"""What a study was made on, its data and its tasks, so that runs made on something else are not mixed with it.

Data is told apart by a digest of its bytes, losses and metrics by a description: where a function comes from, with what
arguments, and the code of one that a user may edit. Whatever a function itself calls is not looked into.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sysconfig
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mtl.benchmarks.benchmark import Benchmark, Examples, Splits, Task
from mtl.benchmarks.stored import sample_of
from mtl.losses import Loss
from mtl.losses.wrapped import user_code

if TYPE_CHECKING:  # the form in which it is recorded
    from mtl.files.config import TaskEntry

_SLOW_SECONDS, _LARGE_BYTES = 20.0, 2**30  # of data that is not loaded twice
_PLAIN = (str, int, float, bool, complex, bytes, type(None), torch.dtype, torch.device)


def of_splits(splits: Splits) -> dict[str, str]:
    """A digest of each split: shapes, dtypes and contents of its inputs and targets.

    Where tasks have their own examples there is one for each, such as `train of amazon`.
    Of a data set, which may be on a disk, it is one of its type, its length and a seeded sample, which it says.
    """
    return {name: _of_split(split) for name, split in splits.parts()}


def _of_split(split: Examples) -> str:
    found = hashlib.blake2b(digest_size=8)
    leaves, structure = pytree.tree_flatten(split.fingerprint())
    found.update(str(structure).encode())
    for leaf in leaves:
        _add(found, leaf)
    return found.hexdigest() + sample_of(split)


def _add(found: Any, value: Any) -> None:
    if not isinstance(value, Tensor):
        found.update(repr(value).encode())
        return
    value = value.detach().cpu().contiguous()
    found.update(f"{value.dtype}{tuple(value.shape)}".encode())
    if value.numel():
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)


def of_tasks(tasks: Sequence[Task]) -> dict[str, TaskEntry]:
    """Of each task what its loss and its metrics are, the primary metric, and the width of its head."""
    return {
        task.name: {
            "loss": described(task.loss),
            "metrics": {
                metric.name: {
                    "higher_is_better": metric.higher_is_better,
                    "computed": f"{described(metric.function)}, perfect {metric.perfect:g}",
                }
                for metric in task.metrics
            },
            "primary": task.metrics[0].name,
            "outputs": task.outputs,
        }
        for task in tasks
    }


def of_study(tasks: Mapping[str, Mapping[str, Any]], splits: Splits) -> dict[str, str]:
    """What every record of a study carries: the digest of each split, and one of each task of `of_tasks`."""
    made = {f"task {name}": hashlib.blake2b(repr(about).encode(), digest_size=8) for name, about in tasks.items()}
    return {**of_splits(splits), **{name: digest.hexdigest() for name, digest in made.items()}}


def check_repeats(benchmark: Benchmark, splits: Splits, seconds: float, tell: Callable[[str], None]) -> None:
    """Load the data once more and see whether it is the same.

    Args:
        benchmark: whose data it is.
        splits: as loaded before.
        seconds: that took; data that is slow to load, or large, is not loaded twice, which is said.
        tell: hears of that.

    Raises:
        ValueError: it is not the same, so that no run could be repeated, resumed or compared with another's; one line.
    """
    leaves = [leaf for _, split in splits.items() for leaf in pytree.tree_leaves(split.fingerprint())]
    size = sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))
    if seconds > _SLOW_SECONDS or size > _LARGE_BYTES:
        why = f"took {seconds:.0f} s" if seconds > _SLOW_SECONDS else f"gives {size / 2**30:.1f} GiB"
        tell(f"the data of {benchmark.name} is not loaded twice to see whether it repeats, as load() {why}")
        return
    before, again = of_splits(splits), of_splits(benchmark.load().marked(benchmark.tasks))
    differing = [name for name, digest in before.items() if again[name] != digest]
    if differing:
        raise ValueError(
            f"benchmark {benchmark.name!r}: load() gives another {_named_split(differing[0])} each time it is called, "
            "so no run could be resumed or compared: seed what it draws, such as by train_test_split(..., "
            "random_state=0)"
        )


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """In words, the first thing in which the configurations of two studies differ in tasks or data; None if in nothing.

    What one of them does not record, as those of earlier versions do not, is no difference.
    """
    old, new = before.get("tasks") or {}, now.get("tasks") or {}
    if list(old) != list(new):
        return f"the tasks ({', '.join(old)}; {', '.join(new)})"
    for task in old:
        if found := _task_difference(old[task], new[task]):
            return f"task {task!r}: {found}"
    return digest_difference(before.get("digests") or {}, now.get("digests") or {})


def digest_difference(old: Mapping[str, str], new: Mapping[str, str]) -> str | None:
    """The same of what a record carries."""
    for name, digest in old.items():
        if new.get(name, digest) != digest:
            what = name if name.startswith(("task ", "strategy ")) else f"the data of the {_named_split(name)}"
            return f"{what} (digests {digest}; {new[name]})"
    return None


def _named_split(name: str) -> str:
    """A split as it is said: `train split`, or `train split of task 'amazon'`."""
    split, of, task = name.partition(" of ")
    return f"{split} split" + (f" of task {task!r}" if of else "")


def _task_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    measured, measured_now = old.get("metrics") or {}, new.get("metrics") or {}
    if list(measured) != list(measured_now):
        return f"its metrics ({', '.join(measured)}; {', '.join(measured_now)})"
    pairs = [(key, old.get(key), new.get(key)) for key in ("loss", "outputs", "primary")]
    pairs += [
        (f"metric {name}", measured[name].get(key), measured_now[name].get(key))
        for name in measured
        for key in ("higher_is_better", "computed")
    ]
    for what, then, here in pairs:
        # Earlier versions recorded a function with the address that it had in its process.
        known = then is not None and here is not None and " at 0x" not in f"{then}{here}"
        if known and then != here:
            return f"its {what} ({then}; {here})"
    return None


def described(value: Any) -> str:
    """What a loss or a metric is, in a line that is the same in every process."""
    try:
        return describe(value)
    except RecursionError:  # it holds itself
        return _place(value)


def describe(value: Any) -> str:
    """The same, of anything that a loss or a metric may hold."""
    if isinstance(value, Loss):
        return str(value) if (wrapped := user_code(value)) is None else f"{value} = {describe(wrapped)}"
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, Tensor):
        found = hashlib.blake2b(digest_size=8)
        _add(found, value)
        return f"tensor{tuple(value.shape)} #{found.hexdigest()}"
    if isinstance(value, nn.Module):
        return _described_module(value)
    if isinstance(value, functools.partial):
        parts = [describe(value.func), *map(describe, value.args)]
        return f"partial({', '.join(parts + _named(value.keywords))})"
    if isinstance(value, types.MethodType):
        return f"{_place(value.__func__)} of {describe(value.__self__)}"
    if isinstance(value, types.FunctionType):
        return _described_function(value)
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, type | types.BuiltinFunctionType):
        return _place(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{describe(key)}: {describe(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple | set | frozenset):
        items = [describe(item) for item in value]
        return f"({', '.join(sorted(items) if isinstance(value, set | frozenset) else items)})"
    if callable(getattr(value, "tobytes", None)):  # an array
        return describe(torch.frombuffer(bytearray(value.tobytes()), dtype=torch.uint8))
    held = getattr(value, "__dict__", {})
    return f"{_place(type(value))}({', '.join(_named(held))}){_edited(type(value))}"


def _described_module(module: nn.Module) -> str:
    """Its class, its plain settings, its parameters and buffers, and the modules within it."""
    hidden = nn.Module().__dict__.keys()
    settings = {name: value for name, value in vars(module).items() if name not in hidden and not name.startswith("__")}
    held = {**settings, **module._parameters, **module._buffers, **module._modules}
    return f"{_place(type(module))}({', '.join(_named(held))}){_edited(type(module))}"


def _described_function(function: types.FunctionType) -> str:
    held = [describe(value) for value in inspect.getclosurevars(function).nonlocals.values() if value is not function]
    if edited := _edited(function):
        held += [describe(default) for default in function.__defaults__ or ()]
        held += _named(function.__kwdefaults__ or {})
    arguments = f" with ({', '.join(held)})" if held else ""
    return f"{_place(function)}{arguments}{edited}"


def _named(values: Mapping[str, Any]) -> list[str]:
    return [f"{name}={describe(value)}" for name, value in values.items()]


def _place(value: Any) -> str:
    """Where it is defined; of ours the room, within which things may move from one version to the next."""
    module = getattr(value, "__module__", "") or ""
    if module.startswith("mtl."):
        module = ".".join(module.split(".")[:2])
    return f"{module}.{getattr(value, '__qualname__', type(value).__name__)}"


def of_class(value: type) -> str:
    """Where a class is defined, with a digest of its code if a user may edit it."""
    return f"{_place(value)}{_edited(value)}"


def _edited(value: Any) -> str:
    """A digest of code that a user may edit; nothing for that of installed packages, whose versions are recorded."""
    try:
        file = Path(inspect.getfile(value)).resolve()
    except TypeError:
        return ""
    paths = sysconfig.get_paths()
    installed = [Path(paths[name]).resolve() for name in ("stdlib", "purelib", "platlib")]
    if value.__module__.split(".")[0] == "mtl" or any(file.is_relative_to(path) for path in installed):
        return ""
    return f" #{hashlib.blake2b(_code(value).encode(), digest_size=4).hexdigest()}"


def _code(value: Any) -> str:
    """Its source without comments and layout; its byte code where it has no source of its own."""
    try:
        tree: ast.AST | None = ast.parse(textwrap.dedent(inspect.getsource(value)))
    except (OSError, SyntaxError, TypeError):
        tree = None
    if tree is not None and getattr(value, "__name__", "") == "<lambda>":
        lambdas = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
        tree = lambdas[0] if len(lambdas) == 1 else None
    if tree is not None:
        return ast.unparse(tree)
    code = getattr(value, "__code__", None)
    return "" if code is None else _bytes_of(code)


def _bytes_of(code: types.CodeType) -> str:
    constants = [_bytes_of(each) if isinstance(each, types.CodeType) else repr(each) for each in code.co_consts]
    return f"{code.co_code.hex()} {constants} {code.co_names} {code.co_varnames}"
