"""Who may ask for what: the host that a request names, the token that it bears, and the file that says who did what."""

import hmac
import ipaddress
import json
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from starlette.types import Scope

from louder.errors import InputError
from louder.serving.log import tell

WATCH, READ, WRITE, ADMIN = RIGHTS = "watch", "read", "write", "admin"
WATCHED = frozenset({"/metrics", "/v1/model", "/v1/stats", "/openapi.json"})  # nothing of users
ANSWERED = frozenset({"/v1/recommend", "/v1/recommend/batch", "/v1/retrieve", "/v1/rank", "/v1/similar"})
TOLD = frozenset({"/v1/events", "/v1/items"})
LOCAL = frozenset({"localhost"})
MOST_USERS = 100  # that a line of the audit names
ASK = "This service asks for a bearer token. Send the header Authorization: Bearer TOKEN."


@dataclass(frozen=True)
class Token:
    """Who bears it, and what they may do. Every token may watch, and `admin` may do everything."""

    name: str
    rights: frozenset[str]
    text: str = field(repr=False)

    def may(self, right: str) -> bool:
        return right == WATCH or right in self.rights or ADMIN in self.rights


def tokens_of(text: str, where: str = "The token") -> list[Token]:
    """Of one token, which may do everything, or of lines NAME RIGHTS TOKEN. Raises InputError for anything else, which is
    not shown: it may be a secret."""
    lines = [line.split() for line in text.strip().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if [len(line) for line in lines] == [1]:
        lines = [["token", ADMIN, *lines[0]]]
    for line in lines:
        if len(line) != 3 or not line[2].isascii() or not line[2].isprintable():
            lines = []
            break
    if not lines:
        raise InputError(
            f"{where} must hold one line of ASCII, since a header carries it, or lines NAME RIGHTS TOKEN. Write such a token "
            "into it."
        )
    tokens = [Token(name, frozenset(rights.split(",")), token) for name, rights, token in lines]
    for token in tokens:
        if stray := sorted(token.rights.difference(RIGHTS)):
            raise InputError(
                f"{where} gives {token.name} the right {stray[0][:20]!r}, but rights are {', '.join(RIGHTS)}. Write some of "
                "them, with commas and no blanks between."
            )
    for what in "name", "text":
        if len({getattr(token, what) for token in tokens}) < len(tokens):
            raise InputError(f"{where} has a {'name' if what == 'name' else 'token'} twice. Write each once.")
    return tokens


def right_for(scope: Scope) -> str:
    """The right that a request needs; what is not known here needs the highest."""
    method, path = scope["method"], scope["path"]
    if method in ("GET", "HEAD"):
        return WATCH if path in WATCHED else READ
    if method == "POST":
        return READ if path in ANSWERED else WRITE if path in TOLD else ADMIN
    # an event may be taken back by who may tell it; as the address was written, since an id may hold a slash
    written = scope.get("raw_path", path.encode()).partition(b"/v1/users/")[2].split(b"/")
    return WRITE if method == "DELETE" and written[1:2] == [b"events"] else ADMIN


@dataclass(frozen=True)
class Access:
    """What is asked of a request before it is answered.

    tokens  one of which it must bear; none: everybody may do everything
    hosts   names that it may be sent to, besides addresses and localhost; "*": any. A page of a foreign site whose name
            was pointed here (DNS rebinding) names its own
    free    paths that need no token
    probed  paths that are answered by any name: balancers look at them
    """

    tokens: Collection[Token] = ()
    hosts: Collection[str] = ("*",)
    free: frozenset[str] = frozenset()
    probed: frozenset[str] = frozenset({"/healthz", "/readyz"})

    def bearer(self, headers: dict[bytes, bytes]) -> Token | None:
        """Whose token a request bears. Takes as long for every wrong one."""
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        found = [token for token in self.tokens if hmac.compare_digest(given.strip(), token.text.encode())]
        return found[0] if found and scheme.lower() == b"bearer" else None

    def client(self, address: str, headers: dict[bytes, bytes]) -> str:
        """Among whom computing is shared out: what comes from one address with one token. Behind a proxy that does not say
        for whom it asks, those who bear the same token cannot be told apart."""
        token = self.bearer(headers)
        return address if token is None else f"{token.name} at {address}"

    def refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Status and sentence for a request that is not answered."""
        path, right = scope["path"], right_for(scope)
        if path not in self.probed and not self.answers_to(headers.get(b"host", b"").decode("latin-1")):
            return 421, "This service does not answer to that host name. Name it: louder serve --allow-host NAME."
        if not self.tokens or path in self.free:
            return None
        token = self.bearer(headers)
        if token is None:
            return 401, ASK
        if not token.may(right):
            return 403, f"The token of {token.name} may {', '.join(sorted(token.rights))}, but this needs {right}."
        return None

    def concerns_users(self, scope: Scope, status: int) -> bool:
        """Whether the audit should tell of it; of what is refused, always."""
        return scope["path"] not in self.free and (right_for(scope) != WATCH or status in (401, 403, 421))

    def answers_to(self, host: str) -> bool:
        name = host.rpartition("]")[0].lstrip("[") or host.partition(":")[0]
        name = name.lower().rstrip(".")
        if not name or "*" in self.hosts or name in LOCAL or name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class Audit:
    """A file to which each request adds a line of JSON: who, what, about whom, and what became of it. Several processes may
    share it, and a tool that rotates it copies and truncates."""

    def __init__(self, path: Path) -> None:
        try:
            self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise InputError(
                f"The audit cannot be written to {path} ({error.strerror}). Give a file in a folder that is there: --audit "
                "audit.jsonl."
            ) from error

    def add(self, *, who: str, request: str, method: str, route: str, users: Iterable[object], status: int) -> None:
        line = {"time": round(time.time(), 3), "request": request, "who": who, "method": method, "route": route}
        line |= {"users": list(users)[:MOST_USERS], "status": status}
        try:
            os.write(self.file, (json.dumps(line) + "\n").encode())
        except OSError as error:
            tell("audit", f"The audit cannot be written ({error.strerror}), and requests are answered without it.")


def users_of(message: object) -> list[object]:
    """Whom a message is about, for the audit."""
    if isinstance(message, dict):
        return [message["user"]] if "user" in message else []
    if (user := getattr(message, "user", None)) is not None:
        return [user]
    parts = getattr(message, "events", None) or getattr(message, "requests", None) or []
    return list(
        dict.fromkeys(str(user) if isinstance(user, dict | list) else user for part in parts for user in users_of(part))
    )
