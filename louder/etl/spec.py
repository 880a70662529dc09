"""What the columns of a log mean: LogSpec, made from flags and a YAML file, checked when made."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from louder.errors import InputError
from louder.schema import ITEM, REQUEST, TIME, USER, WORDS

if TYPE_CHECKING:
    import pyarrow as pa

MISSING = ("", "NULL", "null", "None", "NaN", "nan", "\\N")  # texts that stand for no value
TIME_UNITS = ("auto", "s", "ms", "us", "ns", "excel", "iso")
ID_KINDS = ("auto", "integer", "string")
DELIMITER_NAMES = {
    "tab": "\t",
    "\\t": "\t",
    "space": " ",
    "blank": " ",
    "comma": ",",
    "semicolon": ";",
    "bar": "|",
    "pipe": "|",
}
MAX_ACTIONS = 63  # bits of a signed int64 that are not its sign

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .\-]*")
RULE = re.compile(
    r"""\s*(?P<column>"[^"]+"|[^\s<>=!"']+)\s*(?P<operator>>=|<=|==|!=|=|>|<)\s*(?P<value>[^\s<>=!].*?)\s*"""
)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Rule:
    """When an action happened: a flag column that is true, or `column operator value`."""

    column: str
    operator: str = ""  # "" for a flag; else one of >= <= == != > <
    value: float | str = 0.0

    @classmethod
    def parse(cls, text: str, action: str = "action") -> "Rule":
        """`is_click`, `rating >= 4`, `type == "buy"`, `type = buy`. Nothing of it is ever run as SQL."""
        match = RULE.fullmatch(text)
        if match is None:
            if not text.strip() or re.search(r"[<>=!]", text):
                raise InputError(
                    f"The action {action!r} has the rule {text!r}, which is not understood. "
                    f"Write a flag column, or COLUMN OPERATOR VALUE with one of >= <= == != > <: --action '{action}=rating >= 4'."
                )
            return cls(text.strip().strip('"'))
        operator = {"=": "=="}.get(match["operator"], match["operator"])
        value: float | str = match["value"]
        if NUMBER.fullmatch(match["value"]):
            value = float(match["value"])
        elif isinstance(value, str):
            value = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
            if operator not in ("==", "!="):
                raise InputError(
                    f"The action {action!r} compares with {value!r} by {operator}, but only numbers have an order. "
                    f"Compare a number, or use == or !=: --action '{action}={match['column']} == {value}'."
                )
        return cls(match["column"].strip('"'), operator, value)


@dataclass(frozen=True)
class TextForm:
    """How a text file is read.

    delimiter  what is between columns: a character, some of the same ("::"), or its name; auto: recognised
    encoding   as Python calls it; auto: UTF-8, or UTF-16 where the first bytes say so
    quote      '"', or none: quotes are characters like others
    """

    delimiter: str = "auto"
    encoding: str = "auto"
    quote: str = '"'

    def __post_init__(self) -> None:
        named = DELIMITER_NAMES.get(self.delimiter.lower(), self.delimiter)
        object.__setattr__(self, "delimiter", named)
        if named != "auto" and (len(set(named)) != 1 or not named.isascii() or named in '"\r\n'):
            raise InputError(
                f"The delimiter is {named!r}, but it must be one character, such as ',', ';', tab or space: --delimiter ';'."
            )
        check_choice("quote", self.quote, ('"', "none"))


@dataclass(frozen=True, kw_only=True)
class SideFile:
    """A second file, or a table in memory: attributes of items or users (`id`), or a series (`user_id`, `timestamp`,
    `value`)."""

    file: "str | pa.Table"
    id: str | None = None  # column of the raw id; None: the word itself, or the name it has in the log
    user_id: str = USER
    timestamp: str = TIME
    value: str = "value"
    time_unit: str = "auto"  # auto: as the log says
    delimiter: str = "auto"
    encoding: str = "auto"  # auto: as the log says
    quote: str = '"'

    def __post_init__(self) -> None:
        check_time_unit(self.time_unit)
        self.text  # noqa: B018 (checks)

    @property
    def text(self) -> TextForm:
        return TextForm(self.delimiter, self.encoding, self.quote)

    def shown(self, what: str) -> str:
        """How messages call it."""
        return self.file if isinstance(self.file, str) else f"the frame of {what}"

    def hint(self, what: str) -> str:
        """What to do where another column holds the ids."""
        if isinstance(self.file, str):
            return f"name their column in the schema: {what}: {{file: {Path(self.file).name}, id: NAME}}."
        return f"rename the column that holds them to {self.id or 'id'!r}."


