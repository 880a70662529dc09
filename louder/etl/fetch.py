"""Download public data sets from their publishers, with a checksum. Standard library only."""

import difflib
import hashlib
import http.client
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from louder.errors import InputError
from louder.folders import full_disk, is_full_disk
from louder.version import __version__

TIMEOUT_S = 30
BLOCK_BYTES = 1 << 20

MOVIELENS_LICENCE = (
    "MovieLens, by GroupLens: for research; say where it comes from; do not pass it on, and no commercial use, without "
    "permission. The README in the archive has the terms.\n"
    "Cite: F. M. Harper and J. A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM TiiS 5, 4, Article 19. https://doi.org/10.1145/2827872"
)
AMAZON_LICENCE = (
    "Amazon product data of 2014, offered by its authors for research (no licence stated): "
    "https://jmcauley.ucsd.edu/data/amazon/\n"
    "Cite: J. McAuley, C. Targett, Q. Shi, A. van den Hengel. 2015. Image-based Recommendations on Styles and "
    "Substitutes. SIGIR '15."
)
KUAIRAND_LICENCE = (
    "KuaiRand, by C. Gao and others: CC BY-SA 4.0 (say where it comes from, share alike). https://kuairand.com\n"
    "Cite: C. Gao, S. Li, Y. Zhang, J. Chen, B. Li, W. Lei, P. Jiang, X. He. 2022. KuaiRand: An Unbiased Sequential "
    "Recommendation Dataset with Randomly Exposed Videos. CIKM '22. https://doi.org/10.1145/3511808.3557624"
)

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all if the server says


@dataclass(frozen=True, kw_only=True)
class PublicDataset:
    url: str
    checksum: str  # "md5:..." or "sha256:..."
    licence: str

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def movielens(name: str, md5: str) -> PublicDataset:
    url = f"https://files.grouplens.org/datasets/movielens/{name}.zip"
    return PublicDataset(url=url, checksum=f"md5:{md5}", licence=MOVIELENS_LICENCE)


DATASETS = {
    "ml-100k": movielens("ml-100k", "0e33842e24a9c977be4e0107933c0723"),
    "ml-1m": movielens("ml-1m", "c4d9eecfca2ab87c1945afe126590906"),
    "ml-20m": movielens("ml-20m", "cd245b17a1ae2cc31bb14903e1204af3"),
    "ml-25m": movielens("ml-25m", "6b51fb2759a8657d3bfcbfc42b592ada"),
    "ml-32m": movielens("ml-32m", "d472be332d4daa821edc399621853b57"),
    "amazon-books": PublicDataset(
        url="https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/ratings_Books.csv",
        checksum="sha256:87d923ddac2aacf40c1d0e0e056dbf4bf69c9c7d41852c6b434e781e759c0707",
        licence=AMAZON_LICENCE,
    ),
    "kuairand-pure": PublicDataset(
        url="https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz",
        checksum="md5:0820331067a3784d9691136f772b35a7",
        licence=KUAIRAND_LICENCE,
    ),
}


def dataset(name: str) -> PublicDataset:
    """Raises InputError with the nearest name if there is no such data set."""
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name.lower(), DATASETS, n=1, cutoff=0.4)
    hint = f" Did you mean: louder data fetch {near[0]}?" if near else ""
    raise InputError(f"There is no data set {name!r} to fetch; there are {', '.join(DATASETS)}.{hint}")


def fetch(name: str, folder: Path | str, progress: Progress = lambda done, total: None) -> Path:
    """Download a data set as its publisher distributes it, unless it is there already, and check it.

    The file appears under its name only when whole and right. A download that breaks off leaves NAME.part,
    and the next call goes on from there. Raises InputError for an unknown name, no connection, a download that
    broke off, a wrong checksum and a full disk.
    """
    source = dataset(name)
    target = Path(folder) / source.file
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            check(target, source, again=f"Remove it, then: louder data fetch {name} -o {folder}.")
            return target
        download(source.url, part, progress)
        try:
            check(part, source, again=f"It was removed; to try again: louder data fetch {name} -o {folder}.")
        except InputError:
            remove(part)
            raise
        os.replace(part, target)
        validator_file(part).unlink(missing_ok=True)
    except OSError as error:
        if is_full_disk(error):
            remove(part)
            raise full_disk(target.parent) from error
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}). Choose another place with -o."
        ) from error
    return target


