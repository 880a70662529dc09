"""The files of a log. A folder for each partition has segments, and the offset up to which records are on the disk.

    log.json                      the log's id and its number of partitions
    000/00000000000000000000.log  records from this offset on
    000/end                       the offset after the last record that was synced: what readers may read

    segment   magic, format, log id, first offset, checksum; then records
    record    magic, length, checksum, time of the append in milliseconds, offset; then the body

The magic of a record is where reading goes on after damage.
"""

import os
import re
import struct
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from louder.errors import InputError
from louder.folders import read_json, sync_folder, write_text
from louder.streaming.records import MOST_BYTES

FORMAT = 1
MANIFEST = "log.json"
SEGMENT = struct.Struct("<8sH16sQI")
SEGMENT_MAGIC = b"LOUDLOG\n"
RECORD = struct.Struct("<4sIIqQ")
RECORD_MAGIC = b"\xf5Lr\n"
REST = struct.Struct("<IqQ")  # of a record's head, what the checksum is of
END = struct.Struct("<QI")


class Frame(NamedTuple):
    """A record as it lies in a segment, `size` bytes of it; `stamp` in milliseconds since 1970."""

    offset: int
    stamp: int
    body: bytes
    size: int


class LogFolder(NamedTuple):
    folder: Path
    id: str
    partitions: int

    def partition(self, number: int) -> Path:
        return self.folder / f"{number:03d}"


def open_folder(folder: Path) -> LogFolder | None:
    """None where nothing is. Raises InputError for something other than a log."""
    if not (folder / MANIFEST).exists():
        # a lock, or partitions of a log that a crash left unfinished
        mine = r"\..*|\d{3}"
        if folder.exists() and not (folder.is_dir() and all(re.fullmatch(mine, x.name) for x in folder.iterdir())):
            raise InputError(f"{folder} holds something other than an event log. Choose a new folder for the log.")
        return None
    values = read_json(folder / MANIFEST, "event log", dict, "what louder wrote")
    if values.get("format") != FORMAT:
        raise InputError(
            f"The event log {folder} has format {values.get('format')}, but this Louder reads format {FORMAT}. Use the "
            "Louder that wrote it."
        )
    return LogFolder(folder, values["id"], values["partitions"])


def make_folder(folder: Path, partitions: int) -> LogFolder:
    made = LogFolder(folder, uuid.uuid4().hex, partitions)
    for number in range(partitions):
        made.partition(number).mkdir(exist_ok=True)
        write_end(made.partition(number), 0, sync=True)
        sync_folder(made.partition(number))
    text = f'{{"format": {FORMAT}, "id": "{made.id}", "partitions": {partitions}}}\n'
    write_text(folder / MANIFEST, text)
    sync_folder(folder)
    return made


def read_end(folder: Path) -> int:
    """The offset after the last record of a partition that survives a power cut."""
    for _ in range(100):  # it is written over in place, so a reader may meet a part of it
        try:
            data = (folder / "end").read_bytes()
        except FileNotFoundError:
            break
        if len(data) == END.size and zlib.crc32(data[:8]) == END.unpack(data)[1]:
            return END.unpack(data)[0]
    raise InputError(
        f"The partition {folder} of the event log has gone or is damaged: its file `end` cannot be read. Bring the folder "
        "back, or begin a new log in another one."
    )


def write_end(folder: Path, offset: int, sync: bool = False) -> None:
    data = offset.to_bytes(8, "little")
    descriptor = os.open(folder / "end", os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(descriptor, data + zlib.crc32(data).to_bytes(4, "little"), 0)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def segments(folder: Path) -> list[int]:
    """First offsets of the segments of a partition, in order."""
    return sorted(int(file.stem) for file in folder.glob("*.log"))


def segment_path(folder: Path, first: int) -> Path:
    return folder / f"{first:020d}.log"


def head_of_segment(log: str, first: int) -> bytes:
    head = SEGMENT.pack(SEGMENT_MAGIC, FORMAT, bytes.fromhex(log), first, 0)[:-4]
    return head + zlib.crc32(head).to_bytes(4, "little")


def require_segment(data: bytes, log: str, path: Path) -> bool:
    """Whether this is the head of a segment of the log; one that is damaged is not. Raises InputError for one of a newer
    format, or of another log."""
    if len(data) < SEGMENT.size or zlib.crc32(data[: SEGMENT.size - 4]) != SEGMENT.unpack_from(data)[4]:
        return False
    _, form, own, _, _ = SEGMENT.unpack_from(data)
    if form != FORMAT:
        raise InputError(
            f"The segment {path} has format {form}, but this Louder reads format {FORMAT}. Use the Louder that wrote it."
        )
    if own.hex() != log:
        raise InputError(f"The segment {path} is of another log. Move it away.")
    return True


def framed(body: bytes, stamp: int, offset: int) -> bytes:
    check = zlib.crc32(body, zlib.crc32(REST.pack(len(body), stamp, offset)))
    return RECORD.pack(RECORD_MAGIC, len(body), check, stamp, offset) + body


def frame_at(data: bytes | memoryview, at: int) -> Frame | None:
    """The record that begins there, if it is whole and its checksum is right."""
    if len(data) - at < RECORD.size:
        return None
    magic, length, check, stamp, offset = RECORD.unpack_from(data, at)
    end = at + RECORD.size + length
    if magic != RECORD_MAGIC or length > MOST_BYTES or end > len(data):
        return None
    body = bytes(data[at + RECORD.size : end])
    if zlib.crc32(body, zlib.crc32(REST.pack(length, stamp, offset))) != check:
        return None
    return Frame(offset, stamp, body, end - at)


def frames(data: bytes) -> Iterator[tuple[int, Frame]]:
    """Every whole record in the bytes of a segment, with the place where it begins; what is damaged is passed over."""
    at = SEGMENT.size
    while at >= 0:
        if frame := frame_at(data, at):
            yield at, frame
            at += frame.size
        else:
            at = data.find(RECORD_MAGIC, at + 1)
