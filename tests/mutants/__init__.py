"""Small mistakes that a test must notice: see __main__.py. One module for each folder of the package."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """`file` with `old`, which stands in it once, replaced by `new`; `tests` are what pytest is given, blanks between."""

    file: str
    old: str
    new: str
    tests: str
