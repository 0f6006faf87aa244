"""The C library's memory."""

import contextlib
import ctypes

# Parameters of mallopt(3), and their values by default, as they are once large pieces have been freed.
TRIM, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
DEFAULTS = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 << 20, TRIM: 64 << 20}
KEEP = {MMAP_MAX: 0, TRIM: -1}


def keep_memory(keep=True):
    """Have this process keep the memory that it frees, or (False) give large pieces back as by default.

    Networks on a CPU free and ask for the same large tensors in every step; what the system gives anew it
    first fills with zeros, page by page. Works with glibc, does nothing elsewhere.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other C libraries; TypeError: Windows
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in (KEEP if keep else DEFAULTS).items():
            mallopt(parameter, value)
