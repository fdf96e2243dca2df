"""Locales that are not UTF-8, and names of files that are no text: nothing ends in an encoding error."""

import io
import os
import sys

import pytest

from mtl.cli.main import main
from tests.processes import finish, start

TINY = "tests/tiny.py:Tiny"
#: As on machines where somebody turned Python's own remedies off.
PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def printed(monkeypatch):
    """Makes what is printed go through an encoding; gives the bytes."""

    def through(encoding):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, write_through=True))
        return written

    return through


def text(written):
    return " ".join(written.getvalue().decode("ascii").split())


@pytest.mark.parametrize("what", ["strategies", "losses", "methods"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_lists_are_printed_where_the_terminal_lacks_letters(what, encoding, printed):
    written = printed(encoding)
    assert main(["list", what]) == 0
    assert written.getvalue().decode(encoding)


def test_letters_that_a_terminal_lacks_are_written_as_others(printed):
    written = printed("ascii")
    assert main(["list", "losses", "--grep", "lovasz"]) == 0
    assert "Lovasz" in text(written) and "?" not in text(written)


def test_tables_of_a_comparison_are_printed_in_ascii(printed, tmp_path):
    written = printed("ascii")
    options = ["--seeds=2", "--steps=10", "--wandb=disabled", "--quiet", f"--out={tmp_path / 'run'}"]
    assert main(["compare", TINY, "--strategies", "equal", "famo", *options]) == 0
    assert "+-" in text(written) and "Delta m" in text(written) and "?" not in text(written)


def test_a_folder_whose_name_is_no_text_is_written_to_and_named_as_it_is(printed, tmp_path):
    written = printed("utf-8")
    out = tmp_path / os.fsdecode(b"r\xe4ume")
    assert main(["train", TINY, "--steps=10", "--wandb=disabled", f"--out={out}"]) == 0
    assert f"Report: {out}/report.html".encode(errors="surrogateescape") in written.getvalue()
    assert (out / "report.html").exists() and (out / "summary.json").exists()
    assert main(["train", TINY, "--steps=10", "--wandb=disabled", f"--out={out}", "--resume"]) == 0


def test_a_run_in_the_plain_c_locale_logs_to_a_folder_with_umlauts(tmp_path):
    pytest.importorskip("wandb")
    out = tmp_path / "räume"
    errors = finish(start("train", TINY, "--steps=10", "--out", out, env={**os.environ, **PLAIN_C}))
    assert "W&B logging" not in errors
    assert list((out / "wandb").glob("offline-run-*/*.wandb"))
    assert "räume" in (out / "report.html").read_text(encoding="utf-8")
