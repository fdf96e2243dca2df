"""Pictures are changed at random in training, and the labels of their pixels with them."""

import json

import pytest
import torch
import torch.nn.functional as F

import mtl
from mtl.benchmarks import Benchmark, Split, Splits, Task, load_checked
from mtl.benchmarks.own import OwnExamples
from mtl.cli.main import main
from mtl.losses import MAE, MSE, CrossEntropy
from mtl.metrics import absolute_error, accuracy, mae, pixel_accuracy
from mtl.models import HardSharing
from mtl.train import Cohort, Member, Settings, check_model, train
from mtl.train.moving import Mover

HEIGHT, WIDTH = 8, 6
TASKS = (
    Task("kind", CrossEntropy(), (pixel_accuracy,), 3),
    Task("depth", MAE(), (absolute_error,), geometry="depth"),
    Task("near", MAE(), (absolute_error,), geometry="inverse-depth"),
    Task("normal", MSE(), (mae,), 3, geometry="direction"),
    Task("whole", CrossEntropy(), (accuracy,), 2),
)


def pictures(size, seed=0):
    """Labels of pixels are functions of their colours; a direction has its axis first."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(size, 3, HEIGHT, WIDTH, generator=generator) + 0.1
    normal = torch.stack([picture[:, 0], picture[:, 0], picture[:, 1]], 1)
    targets = {
        "kind": (picture[:, 0] * 2.7).long(),
        "depth": picture[:, 1].clone(),
        "near": picture[:, 1, ..., None].clone(),
        "normal": normal,
        "whole": (picture[:, 0, 0, 0] > 0.6).long(),
    }
    return Split(picture, targets)


class Coloured(Benchmark):
    name = "coloured"
    recipe = {"steps": 12, "batch_size": 4, "lr": 0.05}  # noqa: RUF012
    tasks = TASKS

    def load(self):
        return Splits(pictures(16), pictures(6, 1), pictures(6, 2))

    def model(self, tasks, _inputs):
        trunk = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU())
        heads = {task.name: torch.nn.Conv2d(4, task.outputs, 1) for task in tasks}
        if "whole" in heads:
            heads["whole"] = torch.nn.Sequential(
                torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)
            )
        if "near" in heads:
            heads["near"] = torch.nn.Sequential(torch.nn.Conv2d(4, 1, 1), Last())
        return HardSharing(trunk, heads)


class Last(torch.nn.Module):
    def forward(self, value):
        return value.movedim(1, -1)


def moved(spec, batch, seed=0, step=0):
    return Mover(spec, TASKS).moved_alone(batch, seed, step)


def test_a_mirrored_picture_has_mirrored_labels_and_directions():
    batch = pictures(40)
    found = moved("flip", batch)
    mirrored = (found.inputs == batch.inputs.flip(-1)).flatten(1).all(1)
    assert 8 < int(mirrored.sum()) < 32
    assert torch.equal(found.inputs[~mirrored], batch.inputs[~mirrored])
    for row in range(40):
        left = mirrored[row]
        for task, axis in (("kind", -1), ("depth", -1), ("near", -2)):
            label = batch.targets[task][row]
            assert torch.equal(found.targets[task][row], label.flip(axis) if left else label)
        normal = batch.targets["normal"][row]
        wanted = normal.flip(-1) * torch.tensor([-1.0, 1, 1])[:, None, None] if left else normal
        assert torch.equal(found.targets["normal"][row], wanted)
    assert torch.equal(found.targets["whole"], batch.targets["whole"])


def test_a_crop_moves_all_alike_and_what_comes_in_has_no_label():
    batch = pictures(30)
    found = moved("crop:padding=2", batch)
    padded = F.pad(batch.inputs, (2, 2, 2, 2))
    depth = F.pad(batch.targets["depth"], (2, 2, 2, 2), value=torch.nan)
    kind = F.pad(batch.targets["kind"], (2, 2, 2, 2), value=-100)
    seen = set()
    for row in range(30):
        places = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(found.inputs[row], padded[row, :, y : y + HEIGHT, x : x + WIDTH])
        ]
        ((y, x),) = places
        seen.add((y, x))
        window = (row, slice(y, y + HEIGHT), slice(x, x + WIDTH))
        assert torch.equal(found.targets["depth"][row].nan_to_num(-1), depth[window].nan_to_num(-1))
        assert torch.equal(found.targets["kind"][row], kind[window])
        assert torch.equal(found.targets["normal"][row].isnan(), depth[window].isnan().expand(3, -1, -1))
    assert len(seen) > 10


def test_a_zoom_is_an_interpolated_part_and_depth_is_divided_by_it():
    batch = pictures(60)
    found = moved("zoom", batch)
    scales = []
    for row in range(60):
        scale = batch_scale = None
        for scale, (height, width) in {1.0: (8, 6), 1.2: (6, 5), 1.5: (5, 4)}.items():
            for top in range(HEIGHT - height + 1):
                for left in range(WIDTH - width + 1):
                    part = batch.inputs[row : row + 1, :, top : top + height, left : left + width]
                    wanted = F.interpolate(part, (HEIGHT, WIDTH), mode="bilinear", align_corners=True)
                    if torch.allclose(wanted[0], found.inputs[row], atol=1e-5):
                        batch_scale = (scale, top, left, height, width)
        assert batch_scale is not None, row
        scale, top, left, height, width = batch_scale
        scales.append(scale)
        rows = (top + torch.arange(HEIGHT) * (height - 1) / (HEIGHT - 1)).round().long()
        columns = (left + torch.arange(WIDTH) * (width - 1) / (WIDTH - 1)).round().long()
        for task, factor in (("kind", None), ("depth", 1 / scale), ("near", scale)):
            label = batch.targets[task][row][rows][:, columns]
            torch.testing.assert_close(found.targets[task][row], label if factor is None else label * factor)
    assert {scales.count(scale) > 8 for scale in (1.0, 1.2, 1.5)} == {True}


def test_jitter_changes_colours_and_nothing_else():
    batch = pictures(20)
    found = moved("jitter:strength=0.3", batch)
    assert not torch.equal(found.inputs, batch.inputs)
    assert all(torch.equal(label, batch.targets[task]) for task, label in found.targets.items())
    grey = Split(torch.full((50, 1, 4, 4), 0.5), {})
    factors = moved("jitter:strength=0.3", grey).inputs[:, 0, 0, 0] / 0.5  # brightness alone: all is at the mean
    assert bool(((factors >= 0.7 - 1e-6) & (factors <= 1.3 + 1e-6)).all()) and float(factors.std()) > 0.1
    two = torch.tensor([0.2, 0.6])[None, None, None].expand(1, 3, 4, 2).clone()
    changed = moved("jitter:strength=0.3", Split(two, {})).inputs
    torch.testing.assert_close(changed[:, 0], changed[:, 2])  # grey stays grey


def test_what_is_drawn_follows_from_seed_and_step():
    batch = pictures(8)
    first = moved("flip+crop", batch, seed=1, step=2).inputs
    assert torch.equal(first, moved("flip+crop", batch, seed=1, step=2).inputs)
    assert not torch.equal(first, moved("flip+crop", batch, seed=1, step=3).inputs)
    assert not torch.equal(first, moved("flip+crop", batch, seed=2, step=2).inputs)


@pytest.mark.parametrize("extra", [{}, {"noise": 0.1, "mixup": 0.4}], ids=["moved", "mixed too"])
def test_a_population_equals_its_runs(extra):
    benchmark, said = Coloured(), []
    if extra:  # a mixture of two labels that are not there is none
        extra = extra | {"augment": "zoom+flip+jitter"}
    settings = Settings.of(benchmark.recipe, {"augment": "zoom+crop:padding=1+flip+jitter"} | extra)
    splits = load_checked(benchmark)
    cohort = Cohort(benchmark, splits, [Member("gradnorm", seed) for seed in (0, 1)], settings, tell=said.append)
    assert said == []
    cohort.advance(12)
    for seed, member in enumerate(cohort.results()):
        alone = train(benchmark, splits, "gradnorm", settings, seed=seed)
        assert member.status == alone.status == "done"
        for row, other in zip(member.history["train_loss"], alone.history["train_loss"], strict=True):
            assert row == pytest.approx(other, abs=1e-5, rel=1e-5)
    plain = train(benchmark, splits, "gradnorm", Settings.of(benchmark.recipe))
    assert plain.history["train_loss"] != alone.history["train_loss"]


def test_a_run_goes_on_where_it_stopped(tmp_path):
    benchmark, asked = Coloured(), []
    splits, settings = load_checked(benchmark), Settings.of(benchmark.recipe, {"augment": "flip+crop:padding=1"})
    path = tmp_path / "run.pt"
    with pytest.raises(mtl.train.Stopped):
        train(
            benchmark, splits, "equal", settings, checkpoint_path=path,
            should_stop=lambda: asked.append(0) or len(asked) == 5,
        )  # fmt: skip
    again, whole = (
        train(benchmark, splits, "equal", settings, checkpoint_path=path),
        train(benchmark, splits, "equal", settings),
    )
    assert json.dumps(again.history) == json.dumps(whole.history)


def test_pictures_of_each_task_s_own_are_changed_as_they_would_be_alone():
    own = OwnExamples({"kind": pictures(6), "depth": pictures(4, 1)})
    found = moved("flip+jitter", own, seed=3, step=1)
    alone = moved("flip+jitter", own.only(["depth"]), seed=3, step=1)
    assert len(found.inputs["kind"]) == 6
    assert torch.equal(found.inputs["depth"], alone.inputs["depth"])
    assert not torch.equal(found.inputs["depth"], own.parts["depth"].inputs)


class Numbers(Coloured):
    def load(self):
        return Splits(*(Split(split.inputs.flatten(1), split.targets) for _, split in super().load().items()))


class Coarse(Coloured):
    def load(self):
        parts = [split for _, split in super().load().items()]
        return Splits(
            *(Split(each.inputs, {**each.targets, "depth": each.targets["depth"][:, ::2, ::2]}) for each in parts)
        )


class TwoNumbers(Coloured):
    def load(self):
        parts = [split for _, split in super().load().items()]
        return Splits(
            *(Split(each.inputs, {**each.targets, "normal": each.targets["normal"][:, :2]}) for each in parts)
        )


@pytest.mark.parametrize(
    ("benchmark", "spec", "message"),
    [
        (Numbers(), "flip", r"train split: augment=flip: its inputs are no pictures, \(N, C, H, W\)"),
        (Coarse(), "crop:padding=1", r"task 'depth': augment=crop:padding=1: labels of shape \(4, 3\) have no pixels"),
        (TwoNumbers(), "flip", "task 'normal': its geometry is direction, and its labels are not of three"),
        (Coloured(), "crop:padding=6", "augment=crop:padding=6: its pictures have fewer pixels a side"),
    ],
    ids=["no pictures", "no pixels", "two numbers", "few pixels"],
)
def test_what_cannot_be_changed_is_refused(benchmark, spec, message):
    with pytest.raises(ValueError, match=message):
        check_model(benchmark, load_checked(benchmark), Settings(augment=spec))


def test_a_search_refuses_what_its_data_does_not_allow(tmp_path, capsys):
    arguments = ["--method", "random", "--steps", "4", "--strategy", "equal", "--quiet", "--wandb", "disabled"]
    for chosen, said in (
        ("augment=none,flip", "augment=flip: its inputs are no pictures"),
        ("sampling=cycle,proportional", "sampling=proportional: its tasks have no examples of their own"),
    ):
        out = str(tmp_path / chosen.partition("=")[0])
        assert main(["search", "tests/tiny.py:Tiny", *arguments, "--out", out, "--search", chosen]) == 2
        assert said in capsys.readouterr().err


def test_specs_that_cannot_be_read_are_refused():
    with pytest.raises(ValueError, match="unknown augment 'flop': did you mean"):
        Settings(augment="flip+flop")
    with pytest.raises(ValueError, match="crop: padding=0 must be at least 1"):
        Settings(augment="crop:padding=0")
    assert Settings(augment="none").augment == "none" and not Mover("none", TASKS)


def test_walls_of_scenes_face_the_middle_of_the_picture():
    """So the first number of a normal is along the rows, and changes its sign in a mirror."""
    split = load_checked(mtl.benchmarks.find_benchmark("scenes")).validation
    first = split.targets["normal"][..., 0]
    half = first.shape[2] // 2
    assert float(first[:, :, :half].mean()) > 0.05 and float(first[:, :, half:].mean()) < -0.05
