"""CSV, and what goes by that name: any delimiter, with a header or without, compressed or not."""

import codecs
import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from louder.errors import InputError
from louder.etl.files import first_line, partition_of
from louder.etl.sources.csv_form import Form, are_numbers, read_heads, split_line
from louder.etl.sources.source import File, RawTable, Stored, all_shown
from louder.etl.spec import TextForm

BLOCK_BYTES = 8 << 20
HELD_BYTES = 64 << 20  # of columns that stay in memory; a larger log goes through a file
MOST_LINES = 10_000  # of one value
OTHER_COLUMNS = "line with another number of columns"


def open_csv(
    name: str,
    files: Sequence[File],
    work: Path,
    wanted: Iterable[str] = (),
    *,
    names: list[str] | None = None,
    text: TextForm = TextForm(),
) -> RawTable:
    """Files of one form; their heads are checked, the rest is read by `load`, as text.

    wanted      column names that mark a first line as a header
    names       columns of files without a header
    """
    form, kept = read_heads(files, list(wanted), names, text)
    partitions = [column for column in partition_of(kept[0][0]) if column not in form.columns]

    def stored(chosen: list[str]) -> Stored:
        rejected: Counter[str] = Counter()
        batches = (batch for each in zip(kept, form.skipped) for batch in read_csv(*each, form, chosen, rejected))
        held, rows = held_or_written(batches, chosen, work / f"{name}.parquet")
        if (odd := rejected[OTHER_COLUMNS]) > rows:
            raise InputError(
                f"{odd:,} of the {rows + odd:,} lines of {all_shown(kept)} have another number of columns than "
                f"{len(form.columns)} ({', '.join(form.columns)}). Say what is between them: --delimiter ';'."
            )
        return Stored(held, rejected=dict(+rejected))

    empty = len(files) - len(kept)
    return RawTable(name, form.columns + partitions, form.numbers, stored, form.described, empty)


def held_or_written(
    batches: Iterator[pa.RecordBatch], columns: list[str], target: Path
) -> tuple[list[Path] | pa.Table, int]:
    """Texts in memory if they are few, else as the Parquet file `target`; and how many rows there are."""
    schema = pa.schema([(column, pa.string()) for column in columns])
    held, size = [], 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size > HELD_BYTES:
            break
    else:
        table = pa.Table.from_batches(held, schema)
        return table, len(table)
    rows = 0
    with pq.ParquetWriter(target, schema, compression="lz4", use_dictionary=False, write_statistics=False) as writer:
        for batch in itertools.chain(held, batches):
            writer.write_batch(batch)
            rows += len(batch)
    return [target], rows


def read_csv(
    file: File, skipped: int, form: Form, chosen: list[str], rejected: Counter[str]
) -> Iterator[pa.RecordBatch]:
    """These columns of a CSV, as text and in order. Lines with another number of columns are counted in `rejected`.

    Raises InputError for what is no text in this encoding, and for a quote that is never closed.
    """
    path, shown = file
    rows, before = 0, rejected.total()

    def skip(row: pc.InvalidRow) -> str:
        rejected[OTHER_COLUMNS] += 1
        return "skip"

    reading = pc.ReadOptions(column_names=with_gaps(form), skip_rows=skipped, block_size=BLOCK_BYTES)
    parsing = pc.ParseOptions(delimiter=form.delimiter[0], newlines_in_values=form.quote, invalid_row_handler=skip)
    parsing.quote_char = '"' if form.quote else False
    of_folders = {column: text for column, text in partition_of(path).items() if column not in form.columns}
    read = [column for column in chosen if column not in of_folders]
    texts = pc.ConvertOptions(column_types=dict.fromkeys(read, pa.string()), include_columns=read)
    stream = Text(path, form.encoding, form.quote)
    with csv_errors(shown, form, stream, lambda: refuse_swallowed_lines(file, form, skipped)):
        reader = pc.open_csv(pa.PythonFile(stream, "r"), reading, parsing, texts)
        for batch in reader:
            for column in chosen:
                if column in of_folders:
                    batch = batch.append_column(column, pa.array([of_folders[column]] * len(batch), pa.string()))
            rows += len(batch)
            yield batch.select(chosen)
    if stream.quoted and stream.lines() > rows + rejected.total() - before + skipped:
        refuse_swallowed_lines(file, form, skipped)


