"""Data frames of pandas, polars and Arrow: in as Arrow, without a copy where their memory is Arrow's, and out as they came.

None of the three but Arrow is needed, or imported unless it is there.
"""

import importlib.util
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeGuard

import pyarrow as pa

from louder.errors import InputError
from louder.ids import RawId

Frame = Any  # a frame of the kind that came in: pandas.DataFrame, polars.DataFrame or pyarrow.Table


class ArrowStream(Protocol):
    """What exports its columns as Arrow does: frames of pandas and polars, tables of Arrow, relations of DuckDB."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


def is_frame(source: object) -> TypeGuard[ArrowStream]:
    return hasattr(source, "__arrow_c_stream__") and hasattr(source, "columns")


def is_column(values: object) -> bool:
    """Whether it is a column of pandas or polars."""
    return kind_of(values) != "arrow"


def kind_of(frame: object) -> str:
    """pandas, polars or arrow, of a frame or a column."""
    library = type(frame).__module__.partition(".")[0]
    return library if library in ("pandas", "polars") else "arrow"


def default_kind() -> str:
    """Of answers about what came as a file: pandas where there is one."""
    return "pandas" if importlib.util.find_spec("pandas") else "arrow"


def to_frame(table: pa.Table, kind: str) -> Frame:
    """A table as a frame of this kind."""
    if kind == "polars":
        import polars

        return polars.from_arrow(table)
    return table.to_pandas() if kind == "pandas" else table


def column_names(frame: object) -> list[str]:
    if isinstance(frame, pa.Table | pa.RecordBatch):
        return list(frame.column_names)
    return [str(name) for name in getattr(frame, "columns")]  # noqa: B009 (frames of any library)


def require_distinct_names(names: Sequence[str], wanted: Iterable[str], what: str) -> None:
    for name in wanted:
        if names.count(name) > 1:
            raise InputError(f"{what} has {names.count(name)} columns {name!r}. Rename all of them but one.")


def to_arrow(frame: ArrowStream, wanted: Iterable[str] | None = None, what: str = "The frame") -> pa.Table:
    """These columns of a frame (None: all of them) as an Arrow table.

    Raises InputError for two columns of one name, and for a column whose values are not all of one type.
    """
    names = column_names(frame)
    chosen = list(dict.fromkeys(names if wanted is None else wanted))
    require_distinct_names(names, chosen, what)
    if isinstance(frame, pa.Table):
        return frame.select(chosen)
    if kind_of(frame) == "pandas":
        return pa.table({name: from_pandas(frame, names.index(name), name) for name in chosen})
    table = pa.table(frame[chosen] if kind_of(frame) == "polars" else frame)  # type: ignore[index]
    return table.select(chosen)


def from_pandas(frame: Any, place: int, name: str) -> pa.Array | pa.ChunkedArray:
    """A column of pandas; its numbers are not copied, and NaN is a missing value."""
    try:
        return pa.array(frame.iloc[:, place], from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"The column {name!r} does not hold values of one type ({str(error).splitlines()[0].rstrip('.')}). Make them "
            f"texts: df[{name!r}].astype(str); or leave the column out."
        ) from error


def index_hint(frame: object, column: str) -> str:
    """Where a column that is missed is the index of a frame of pandas, what to write."""
    index = getattr(frame, "index", None) if kind_of(frame) == "pandas" else None
    return " It is the index: df.reset_index()." if column in getattr(index, "names", ()) else ""


def ids_of(users: object) -> list[RawId]:
    """Raw ids, each once, in their order: of one id, a list, a column, or a frame with a column `user`."""
    if isinstance(users, int | str):
        return [users]
    if is_frame(users):
        names = column_names(users)
        if "user" not in names:
            raise InputError(f"The frame of users has the columns {', '.join(names)}. Give one of them: df['NAME'].")
        users = to_arrow(users, ["user"]).column("user")
    values = users.to_pylist() if isinstance(users, pa.Array | pa.ChunkedArray) else listed(users)
    return [raw for raw in dict.fromkeys(map(plain, values)) if raw is not None and raw == raw]


def listed(values: Any) -> list[Any]:
    """The values of a column or any other sequence, as Python has them."""
    if hasattr(values, "tolist"):  # numpy and pandas
        return list(values.tolist())
    if hasattr(values, "to_list"):  # polars
        return list(values.to_list())
    try:
        return list(values)
    except TypeError:
        raise InputError(f"Users are ids, or a column of ids, but got {type(values).__name__}.") from None


def plain(value: Any) -> Any:
    """A number of numpy as one of Python; whole fractions, which pandas makes of integers beside a NaN, as integers."""
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value
