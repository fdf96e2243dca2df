"""Losses of pictures: the edges of the papers, the structural similarity of torchmetrics, and what is no picture."""

import dataclasses
import math

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from mtl.benchmarks import Benchmark, Split, Splits, Task, load_checked
from mtl.losses import MAE, check_loss, loss_of, losses_of, make_loss, suggest
from mtl.metrics import mae
from mtl.train import Cohort, Member, Settings, train


def drawn(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(*shape, generator=draw, dtype=torch.float64) for _ in range(2))


def gradient_by_hand(error, power, step=1):
    """One example, (H, W), with NaN where the label is not known."""
    coarse = error[::step, ::step].tolist()
    height, width = len(coarse), len(coarse[0])
    across = [coarse[i][j + 1] - coarse[i][j] for i in range(height) for j in range(width - 1)]
    down = [coarse[i + 1][j] - coarse[i][j] for i in range(height - 1) for j in range(width)]
    known = [[abs(each) ** power for each in some if not math.isnan(each)] for some in (across, down)]
    return sum(sum(some) / len(some) for some in known if some)


@pytest.mark.parametrize(("power", "scales"), [(1, 1), (2, 1), (1, 3)])
def test_gradient_compares_neighbours_of_known_labels(power, scales):
    prediction, target = drawn(4, 6, 7)
    target[0, 2, 3] = target[1, :, 2:] = torch.nan
    found = make_loss(f"gradient:power={power},scales={scales}")(prediction, target, "none")
    every = [[gradient_by_hand(each, power, 2**k) for k in range(scales)] for each in prediction - target]
    assert found.tolist() == pytest.approx([sum(each) for each in every])


def test_gradient_is_blind_to_the_level_and_has_the_unit_of_the_labels():
    prediction, target = drawn(4, 6, 7)
    loss = make_loss("gradient")
    torch.testing.assert_close(loss(prediction + 3, target), loss(prediction, target))
    torch.testing.assert_close(loss(100 * prediction, 100 * target), 100 * loss(prediction, target))
    torch.testing.assert_close(
        make_loss("gradient:power=2")(10 * prediction, 10 * target),
        100 * make_loss("gradient:power=2")(prediction, target),
    )


def test_an_example_in_which_no_two_neighbours_are_known_is_left_out():
    prediction, target = drawn(3, 4, 4)
    board = torch.arange(4)[:, None] + torch.arange(4)
    target[1, board % 2 == 0] = torch.nan
    prediction.requires_grad_()
    each = make_loss("gradient")(prediction, target, "none")
    assert each.isnan().tolist() == [False, True, False]
    value = make_loss("gradient")(prediction, target)
    torch.testing.assert_close(value, each[[0, 2]].mean())
    value.backward()
    assert (prediction.grad[1] == 0).all() and prediction.grad.isfinite().all()


#: torchmetrics derives the window from sigma.
WINDOWS = {1.5: 11, 0.8: 7, 2.0: 15}


@pytest.mark.parametrize("sigma", WINDOWS)
@pytest.mark.parametrize("shape", [(3, 1, 17, 20), (2, 3, 16, 16)])
def test_ssim_is_that_of_torchmetrics_in_value_and_gradient(shape, sigma):
    prediction, target = drawn(*shape)
    loss = make_loss(f"ssim:sigma={sigma},window={WINDOWS[sigma]},k1=0.02,k2=0.05,data_range=1.3")
    mine, theirs = (prediction.clone().requires_grad_() for _ in range(2))
    options = {"sigma": sigma, "k1": 0.02, "k2": 0.05, "data_range": 1.3}
    expected = 1 - structural_similarity_index_measure(theirs, target, reduction="none", **options)
    torch.testing.assert_close(loss(mine, target, "none"), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(loss(mine, target), expected.mean(), rtol=0, atol=1e-10)
    loss(mine, target).backward()
    expected.mean().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-6, atol=1e-10)
    single = loss(prediction.float(), target.float())
    torch.testing.assert_close(single.double(), expected.mean().detach(), rtol=0, atol=1e-5)


def test_ssim_far_from_zero_is_as_exact():
    """Where variances as differences of squares would be rounding errors."""
    prediction, target = drawn(2, 16, 16)
    loss = make_loss("ssim:data_range=1")
    far = loss((prediction + 1000).float(), (target + 1000).float())
    assert float(far) == pytest.approx(float(loss(prediction + 1000, target + 1000)), abs=1e-3)


