"""The C library's memory, in processes of their own."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from engine.machine.memory import keep_memory
for keep in (True, False):
    keep_memory(keep)
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(1 << 26, np.uint8)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="not the GNU C library")
def test_what_is_freed_is_kept_or_given_back():
    """64 MiB asked for again: without new pages if they were kept, in new ones of at most 2 MiB if not."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, given_back = map(int, done.stdout.split())
    assert kept < 16 <= given_back
