"""Which events stay, as a user says it."""

from dataclasses import asdict, dataclass

from louder.errors import InputError


@dataclass(frozen=True, kw_only=True)
class EventFilters:
    """Which events stay: see build_table."""

    min_user_events: int = 0
    min_item_events: int = 0
    k_core: int = 0
    drop_duplicates: bool | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and value < 0:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} is {value}, but it must be 0 (no filter) or more.")
        if self.k_core and (self.min_user_events or self.min_item_events):
            raise InputError(
                "--k-core repeats its filter until it holds; --min-user-events and --min-item-events run once. "
                "Give one kind."
            )

    @property
    def any(self) -> bool:
        return any((self.min_user_events, self.min_item_events, self.k_core, self.drop_duplicates))
