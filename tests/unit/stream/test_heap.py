"""Freed memory goes back to the system, where the C library knows how."""

import ctypes
import sys
from pathlib import Path

import pytest

from featureflow_cli.stream.heap import give_back

BLOCKS, BLOCK_BYTES = 4_000, 16 * 1024
"""Too small to be given back one by one as they are freed."""


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc"
)
def test_what_was_freed_below_what_is_held_goes_back() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    blocks = [libc.malloc(BLOCK_BYTES) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK_BYTES)
    for block in blocks[:-1]:  # the last one keeps the heap from shrinking by itself
        libc.free(block)
    before = resident_bytes()
    give_back()
    assert before - resident_bytes() > BLOCKS * BLOCK_BYTES // 2
    libc.free(blocks[-1])
