"""What every command does with a mistake, an interrupt and a file that cannot be used."""

import signal
import subprocess
import sys

import pytest


def run(arguments, at, **options):
    """Start the command line with a hook: the code `at` runs before it."""
    script = f"import sys, louder.cli\nsys.argv = ['louder', *{[*map(str, arguments)]!r}]\n{at}\nlouder.cli.main()"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, **options)


INTERRUPT = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize(
    "happens",
    [
        f"{INTERRUPT}",
        f"try:\n  {INTERRUPT}\n except KeyboardInterrupt:\n  raise RuntimeError('Query interrupted')",
        f"try:\n  {INTERRUPT}\n except KeyboardInterrupt:\n  raise louder.cli.InputError('cannot be read: interrupted')",
        f"try:\n  {INTERRUPT}\n finally:\n  1 / 0",
    ],
    ids=["plain", "a library's error", "a sentence about a file", "an error on the way out"],
)
def test_an_interrupt_is_one_line_whatever_is_made_of_it(happens, tmp_path):
    at = f"import louder.schema\ndef read(folder):\n {happens}\nlouder.schema.Manifest.read = read"
    done = run(["data", "inspect", tmp_path], at)
    assert (done.returncode, done.stderr, done.stdout) == (130, "louder: interrupted\n", "")


def test_a_training_that_is_interrupted_says_how_to_go_on(tmp_path):
    log, table = tmp_path / "log.csv", tmp_path / "t"
    rows = [f"{user},{user % 7 + event},{1_700_000_000 + event}\n" for user in range(30) for event in range(9)]
    log.write_text("user_id,item_id,timestamp\n" + "".join(rows))
    assert run(["etl", log, "-o", table], "").returncode == 0
    at = f"from louder.training.loop import Trainer\ndef step(self, batch):\n {INTERRUPT}\nTrainer.step = step"
    done = run(["train", "demo", "--table", table, "-o", tmp_path / "a run", "--overwrite"], at)
    assert done.returncode == 130
    expected = f"louder: interrupted. Go on: louder train demo --table {table} -o '{tmp_path}/a run' --resume"
    assert done.stderr.splitlines()[-1] == expected
    assert not (tmp_path / "a run" / ".lock").exists()


def test_a_file_that_the_system_refuses_is_a_sentence(louder, monkeypatch, tmp_path):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("louder.schema.Manifest.read", refuse)
    code, _, err = louder("data", "inspect", tmp_path)
    assert (code, err) == (
        2,
        f"louder: {tmp_path} cannot be used (Permission denied). Check its path, and what you may do there.\n",
    )


def test_an_error_of_ours_keeps_its_traceback(louder, monkeypatch, tmp_path):
    monkeypatch.setattr("louder.schema.Manifest.read", lambda folder: 1 / 0)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        louder("data", "inspect", tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