@dataclass(frozen=True, kw_only=True)
class LogSpec:
    """The columns of one event log.

    columns    our word -> column of the log; words that are missing are looked for under their own name
    delimiter, encoding, quote
               of a CSV: see TextForm
    time_unit  s, ms, us, ns, excel (days of a spreadsheet), iso, or the form of texts as strptime has it, such as
               "%d/%m/%Y %H:%M", several of them with a | between; auto: dates and texts of dates are seen, numbers are
               seconds
    has_times  False: there is no clock, the order of the log is the order of events
    ids        integer, string; auto: integers if all are
    actions    name -> flag column, or a rule over a column such as "rating >= 4"; bit j is the j-th
    values     name -> column of numbers, such as watch seconds
    series     name -> categorical column of the log, or a SideFile of its own
    items      attributes of items, which also add items that nobody touched to the catalogue
    users      attributes of users
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    format: str = "auto"
    delimiter: str = "auto"
    encoding: str = "auto"
    quote: str = '"'
    time_unit: str = "auto"
    has_times: bool = True
    ids: str = "auto"
    actions: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    series: Mapping[str, str | SideFile] = field(default_factory=dict)
    items: SideFile | None = None
    users: SideFile | None = None

    def __post_init__(self) -> None:
        for word, column in self.columns.items():
            if word not in WORDS and column in WORDS:
                raise InputError(f"A column is named the other way round: --column {column}={word}.")
        check_keys(self.columns, WORDS, "columns")
        check_time_unit(self.time_unit)
        check_choice("ids", self.ids, ID_KINDS)
        for kind, count, most in ("actions", len(self.actions), MAX_ACTIONS), ("series", len(self.series), 255):
            if count > most:
                raise InputError(f"There are {count} {kind}, but at most {most} fit. Name fewer of them.")
        for kind, names in ("actions", self.actions), ("values", self.values), ("series", self.series):
            for name in names:
                if not NAME.fullmatch(name):
                    raise InputError(f"{kind} has the name {name!r}; use letters, digits, '_', '-' and '.' only.")
        if taken := set(self.series) & {"user", "item"}:
            raise InputError(
                f"A series cannot be called {taken.pop()!r}, since users and items are. Give it another name."
            )
        self.rules()
        self.text  # noqa: B018 (checks)

    @property
    def text(self) -> TextForm:
        return TextForm(self.delimiter, self.encoding, self.quote)

    def rules(self) -> dict[str, Rule]:
        return {name: Rule.parse(text, name) for name, text in self.actions.items()}

    def column(self, word: str) -> str:
        return self.columns.get(word, word)

    @property
    def log_series(self) -> dict[str, str]:
        """The series that are columns of the log."""
        return {name: column for name, column in self.series.items() if isinstance(column, str)}

    @property
    def files(self) -> list[str]:
        """What is read beside the log."""
        side_files = [self.items, self.users, *self.series.values()]
        return [side.file for side in side_files if isinstance(side, SideFile) and isinstance(side.file, str)]

    def flag_of(self, column: str) -> str:
        """What to type to name another column in its place."""
        named = {self.column(word): f"--column {word}=NAME" for word in (USER, ITEM, TIME, REQUEST)}
        named |= {column: f"--series {name}=NAME" for name, column in self.log_series.items()}
        named |= {column: f"--value {name}=NAME" for name, column in self.values.items()}
        named |= {rule.column: f"--action {name}=NAME" for name, rule in self.rules().items()}
        return named.get(column, "--column WORD=NAME")

    @property
    def used(self) -> list[str]:
        """The columns of the log that are read."""
        words = [USER, ITEM, *([TIME] if self.has_times else []), *([REQUEST] if REQUEST in self.columns else [])]
        rules = [rule.column for rule in self.rules().values()]
        return [*map(self.column, words), *rules, *self.values.values(), *self.log_series.values()]

    def merged(self, **flags: Any) -> "LogSpec":
        """This spec with the settings of flags on top: mappings are joined, the rest replaced."""
        given = {name: value for name, value in flags.items() if value is not None}
        joined = {name: {**getattr(self, name), **value} for name, value in given.items() if isinstance(value, Mapping)}
        return replace(self, **(given | joined))


def check_keys(found: Iterable[str], valid: Iterable[str], where: str) -> None:
    """Raise InputError for the first key that is not valid, naming the nearest one that is."""
    valid = list(valid)
    for key in found:
        if key not in valid:
            near = difflib.get_close_matches(str(key), valid, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else "Remove it, or use one of those."
            raise InputError(f"{where} has the key {key!r}; valid are {', '.join(valid)}. {hint}")


def check_time_unit(unit: str) -> None:
    """A unit, or the form of dates as strptime has it."""
    if "%" not in unit:
        check_choice("time_unit", unit, TIME_UNITS)


def check_choice(name: str, value: str, valid: Iterable[str]) -> None:
    valid = list(valid)
    if value not in valid:
        near = difflib.get_close_matches(str(value), valid, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{name} is {value!r}, but it must be one of {', '.join(valid)}.{hint}")
