"""The index of ids in NumPy: what cpu.cpp does, to the bit. Arrays are changed in place.

index   [P] int32, for each key that is there an entry, -1 where it is empty; see `entries`
keys    [C] int64, the key of each place
counts  [C] float32, how often each was seen; lasts [C] int64, when it was last
"""

import numpy as np

MOST_HALVINGS = 126  # 2^-126 is the smallest normal float


def hashed(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """MurmurHash3's finalizer: the upper and the lower 32 bits of each id's hash, [n] int64."""
    x = ids.view(np.uint64)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    x = x ^ (x >> np.uint64(33))
    return (x >> np.uint64(32)).astype(np.int64), (x & np.uint64(0xFFFFFFFF)).astype(np.int64)


def homes(index: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """[n] where the search for each id begins"""
    return hashed(ids)[0] * len(index) >> 32


def entries(keys: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[n] int32 what the index holds of these places: in the bits of 31 that no place needs, the end of the key's hash"""
    bits = place_bits(keys)
    return ((hashed(keys[places])[1] & (1 << 31 - bits) - 1) << bits | places).astype(np.int32)


def place_bits(keys: np.ndarray) -> int:
    return max(1, (len(keys) - 1).bit_length())


def places_at(index: np.ndarray, keys: np.ndarray, at: np.ndarray) -> np.ndarray:
    """[n] int64, -1 where the index is empty"""
    found = index[at].astype(np.int64)
    return np.where(found < 0, -1, found & (1 << place_bits(keys)) - 1)


def where(index: np.ndarray, keys: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """[n] the entry of each id, or the empty one that ends its search"""
    at = homes(index, ids)
    looking = np.arange(len(ids))
    while len(looking):
        places = places_at(index, keys, at[looking])
        looking = looking[(places >= 0) & (keys[places] != ids[looking])]
        at[looking] = (at[looking] + 1) % len(index)
    return at


def find(index: np.ndarray, keys: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """[n] int64 places, -1 of ids that have none"""
    return places_at(index, keys, where(index, keys, ids))


def count(
    index: np.ndarray,
    keys: np.ndarray,
    counts: np.ndarray,
    lasts: np.ndarray,
    ids: np.ndarray,
    times: np.ndarray,
    half_life: int,
) -> np.ndarray:
    """find, and each occurrence [n] is added to its place's count. With a half-life every count is halved where a period of
    that length ends; an occurrence of an earlier period than the latest is worth as much as it would be had it come in
    its time."""
    places = find(index, keys, ids)
    own, seen = places[places >= 0], times[places >= 0]
    before = lasts[own]
    np.maximum.at(lasts, own, seen)
    distinct, first = np.unique(own, return_index=True)
    counts[distinct] *= halved(lasts[distinct], before[first], half_life)
    np.add.at(counts, own, halved(lasts[own], seen, half_life))
    return places


def halved(now: np.ndarray, then: np.ndarray, half_life: int) -> np.ndarray:
    """[n] float32: what 1 of `then` is worth `now`"""
    if not half_life:
        return np.ones(len(then), dtype=np.float32)
    return np.ldexp(np.float32(1), -(now // half_life - then // half_life).clip(0, MOST_HALVINGS))


def put(index: np.ndarray, keys: np.ndarray, places: np.ndarray) -> None:
    """The keys of these places, none of which is in the index yet, go into it."""
    for place, entry in zip(places, entries(keys, places)):
        index[where(index, keys, keys[place : place + 1])] = entry


def remove(index: np.ndarray, keys: np.ndarray, places: np.ndarray) -> None:
    """They leave it. What was put behind one moves up, so that no search ends too soon."""
    size = len(index)
    for place in places:
        hole = where(index, keys, keys[place : place + 1])
        if places_at(index, keys, hole)[0] != place:
            continue
        at = (hole + 1) % size
        while index[at] >= 0:
            home = homes(index, keys[places_at(index, keys, at)])
            if (at - home) % size >= (at - hole) % size:
                index[hole], hole = index[at], at
            at = (at + 1) % size
        index[hole] = -1
