"""Searches whose checkpoints are missing or damaged."""

import os
from pathlib import Path

import pytest
import torch

from mtl.train import Stopped, checkpoint

DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "rubbish": lambda path: path.write_bytes(b"\x80\x02rubbish"),
    "foreign": lambda path: torch.save({"another": 1}, path),
}


OPTIONS = {"pbt": {}, "asha": {"trials": 20}}


@pytest.fixture
def stopped(toy_search):
    """A search that is not stopped, and where the checkpoint of one is that was stopped after its third segment."""

    def run(method):
        _, records, whole = toy_search(method, out="whole", **OPTIONS[method])
        with pytest.raises(Stopped):
            toy_search(method, out="cut", stop=iter([False, False, True]).__next__, **OPTIONS[method])
        return records, whole.schedule_path.read_text(), whole.path.parent / "cut" / "checkpoints" / "search.pt"

    return run


def resume(toy_search, method):
    told = []
    return *toy_search(method, out="cut", tell=told.append, **OPTIONS[method]), told


@pytest.mark.parametrize("method", ["pbt", "asha"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_costs_one_segment(damage, method, stopped, toy_search):
    records, schedule, path = stopped(method)
    DAMAGES[damage](path)
    search, again, directory, told = resume(toy_search, method)
    assert again == records and directory.schedule_path.read_text() == schedule
    assert len(told) == 1 and told[0].endswith("going on from the one before") and str(path) in told[0]
    assert ("is missing" if damage == "missing" else "cannot be read") in told[0]
    assert search.totals.steps == sum(record["cost"]["steps"] for record in records)


@pytest.mark.parametrize("method", ["pbt", "asha"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_sound_checkpoint_the_search_starts_over(damage, method, stopped, toy_search):
    records, schedule, path = stopped(method)
    for each in (path, checkpoint.previous(path)):
        DAMAGES[damage](each)
    lines = (path.parent.parent / "results.jsonl").read_bytes() if method == "asha" else b""
    _, again, directory, told = resume(toy_search, method)
    assert again == records and directory.schedule_path.read_text() == schedule
    assert directory.results_path.read_bytes().startswith(lines)
    assert len(told) == 1 and "the search starts over; what is in results.jsonl stays" in told[0]


@pytest.mark.parametrize("lost", ["results.jsonl", "schedule.jsonl"])
def test_a_checkpoint_ahead_of_the_other_files_is_not_believed(lost, stopped, toy_search):
    records, schedule, path = stopped("asha")
    (path.parent.parent / lost).write_text("")
    _, again, directory, told = resume(toy_search, "asha")
    assert again == records and directory.schedule_path.read_text() == schedule
    assert "is ahead of the run's other files: the search starts over" in told[0]


def test_a_sound_checkpoint_and_a_new_search_are_not_worth_a_word(stopped, toy_search):
    *_, path = stopped("pbt")
    *_, told = resume(toy_search, "pbt")
    assert told == []
    toy_search("random", out="new", tell=told.append)
    assert told == []
    assert path.exists() and not checkpoint.previous(path).exists(), "when it is over one is enough"


def test_a_fallback_never_leaves_the_damaged_one_as_the_only_other(stopped, toy_search):
    records, schedule, path = stopped("pbt")
    path.write_bytes(b"")
    with pytest.raises(Stopped):
        toy_search("pbt", out="cut", stop=lambda: True)
    path.unlink()
    _, again, directory, told = resume(toy_search, "pbt")
    assert "is missing: going on from the one before" in told[0]
    assert again == records and directory.schedule_path.read_text() == schedule


def test_a_crash_while_a_checkpoint_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "one.pt"
    checkpoint.save(path, {"number": 1}, keep=True)
    checkpoint.save(path, {"number": 2}, keep=True)

    def broken(_content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"number": 3}, keep=True)
    assert [torch.load(each, weights_only=True)["number"] for each in (path, checkpoint.previous(path))] == [2, 1]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["one.previous", "one.pt"]


def saved(*paths):
    return [torch.load(path, weights_only=True)["number"] for path in paths]


def test_at_no_moment_is_there_no_checkpoint(tmp_path, monkeypatch):
    path, moments, replace = tmp_path / "one.pt", [], Path.replace

    def watched(source, target):
        moments.append(saved(path))
        replace(source, target)
        moments.append(saved(path))

    checkpoint.save(path, {"number": 1}, keep=True)
    monkeypatch.setattr(Path, "replace", watched)
    for number in (2, 3):
        checkpoint.save(path, {"number": number}, keep=True)
    assert moments == [[1], [1], [1], [2], [2], [2], [2], [3]]
    assert saved(path, checkpoint.previous(path)) == [3, 2]


def test_a_crash_between_the_two_names_harms_nothing(tmp_path):
    path = tmp_path / "one.pt"
    checkpoint.save(path, {"number": 1}, keep=True)
    os.link(path, checkpoint.previous(path))
    checkpoint.save(path, {"number": 2}, keep=True)
    assert saved(path, checkpoint.previous(path)) == [2, 1]
    assert len(list(tmp_path.iterdir())) == 2


def test_where_files_have_one_name_only_the_old_checkpoint_is_moved(tmp_path, monkeypatch):
    def refused(*_names):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "one.pt"
    for number in (1, 2, 3):
        checkpoint.save(path, {"number": number}, keep=True)
    assert saved(path, checkpoint.previous(path)) == [3, 2]


def test_a_checkpoint_of_an_earlier_version_is_refused_in_words(stopped, toy_search):
    _, _, path = stopped("asha")
    state = torch.load(path, weights_only=True)
    state["tally"] = state.pop("totals")
    torch.save(state, path)
    checkpoint.previous(path).unlink()
    *_, told = resume(toy_search, "asha")
    assert "was written by an earlier version of mtl" in told[0]
