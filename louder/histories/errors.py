"""What can be wrong with a store."""

from louder.errors import InputError

REFILL = "Move the store away and fill a new one from the table."


class StoreGone(Exception):
    """The store cannot be reached (Redis) or written (a full disk). Requests that carry their history can be answered."""


class StoreDamaged(InputError):
    """What is stored is not what was written. Whoever runs the service can fix it, not the one who asks."""