class Text:
    """The bytes of a text file as UTF-8, unpacked, for pyarrow to read; notes whether there are quotes."""

    def __init__(self, path: Path, encoding: str, look_for_quotes: bool) -> None:
        self.path, self.encoding, self.look = path, encoding, look_for_quotes
        self.quoted = self.closed = False
        self.stream = unpacked(path)
        self.decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)()

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.stream.read(size)
        if self.decoder is not None:
            more = data
            data = self.decoder.decode(more, not more).encode()
            while more and not data:
                more = self.stream.read(size)
                data = self.decoder.decode(more, not more).encode()
        if self.look and not self.quoted:
            self.quoted = b'"' in data
        return data

    def lines(self) -> int:
        """How many lines the whole file has."""
        again, count, last = Text(self.path, self.encoding, False), 0, b"\n"
        while data := again.read(BLOCK_BYTES):
            count, last = count + data.count(b"\n"), data[-1:]
        return count + (last != b"\n")

    def close(self) -> None:
        self.closed = True
        self.stream.close()


def unpacked(path: Path) -> IO[bytes]:
    return pa.input_stream(path, compression="gzip" if is_gzip(path) else None)


def refuse_swallowed_lines(file: File, form: Form, skipped: int) -> None:
    """Raises InputError for a quote that is never closed: what it holds looks like rows, or the file ends in it.

    A text over several lines is fine: its lines are no rows, since those have numbers where the log has them.
    """
    path, shown = file
    number_at = [index for index, column in enumerate(form.columns) if column in form.numbers]
    enough = 1 if number_at else 3
    inside, first, rows = False, 0, 0
    lines = io.TextIOWrapper(unpacked(path), form.encoding, errors="replace", newline="\n")
    for number, line in enumerate(lines, 1):
        if number <= skipped:
            continue
        rows = rows + is_row(line, form, number_at) if inside else 0
        first = first if inside else number
        inside = inside_quotes(line, form.delimiter, inside)
        if rows >= enough or (inside and number - first > MOST_LINES):
            inside = True  # also where it ended in the quotes of a later row
            break
    if inside:
        raise InputError(
            f"The quote in line {first:,} of {shown} is never closed, so that the lines after it would be read as one value. "
            "Close it; or, if quotes mean nothing in this file: --quote none."
        )


def inside_quotes(line: str, delimiter: str, inside: bool) -> bool:
    """Whether a quote is open after a line, given whether one was before. One opens at the begin of a value alone."""
    at, line = 0, line.rstrip("\r\n")
    while True:
        if inside:
            at = line.find('"', at)
            if at < 0:
                return True
            if line[at + 1 : at + 2] == '"':
                at += 2
                continue
            inside, at = False, at + 1
        elif line[at : at + 1] == '"':
            inside, at = True, at + 1
            continue
        at = line.find(delimiter, at) + 1
        if not at:
            return False


def is_row(line: str, form: Form, number_at: list[int]) -> bool:
    """Whether a line looks like a row of the log."""
    cells = split_line(line.rstrip("\r\n"), form.delimiter, quote=False)
    return len(cells) == len(form.columns) and all(are_numbers([cells[index]]) for index in number_at)


def with_gaps(form: Form) -> list[str]:
    """The reader splits at one character: between two of them there is an empty column, which is left out."""
    gaps = range(1, len(form.delimiter))
    columns = [[column, *(f"\0{index}-{gap}" for gap in gaps)] for index, column in enumerate(form.columns)]
    return [name for group in columns for name in group][: len(columns) * len(form.delimiter) - len(gaps)]


@contextmanager
def csv_errors(shown: str, form: Form, stream: Text, look: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:
        raise InputError(f"{shown} is not text in {form.encoding} ({error}). Name another: --encoding NAME.") from error
    except (pa.ArrowInvalid, EOFError) as error:
        text = str(error)
        if "UTF8" in text or "UTF-8" in text:
            raise InputError(
                f"{shown} is not text in UTF-8 ({first_line(text)[:-1]}). Save it so, or say what it is: --encoding cp1252."
            ) from error
        look()
        raise InputError(f"{shown} cannot be read as CSV: {first_line(text)} Check that the file is whole.") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(f"{shown} cannot be read: {first_line(str(error))} Copy or download it again.") from error
    finally:
        stream.close()


def is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"
