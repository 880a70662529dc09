"""What an engine does: clean, number, write. All of it needs Ibis, which takes long to import, so the log is read meanwhile."""

from louder.etl.engines.duckdb import open_duckdb
from louder.etl.read import read_log
from louder.etl.transform import transform
from louder.etl.write import describe_table, write_table

__all__ = ["describe_table", "open_duckdb", "read_log", "transform", "write_table"]
