"""`louder serve` in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def serving(words: Sequence[str]) -> Iterator[str]:
    """The address of a service that was started with these arguments; it ends with the block."""
    command = [sys.executable, "-m", "louder", "serve", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert " at http" in line, "the service did not start"
        yield line.rpartition(" at ")[2].strip().rstrip("/")
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()