def test_ssim_leaves_out_windows_with_labels_that_are_not_known():
    prediction, target = drawn(3, 12, 12)
    loss = make_loss("ssim:window=5,sigma=0.7,data_range=1")
    _, every = structural_similarity_index_measure(
        prediction[:, None], target[:, None], sigma=0.7, data_range=1.0, return_full_image=True
    )
    target[0, 5, 6] = torch.nan
    target[1] = torch.nan
    place = torch.arange(12)
    near = ((place[:, None] - 5).abs() <= 2) & ((place - 6).abs() <= 2)
    prediction.requires_grad_()
    each = loss(prediction, target, "none")
    expected = torch.stack([1 - every[0, 0][~near].mean(), 1 - every[2, 0].mean()])
    assert each[1].isnan()
    torch.testing.assert_close(each[[0, 2]], expected)
    value = loss(prediction, target)
    torch.testing.assert_close(value, expected.mean())
    value.backward()
    slope = prediction.grad
    assert slope.isfinite().all() and (slope[1] == 0).all() and slope[0, 5, 6] == 0 and (slope[0][~near] != 0).all()


def test_the_range_of_ssim_is_that_of_the_training_labels():
    labels = torch.tensor([2.0, 5.0, torch.nan, 12.0]).reshape(1, 2, 2)
    assert str(make_loss("ssim").fitted(labels, 1)) == "ssim:data_range=10"
    assert str(make_loss("mse+0.1*ssim").fitted(labels, 1)) == "mse+0.1*ssim:data_range=10"
    assert make_loss("ssim:data_range=3").fitted(labels, 1) == make_loss("ssim:data_range=3")
    prediction, target = drawn(2, 12, 12)
    with pytest.raises(ValueError, match="ssim: data_range=labels is decided by the training labels"):
        make_loss("ssim")(prediction, target)
    with pytest.raises(ValueError, match="ssim: data_range=labels: of the training labels all are 4; give a number"):
        make_loss("ssim").fitted(torch.full((2, 3, 3), 4.0), 1)
    with pytest.raises(ValueError, match="ssim: window=4 must be an odd number"):
        make_loss("ssim:window=4")


@pytest.mark.parametrize("spec", ["gradient", "gradient:scales=2", "ssim:window=5,sigma=1,data_range=1"])
def test_channels_stand_first_or_last(spec):
    prediction, target = drawn(2, 3, 8, 9)
    target[0, 1, 2, 2] = torch.nan
    loss = make_loss(spec)
    value = loss(prediction, target)
    torch.testing.assert_close(loss(prediction.movedim(1, -1), target.movedim(1, -1)), value)
    # Pictures of one channel, from heads that have an axis for it or none.
    plain, label = prediction[:, 0], target[:, 0]
    for other in (plain[:, None], plain[..., None], plain.flatten(1)):
        torch.testing.assert_close(loss_of(loss, other, label), loss(plain, label))


def test_more_channels_than_pixels_are_said():
    prediction, target = drawn(2, 9, 8, 9)
    said = make_loss("gradient").complaint(prediction, target)
    assert said == "cannot tell the channels of labels of shape (9, 8, 9): give it channels=first or last"
    first = make_loss("gradient:channels=first")(prediction, target)
    torch.testing.assert_close(
        make_loss("gradient:channels=last")(prediction.movedim(1, -1), target.movedim(1, -1)), first
    )


@pytest.mark.parametrize(
    ("spec", "outputs", "labels", "complaint"),
    [
        (
            "gradient",
            (1,),
            (),
            "takes pictures as labels, (N, H, W), (N, C, H, W) or (N, H, W, C): here an example has",
        ),
        ("ssim", (4,), (4,), "here an example has labels of shape (4,)"),
        ("gradient", (8, 8, 3), (8, 8), "outputs of shape (8, 8, 3) and labels of shape (8, 8)"),
        ("gradient", (3, 8, 9), (8, 9, 3), "outputs of shape (3, 8, 9) and labels of shape (8, 9, 3)"),
        ("gradient", (1, 8), (1, 8), "takes pictures of at least 2 x 2 pixels: here they have 1 x 8"),
        ("gradient:scales=3", (4, 8), (4, 8), "takes pictures of at least 5 x 5 pixels: here they have 4 x 8"),
        ("ssim:data_range=1", (5, 8), (5, 8), "takes pictures of at least 6 x 6 pixels: here they have 5 x 8"),
        ("ssim:data_range=1,window=9", (5, 8), (5, 8), None),
        ("gradient", (64,), (8, 8), None),
    ],
)
def test_what_is_no_picture_is_said(spec, outputs, labels, complaint):
    prediction, target = torch.rand(2, *outputs), torch.rand(5, *labels)
    loss = make_loss(spec)
    said = loss.complaint(prediction, target)
    assert said is None if complaint is None else complaint in said
    if complaint and "ssim" not in spec:
        with pytest.raises(ValueError, match="gradient takes"):
            loss(prediction, target[:2])


def test_half_precision_is_that_of_float32_inside_autocast_too():
    prediction, target = drawn(2, 12, 12)
    prediction, target = prediction.float(), target.float()
    for spec in ("ssim:data_range=1", "gradient"):
        loss = make_loss(spec)
        value = loss(prediction, target)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(loss(prediction, target), value)
        short = prediction.bfloat16()
        assert torch.equal(loss(short, target), loss(short.float(), target))


