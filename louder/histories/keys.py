"""Raw user ids <-> bytes whose order is the order of the ids: numbers by size, texts by their characters' codes.

LMDB and Redis both keep such keys sorted, so one range of keys answers what a search box asks.
"""

import re
from collections.abc import Iterator

from louder.errors import InputError
from louder.ids import RawId

LONGEST = 500  # bytes; LMDB's limit is 511
EVERYTHING = (b"", b"\xff" * 9)
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1


def key_of(user: RawId) -> bytes:
    if not isinstance(user, str):
        return (user - LOWEST).to_bytes(8, "big")
    key = user.encode("utf-8", "surrogatepass")
    if not 0 < len(key) <= LONGEST:
        raise InputError(
            f"A user id has {len(key)} bytes as UTF-8, but a store takes 1 to {LONGEST}. Send a shorter or a longer one."
        )
    return key


def user_of(key: bytes, texts: bool) -> RawId:
    return key.decode("utf-8", "surrogatepass") if texts else int.from_bytes(key, "big") + LOWEST


def ranges(prefix: str, texts: bool) -> Iterator[tuple[bytes, bytes]]:
    """Ranges of keys, from the first to before the second, in order: those of all users that start with `prefix`.

    A number starts with the digits that it is written with: 12, 120 and 1299 start with "12".
    """
    if not prefix:
        yield EVERYTHING
    elif texts:
        start = prefix.encode("utf-8", "surrogatepass")
        yield start, start + b"\xff"  # no UTF-8 holds this byte
    elif prefix == "-":
        yield key_of(LOWEST), key_of(0)
    elif prefix == "0":
        yield key_of(0), key_of(1)
    elif re.fullmatch("-?[1-9][0-9]{0,18}", prefix):
        leading, sign = abs(int(prefix)), -1 if prefix[0] == "-" else 1
        spans = [(leading * 10**digits, (leading + 1) * 10**digits - 1) for digits in range(20 - len(str(leading)))]
        for low, high in spans if sign > 0 else [(-high, -low) for low, high in reversed(spans)]:
            if low <= HIGHEST and high >= LOWEST:
                yield key_of(max(low, LOWEST)), key_of(min(high, HIGHEST)) + b"\0"
