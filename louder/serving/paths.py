"""Ids in paths. Starlette's own `path` takes a slash but no line break, and an id may hold either."""

from starlette.convertors import Convertor, register_url_convertor


class IdConvertor(Convertor[str]):
    """Any text."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", IdConvertor())
USER, ITEM, EVENT = "{user:id}", "{item:id}", "{id:id}"
