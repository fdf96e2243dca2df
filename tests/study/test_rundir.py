"""The directory of a study: who may use it, and until when."""

import multiprocessing
import time

import pytest

from mtl.study.rundir import open_run_directory


def wait(begun):
    begun.set()
    time.sleep(600)


def test_a_process_that_was_forked_off_does_not_hold_the_directory(tmp_path):
    forked = multiprocessing.get_context("fork")
    begun = forked.Event()
    reader = forked.Process(target=wait, args=(begun,))
    with open_run_directory(tmp_path, resume=True):
        reader.start()
        assert begun.wait(60)
        with pytest.raises(ValueError, match="in use by another run"), open_run_directory(tmp_path, resume=True):
            pass
    try:
        with open_run_directory(tmp_path, resume=True):
            assert reader.is_alive()
    finally:
        reader.kill()
        reader.join()
