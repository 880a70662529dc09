"""The process of the command line: what lets it start and end quickly."""

import atexit
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from louder.cli import main


class NoPandas:
    """A finder of modules that says that there is no pandas: pyarrow imports it where there is one, for a third of a
    second, and no command needs it."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas': no command needs it", name=name)


def run() -> None:
    """Run a command, then leave at once: to take apart what is loaded, such as torch, would take half a second."""
    sys.meta_path.insert(0, NoPandas)
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
