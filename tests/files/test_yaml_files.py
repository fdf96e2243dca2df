"""YAML of users: version 1.2, nothing dropped, every fault with its line."""

from __future__ import annotations

import pytest

from mtl.files.yaml_files import Entry, read_texts, read_values, write_values


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_scalars_stay_as_they_are_written(tmp_path):
    path = written(tmp_path / "a.yaml", "seed: 010\nlr: 1e-3\nwarmup: 1:15\nlist: [equal, no, 'null', null]\nclip: ~\n")
    assert read_texts(path) == {
        "seed": Entry("010", 1),
        "lr": Entry("1e-3", 2),
        "warmup": Entry("1:15", 3),
        "list": Entry(["equal", "no", "null", None], 4),
        "clip": Entry(None, 5),
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("0o17", 15), ("0x1f", 31), ("-3", -3), ("1e-3", 1e-3), ("1.", 1.0), (".5", 0.5),
        ("-.inf", -float("inf")),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("True", True), ("false", False), ("1:15", "1:15"),
        ("0:0.9", "0:0.9"),
        ("1_000", "1_000"), ("2026-01-01", "2026-01-01"), ("~", None), ("", None), ("'010'", "010"), ("null", None),
        ("=", "="),
    ],
)  # fmt: skip
def test_values_are_those_of_version_1_2(text, value, tmp_path):
    found = read_values(written(tmp_path / "a.yaml", f"a: {text}"))["a"]
    assert found == value and type(found) is type(value)


def test_what_is_written_is_read_back(tmp_path):
    values = {
        "a": ["1e-3", "no", "010", "1:15", "null", "~", "", "0x1f", "0o7", ".inf", "1_0", "é", "a: b", "#", "- x"]
    }
    values |= {"b": {"c": 1e-05, "d": None, "e": True, "f": 3, "g": float("inf"), "h": []}, "same": values["a"]}
    assert read_values(written(tmp_path / "a.yaml", write_values(values))) == values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: 'a' stands in line 1 already"),
        ("a:\n  b: 1\n  b: 2", "line 3: 'b' stands in line 2 already"),
        ("a: 1\n\tb: 2", "line 2: not YAML: a tab; YAML is indented by spaces"),
        ("a:\n\t- 1", "line 2: not YAML: a tab"),
        ("a: [1\nb: 2", "line 2: not YAML"),
        ("a: 1\n---\na: 2", "line 2: not YAML"),
        ("a: 1\nb: caf\u00e9".encode("latin-1"), "line 2: not UTF-8 (byte 0xe9)"),
        ("a: 1".encode("utf-16"), "line 1: not UTF-8 (byte 0xff)"),
        (b"a: 1\nb: \x01", "line 2: not YAML: a character"),
        ("a: !!python/object/apply:os.system ['true']", "line 1: the tag"),
        ("a: &x [*x]", "line 1: it contains itself"),
        ("[a, b]: 1", "line 1: a name is wanted"),
        ("a: " + "[" * 3000, "brackets within brackets"),
    ],
)
@pytest.mark.parametrize("read", [read_texts, read_values])
def test_a_fault_is_one_line_with_its_number(read, content, message, tmp_path):
    with pytest.raises(ValueError) as caught:
        read(written(tmp_path / "a.yaml", content))
    assert message in str(caught.value) and "a.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    assert read_values(written(tmp_path / "a.yaml", "a: é".encode("utf-8-sig"))) == {"a": "é"}


def test_aliases_cost_nothing(tmp_path):
    lines = ["a0: &a0 [x]"] + [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 30)]
    assert len(read_values(written(tmp_path / "a.yaml", "\n".join(lines)))["a29"]) == 9
