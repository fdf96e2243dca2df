"""How benchmarks find and keep their data: packages, folders, IDX files and the cache."""

import csv
import gzip
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch

from mtl.benchmarks import find_benchmark, load_checked, qm9
from mtl.benchmarks.benchmark import MissingData
from mtl.benchmarks.cache import cache_folder, prepared, told, watched
from mtl.benchmarks.folders import data_folder
from mtl.benchmarks.idx import read_idx
from mtl.benchmarks.repeats import repeated_inputs


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MTL_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def written(folder, name, values, *, compressed=False):
    """An IDX file of bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    content = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()
    path = folder / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(content) if compressed else content)
    return path


def fashion(folder, *, compressed, train=60, test=10):
    """Pictures that tell their label: all pixels of class c are 20 c + 10."""
    for part, count in (("train", train), ("t10k", test)):
        labels = np.arange(count) % 10
        pictures = np.broadcast_to((20 * labels + 10)[:, None, None], (count, 28, 28))
        written(folder, f"{part}-images-idx3-ubyte", pictures, compressed=compressed)
        written(folder, f"{part}-labels-idx1-ubyte", labels, compressed=compressed)


@pytest.mark.parametrize("compressed", [False, True])
def test_pairs_are_overlaid_where_their_labels_say(tmp_path, compressed):
    fashion(tmp_path / "data" / "fashion-mnist", compressed=compressed)
    splits = load_checked(find_benchmark("multi-fashion"))
    assert [len(split) for _, split in splits.items()] == [50 * 4, 10 * 4, 10 * 4]
    for split in (splits.train, splits.test):
        left, right = split.targets["left"], split.targets["right"]
        corner = (split.inputs * 255).round().long()
        assert torch.equal(corner[:, 0, 0, 0], 20 * left + 10)
        assert torch.equal(corner[:, 0, -3, -3], 20 * right + 10)
        assert torch.equal(corner[:, 0, 14, 14], 20 * torch.maximum(left, right) + 10)


def test_the_digit_of_one_benchmark_is_beside_the_clothes_of_the_other(tmp_path):
    fashion(tmp_path / "data" / "fashion-mnist", compressed=True)
    fashion(tmp_path / "data" / "mnist", compressed=False, train=30, test=20)
    splits = load_checked(find_benchmark("fashion-mnist"))
    assert [len(split) for _, split in splits.items()] == [200, 40, 40]


def test_data_that_is_nowhere_is_told_with_all_places(tmp_path, monkeypatch):
    monkeypatch.setattr("mtl.benchmarks.overlaid._FASHION_OF_DEBIAN", tmp_path / "nowhere")
    with pytest.raises(ValueError) as caught:
        load_checked(find_benchmark("multi-fashion"))
    message = str(caught.value)
    assert "\n" not in message and "apt install dataset-fashion-mnist" in message
    assert str(tmp_path / "data" / "fashion-mnist") in message and "MTL_DATA" in message


def test_a_folder_is_taken_where_what_is_wanted_is_in_it(tmp_path):
    (tmp_path / "data" / "rooms" / "train").mkdir(parents=True)
    assert data_folder("rooms", "val", "train") == tmp_path / "data" / "rooms"
    with pytest.raises(MissingData, match="reads val in one"):
        data_folder("rooms", "val")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\x00\x00\x09\x01", "no IDX file"), (b"PK", "no IDX file"), (None, "holds 5 numbers; its head says 6")],
)
def test_files_that_are_no_idx_files_are_named(tmp_path, content, said):
    path = written(tmp_path, "a", np.zeros(6))
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(ValueError, match=said) as caught:
        read_idx(tmp_path, "a")
    assert str(path) in str(caught.value)


def test_what_was_prepared_is_read_and_another_source_is_not_taken_for_it(tmp_path):
    source, calls = tmp_path / "source", []

    def make():
        calls.append(1)
        return {"a": torch.arange(len(calls))}

    source.write_text("one")
    assert len(prepared("x", [source, 1], make)["a"]) == 1
    assert len(prepared("x", [source, 1], make)["a"]) == 1
    assert len(prepared("x", [source, 2], make)["a"]) == 2  # another version of the reader
    source.write_text("two")
    assert len(prepared("x", [source, 2], make)["a"]) == 3


def test_a_damaged_file_of_the_cache_is_made_anew():
    prepared("x", [1], lambda: {"a": torch.ones(1000)})
    (path,) = cache_folder().glob("x-*.pt")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    assert prepared("x", [1], lambda: {"a": torch.zeros(3)})["a"].tolist() == [0, 0, 0]
    path.write_bytes(b"nothing")
    assert prepared("x", [1], lambda: {"a": torch.zeros(2)})["a"].tolist() == [0, 0]


def test_two_processes_that_ask_at_once_prepare_it_once(tmp_path):
    program = (
        "import os, time, torch; from mtl.benchmarks.cache import prepared\n"
        "def make():\n"
        "    open(os.environ['MTL_CACHE'] + '-calls', 'a').write('x'); time.sleep(0.5); return {'a': torch.ones(2)}\n"
        "assert prepared('x', [1], make)['a'].tolist() == [1, 1]"
    )
    both = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert (tmp_path / "cache-calls").read_text() == "x"


def test_a_cache_that_cannot_be_written_is_named(monkeypatch):
    monkeypatch.setenv("MTL_CACHE", "/proc/mtl")
    with pytest.raises(OSError, match="MTL_CACHE moves it"):
        prepared("x", [1], lambda: 1)


def test_a_source_that_cannot_be_read_is_not_the_fault_of_the_cache():
    def make():
        raise FileNotFoundError(2, "No such file or directory", "source.csv")

    with pytest.raises(FileNotFoundError, match=r"source.csv") as caught:
        prepared("x", [1], make)
    assert "MTL_CACHE" not in str(caught.value)
    assert prepared("x", [1], lambda: {"a": torch.ones(2)})["a"].tolist() == [1, 1]


def test_whoever_watches_hears_how_far_a_preparation_is():
    heard = []
    with watched(lambda done, total: heard.append((done, total))):
        told(1, 2)
    told(2, 2)
    assert heard == [(1, 2)]


def test_yeast_and_chemicals_are_what_their_descriptions_say():
    for name, examples, features, labels in (("yeast", 2417, 103, 2417 * 14), ("chemicals", 19262, 36, None)):
        try:
            splits = load_checked(find_benchmark(name))
        except ValueError as error:
            pytest.skip(str(error))
        assert sum(len(split) for _, split in splits.items()) == examples
        assert splits.train.inputs.shape[1] == features
        assert splits.train.inputs.mean(0).abs().max() < 0.05 and splits.train.inputs.abs().max() < 20
        known = sum(int((~t.isnan()).sum()) for _, split in splits.items() for t in split.targets.values())
        if labels is not None:
            assert known == labels
        else:  # nearly two thirds are missing
            assert 0.3 < known / (7 * examples) < 0.4


@pytest.mark.parametrize(
    ("name", "rows"),
    [("adult", 48_842), pytest.param("census", 299_285, marks=pytest.mark.slow), ("movielens", 200_000)],
)
def test_tables_are_what_their_descriptions_say(name, rows):
    benchmark = find_benchmark(name)
    try:
        splits = load_checked(benchmark)
    except ValueError as error:
        pytest.skip(str(error))
    assert sum(len(split) for _, split in splits.items()) == rows
    codes = [int(split.inputs["codes"].max()) for _, split in splits.items()]
    assert max(codes) + 1 == int(benchmark.trunk.partition("codes=")[2])  # the embeddings are as many as the codes
    share = {task: float(labels.nanmean()) for task, labels in splits.train.targets.items()}
    expected = {
        "adult": {"income": 0.239, "unmarried": 0.33, "bachelor": 0.248},
        "census": {"income": 0.062, "unmarried": 0.433, "bachelor": 0.147},
        "movielens": {"watched": 0.5, "liked": 0.554, "stars": 0.0},
    }
    assert share == pytest.approx(expected[name], abs=0.01)
    if name == "movielens":  # a pair of a person and a film is in one split; other tables have rows that are alike
        assert repeated_inputs(splits) == []


def test_molecules_are_read_with_the_energies_of_their_bonds(tmp_path):
    # Two molecules of the set: methane, whose energy of atomisation at 0 K is -17.1722 eV, and water.
    names = [wanted.column for wanted in qm9._PROPERTIES.values()]
    methane = [0.0, 13.21, -0.3877, 0.1171, 35.3641, 0.044749, -40.47893, -40.476062, -40.475117, -40.498597, 6.469]
    water = [1.8511, 6.31, -0.2928, 0.0687, 19.0002, 0.021375, -76.404702, -76.401867, -76.400922, -76.422349, 6.002]
    lines = [
        ("['C','H','H','H','H']", "[[0.,0.,0.],[1.,0.,1.],[2.,0.,0.],[3.,0.,0.],[4.5,0.,-6.5e-05]]", methane),
        ("['O','H','H']", "[[1,2,3],[4,5,6],[7,8,9]]", water),
    ]
    with (tmp_path / "part.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Elements", "XYZ_Ang", *names])
        for elements, positions, values in lines:
            writer.writerow([elements, positions, *values])
    found = qm9._read([tmp_path / "part.csv"])
    assert found["numbers"][:, :6].tolist() == [[6, 1, 1, 1, 1, 0], [8, 1, 1, 0, 0, 0]]
    assert found["positions"][0, 4].tolist() == pytest.approx([4.5, 0, -6.5e-5])
    assert float(found["targets"][0, list(qm9._PROPERTIES).index("u0")]) == pytest.approx(-17.1722, abs=1e-4)
    assert float(found["targets"][1, list(qm9._PROPERTIES).index("u0")]) == pytest.approx(-9.2404, abs=1e-3)


def test_reviews_are_tokens_of_training_texts():
    benchmark = find_benchmark("reviews")
    try:
        splits = load_checked(benchmark)
    except ValueError as error:
        pytest.skip(str(error))
    tokens = torch.cat([split.inputs["tokens"] for _, split in splits.items()])
    assert tokens.shape == (22_641, 64) and splits.train.inputs["mask"].any(1).all()
    assert int(tokens.max()) + 1 == int(benchmark.trunk.partition("vocabulary=")[2])
    assert set(tokens.unique().tolist()) == set(range(int(tokens.max()) + 1))
    counts = {task.name: task.outputs for task in benchmark.tasks}
    for name in ("department", "class"):
        labels = splits.train.targets[name]
        assert labels[labels != -100].unique().tolist() == list(range(counts[name]))
