"""A schema file in YAML -> a LogSpec."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from louder.errors import InputError
from louder.etl.spec import LogSpec, SideFile, check_keys

Yaml = str | int | float | bool | list["Yaml"] | dict[str, "Yaml"] | None


def read_spec(path: Path | str) -> LogSpec:
    """A LogSpec from a YAML file. Files it names are looked for beside it.

    Raises InputError for a file that is no YAML, and for a misspelt key, with the nearest valid one.
    """
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"The schema {path} cannot be read ({error.strerror}). Give a YAML file: --schema log.yaml."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The schema {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise InputError(
            f"The schema {path} must be keys with values, such as 'columns: {{item_id: film}}', but it is not."
        )
    check_keys(content, [entry.name for entry in fields(LogSpec)], str(path))
    return LogSpec(**{key: setting(key, value, path) for key, value in content.items()})


def setting(key: str, value: Yaml, path: Path) -> Any:
    """One key of a schema file, as LogSpec has it."""
    where = f"{key} in {path}"
    if key in ("items", "users"):
        return side_file(value, where, path.parent)
    if key == "series":
        return {
            name: side_file(entry, f"series.{name} in {path}", path.parent) if isinstance(entry, dict) else str(entry)
            for name, entry in mapping(value, where).items()
        }
    if key in ("columns", "actions", "values"):
        return {name: str(entry) for name, entry in mapping(value, where).items()}
    if key == "has_times" and not isinstance(value, bool):
        raise InputError(f"has_times in {path} is {value!r}, but it must be true or false.")
    return value if key == "has_times" else str(value)


def mapping(value: Yaml, where: str) -> dict[str, Yaml]:
    """`{name: column}`, or a list of columns that keep their names."""
    if isinstance(value, list):
        return {str(entry): str(entry) for entry in value}
    if isinstance(value, dict):
        return {str(name): entry for name, entry in value.items()}
    raise InputError(f"{where} is {value!r}, but it must be names with columns, such as {{click: is_click}}.")


def side_file(value: Yaml, where: str, folder: Path) -> SideFile:
    """`videos.csv`, or `{file: videos.csv, id: video_id}`; a relative path starts at `folder`."""
    if isinstance(value, str):
        value = {"file": value}
    if not isinstance(value, dict) or "file" not in value:
        raise InputError(f"{where} is {value!r}, but it must name a file, such as {{file: videos.csv, id: video_id}}.")
    check_keys(value, [entry.name for entry in fields(SideFile)], where)
    values = {key: str(entry) for key, entry in value.items()}
    values["file"] = str(folder / values["file"])
    return SideFile(**values)
