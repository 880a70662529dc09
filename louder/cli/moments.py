"""Times that are typed: seconds since 1970, or a date."""

from datetime import UTC, datetime

from louder.errors import InputError

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
