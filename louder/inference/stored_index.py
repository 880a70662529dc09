"""RUN/index/: an approximate index of a run's items, for the checkpoint that it was made from and no other.

index.faiss  as faiss writes it
index.json   kind, settings, items and dimension, fingerprint of the checkpoint, recall when it was made
"""

import errno
import hashlib
import json
from pathlib import Path

from torch import Tensor

from louder import checkpoint
from louder.errors import InputError
from louder.folders import FolderKind, new_folder, read_json
from louder.inference.index import KINDS, Approximate, faiss
from louder.results import Row

FORMAT_VERSION = 1
INDEX_FOLDER = FolderKind("an index", "index.json", "format_version", ("index.faiss",))


def save(run: Path, folder: Path, index: Approximate, facts: Row) -> Row:
    """Replace the index of a run by one of the checkpoint in `folder`; `facts` is what else its JSON says."""
    items, dimension = index.exact.vectors.shape
    with new_folder(run / "index", INDEX_FOLDER, overwrite=True) as temporary:
        file = temporary / "index.faiss"
        try:
            faiss().write_index(index.index, str(file))
        except RuntimeError as error:
            if "No space left" in str(error) or "quota" in str(error).lower():
                raise OSError(errno.ENOSPC, str(error)) from error
            raise
        written = {
            "format_version": FORMAT_VERSION,
            "kind": index.kind,
            "settings": index.settings,
            "items": items,
            "dimension": dimension,
            "checkpoint": folder.name,
            "fingerprint": checkpoint.fingerprint(folder),
            "sha256": sha256(file),
            **facts,
        }
        (temporary / "index.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return written


def load(run: Path, folder: Path, vectors: Tensor) -> Approximate:
    """The index of a run; `vectors` [I, D] are the items of the checkpoint in `folder`.

    Raises InputError if there is none, if it is of another checkpoint, or damaged; the sentence says how to make it.
    """
    place = run / "index"
    if not place.is_dir():
        raise InputError(f"{run} has no index, so make one: louder index {run} --kind ivf.")
    facts = read_json(place / "index.json", "index", dict, f"what louder index {run} --kind ivf writes")
    kind, settings = facts.get("kind"), facts.get("settings")
    if facts.get("format_version") != FORMAT_VERSION or kind not in KINDS or not isinstance(settings, dict):
        raise InputError(
            f"{place} is of another Louder, whose kind and settings are not known here, so make it again: "
            f"louder index {run} --kind ivf."
        )
    again = f"louder index {run} --kind {kind} " + " ".join(f"--{name} {value}" for name, value in settings.items())
    if facts.get("fingerprint") != checkpoint.fingerprint(folder):
        raise InputError(
            f"{place} is of another checkpoint ({facts.get('checkpoint')}) than the run's best, {folder.name}, so make it "
            f"again: {again}."
        )
    file = place / "index.faiss"
    if not file.is_file() or facts.get("sha256") != sha256(file):
        raise InputError(f"{file} is missing, cut short or damaged, so make it again: {again}.")
    return KINDS[str(kind)](vectors, faiss().read_index(str(file)), settings)


def sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