def download(url: str, part: Path, progress: Progress) -> None:
    """Fetch `url` into `part`, going on from what `part` holds if the server still has the same file.

    Raises InputError if the server cannot be reached, refuses, or the transfer ends early; `part` then stays.
    """
    start = part.stat().st_size if part.exists() and validator_file(part).exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": f"louder/{__version__}"})
    if start:
        # If-Range: should the file have changed, the server sends the new one whole instead of its tail
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", validator_file(part).read_text(encoding="ascii"))
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            resumed = getattr(response, "status", None) == http.client.PARTIAL_CONTENT
            start = start if resumed else 0
            length = response.headers.get("Content-Length")
            total = int(length) + start if length is not None else None
            # a weak ETag (W/...) may not be used to join two halves of a file
            validator = response.headers.get("ETag", "W/")
            validator = response.headers.get("Last-Modified", "") if validator.startswith("W/") else validator
            if validator:
                validator_file(part).write_text(validator, encoding="ascii")
            done = copy(response, part, start, total, progress)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            remove(part)  # nothing is left to send after it, so it is whole or wrong; a fresh start settles it
            return download(url, part, progress)
        raise InputError(f"{url} answered {error.code} {error.reason}. {by_hand(url, part)}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, OSError) and is_full_disk(error.reason):
            raise error.reason from error
        raise InputError(f"{url} cannot be reached ({error.reason}). {by_hand(url, part)}") from error
    except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
        raise broken_off(url, part, error) from error
    if total is not None and done != total:
        raise broken_off(url, part, f"{done:,} of {total:,} bytes came")


def copy(response: http.client.HTTPResponse, part: Path, start: int, total: int | None, progress: Progress) -> int:
    """Append the body to `part` from byte `start` on -> bytes in `part`."""
    done = start
    progress(done, total)
    with open(part, "ab" if start else "wb") as file:
        while block := response.read(BLOCK_BYTES):
            file.write(block)
            done += len(block)
            progress(done, total)
        file.flush()
        os.fsync(file.fileno())
    return done


def check(file: Path, source: PublicDataset, again: str) -> None:
    """Raises InputError unless the file has the known checksum, or else the one now published beside it."""
    kind, known = source.checksum.split(":")
    with open(file, "rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    if found == known or (kind == "md5" and found == published_md5(source.url)):  # or it was published anew
        return
    raise InputError(
        f"{file} has {kind} {found}, but the publisher's file has {known}: it is damaged or not the one. {again}"
    )


def published_md5(url: str) -> str | None:
    """The checksum that GroupLens puts beside an archive; None if there is none to be had, as elsewhere."""
    request = urllib.request.Request(url + ".md5", headers={"User-Agent": f"louder/{__version__}"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            found = re.search(r"\b[0-9a-f]{32}\b", response.read(1000).decode("ascii", "replace").lower())
    except (OSError, http.client.HTTPException):
        return None
    return found.group() if found else None


def validator_file(part: Path) -> Path:
    """Where the ETag or date of the half-downloaded file is kept."""
    return part.with_name(part.name + ".etag")


def remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    validator_file(part).unlink(missing_ok=True)


def by_hand(url: str, part: Path) -> str:
    return (
        f"Check the connection and repeat the command, or download it in a browser and put it at "
        f"{part.with_name(url.rsplit('/', 1)[-1])}."
    )


def broken_off(url: str, part: Path, why: object) -> InputError:
    return InputError(f"The download of {url} broke off ({why}). Repeat the command to go on from {part}.")
