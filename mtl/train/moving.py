"""Makes the random changes of pictures: what a picture draws is a pure function of its run's seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Examples, Split, Task
from mtl.benchmarks.own import OwnExamples
from mtl.benchmarks.tree import first_tensor, mapped, named_leaves
from mtl.losses.labels import IGNORE
from mtl.train.batches import derived_seed, stream_of
from mtl.train.moves import Crop, Move, Places, read_moves

_STREAM = 8  # beside those of batches, augmentation and processes


class Mover:
    """The changes of a spec, for members of one structure.

    Args:
        spec: such as `flip+crop:padding=4`.
        tasks: whose labels may move with the pictures.
    """

    def __init__(self, spec: str, tasks: Sequence[Task]) -> None:
        self._moves, self._geometries = read_moves(spec), {task.name: task.geometry for task in tasks}

    def __bool__(self) -> bool:
        return bool(self._moves)

    def moved(self, batch: Split | OwnExamples, seeds: Sequence[int], steps: Sequence[int]) -> Split | OwnExamples:
        """Batches (N, B, ...) of N members with these seeds, at these steps, after the changes."""
        if not self._moves:
            return batch
        if isinstance(batch, OwnExamples):
            return OwnExamples({task: self._moved(part, seeds, steps, task) for task, part in batch.splits().items()})
        return self._moved(batch, seeds, steps, "")

    def moved_alone(self, batch: Split | OwnExamples, seed: int, step: int) -> Split | OwnExamples:
        """The same of the batch (B, ...) of one run."""
        if not self._moves:
            return batch
        if isinstance(batch, OwnExamples):
            return self.moved(OwnExamples({t: _one(part) for t, part in batch.splits().items()}), [seed], [step]).row(0)
        return self.moved(_one(batch), [seed], [step]).row(0)

    def _moved(self, batch: Split, seeds: Sequence[int], steps: Sequence[int], task: str) -> Split:
        sizes = first_tensor(batch.inputs).shape[:2]
        drawn = torch.cat([self._drawn(sizes[1], *both, task) for both in zip(seeds, steps, strict=True)])
        numbers = drawn.to(batch.device).split([move.numbers for move in self._moves], 1)
        inputs = mapped(lambda leaf: leaf.flatten(0, 1), batch.inputs)
        targets = {name: label.flatten(0, 1) for name, label in batch.targets.items()}
        flat = Split(inputs, targets)
        for move, own in zip(self._moves, numbers, strict=True):
            flat = self._after(flat, move, own)
        return Split(
            mapped(lambda leaf: leaf.unflatten(0, sizes), flat.inputs),
            {name: label.unflatten(0, sizes) for name, label in flat.targets.items()},
        )

    def _after(self, batch: Split, move: Move, drawn: Tensor) -> Split:
        """A batch (B, ...) after one change, of numbers (B, ...) that its pictures drew."""
        picture = first_picture(batch.inputs)
        places = move.places(drawn, *picture.shape[2:]) if move.moves else None
        inputs = mapped(lambda leaf: _changed(leaf, move, drawn, places) if is_picture(leaf) else leaf, batch.inputs)
        if places is None:
            return Split(inputs, batch.targets)
        targets = {
            name: self._relabelled(name, label, move, drawn, places, picture) for name, label in batch.targets.items()
        }
        return Split(inputs, targets)

    def _drawn(self, count: int, seed: int, step: int, task: str) -> Tensor:
        generator = torch.Generator().manual_seed(derived_seed(seed, _STREAM, step, *stream_of(task)))
        return torch.rand(count, sum(move.numbers for move in self._moves), generator=generator, dtype=torch.float32)

    def _relabelled(
        self, name: str, label: Tensor, move: Move, drawn: Tensor, places: Places, picture: Tensor
    ) -> Tensor:
        axis = pixel_axis(label, picture)
        if axis is None:
            return label
        if move.leaves and not label.is_floating_point():
            label = label.to(torch.int64)
        label = _sampled(label, places, axis, torch.nan if label.is_floating_point() else IGNORE, move)
        return move.label(label, self._geometries.get(name, ""), 1 if axis == 2 else label.ndim - 1, drawn)


def is_picture(leaf: Tensor) -> bool:
    """Whether inputs (N, ...) are pictures (N, C, H, W)."""
    return leaf.is_floating_point() and leaf.ndim == 4


def first_picture(inputs: Any) -> Tensor:
    """The first pictures (N, C, H, W) of the inputs."""
    picture: Tensor = next(leaf for _, leaf in named_leaves(inputs, "inputs") if is_picture(leaf))
    return picture


def pixel_axis(label: Tensor, picture: Tensor) -> int | None:
    """The first of the axes of pixels in labels (N, H, W), (N, H, W, D) or (N, D, H, W); None where there are none."""
    return next((axis for axis in (1, 2) if label.shape[axis : axis + 2] == picture.shape[2:]), None)


def check_moves(where: str, tasks: Sequence[Task], split: Examples, spec: str) -> None:
    """Raise `ValueError` where the changes of a spec cannot be made of a split's pictures or labels."""
    moves = read_moves(spec)
    if not moves:
        return
    moving = any(move.moves for move in moves)
    picture = check_pictures(where, f"augment={spec}", tasks if moving else (), split)
    for move in moves:
        if isinstance(move, Crop) and move.padding >= min(picture.shape[2:]):
            raise ValueError(f"{where}: augment={spec}: its pictures have fewer pixels a side than are moved by")
    for task in tasks if moving else ():
        label = split.targets[task.name][:1]
        axis = pixel_axis(label, picture)
        width = 1 if axis is None or label.ndim < 4 else label.shape[1 if axis == 2 else 3]
        if task.geometry == "direction" and width != 3:
            raise ValueError(f"{where}, task {task.name!r}: its geometry is direction, and its labels are not of three")


