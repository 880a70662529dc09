"""How louder publish and rollback tell a running service what it may take: by a link, and a file beside it."""

import os
from pathlib import Path

from louder import checkpoint
from louder.folders import write_text


def point(link: Path, to: Path) -> None:
    """Replaced in one step: there is no moment without a link."""
    new = link.with_name(f".{link.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    new.symlink_to(os.path.relpath(to, link.parent.resolve()))
    os.replace(new, link)


def mark(link: Path, run: Path | None) -> None:
    """Let the best checkpoint of a run, and no other, go live behind a link whatever it is like; None: let none."""
    file = mark_file(link)
    if run is None:
        file.unlink(missing_ok=True)
    else:
        write_text(file, checkpoint.fingerprint(checkpoint.best(run)) + "\n")


def mark_of(link: Path) -> str:
    try:
        return mark_file(link).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def mark_file(link: Path) -> Path:
    return link.with_name(link.name + ".forced")
