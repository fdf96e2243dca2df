"""Memory that a step frees stays with the process, for the next step."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT = 2**30


def keep_freed_memory() -> None:
    """Let glibc keep up to a GiB of what is freed, in blocks of any size below that; does nothing elsewhere.

    By default it returns every large tensor to the kernel as soon as it is freed, and the next step takes it back page
    by page: a fifth to a third of the time of a population on a CPU. It holds for the whole process, so it is for
    programs to call, not for the library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _KEPT)
