"""What a step frees is there for the next one."""

import ctypes
import resource
import subprocess
import sys

import pytest

_FAULTS = """
import resource, torch
from mtl.train.allocator import keep_freed_memory
def faults():
    for _ in range(5):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for prepare in (lambda: None, keep_freed_memory):
    prepare()
    faults()
    print(-faults() + faults())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
def test_large_blocks_are_not_taken_from_the_kernel_again():
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    pages = 5 * 2**26 // resource.getpagesize()
    assert after < pages / 10 < pages / 2 < before