@pytest.mark.parametrize(
    "spec", ["gradient:power=2,scales=3", "mae+0.1*gradient", "apart:mse+0.1*ssim", "gradient+ssim"]
)
def test_they_pass_in_other_forms_too(spec):
    checked = check_loss(make_loss(spec))
    assert checked.kind == "pictures" and checked.passed, checked.findings


def test_the_parts_of_a_sum_are_weighed_apart():
    prediction, target = drawn(2, 8, 8)
    found = losses_of(make_loss("apart:l1+0.1*gradient"), prediction, target)
    expected = [(prediction - target).abs().mean(), 0.1 * make_loss("gradient")(prediction, target)]
    torch.testing.assert_close(found, expected)
    assert make_loss("apart:l1+0.1*gradient").apart == ("mae", "gradient")


def test_l1_is_another_name_of_mae():
    assert make_loss("l1") == make_loss("mae") == MAE() and str(make_loss("l1+gradient")) == "mae+gradient"
    with pytest.raises(ValueError, match="l1 has no hyperparameter 'delta'"):
        make_loss("l1:delta=1")


def test_the_mean_picture_is_better_than_any_example_or_none():
    target = drawn(6, 12, 12)[1] + torch.linspace(0, 2, 12)
    for spec in ("gradient", "gradient:power=2", "ssim"):
        loss = make_loss(spec).fitted(target, 1)
        best = float(loss(loss.constant(target).reshape(12, 12).expand(6, -1, -1).double(), target))
        for other in (torch.zeros(12, 12), *target):
            assert best < float(loss(other.double().expand(6, -1, -1), target))


def test_gradient_is_suggested_for_surfaces_with_edges():
    ramp = torch.arange(16.0)[:, None] + torch.arange(16.0) + 10 * (torch.arange(16) > 7)
    surfaces = ramp + torch.rand(20, 1, 1) + 0.01 * torch.randn(20, 16, 16)
    surfaces[3, 4:6] = torch.nan
    found = suggest(surfaces)
    (spec, reason), *_ = [each for each in found.losses if "gradient" in each.spec]
    assert spec == "mae+gradient" and f"{found.figures['neighbours']:.2f} standard deviations apart" in reason
    across = (surfaces[:, :, 1:] - surfaces[:, :, :-1]).abs(), (surfaces[:, 1:] - surfaces[:, :-1]).abs()
    mean = torch.cat([each.flatten() for each in across]).nanmean()
    known = surfaces[~surfaces.isnan()]
    assert found.figures["neighbours"] == pytest.approx(float(mean / known.std(correction=0)), rel=1e-4)
    assert make_loss(spec).complaint(surfaces, surfaces) is None
    for others in (torch.randn(20, 16, 16), torch.randn(300)):
        assert not [each for each in suggest(others).losses if "gradient" in each.spec]


class Ramps(Benchmark):
    """The depth of 64 pictures of 8 x 8, a fifth of it not known."""

    name = "ramps"
    trunk = "unet:width=4,depth=1,norm=none"
    tasks = (Task("depth", MAE(), (mae,)), Task("again", MAE(), (mae,)))

    def load(self):
        draw = torch.Generator().manual_seed(0)
        return Splits(*(self._split(size, draw) for size in (32, 16, 16)))

    @staticmethod
    def _split(size, draw):
        pictures = torch.rand(size, 1, 8, 8, generator=draw)
        depth = pictures[:, 0].cumsum(-1)
        missing = torch.rand(depth.shape, generator=draw) < 0.2
        return Split(pictures, {"depth": depth.masked_fill(missing, torch.nan), "again": 2 * depth})


GIVEN = [
    {"name": "l1+0.1*gradient", "weight2": 0.5},
    {"name": "l1+0.1*gradient"},
    {"name": "mse+0.1*ssim:window=3,data_range=8", "ssim_sigma": 0.6},
    {"name": "mse+0.1*ssim:window=3,data_range=8", "ssim_sigma": 1.2, "ssim_data_range": 4.0},
]


def test_members_of_a_population_equal_single_runs():
    settings = Settings(steps=5, batch_size=8, lr=1e-2)
    members = [Member("equal", 3, losses={"depth": each}) for each in GIVEN]
    cohort = Cohort(Ramps(), load_checked(Ramps()), members, settings)
    cohort.advance(5)
    for given, found in zip(GIVEN, cohort.results(), strict=True):
        values = dict(given)
        loss = dataclasses.replace(make_loss(values.pop("name")), **values)

        class Changed(Ramps):
            tasks = (dataclasses.replace(Ramps.tasks[0], loss=loss), Ramps.tasks[1])

        single = train(Changed(), load_checked(Ramps()), "equal", settings, seed=3)
        assert found.status == single.status == "done"
        assert found.metrics["depth"]["mae"] == pytest.approx(single.metrics["depth"]["mae"], abs=1e-5)
