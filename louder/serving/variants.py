"""An A/B test inside the service: which of several models answers a user.

    fresh=runs/monday:0.2     a fifth of the users is answered by another run
    wide=+new:50:0.1          a tenth by the run that is served, with a further source of candidates

Everybody else is the control. A user's place is a salted hash of the id, so the variant stays the same in each process, in
each replica and after a restart; another salt is another draw.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from louder.errors import InputError
from louder.histories.keys import key_of
from louder.ids import RawId
from louder.inference.sources import source_of

CONTROL = "control"
EXAMPLE = "a name, '=', a run (or + and a source of candidates), ':' and a share of the users: fresh=runs/monday:0.2"


@dataclass(frozen=True)
class Variant:
    """What a share of the users is answered by: `run` in place of the one that is served, or that one (None) with further
    `sources` of candidates."""

    name: str
    share: float
    run: Path | None = None
    sources: tuple[str, ...] = ()


def variant_of(text: str) -> Variant:
    """Raises InputError for what is not NAME=RUN:SHARE or NAME=+SOURCE:COUNT:SHARE."""
    name, equals, rest = text.partition("=")
    what, _, share_text = rest.rpartition(":")
    try:
        share = float(share_text)
    except ValueError:
        share = 0.0
    if not equals or not what or not re.fullmatch(r"[0-9A-Za-z._-]{1,40}", name) or not 0 < share < 1:
        raise InputError(f"--variant is {text!r}, but it must be {EXAMPLE}.")
    if name == CONTROL:
        raise InputError(f"--variant is {text!r}, but {CONTROL} is what everybody else has. Choose another name.")
    if what.startswith("+"):
        source_of(what[1:])
        return Variant(name, share, sources=(what[1:],))
    return Variant(name, share, run=Path(what))


def with_control(texts: Sequence[str]) -> tuple[Variant, ...]:
    """The control with what is left of the users, and the variants in their order. Raises InputError."""
    variants = [variant_of(text) for text in texts]
    names = [x.name for x in variants]
    if again := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"Two variants are called {again}. Give each a name of its own: --variant NAME=RUN:SHARE.")
    left = 1 - sum(x.share for x in variants)
    if left < 1e-9:
        raise InputError(
            f"The variants have {1 - left:g} of the users in all, which leaves no control to compare with. Lower their shares."
        )
    return Variant(CONTROL, round(left, 12)), *variants


def assigned(user: RawId, variants: Sequence[Variant], salt: str) -> Variant:
    """The variant of a user; `variants` as of `with_control`. When the share of the last variant grows, only users of the control
    move."""
    key = salt.encode() + b"\0" + key_of(user)
    place = int.from_bytes(blake2b(key, digest_size=8).digest(), "big") / 2**64
    control, *others = variants
    for variant in others:
        if place < variant.share:
            return variant
        place -= variant.share
    return control