def check_cutmix(where: str, tasks: Sequence[Task], split: Examples, cutmix: float) -> None:
    """Raise `ValueError` where a split's pictures or labels cannot be mixed by cutmix."""
    if cutmix:
        check_pictures(where, f"cutmix={cutmix:g}", tasks, split)


def check_pictures(where: str, asked: str, tasks: Sequence[Task], split: Examples) -> Tensor:
    """The pictures of one example of a split.

    Raises:
        ValueError: it has none, or of unlike sizes, or labels of tasks that could not follow what is done to pixels.
    """
    inputs = split.first(1)
    sizes = {name: leaf.shape[2:] for name, leaf in named_leaves(inputs, "inputs") if is_picture(leaf)}
    if not sizes:
        raise ValueError(f"{where}: {asked}: its inputs are no pictures, (N, C, H, W) of floating-point numbers")
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {' x '.join(map(str, size))}" for name, size in sizes.items())
        raise ValueError(f"{where}: {asked}: its pictures have unlike sizes: {listed}")
    picture = first_picture(inputs)
    for task in tasks:
        label = split.targets[task.name][:1]
        if label.ndim > 2 and pixel_axis(label, picture) is None:
            raise ValueError(
                f"{where}, task {task.name!r}: {asked}: labels of shape {tuple(label.shape[1:])} have no pixels of "
                f"pictures of {' x '.join(map(str, picture.shape[2:]))}, and could not be moved with them"
            )
    return picture


def _one(batch: Split) -> Split:
    """A batch as that of one member."""
    return Split(
        mapped(lambda leaf: leaf[None], batch.inputs), {name: label[None] for name, label in batch.targets.items()}
    )


def _changed(picture: Tensor, move: Move, drawn: Tensor, places: Places | None) -> Tensor:
    if places is None:
        return move.coloured(picture, drawn)
    if not move.between:
        return _sampled(picture, places, 2, 0.0, move)
    for axis, place in zip((2, 3), places, strict=True):
        before = place.floor()
        share = (place - before).to(picture.dtype)
        share = share.view(len(share), *(-1 if at == axis else 1 for at in range(1, picture.ndim)))
        after = (before + 1).clamp(max=picture.shape[axis] - 1)
        picture = _taken(picture, before, axis).lerp(_taken(picture, after, axis), share)
    return picture


def _sampled(value: Tensor, places: Places, axis: int, missing: float, move: Move) -> Tensor:
    """Values (N, ..., H, W, ...) from the nearest places; `missing` where these are outside."""
    for at, place in zip((axis, axis + 1), places, strict=True):
        nearest = place.round() if move.between else place
        inside = (nearest >= 0) & (nearest <= value.shape[at] - 1)
        value = _taken(value, nearest.clamp(0, value.shape[at] - 1), at)
        if move.leaves:
            inside = inside.view(len(inside), *(-1 if other == at else 1 for other in range(1, value.ndim)))
            value = torch.where(inside, value, missing)
    return value


def _taken(value: Tensor, place: Tensor, axis: int) -> Tensor:
    """Values (N, ...) at whole places (N, L) of an axis."""
    index = place.long().view(len(place), *(-1 if at == axis else 1 for at in range(1, value.ndim)))
    shape = list(value.shape)
    shape[axis] = place.shape[1]
    return value.gather(axis, index.expand(shape))
