"""Office-31 and Office-Home, written small in the folders and lists that users have."""

import json
import shutil

import pytest
import torch
from PIL import Image

from mtl.benchmarks import find_benchmark, load_checked
from mtl.benchmarks.office import Office
from mtl.cli.main import main

DOMAINS = {
    "office-31": ("amazon", "dslr", "webcam"),
    "office-home": ("Art", "Clipart", "Product", "Real_World"),
}


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MTL_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Office, "workers", 0)
    monkeypatch.setattr(Office, "side", 16)


def written(root, name, classes, pictures, inside="", space=False):
    """Picture i of class c in domain d has the gray 50 d + c; its folders are those of the authors."""
    for number, domain in enumerate(DOMAINS[name]):
        place = domain.replace("_", " ") if space else domain
        for label in range(classes):
            folder = root / name / place / inside / f"class_{label:02}"
            folder.mkdir(parents=True)
            for i in range(pictures + number):
                Image.new("RGB", (20, 24), (50 * number + label,) * 3).save(folder / f"frame_{i:04}.png")
    return root / name


def with_lists(folder, name, classes, inside):
    """Of each class the first picture is trained on, the second for validation, the third for the test."""
    for domain in DOMAINS[name]:
        for part, i in (("train", 0), ("val", 1), ("test", 2)):
            lines = [
                f"{'/'.join(filter(None, (domain, inside)))}/class_{label:02}/frame_{i:04}.png {classes - 1 - label}"
                for label in range(classes)
            ]
            (folder / f"{domain}_{part}.txt").write_text("\n".join(lines) + "\n")


def gray(inputs):
    """The gray of the middle, before it was standardised."""
    return (255 * (inputs[:, 0, 8, 8] * 0.229 + 0.485)).round().int().tolist()


def one_line(name):
    with pytest.raises(ValueError) as caught:
        load_checked(find_benchmark(name))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lists_say_which_pictures_of_a_domain_are_for_what(tmp_path):
    folder = written(tmp_path / "data", "office-31", 31, 3, "images")
    with_lists(folder, "office-31", 31, "images")
    splits = load_checked(find_benchmark("office"))
    for number, domain in enumerate(DOMAINS["office-31"]):
        for split in (splits.train, splits.validation, splits.test):
            batch = split.parts[domain].take(slice(None))
            assert batch.inputs.shape == (31, 3, 16, 16)
            assert gray(batch.inputs) == [50 * number + label for label in range(31)]
            assert batch.targets[domain].tolist() == list(range(30, -1, -1))


def test_without_lists_each_class_is_divided_once_for_all(tmp_path):
    written(tmp_path / "data", "office-home", 65, 5, space=True)
    splits, again = (load_checked(find_benchmark("office-home")) for _ in range(2))
    sizes = {name: {task: len(part) for task, part in split.parts.items()} for name, split in splits.items()}
    assert sizes["train"] == {"Art": 195, "Clipart": 260, "Product": 260, "Real_World": 325}
    assert sizes["validation"]["Art"] == sizes["test"]["Art"] == 65
    every = [path for _, split in splits.items() for path in split.parts["Real_World"].reading.dataset.paths]
    assert len(set(every)) == len(every) == 65 * 8
    for (_, one), (_, other) in zip(splits.items(), again.items(), strict=True):
        assert one.parts["Art"].reading.dataset.paths == other.parts["Art"].reading.dataset.paths
        assert torch.bincount(one.targets["Art"]).unique().tolist() in ([1], [3])


def test_domains_are_trained_on_together(tmp_path):
    folder = written(tmp_path / "data", "office-31", 31, 3, "images")
    with_lists(folder, "office-31", 31, "images")
    out = tmp_path / "run"
    arguments = ["--model", "lenet:channels=2,width=4", "--steps", "2", "--batch-size", "4", "--strategy", "cagrad"]
    assert main(["train", "office", *arguments, "--out", str(out), "--quiet", "--wandb", "disabled"]) == 0
    (record,) = (json.loads(line) for line in (out / "results.jsonl").read_text().splitlines())
    assert record["status"] == "done" and set(record["metrics"]) == {"amazon", "dslr", "webcam"}
    assert "test of dslr" in record["digests"]


def test_what_is_not_there_is_named(tmp_path):
    assert "benchmark office-31 reads amazon" in one_line("office")
    folder = written(tmp_path / "data", "office-31", 31, 3, "images")
    with_lists(folder, "office-31", 31, "images")
    path = folder / "dslr_val.txt"
    text = path.read_text()
    for line, said in (
        ("dslr/images/class_00/frame_0001.png 31", "line 1: 'dslr/images/class_00/frame_0001.png 31'; a picture and a"),
        ("dslr/images/class_00/other.png 3", f"line 1: {folder}/dslr/images/class_00/other.png is not there"),
    ):
        path.write_text(line + "\n" + text)
        assert f"{path}, {said}" in one_line("office")
    path.unlink()
    assert f"reads {path}, which is not there, and other lists are" in one_line("office")
    for other in folder.glob("*.txt"):
        other.unlink()
    shutil.rmtree(folder / "webcam" / "images" / "class_07")
    assert f"{folder}/webcam/images has 30 folders of classes; 31 are wanted" in one_line("office")
    shutil.rmtree(folder / "dslr")
    assert f"reads {folder}/dslr, which is not there" in one_line("office")
