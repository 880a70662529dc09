"""An output that cannot be written: a pipe that is closed ends a command quietly, as it ends others; a full disk is a sentence."""

import json
import os
import signal
import subprocess
import sys

import pytest

from louder.cli import app

# Every list of arguments in a child of its own, whose output goes to `sink`: prints the code of each, and what it said, as JSON
SCRIPT = """
import json, os, sys, tempfile
import louder.__main__, typer.rich_utils
sink, *rest = sys.argv[1:]
found = []
for arguments in json.loads(rest[0]):
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if not child:
            if sink == "closed":
                reader, writer = os.pipe()
                os.close(reader)
            else:
                writer = os.open(sink, os.O_WRONLY)
            os.dup2(writer, 1)
            os.dup2(said.fileno(), 2)
            sys.argv = ["louder", *arguments]
            louder.__main__.run()
            sys.exit()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        found.append((code, said.read()))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """The help of every command, and two that work."""
    folder = tmp_path_factory.mktemp("sink")
    log = folder / "log.csv"
    log.write_text(
        "user_id,item_id,timestamp\n" + "".join(f"{u},{i},{10**9 + u + i}\n" for u in range(5) for i in (1, 2))
    )
    real = [["etl", str(log), "-o", str(folder / "{sink}"), "--json"], ["tables", str(folder)]]
    names = ["data", *(command.name or command.callback.__name__ for command in app.registered_commands)]
    assert {"etl", "train", "report"} <= {*names}
    return [["--help"], ["--version"], *([name, "--help"] for name in names if name != "bench"), *real]


def ended(sink, commands):

    given = json.dumps([[word.replace("{sink}", sink.replace("/", "-")) for word in words] for words in commands])
    done = subprocess.run([sys.executable, "-c", SCRIPT, sink, given], capture_output=True, text=True, check=True)
    return list(zip(commands, json.loads(done.stdout), strict=True))


def test_a_closed_pipe_is_no_mistake(commands):
    for words, (code, said) in ended("closed", commands):
        assert code == 128 + signal.SIGPIPE, words
        assert "Traceback" not in said and "louder:" not in said, words


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_a_sentence(commands):
    for words, (code, said) in ended("/dev/full", commands):
        assert code == 2, words
        assert "Traceback" not in said, words
        sentence = said.splitlines()[-1]
        assert sentence.startswith("louder: what there is to say cannot be written (No space left on device). "), words


def test_an_output_that_is_closed_before_is_nothing():
    script = "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, '-m', 'louder', '--help'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
