"""Results are rows: one JSON object a line, with what is needed to get the number again."""

import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from louder.errors import InputError
from louder.folders import told_when_full
from louder.version import __version__

Row = dict[str, Any]  # as JSON has it


def provenance() -> Row:
    """Command, commit and machine of this process; part of every row."""
    return {
        "command": shlex.join([*program(), *sys.argv[1:]]),
        "commit": commit(),
        "louder": __version__,
        "machine": machine(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def program() -> list[str]:
    """`python -m MODULE` where a module of a checkout was run so; else `louder`."""
    spec = sys.modules["__main__"].__spec__
    module = spec.name.removesuffix(".__main__") if spec else "louder"
    return ["python", "-m", module] if module.startswith(("benchmarks", "experiments")) else ["louder"]


def commit() -> str:
    """The commit of the code that runs, with "+" if files differ from it; "" outside a checkout."""
    root = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        name = git("rev-parse", "--short=10", "HEAD")
        changed = git("status", "--porcelain", "--", "louder", "benchmarks/*.py", "experiments/*.py")
        return name + ("+" if name and changed else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def machine() -> str:
    """Processor, its widest vectors, and number of cores this process may use: AMD EPYC with AVX512-BF16, 2 cores"""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name, flags = platform.processor() or platform.machine(), []
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        name, flags = facts.get("model name", name), facts.get("flags", "").split()
    except OSError:
        pass
    vectors = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "avx512f": "AVX-512", "avx2": "AVX2"}
    widest = next((f" with {label}" for flag, label in vectors.items() if flag in flags), "")
    return f"{name}{widest}, {cores} cores"


def require_row_file(path: Path | None) -> None:
    """Raises InputError, before the work is done, if no row can be added there."""
    if path is not None and (path.is_dir() or (path.exists() and not os.access(path, os.W_OK))):
        raise InputError(f"{path} is no file that a row can be added to. Name another: --row FILE.jsonl.")


def append_row(path: Path | str, row: Row) -> None:
    """Add one row to a JSON-lines file, making the file and its folder if needed."""
    path = Path(path)
    with told_when_full(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read_rows(path: Path | str) -> list[Row]:
    """The rows of a JSON-lines file. A last one that a crash cut short is left out."""
    lines = [line for line in Path(path).read_text(encoding="utf-8").split("\n") if line.strip()]
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise InputError(f"Row {number} of {path} is not JSON ({error}). Remove it.") from error
    return rows
