"""The process of the command line: what lets it start and end quickly."""

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

from louder.cli import main


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


def run() -> None:
    """Run a command, then leave at once: to take apart what is loaded, such as torch, would take half a second."""
    sys.meta_path.insert(0, NoPandas)
    # what is imported makes a few hundred thousand objects, none of them garbage: looking through them takes a tenth of a second
    gc.set_threshold(50_000, 20, 100)
    code = 1

    def end() -> None:  # the first that is registered is the last that is called
        for stream in sys.stdout, sys.stderr:
            try:
                stream.flush()
            except OSError:
                os._exit(code or 120)  # as Python does
        os._exit(code)

    atexit.register(end)
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        raise


if __name__ == "__main__":
    run()
