"""What runs the Ibis expressions of the ETL. DuckDB does on one machine; an engine for a cluster fits the same protocol.

Ibis compiles an expression for either, so only what it cannot say for both is a method here. Expressions elsewhere keep
to what both know: no `collect(order_by=...)`, no cast of "0x1f", and no microseconds of a timestamp.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import pyarrow as pa

if TYPE_CHECKING:  # Ibis is imported while the log is read
    import ibis.expr.types as ir

RAW_POSITION = "__position"
T = TypeVar("T")


class EtlEngine(Protocol):
    def read_parquet(self, name: str, paths: Sequence[Path], columns: Sequence[str]) -> "ir.Table":
        """Files as one table with these columns and RAW_POSITION, int64, which grows in the order of the files and, within
        each, of its rows. A column that one of them lacks is null there."""
        ...

    def read_arrow(self, name: str, table: pa.Table) -> "ir.Table":
        """A table in memory, with RAW_POSITION, int64, the number of a row."""
        ...

    def save(self, name: str, table: "ir.Table") -> "ir.Table":
        """Compute a table once and keep it, rows in any order. Replaces one of the same name, which `table` may not read."""
        ...

    def epoch_us(self, moment: "ir.TimestampValue") -> "ir.IntegerValue":
        """Microseconds since 1970, UTC; a time without a zone is taken as UTC."""
        ...

    def strptime(self, text: "ir.StringValue", form: str) -> "ir.TimestampValue":
        """A text of the form of strptime as a time, UTC unless it says otherwise; null where it is not of that form."""
        ...

    def each_part(
        self,
        table: "ir.Table",
        column: str,
        parts: int,
        order: Sequence["ir.Value"],
        columns: Sequence[str],
        function: Callable[[int, pa.Table], T],
    ) -> Iterator[T]:
        """`function(part, rows)` for the rows of each value 0 .. parts - 1 of `column`, sorted by `order`.

        On a cluster it is called where the rows are: it has to be picklable, its result small, and what it writes has to go
        where every machine writes.
        """
        ...
