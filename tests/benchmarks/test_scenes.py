"""The generated rooms: rays meet shapes where geometry says, and what is at a pixel agrees with itself."""

import numpy as np
import pytest
import torch

from mtl.benchmarks import find_benchmark
from mtl.benchmarks.raycast import _SHAPES, CLASSES, view
from mtl.benchmarks.scenes import _split

DOWN, AHEAD = np.array([[0.0, -1.0, 0.0]]), np.array([[0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("shape", "start", "direction", "distance", "normal"),
    [
        ("sphere", [0, 0, -3], AHEAD, 2, [0, 0, -1]),
        ("sphere", [0, 1.1, -3], AHEAD, np.inf, None),
        ("box", [0.5, 0.2, -3], AHEAD, 2, [0, 0, -1]),
        ("box", [1.5, 0.2, -3], AHEAD, np.inf, None),
        ("cylinder", [0, 0.5, -3], AHEAD, 2, [0, 0, -1]),
        ("cylinder", [0.3, 5, 0.2], DOWN, 4, [0, 1, 0]),
        ("cylinder", [0, 1.2, -3], AHEAD, np.inf, None),
        ("cone", [0, 0, -3], AHEAD, 2.5, [0, 0.5, -1]),  # half as wide at half its height
        ("cone", [0, -5, 0.2], -DOWN, 4, [0, -1, 0]),
        ("cone", [0.5, 5, 0], DOWN, 5, [1, 0.5, 0]),
    ],
)
def test_rays_meet_shapes_where_geometry_says(shape, start, direction, distance, normal):
    hit = _SHAPES[shape](np.array([start], float), direction)
    assert hit.distance[0] == pytest.approx(distance)
    if normal is not None:
        wanted = np.array(normal) / np.linalg.norm(normal)
        np.testing.assert_allclose(hit.normal[0] / np.linalg.norm(hit.normal[0]), wanted, atol=1e-12)


def test_a_scene_is_the_same_each_time_and_agrees_with_itself():
    first, again, other = (view(np.random.default_rng([0, seed]), 32, 48) for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.picture, other.picture)
    assert first.picture.shape == (3, 32, 48) and first.picture.min() >= 0 and first.picture.max() <= 1
    assert first.depth.min() > 0 and np.isfinite(first.depth).all()
    np.testing.assert_allclose(np.linalg.norm(first.normal, axis=0), 1, atol=1e-6)
    # On a plane, neighbours have one normal; the floor's points up and towards the camera.
    floor = first.normal[:, first.classes == CLASSES.index("floor")]
    np.testing.assert_allclose(floor, floor[:, :1].repeat(floor.shape[1], 1), atol=1e-5)
    assert floor[1, 0] > 0


def test_depth_of_the_floor_is_that_of_a_plane():
    seen = view(np.random.default_rng([0, 3]), 48, 48)
    rows, columns = np.nonzero(seen.classes == CLASSES.index("floor"))
    design = np.stack([rows, columns, np.ones_like(rows)], 1)
    inverse = 1 / seen.depth[0, rows, columns]  # linear in the pixel for a plane
    fitted = design @ np.linalg.lstsq(design, inverse, rcond=None)[0]
    np.testing.assert_allclose(fitted, inverse, rtol=1e-4)


def test_dense_tasks_are_trained_and_judged_by_the_metrics_of_the_field():
    benchmark = find_benchmark("scenes")
    views = [view(np.random.default_rng([7, k]), 32, 32) for k in range(4)]
    split = _split(
        {
            "picture": torch.from_numpy(np.stack([each.picture for each in views]) * 255).to(torch.uint8),
            "segmentation": torch.from_numpy(np.stack([each.classes for each in views])),
            "depth": torch.from_numpy(np.stack([each.depth for each in views])),
            "normal": torch.from_numpy(np.stack([each.normal for each in views])),
        }
    )
    model = benchmark.model(benchmark.tasks, split.first(2))
    predictions = model(split.inputs)
    perfect = {
        "segmentation": torch.nn.functional.one_hot(split.targets["segmentation"], len(CLASSES)).float(),
        "depth": split.targets["depth"][..., None],
        "normal": 2 * split.targets["normal"],
    }
    for task in benchmark.tasks:
        assert predictions[task.name].shape == perfect[task.name].shape
        loss = task.loss(predictions[task.name], split.targets[task.name])
        loss.backward(retain_graph=True)
        assert loss.isfinite() and loss > 0
        for metric in task.metrics:
            best = metric(perfect[task.name], split.targets[task.name])
            assert best == pytest.approx(metric.perfect, abs=0.05), metric.name
            assert metric(predictions[task.name], split.targets[task.name]) != pytest.approx(metric.perfect, abs=0.05)
