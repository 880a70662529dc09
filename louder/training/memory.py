"""Keep the memory that a step frees for the next one."""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
LARGEST_MMAP_THRESHOLD = 32 << 20  # what glibc takes at most


def keep_freed_memory() -> None:
    """Stop the C library from giving every large tensor back to the system as soon as it is freed: zeroed pages for the
    same sizes in the next step cost more than some kernels. Only glibc (Linux) has this setting."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is None:
        return
    mallopt(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
    mallopt(TOP_PAD, 64 << 20)
