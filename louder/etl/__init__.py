"""Raw logs -> sequence tables. No torch here, so that it can run on a Spark executor.

    from louder.etl import LogSpec, build_table

    manifest = build_table("ml-1m.zip", "tables/ml-1m")
    manifest = build_table("log.csv", "tables/log", spec=LogSpec(columns={"timestamp": "ts"}, time_unit="ms"))

`build_table` is imported when it is first used.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from louder.etl.spec import LogSpec, SideFile
from louder.etl.spec_file import read_spec
from louder.schema import Manifest

if TYPE_CHECKING:
    from louder.etl.pipeline import build_table

__all__ = ["LogSpec", "SideFile", "build_table", "read_spec"]


def __getattr__(name: str) -> Callable[..., Manifest]:
    if name == "build_table":
        from louder.etl.pipeline import build_table

        return build_table
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
