"""Data sets that users have on disk, written small in the layout that their authors give them."""

import importlib.util
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from mtl.benchmarks import celeba, find_benchmark, load_checked, photographs
from mtl.benchmarks.dense_folders import DenseFolders, held_out
from mtl.cli.main import main

SIDE, TRAIN, VAL = 32, 10, 3
DIRECTIONS = ([0.6, -0.6, 0.0], [0.0, 0.0, 1.0])  # the numbers of one sum to zero, and it is a direction


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MTL_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DenseFolders, "workers", 0)
    monkeypatch.setattr(celeba.CelebA, "workers", 0)


def dense(folder, classes, labels="label", *, normals=True):
    """Example i has brightness i / 20, class i, depth i + 1; its first row has no labels."""
    for split, count in (("train", TRAIN), ("val", VAL)):
        for i in range(count):
            label = np.full((SIDE, SIDE), i % classes, np.float32)
            depth = np.full((SIDE, SIDE, 1), i + 1, np.float32)
            normal = np.zeros((SIDE, SIDE, 3), np.float32)
            normal[1:] = DIRECTIONS[i % 2]
            label[0], depth[0] = -1, 0
            arrays = {"image": np.full((SIDE, SIDE, 3), i / 20), labels: label, "depth": depth}
            for part, array in (arrays | ({"normal": normal} if normals else {})).items():
                path = folder / split / part / f"{i}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, array)
    return folder


@pytest.fixture
def nyuv2(tmp_path):
    return dense(tmp_path / "data" / "nyuv2", 13)


def one_line(name):
    """What is said of data that cannot be used."""
    with pytest.raises(ValueError) as caught:
        load_checked(find_benchmark(name))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("nyuv2")
def test_rooms_are_read_with_what_is_missing_at_each_pixel():
    splits = load_checked(find_benchmark("nyuv2"))
    assert [len(split) for _, split in splits.items()] == [5, 5, 3]
    brightness = [
        set((20 * split.take(slice(None)).inputs[:, 0, 0, 0]).round().tolist()) for _, split in splits.items()
    ]
    assert brightness[0] | brightness[1] == set(range(TRAIN)) and brightness[2] == set(range(VAL))
    split = splits.test.take(slice(None))
    assert split.inputs.shape == (VAL, 3, SIDE, SIDE)
    numbers = torch.arange(VAL)[:, None, None].expand(VAL, SIDE - 1, SIDE)
    segmentation, depth, normal = (split.targets[task] for task in ("segmentation", "depth", "normal"))
    assert (segmentation[:, 0] == -100).all() and torch.equal(segmentation[:, 1:], numbers)
    assert depth[:, 0].isnan().all() and torch.equal(depth[:, 1:], numbers + 1.0)
    assert normal.shape == (VAL, SIDE, SIDE, 3) and normal[:, 0].isnan().all()
    wanted = torch.tensor([DIRECTIONS[i % 2] for i in range(VAL)])[:, None, None]
    assert torch.equal(normal[:, 1:], wanted.expand(VAL, SIDE - 1, SIDE, 3))


def test_the_field_s_training_pictures_are_held_out_in_stretches():
    kept, held = held_out(795)
    assert (len(kept), len(held)) == (715, 80) and sorted(kept + held) == list(range(795))
    assert sum(later != earlier + 1 for earlier, later in itertools.pairwise(held)) == 7


@pytest.mark.usefixtures("nyuv2")
def test_rooms_are_trained_on_with_attention(tmp_path):
    out = tmp_path / "run"
    arguments = ["--architecture", "mtan", "--model", "segnet:width=4", "--steps", "2", "--out", str(out)]
    assert main(["train", "nyuv2", *arguments, "--quiet", "--wandb", "disabled"]) == 0
    (record,) = (json.loads(line) for line in (out / "results.jsonl").read_text().splitlines())
    assert record["status"] == "done" and set(record["metrics"]) == {"segmentation", "depth", "normal"}


