"""The process of the command line: what lets it start and end quickly."""

import atexit
import errno
import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn, TextIO

from louder.cli import main

if TYPE_CHECKING:
    from typing_extensions import Buffer


class NoPandas(Loader):
    """A finder of modules that has a pandas which cannot be imported: pyarrow imports it where there is one, for a third of
    a second, and no command needs it."""

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, cls()) if name == "pandas" else None

    def create_module(self, spec: ModuleSpec) -> NoReturn:
        raise ModuleNotFoundError("no command needs pandas", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Never called, and asked for."""


class Output(io.FileIO):
    """Where a standard stream goes; keeps the error by which it cannot be written, whatever a library makes of that."""

    failed: OSError | None = None

    def write(self, data: "Buffer", /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            Output.failed = Output.failed or error
            raise


def watched(stream: TextIO | None, descriptor: int) -> TextIO:
    """The same stream through Output; nothing is written where it is closed."""
    if stream is None:
        return open(os.devnull, "w")
    raw = io.BufferedWriter(Output(descriptor, "w", closefd=False))
    at_once = isinstance(stream, io.TextIOWrapper) and (stream.line_buffering or stream.write_through)
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=at_once)


def told(error: OSError) -> int:
    """The code to end with where a stream cannot be written: that of a closed pipe, which is no mistake, or 2 and a sentence."""
    if error.errno == errno.EPIPE:
        return 128 + signal.SIGPIPE
    sentence = f"louder: what there is to say cannot be written ({error.strerror}). Send it to another place: louder ... > FILE."
    with suppress(OSError):
        os.write(2, f"{sentence}\n".encode())
    return 2


def run() -> None:
    """Run a command, then leave at once: to take apart what is loaded, such as torch, would take half a second."""
    sys.stdout, sys.stderr = watched(sys.stdout, 1), watched(sys.stderr, 2)
    sys.meta_path.insert(0, NoPandas)
    # what is imported makes a few hundred thousand objects, none of them garbage: looking through them takes a tenth of a second
    gc.set_threshold(50_000, 20, 100)
    code = 1

    def end() -> None:  # the first that is registered is the last that is called
        for stream in sys.stdout, sys.stderr:
            with suppress(OSError):
                stream.flush()
        os._exit(told(Output.failed) if Output.failed else code)

    atexit.register(end)
    try:
        main()
        code = 0
    except OSError:
        if Output.failed is None:
            raise
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        raise


if __name__ == "__main__":
    run()
