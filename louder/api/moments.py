"""Times of requests: seconds since 1970, or a date."""

from datetime import UTC, date, datetime
from typing import SupportsInt

from louder.config import seconds_of
from louder.errors import InputError

Moment = str | date | SupportsInt

FARTHEST = 1 << 40  # seconds; some 35,000 years


def seconds(text: str) -> int:
    """`1714557600`, `2024-05-01`, `2024-05-01T10:00` or `2024-05-01 12:00+02:00` (UTC unless it says otherwise) in seconds
    since 1970. Raises InputError for anything else."""
    try:
        found = int(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            raise InputError(
                f"The time {text!r} is neither a number of seconds since 1970 nor a date: --at 2024-05-01T10:00."
            ) from None
        found = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    if abs(found) > FARTHEST:
        raise InputError(
            f"The time {text} lies too far away. Give seconds since 1970, or a date: --at 2024-05-01T10:00."
        )
    return found


def moment(at: Moment | None) -> int | None:
    """Likewise of a number, a date or a datetime, also of pandas."""
    if isinstance(at, date):
        return seconds_of(at)
    return None if at is None else seconds(at if isinstance(at, str) else str(int(at)))
