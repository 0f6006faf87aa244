"""How the C library manages memory."""

import contextlib
import ctypes

# Parameters of mallopt(3), and the defaults that they reach after large blocks have been freed.
TRIM, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
DEFAULTS = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 << 20, TRIM: 64 << 20}
KEEP = {MMAP_MAX: 0, TRIM: -1}


def keep_memory(keep=True):
    """Keep freed memory in this process, or (False) return large blocks to the system, as is the default.

    Networks on a CPU free and allocate the same large tensors in every step, and the system zeroes new memory
    page by page. Works with glibc, does nothing elsewhere.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other C libraries; TypeError: Windows
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in (KEEP if keep else DEFAULTS).items():
            mallopt(parameter, value)
