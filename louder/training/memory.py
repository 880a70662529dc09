"""Keep the memory that a step frees for the next one."""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
LARGEST_MMAP_THRESHOLD = 32 << 20  # what glibc takes at most


def keep_freed_memory() -> None:
    """Stop the C library from giving every large tensor back to the system as soon as it is freed.

    A step frees and asks for the same sizes again and again; each time the system would hand out zeroed pages one by
    one, which costs more than some kernels. Only glibc (Linux) has this setting; elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return
    mallopt(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
    mallopt(TOP_PAD, 64 << 20)
