"""Settings of all tests. Triton kernels run under Triton's interpreter where there is no GPU."""

import os

import hypothesis
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is decorated; without Triton, nothing reads it

# one slow example on a busy machine is no failure
hypothesis.settings.register_profile("louder", deadline=None)
hypothesis.settings.load_profile("louder")


@pytest.fixture
def louder(capsys, monkeypatch):
    """louder(*arguments) -> exit code, standard output, standard error"""

    def call(*arguments):
        from louder.cli import main

        monkeypatch.setattr("sys.argv", ["louder", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