@pytest.mark.parametrize("labels", ["label", "label_7"])
def test_streets_have_no_normals_and_labels_in_one_of_two_folders(tmp_path, labels):
    dense(tmp_path / "data" / "cityscapes", 7, labels, normals=False)
    splits = load_checked(find_benchmark("cityscapes"))
    split = splits.test.take(slice(None))
    assert set(split.targets) == {"segmentation", "depth"}
    assert split.targets["segmentation"][:, 1, 1].tolist() == [0, 1, 2]
    assert split.targets["depth"][:, 1, 1].tolist() == [1, 2, 3]


def test_what_is_not_there_is_named(nyuv2):
    (nyuv2 / "train" / "depth" / "4.npy").unlink()
    assert f"reads {nyuv2}/train/depth/4.npy, which is not there" in one_line("nyuv2")
    (nyuv2 / "val" / "normal").rename(nyuv2 / "val" / "normals")
    assert f"reads normal in {nyuv2}/val, which is not there" in one_line("nyuv2")


@pytest.mark.parametrize(
    ("part", "array", "said"),
    [
        ("image", np.full((SIDE, SIDE, 3), 200.0), "numbers from 200 to 200; bytes, or numbers from 0 to 1"),
        ("label", np.full((SIDE, SIDE), 13), "class 13; 0 to 12 are wanted"),
        ("label", np.full((SIDE, SIDE), 0.5), "class 0.5; 0 to 12 are wanted"),
        ("depth", np.ones((SIDE, SIDE, 2)), r"shape (32, 32, 2); (H, W, 1) is wanted"),
        ("normal", np.ones((SIDE, 8, 3)), "32 x 8 pixels"),
    ],
)
def test_files_that_hold_something_else_are_named(nyuv2, part, array, said):
    path = nyuv2 / "val" / part / "0.npy"
    np.save(path, array)
    message = one_line("nyuv2")
    assert str(path) in message and said in message
    path.write_bytes(b"nothing")
    assert f"{path} holds no NumPy array" in one_line("nyuv2")


@pytest.mark.usefixtures("nyuv2")
def test_pictures_of_bytes_are_scaled(nyuv2):
    np.save(nyuv2 / "val" / "image" / "0.npy", np.full((SIDE, SIDE, 3), 51, np.uint8))
    assert load_checked(find_benchmark("nyuv2")).test.first(1).unique().tolist() == pytest.approx([0.2])


@pytest.fixture
def sarcos(tmp_path):
    folder = tmp_path / "data" / "sarcos"
    folder.mkdir(parents=True)
    rows = np.random.default_rng(0).normal(3, 2, (120, 28))
    test = rows[100:]
    savemat(folder / "sarcos_inv.mat", {"sarcos_inv": np.concatenate([rows[:100], test[:5]])})
    savemat(folder / "sarcos_inv_test.mat", {"sarcos_inv_test": test})
    return folder


@pytest.mark.usefixtures("sarcos")
def test_torques_are_standardised_and_no_test_row_is_trained_on():
    splits = load_checked(find_benchmark("sarcos"))
    assert [len(split) for _, split in splits.items()] == [90, 10, 20]
    assert splits.train.inputs.shape == (90, 21) and len(splits.train.targets) == 7
    whole = torch.cat([splits.train.inputs, torch.stack([*splits.train.targets.values()], 1)], 1)
    torch.testing.assert_close(whole.mean(0), torch.zeros(28), atol=1e-5, rtol=0)
    torch.testing.assert_close(whole.square().mean(0), torch.ones(28))
    # Of the numbers as they are on disk, each torque is what its column says.
    rows = np.random.default_rng(0).normal(3, 2, (120, 28))[100:]
    for joint in (1, 7):
        found = splits.test.targets[f"torque{joint}"].double().numpy()
        assert np.corrcoef(found, rows[:, 20 + joint])[0, 1] == pytest.approx(1)


