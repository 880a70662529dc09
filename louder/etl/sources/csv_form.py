"""How the lines of a CSV are to be read: decided from its first lines, or said by the user."""

import codecs
import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from louder.errors import InputError
from louder.etl.files import head, head_lines
from louder.etl.sources.source import File
from louder.etl.spec import MISSING, NUMBER, TextForm

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", "::": "double colons", " ": "blanks"}


@dataclass
class Form:
    """The form that all files of a log share.

    skipped   lines before the first row of each file: blank ones, and the header
    numbers   the columns that hold numbers in the first lines
    """

    columns: list[str]
    delimiter: str
    header: bool
    encoding: str
    quote: bool
    skipped: list[int] = field(default_factory=list)
    numbers: set[str] = field(default_factory=set)

    @property
    def described(self) -> str:
        between = DELIMITERS.get(self.delimiter, repr(self.delimiter))
        encoding = "" if self.encoding == "utf-8" else f", in {self.encoding}"
        return f"CSV with {between}, {'with a' if self.header else 'no'} header{encoding}"


def read_heads(
    files: Sequence[File], wanted: list[str], names: list[str] | None, text: TextForm
) -> tuple[Form, list[File]]:
    """The form, and the files that hold a row. Raises InputError where a file has another form than the first."""
    encoding = encoding_of(files[0], text)
    delimiter = None if text.delimiter == "auto" else text.delimiter
    form, kept = None, []
    cells: list[list[str]] = []
    for path, shown in files:
        lines = head_lines(path, "utf-8-sig" if encoding == "utf-8" else encoding)
        blank = next((index for index, line in enumerate(lines) if line.strip()), len(lines))
        lines = lines[blank:]
        if not lines:
            continue
        delimiter = delimiter or guess_delimiter(lines, wanted, shown)
        first = split_line(lines[0], delimiter, text.quote != "none")
        if form is None:
            header = names is None and has_header(first, wanted)
            columns = names or (unique(first) if header else [f"column{index}" for index in range(len(first))])
            form = Form(columns, delimiter, header, encoding, text.quote != "none" and len(delimiter) == 1)
        elif form.header and unique(first) != form.columns:
            raise InputError(
                f"{shown} has the columns {', '.join(first)}, but {files[0][1]} has {', '.join(form.columns)}. "
                "Give files with the same columns."
            )
        if len(first) != len(form.columns):
            raise InputError(
                f"{shown} has {len(first)} columns in its first line, but {len(form.columns)} were expected "
                f"({', '.join(form.columns)}). Say what is between them (--delimiter ';'), or give the right file."
            )
        rows = [split_line(line, delimiter, form.quote) for line in lines[int(form.header) :] if line.strip()]
        if rows:
            kept.append((path, shown))
            form.skipped.append(blank + int(form.header))
            cells += rows
    if form is None or not kept:
        found = " it has columns but no rows." if form else ""
        raise InputError(
            f"{files[0][1]} is empty{':' + found if found else '.'} Give a file that holds at least one event."
        )
    whole = [line for line in cells if len(line) == len(form.columns)]
    form.numbers = {column for column, found in zip(form.columns, zip(*whole)) if are_numbers(found)}
    return form, kept


def encoding_of(file: File, text: TextForm) -> str:
    """By its first bytes, UTF-16 where they say so, else UTF-8, unless the user names another."""
    if text.encoding == "auto":
        return "utf-16" if head(file[0])[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        "".encode(text.encoding)  # Python has codecs that are no encodings of text, such as base64
        return codecs.lookup(text.encoding).name
    except (LookupError, ValueError) as error:
        raise InputError(
            f"There is no encoding {text.encoding!r}. Name one that Python knows: --encoding latin-1, cp1252 or utf-16."
        ) from error


def guess_delimiter(lines: Sequence[str], wanted: Iterable[str], shown: str) -> str:
    """The delimiter that gives the first line a name that was asked for; else the one that splits all lines into as many
    parts as the first, and into most. Raises InputError where two do that equally well."""
    lines = [line for line in lines[:200] if line.strip()]
    parts = {delimiter: [len(split_line(line, delimiter)) for line in lines] for delimiter in DELIMITERS}
    names = {delimiter: len({x.strip() for x in split_line(lines[0], delimiter)} & set(wanted)) for delimiter in parts}
    if max(names.values()) and parts[best := max(names, key=lambda delimiter: names[delimiter])][0] > 1:
        return best
    even = [d for d, counts in parts.items() if counts[0] > 1 and counts.count(counts[0]) >= 0.9 * len(counts)]
    if "," in even and len(even) > 1 and not re.search(r"\D,|,\D|^,|,$", "\n".join(lines)):
        even.remove(",")  # 4,5 is a number, of one who writes the decimals so
    even = [delimiter for delimiter in even if delimiter != " "] or even
    if not even:
        return max(DELIMITERS, key=lambda delimiter: (parts[delimiter][0] if delimiter != " " else 0, delimiter == ","))
    most = max(parts[delimiter][0] for delimiter in even)
    best_of = [delimiter for delimiter in even if parts[delimiter][0] == most]
    if len(best_of) > 1:
        raise InputError(
            f"The columns of {shown} may be separated by {' or by '.join(DELIMITERS[x] for x in best_of)}. "
            f"Say which: --delimiter '{best_of[0]}'."
        )
    return best_of[0]


def split_line(line: str, delimiter: str, quote: bool = True) -> list[str]:
    if len(delimiter) > 1 or not quote:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [""])


def are_numbers(cells: Iterable[str]) -> bool:
    """Whether texts are numbers, as far as they are there at all."""
    there = [cell for cell in cells if cell.strip() not in MISSING]
    return bool(there) and all(NUMBER.fullmatch(cell.strip()) for cell in there)


def has_header(cells: list[str], wanted: list[str]) -> bool:
    """A first line that holds a name which was asked for, or no number at all, is a header."""
    if {cell.strip() for cell in cells} & set(wanted):
        return True
    if any(re.fullmatch(r"column\d+", name) for name in wanted):
        return False
    return not any(re.fullmatch(r"[+-]?\d+(\.\d*)?", cell.strip()) for cell in cells)


def unique(cells: list[str]) -> list[str]:
    """Names of a header line, made distinct and non-empty."""
    names: list[str] = []
    for index, cell in enumerate(cells):
        name = cell.strip() or f"column{index}"
        while name in names:
            name += "_2"
        names.append(name)
    return names
