"""What is true of a whole store, kept in it as JSON: its names, the kinds of its ids, whether it was filled, and which data
set it is of."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from louder.errors import InputError
from louder.histories.errors import StoreDamaged
from louder.histories.history import Names
from louder.histories.identity import Known
from louder.ids import RawId

FORMAT = 1
TEXT, INTEGER = "texts", "integers"


@dataclass(frozen=True)
class StoreSettings:
    names: Names
    users: str | None = None  # TEXT or INTEGER, from the first write on
    items: str | None = None
    filled: bool = False
    format: int = FORMAT
    data: Mapping[str, Known] | None = None  # unknown in a store that an older Louder made
    followed: Mapping[str, Mapping[int, int]] | None = None  # by the id of a log: what was read of its partitions


def written(settings: StoreSettings) -> bytes:
    values = asdict(settings)
    if values["followed"] is None:
        del values["followed"]  # an older Louder would not know it
    return json.dumps(values).encode()


def read(data: bytes | None) -> StoreSettings | None:
    if data is None:
        return None
    try:
        values = json.loads(data)
        form = values["format"]
        if form == FORMAT:
            names = Names(*(tuple(values["names"][kind]) for kind in ("actions", "values")))
            known = {part: Known(own["hash"], tuple(own["sketch"])) for part, own in (values.get("data") or {}).items()}
            logs = values.get("followed") or {}
            followed = {log: {int(part): offset for part, offset in own.items()} for log, own in logs.items()}
            return StoreSettings(**{**values, "names": names, "data": known or None, "followed": followed or None})
    except (ValueError, KeyError, TypeError) as error:
        raise StoreDamaged(
            f"The settings of the store are damaged ({error}). Move it away and fill a new one."
        ) from error
    raise InputError(f"The store has format {form}, but this Louder reads format {FORMAT}. Fill a new one.")


def opened(old: StoreSettings | None, names: Names | None) -> StoreSettings:
    """The settings of a store that is opened with these names."""
    names = names or (old.names if old else Names())
    if len(names.actions) > 63:
        raise InputError(f"A store takes at most 63 actions, but there are {len(names.actions)}. Leave some out.")
    if old is None:
        return StoreSettings(names)
    both = min(len(names.actions), len(old.names.actions))
    if names.values != old.names.values or names.actions[:both] != old.names.actions[:both]:
        raise InputError(
            f"The store holds {described(old.names)}, but the service has {described(names)}; only actions may be added, at "
            "the end. Choose another place for the store, or fill a new one."
        )
    return replace(old, names=names) if len(names.actions) > both else old


def described(names: Names) -> str:
    return " and ".join(
        f"{kind} {', '.join(given)}" if given else f"no {kind}"
        for kind, given in (("actions", names.actions), ("values", names.values))
    )


def settled(settings: StoreSettings, user: RawId, item: RawId) -> StoreSettings:
    """The settings after a first user and item: from then on, all are of their kinds."""
    return replace(settings, users=settings.users or kind_of(user), items=settings.items or kind_of(item))


def kind_of(raw: RawId) -> str:
    return TEXT if isinstance(raw, str) else INTEGER


def require_kind(what: str, raw: RawId, kind: str | None) -> None:
    """Raise InputError for an id that is not of the store's kind, or an integer beyond 64 bits."""
    if kind is not None and kind_of(raw) != kind:
        raise InputError(
            f"The {what} ids of the store are {kind}, but {raw!r} is {'a text' if isinstance(raw, str) else 'an integer'}. "
            f"Send {kind}."
        )
    if not isinstance(raw, str) and not -(1 << 63) <= raw < 1 << 63:
        raise InputError(f"The {what} id {raw} does not fit into 64 bits. Send a smaller one, or a text.")
