"""Pictures of rooms with objects in them, by casting a ray through each pixel: colour, class, depth and normal.

A scene is drawn from a random generator alone, so the same number gives the same scene on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Classes of a pixel: three of the room, and four of the objects in it.
CLASSES = ("floor", "ceiling", "wall", "sphere", "box", "cylinder", "cone")
_NEAREST = 1e-4  # a ray does not hit what it starts from
_LEAST, _MOST = 3, 8  # objects in a room
_NOISE = 0.02  # standard deviation of a picture's colours


class View(NamedTuple):
    """What a camera sees, H x W pixels.

    Attributes:
        picture: (3, H, W), colours in [0, 1].
        classes: (H, W), places in `CLASSES`.
        depth: (1, H, W), distance along the camera's axis.
        normal: (3, H, W), unit normals in the camera's frame, towards it.
    """

    picture: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    depth: npt.NDArray[np.float32]
    normal: npt.NDArray[np.float32]


class _Hit(NamedTuple):
    """Where rays meet a surface first: distance (N,), infinite where they miss it, and outward normals (N, 3)."""

    distance: Array
    normal: Array


# --- unit shapes, in a frame of their own: all reach from -1 to 1 ---


def _nearest(*candidates: _Hit) -> _Hit:
    distances = np.stack([hit.distance for hit in candidates])
    first = distances.argmin(0)
    rays = np.arange(len(first))
    return _Hit(distances[first, rays], np.stack([hit.normal for hit in candidates])[first, rays])


def _roots(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Both solutions of a t² + 2 b t + c = 0; NaN where there is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(b * b - a * c)
        return (-b - root) / a, (-b + root) / a


def _where_valid(distance: Array, valid: npt.NDArray[np.bool_]) -> Array:
    with np.errstate(invalid="ignore"):
        return np.where(valid & (distance > _NEAREST), distance, np.inf)


def _at(start: Array, direction: Array, distance: Array) -> Array:
    """Points on the rays; those that are infinitely far are the starts."""
    finite = np.where(np.isfinite(distance), distance, 0.0)
    points: Array = start + finite[:, None] * direction
    return points


def _sphere(start: Array, direction: Array) -> _Hit:
    near, _ = _roots((direction**2).sum(1), (start * direction).sum(1), (start**2).sum(1) - 1)
    distance = _where_valid(near, np.isfinite(near))
    return _Hit(distance, _at(start, direction, distance))


def _box(start: Array, direction: Array) -> _Hit:
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = np.sort(np.stack([(-1 - start) / direction, (1 - start) / direction]), 0)
    entry, leave = sides[0].max(1), sides[1].min(1)
    axis = sides[0].argmax(1)
    normal = np.zeros_like(direction)
    rays = np.arange(len(axis))
    normal[rays, axis] = -np.sign(direction[rays, axis])
    return _Hit(_where_valid(entry, entry < leave), normal)


def _disc(start: Array, direction: Array, height: float) -> _Hit:
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (height - start[:, 1]) / direction[:, 1]
        across, along = (start[:, k] + distance * direction[:, k] for k in (0, 2))
        distance = _where_valid(distance, across**2 + along**2 <= 1)
    return _Hit(distance, np.broadcast_to([0.0, np.sign(height), 0.0], direction.shape))


def _tapered(start: Array, direction: Array, slope: float) -> list[_Hit]:
    """The side of a body of revolution whose radius is 1 at the bottom and falls by `slope` for each unit of height."""
    radius = 1 - slope * (start[:, 1] + 1)
    change = -slope * direction[:, 1]
    flat = direction[:, 0] ** 2 + direction[:, 2] ** 2
    b = direction[:, 0] * start[:, 0] + direction[:, 2] * start[:, 2] - radius * change
    c = start[:, 0] ** 2 + start[:, 2] ** 2 - radius**2
    found = []
    for distance in _roots(flat - change**2, b, c):
        with np.errstate(invalid="ignore"):
            height = start[:, 1] + distance * direction[:, 1]
            distance = _where_valid(distance, (np.abs(height) <= 1) & (radius + distance * change >= 0))
        point = _at(start, direction, distance)
        outward = np.stack([point[:, 0], slope * (1 - slope * (point[:, 1] + 1)), point[:, 2]], 1)
        found.append(_Hit(distance, outward))
    return found


def _cylinder(start: Array, direction: Array) -> _Hit:
    caps = (_disc(start, direction, height) for height in (-1.0, 1.0))
    return _nearest(*_tapered(start, direction, 0.0), *caps)


def _cone(start: Array, direction: Array) -> _Hit:
    return _nearest(*_tapered(start, direction, 0.5), _disc(start, direction, -1.0))


_SHAPES: dict[str, Callable[[Array, Array], _Hit]] = {
    "sphere": _sphere,
    "box": _box,
    "cylinder": _cylinder,
    "cone": _cone,
}


# --- scenes ---


@dataclass(frozen=True)
class _Object:
    """A unit shape that was stretched, turned and moved: a point p of it is at `centre + turned @ (size * p)`."""

    kind: str
    centre: Array
    turned: Array
    size: Array

    def hit(self, start: Array, direction: Array) -> _Hit:
        """Of rays in the room's frame."""
        own_start = (start - self.centre) @ self.turned / self.size
        own = _SHAPES[self.kind](own_start, direction @ self.turned / self.size)
        return _Hit(own.distance, (own.normal / self.size) @ self.turned.T)


