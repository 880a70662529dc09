"""Mistakes in the log of events and in the joiner."""

from tests.mutants import Mutant

STREAMING = "louder/streaming/"
LOG, FAULTS = "tests/streaming/test_event_log.py", "tests/streaming/test_event_log_faults.py"
FOLLOWING = "tests/streaming/test_following.py -k not(kills)"
JOINER, WATERMARK = "tests/streaming/test_joiner.py", "tests/streaming/test_watermark.py"

MUTANTS = [
    # what is acknowledged, and what may be read
    Mutant(STREAMING + "tail.py", "self.pending, self.next = [], self.end", "self.pending = []", FAULTS),
    Mutant(STREAMING + "tail.py", "os.ftruncate(self.file, self.sizes[self.first])", "pass", FAULTS),
    Mutant(STREAMING + "tail.py", "self.next = max(reached, self.end)", "self.next = reached", FAULTS),
    Mutant(STREAMING + "tail.py", "if reached < self.end:", "if reached <= self.end:", LOG),
    Mutant(STREAMING + "partition.py", "elif frame.offset >= self.end:", "elif frame.offset > self.end:", FAULTS),
    Mutant(STREAMING + "partition.py", "            self.read_again()", "            pass", FAULTS),
    Mutant(STREAMING + "partition.py", "self.first = -1  # what", "pass  # what", FAULTS),
    # damage
    Mutant(STREAMING + "partition.py", "self.over = bool(self.damaged)", "self.over = True", FAULTS),
    Mutant(STREAMING + "partition.py", "find(RECORD_MAGIC, self.at + 1)", "find(RECORD_MAGIC, self.at + 999)", FAULTS),
    Mutant(STREAMING + "segments.py", "zlib.crc32(REST.pack(length, stamp, offset))", "zlib.crc32(b'')", LOG),
    # retention, stamps
    Mutant(STREAMING + "tail.py", "self.oldest < now - self.keep_ms", "self.oldest <= now - self.keep_ms", FAULTS),
    Mutant(STREAMING + "tail.py", "if first == self.first:", "if False:", FAULTS),
    Mutant(STREAMING + "writer.py", "oldest = min(self.tails", "oldest = max(self.tails", FAULTS),
    Mutant(
        STREAMING + "writer.py",
        "max(self.stamp, int(1000 * self.clock()))\n        places",
        "int(1000 * self.clock())\n        places",
        LOG,
    ),
    # turns of partitions
    Mutant(STREAMING + "reader.py", "offset > bounds[number][1]", "offset > bounds[number][1] + 1", FAULTS),
    # the store follows
    Mutant(STREAMING + "following.py", "self.store.check(events)", "pass", FOLLOWING),
    Mutant(STREAMING + "following.py", "self.behind = True", "pass", FOLLOWING),
    Mutant(STREAMING + "following.py", "self.applied.jump(reader.position.offsets)", "pass", FOLLOWING),
    Mutant(STREAMING + "following.py", "if offset >= self.offsets[partition]:", "if True:", FOLLOWING),
    Mutant(STREAMING + "following.py", "if other >= offset}", "if False}", FOLLOWING),
    Mutant("louder/histories/store.py", "record.since >= at:", "record.since > at:", FOLLOWING),
    # joining: the last second of the wait, what was told, the horizon, a user's own answers
    Mutant(STREAMING + "joiner.py", "self.overdue(second - 1)", "self.overdue(second)", JOINER),
    Mutant(STREAMING + "joiner.py", "if record.time != second:", "if second is None:", JOINER),
    Mutant(STREAMING + "joiner.py", "if found.told and not again:", "if found.told:", JOINER),
    Mutant(STREAMING + "joiner.py", "record.time <= self.watermark:", "record.time < self.watermark:", JOINER),
    Mutant(
        STREAMING + "joiner.py", "found.record.time > self.horizon_s", "found.record.time >= self.horizon_s", JOINER
    ),
    Mutant(STREAMING + "joiner.py", "done |= 1 << row", "pass", JOINER),
    Mutant(STREAMING + "joiner_state.py", "due <= ? order by due, key", "due < ? order by due, key", JOINER),
    Mutant(STREAMING + "joiner_state.py", "return user_key(user) + own", "return user_key(1) + own", JOINER),
    Mutant(STREAMING + "joiner_state.py", "order by time, kind, number limit", "order by number limit", JOINER),
    Mutant(STREAMING + "joiner_state.py", "time <= row[0]", "time < row[0]", JOINER),
    Mutant(STREAMING + "watermark.py", "> 1000 * self.idle_s", ">= 1000 * self.idle_s", WATERMARK),
    Mutant(STREAMING + "watermark.py", "max(self.time, now)", "now", WATERMARK),
    Mutant(STREAMING + "watermark.py", "now = min(map", "now = max(map", WATERMARK),
    # items that come and go
    Mutant(
        "louder/online/measure.py",
        "torch.from_numpy(owner)[items >= 0], items[items >= 0]",
        "torch.from_numpy(owner), items",
        "tests/online/test_stream_items.py -k hide_no_item",
    ),
    Mutant(
        "louder/online/items.py",
        "file.unlink(missing_ok=True)",
        "file.touch()",
        "tests/online/test_stream_items.py -k stand_where",
    ),
    Mutant(
        "louder/online/slots.py",
        "if self.texts.setdefault(key, text) != text:",
        "if False:",
        "tests/online/test_slots.py -k hash_is_anothers",
    ),
    Mutant(
        "louder/models/embeddings.py",
        "there = (ids >= 0) & (ids < self.size)",
        "there = ids >= 0",
        "tests/training/test_dynamic_tables.py -k goes_on_as_it_was",
    ),
]
