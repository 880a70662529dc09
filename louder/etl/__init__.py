"""Raw logs -> sequence tables. No torch here, so that it can run on a Spark executor.

    from louder.etl import LogSpec, build_table

    manifest = build_table("ml-1m.zip", "tables/ml-1m")
    manifest = build_table("log.csv", "tables/log", spec=LogSpec(columns={"timestamp": "ts"}, time_unit="ms"))

Both names are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from louder.etl.pipeline import build_table
    from louder.etl.spec import LogSpec, SideFile, read_spec

__all__ = ["LogSpec", "SideFile", "build_table", "read_spec"]


def __getattr__(name: str) -> Any:
    if name == "build_table":
        from louder.etl.pipeline import build_table

        return build_table
    if name in ("LogSpec", "SideFile", "read_spec"):
        from louder.etl import spec

        return getattr(spec, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