def _rotation(around_y: float, around_x: float) -> Array:
    c, s = np.cos(around_y), np.sin(around_y)
    about_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = np.cos(around_x), np.sin(around_x)
    turned: Array = about_y @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return turned


def _room(start: Array, direction: Array, half: Array) -> tuple[_Hit, npt.NDArray[np.int64]]:
    """The room's inside, of half size (3,), and the class of each hit."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ways = np.where(direction > 0, (half - start) / direction, (-half - start) / direction)
    ways = np.where(direction == 0, np.inf, ways)
    axis, rays = ways.argmin(1), np.arange(len(ways))
    normal = np.zeros_like(direction)
    normal[rays, axis] = -np.sign(direction[rays, axis])
    down = direction[:, 1] < 0
    kinds = np.where(axis == 1, np.where(down, CLASSES.index("floor"), CLASSES.index("ceiling")), CLASSES.index("wall"))
    return _Hit(ways[rays, axis], normal), kinds


def _objects(rng: np.random.Generator, half: Array, turned: Array, camera: Array) -> list[_Object]:
    """Objects in front of the camera, most of them standing on the floor."""
    found = []
    for _ in range(rng.integers(_LEAST, _MOST + 1)):
        kind = CLASSES[rng.integers(3, len(CLASSES))]
        size = rng.uniform(0.25, 0.6) * (np.ones(3) if kind == "sphere" else rng.uniform(0.6, 1.0, 3))
        tilt = rng.uniform(-0.7, 0.7) if rng.random() < 0.4 else 0.0
        ahead = turned @ np.array([rng.uniform(-1.2, 1.2), 0.0, rng.uniform(0.6, 3.0)])
        centre = np.clip(camera + ahead, -half + 0.6, half - 0.6)
        centre[1] = size[1] - half[1] if rng.random() < 0.7 else rng.uniform(-0.6, 0.6) * half[1]
        found.append(_Object(kind, centre, _rotation(rng.uniform(0, 2 * np.pi), tilt), size))
    return found


def view(rng: np.random.Generator, height: int, width: int) -> View:
    """A room with three to eight objects, seen from a random place in it.

    Args:
        rng: everything about the scene is drawn from it.
        height, width: in pixels.
    """
    half = rng.uniform([2.0, 1.2, 2.0], [3.2, 1.6, 3.2])
    turned = _rotation(rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.4))
    camera = -0.8 * rng.uniform(0.7, 1.0) * half * turned[:, 2]
    camera[1] = rng.uniform(0.0, 0.6) * half[1]
    opening = np.tan(rng.uniform(0.5, 0.7))
    down, across = np.meshgrid(np.linspace(1, -1, height), np.linspace(-1, 1, width) * width / height, indexing="ij")
    # The camera's axis has length 1 in every direction, so a distance along a ray is a depth.
    seen = np.stack([opening * across.ravel(), opening * down.ravel(), np.ones(height * width)], 1)
    direction = seen @ turned.T
    start = np.broadcast_to(camera, direction.shape)

    hit, classes = _room(start, direction, half)
    distance, normal, owner = hit.distance, hit.normal, classes.copy()
    objects = _objects(rng, half, turned, camera)
    for number, each in enumerate(objects):
        other = each.hit(start, direction)
        nearer = other.distance < distance
        distance, normal = np.where(nearer, other.distance, distance), np.where(nearer[:, None], other.normal, normal)
        classes = np.where(nearer, CLASSES.index(each.kind), classes)
        owner = np.where(nearer, len(CLASSES) + number, owner)
    normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    normal = np.where(((normal * direction).sum(1) > 0)[:, None], -normal, normal)

    colours = _coloured(rng, _at(start, direction, distance), normal, owner, half, len(CLASSES) + len(objects))
    own_normal = (normal @ turned) * [1.0, 1.0, -1.0]  # in the camera's frame, whose axis points towards the viewer

    def image(values: Array) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(values.reshape(height, width, -1).transpose(2, 0, 1).astype(np.float32))

    return View(image(colours), classes.reshape(height, width).astype(np.int64), image(distance), image(own_normal))


def _coloured(
    rng: np.random.Generator, points: Array, normal: Array, owner: npt.NDArray[np.int64], half: Array, surfaces: int
) -> Array:
    """Colours (N, 3) of points under one lamp: each surface has a colour of its own and a pattern in space."""
    lamp = rng.uniform(-0.7, 0.7, 3) * half
    lamp[1] = 0.9 * half[1]
    colour, depth = rng.uniform(0.15, 1.0, (surfaces, 3)), rng.uniform(0.0, 0.45, surfaces)
    pattern = np.sin(points * (np.pi * rng.uniform(2, 6, surfaces)[owner])[:, None]).prod(1) > 0
    towards = lamp - points
    light = np.clip((normal * towards).sum(1) / np.linalg.norm(towards, axis=1), 0, 1)
    ambient = rng.uniform(0.25, 0.45)
    shaded = colour[owner] * ((1 - depth[owner] * pattern) * (ambient + (1 - ambient) * light))[:, None]
    colours: Array = np.clip(shaded + _NOISE * rng.standard_normal(points.shape), 0, 1)
    return colours