def test_matlab_files_that_lack_the_table_are_named(sarcos):
    path = sarcos / "sarcos_inv_test.mat"
    savemat(path, {"another": np.ones((3, 28))})
    assert f"{path} has nothing as 'sarcos_inv_test'" in one_line("sarcos")
    savemat(path, {"sarcos_inv_test": np.ones((3, 27))})
    assert f"{path} has shape (3, 27)" in one_line("sarcos")
    path.write_bytes(b"nothing at all")
    assert f"{path} is no MATLAB file" in one_line("sarcos")
    path.unlink()
    assert f"reads {path}, which is not there" in one_line("sarcos")


@pytest.fixture
def faces(tmp_path):
    """Face i is of gray 20 i; attribute k is there where i + k is even. Six, three and three of them."""
    folder = tmp_path / "data" / "celeba"
    for name in ("Eval", "Anno", "Img/img_align_celeba"):
        (folder / name).mkdir(parents=True)
    names = [f"{i + 1:06}.jpg" for i in range(12)]
    for i, name in enumerate(names):
        Image.new("RGB", (178, 218), (20 * i,) * 3).save(folder / "Img" / "img_align_celeba" / name)
    partition = [f"{name} {max(0, i // 3 - 1)}" for i, name in enumerate(names)]
    (folder / "Eval" / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    values = [f"{name} " + " ".join(f"{(-1) ** (i + k):2}" for k in range(40)) for i, name in enumerate(names)]
    (folder / "Anno" / "list_attr_celeba.txt").write_text("\n".join(["12", " ".join(celeba._NAMES), *values]) + "\n")
    return folder


@pytest.mark.usefixtures("faces")
def test_faces_are_read_with_their_attributes():
    benchmark = find_benchmark("celeba")
    splits = load_checked(benchmark)
    assert [len(split) for _, split in splits.items()] == [6, 3, 3]
    assert len(benchmark.tasks) == len({task.name for task in benchmark.tasks}) == 40
    split = splits.validation.take(slice(None))
    assert split.inputs.shape == (3, 3, 64, 64)
    assert (255 * split.inputs[:, 0, 30, 30]).tolist() == pytest.approx([120, 140, 160], abs=2)
    assert split.targets["5_o_clock_shadow"].tolist() == [1, 0, 1]
    assert split.targets["young"].tolist() == [0, 1, 0]  # the last of forty
    assert splits.test.targets["bald"].tolist() == [0, 1, 0]


def test_faces_that_cannot_be_read_are_named(faces, monkeypatch):
    picture = faces / "Img" / "img_align_celeba" / "000001.jpg"
    whole = picture.read_bytes()
    picture.write_bytes(b"nothing")
    assert f"{picture}: cannot identify image file" in one_line("celeba")
    picture.unlink()
    assert f"reads {picture}, which is not there" in one_line("celeba")
    picture.write_bytes(whole)
    attributes = faces / "Anno" / "list_attr_celeba.txt"
    text = attributes.read_text()
    attributes.write_text(text.replace("-1\n", "-2\n", 1))
    assert f"{attributes}, line 3: a file and 40 times 1 or -1" in one_line("celeba")
    attributes.write_text(text.replace("000012.jpg", "000013.jpg"))
    assert f"{attributes} has no line for 000012.jpg" in one_line("celeba")
    attributes.write_text(text.replace("Young", "Old"))
    assert f"{attributes}, line 2: the names" in one_line("celeba")
    find = importlib.util.find_spec
    monkeypatch.setattr(photographs.importlib.util, "find_spec", lambda name: None if name == "PIL" else find(name))
    assert "Pillow, which is not there: pip install 'mtl-lab[data]'" in one_line("celeba")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("nyuv2", "train/image"),
        ("cityscapes", "train/image"),
        ("sarcos", "sarcos_inv.mat"),
        ("celeba", "Eval/list_eval_partition.txt"),
    ],
)
def test_data_that_is_nowhere_is_told_with_all_places(tmp_path, capsys, name, wanted):
    message = one_line(name)
    assert wanted in message and str(tmp_path / "data" / name) in message and "MTL_DATA" in message
    assert main(["list", "benchmarks", "--json"]) == 0
    assert message in {row["data"] for row in json.loads(capsys.readouterr().out)}
