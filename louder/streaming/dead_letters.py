"""Records that could not be read, with the reason: a file with a line of JSON for each, so that nothing ends a stream and
nothing is passed over in silence."""

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path

KEPT_BYTES = 64 << 10  # of a record
MOST_BYTES = 256 << 20  # of the file; beyond, letters are only counted


@dataclass(frozen=True)
class DeadLetter:
    """Records of a partition from an offset to before another one, and their first bytes, where there are any.

    kind  why they cannot be used: "poison" (one that is damaged or makes no sense), "newer" (of a newer schema), "cut"
          (a segment was cut short, or has gone), "expired" (retention was faster than the reader), "refused" (the store of
          histories does not take it)
    """

    kind: str
    reason: str
    partition: int
    offset: int
    end: int
    body: bytes = b""

    @property
    def count(self) -> int:
        return self.end - self.offset

    def __str__(self) -> str:
        what = f"record {self.offset}" if self.count == 1 else f"records {self.offset} to {self.end - 1}"
        return f"The {what} of partition {self.partition} cannot be read: {self.reason}."


class DeadLetters:
    """A file that letters are added to. It is the reader's own, since a log has one writer."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, letter: DeadLetter) -> None:
        """A letter that cannot be written, such as on a full disk, is counted by the reader all the same."""
        line = asdict(letter) | {"body": base64.b64encode(letter.body[:KEPT_BYTES]).decode()}
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                if file.tell() < MOST_BYTES:
                    file.write(json.dumps(line) + "\n")
        except OSError:
            pass

    def letters(self) -> list[DeadLetter]:
        """In the order of their first arrival; once each, also where a reader that went back has met one again."""
        if not self.path.exists():
            return []
        found: dict[tuple[int, int, int], DeadLetter] = {}
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue  # of a reader that was killed meanwhile
            letter = DeadLetter(**(line | {"body": base64.b64decode(line["body"])}))
            found.setdefault((letter.partition, letter.offset, letter.end), letter)
        return list(found.values())
