"""A LogSpec and the flags on top of it."""

from louder.etl import LogSpec, SideFile


def test_flags_join_what_a_schema_names():
    spec = LogSpec(columns={"item_id": "sku", "user_id": "a"}, actions={"like": "liked"}, time_unit="ms", ids="string")
    flags = {"columns": {"user_id": "who"}, "actions": {}, "time_unit": None, "ids": "integer", "has_times": False}
    merged = spec.merged(**flags, items=SideFile(file="x.csv"))
    assert merged.columns == {"item_id": "sku", "user_id": "who"}
    assert (merged.actions, merged.time_unit, merged.ids) == ({"like": "liked"}, "ms", "integer")
    assert (merged.has_times, merged.items) == (False, SideFile(file="x.csv"))


def test_the_columns_that_are_read():
    spec = LogSpec(
        columns={"item_id": "sku", "request_id": "session"},
        actions={"like": "stars >= 4", "click": "click"},
        values={"watch": "seconds"},
        series={"city": "town", "age": SideFile(file="ages.csv")},
    )
    assert spec.used == ["user_id", "sku", "timestamp", "session", "stars", "click", "seconds", "town"]
    assert LogSpec(has_times=False).used == ["user_id", "item_id"]
    assert spec.log_series == {"city": "town"}
