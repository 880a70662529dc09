"""A recipe for a log of one's own: what is known of a table -> settings, each group with a sentence that says why.

    facts = facts_of("tables/shop")
    config, choices = config_for(facts, "tables/shop", size="medium", settings=["training.epochs=5"])

`fit` is the whole of it, a pure function: a rule goes by what `TableFacts` holds and by the settings that are decided
already. Those that are given win, and what depends on them follows: `data.max_len=500` makes room in the model, too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from louder.config import from_dict, nest, parse_setting
from louder.data.table import read_attributes
from louder.errors import InputError
from louder.training.config import Config

SIZES = {"small": (32, 2), "medium": (64, 2), "large": (128, 4)}  # width and layers
LONGEST = {"small": 50, "medium": 200, "large": 500}  # events of a history
WINDOWS = 10, 20, 50, 100, 200, 500
REPEATED = 0.05  # the share of repeats from which on seen items are recommended again
TELLING = 0.02  # an action that is rarer, or whose absence is, tells little
STEPS = 200  # of an epoch, about
MANY_ITEMS, HUGE_CATALOGUE = 10_000, 100_000
MANY_EVENTS = 5_000_000
MOST_ATTRIBUTES = 6  # of users, and of items: each of a user's is one token more

Value = str | int | float | bool | None | list[str]
Known = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TableFacts:
    """What the rules go by.

    median, p90    events of a user; nine of ten users have no more than p90
    repeats        share of the events on an item that the user had met before
    actions        share of the events with each
    idle           share of the events on which nothing was done; 0 in a log without actions
    item_attributes, user_attributes   columns that are categories
    skewed_values  values of events that are never below zero, and some of which are far above the mean
    """

    users: int
    items: int
    events: int
    median: float
    p90: float
    repeats: float = 0.0
    has_times: bool = True
    has_requests: bool = False
    actions: Mapping[str, float] = field(default_factory=dict)
    idle: float = 0.0
    item_attributes: tuple[str, ...] = ()
    user_attributes: tuple[str, ...] = ()
    skewed_values: tuple[str, ...] = ()

    @property
    def main_action(self) -> str:
        """The first that tells items apart; "" where none does."""
        return next((name for name, share in self.actions.items() if tells(share)), "")

    @property
    def exposures(self) -> bool:
        """Whether the log has a row for what was shown and left alone, and not only for what was done."""
        return self.idle > TELLING and (len(self.actions) > 1 or self.has_requests)


def tells(share: float) -> bool:
    """Whether an action that so many of the events have tells them apart."""
    return TELLING <= share <= 1 - TELLING


class Choice(NamedTuple):
    """Some settings, by the names that --set takes, and why they are so."""

    settings: dict[str, Value]
    why: str


def as_words(choice: Choice) -> list[str]:
    """As they may be typed after --set."""
    return [f"{name}={json.dumps(value)}" for name, value in choice.settings.items()]


def facts_of(table: Path | str) -> TableFacts:
    """Read a table once. Raises InputError if it is none, is empty or is damaged."""
    from louder.data import inspect  # needs pyarrow, and recipes load where only torch and numpy are installed

    folder, counts = Path(table), inspect.count(table)
    manifest, found = counts.manifest, inspect.summary(counts)
    about_items, about_users = (read_attributes(folder, name) for name in ("items", "users"))
    return TableFacts(
        users=manifest.users,
        items=manifest.items,
        events=manifest.events,
        median=found["lengths"]["median"],
        p90=found["lengths"]["p90"],
        repeats=found["repeats"]["share"],
        has_times=manifest.has_times,
        has_requests=manifest.has_requests,
        actions={name: action["share"] for name, action in found["actions"].items()},
        idle=counts.idle / max(1, manifest.events),
        item_attributes=inspect.categories(about_items),
        user_attributes=inspect.categories(about_users),
        skewed_values=tuple(
            name
            for name, value in found["values"].items()
            if value["mean"] is not None and value["min"] >= 0 and value["max"] > 10 * value["mean"]
        ),
    )


def config_for(
    facts: TableFacts, table: Path | str, *, size: str = "medium", settings: Sequence[str] = (), name: str = ""
) -> tuple[Config, list[Choice]]:
    """The whole config of a run on a table, and what was chosen in it. `settings` are those of --set, which win.

    Raises InputError for a size that there is not, and for settings that are misspelt or do not fit.
    """
    given = dict(map(parse_setting, settings))
    choices = fit(facts, size, given)
    chosen = {name: value for choice in choices for name, value in choice.settings.items()}
    own = {"name": name or Path(table).resolve().name, "data.table": str(table)}
    return from_dict(Config, nest(own | chosen | given)), choices


def fit(facts: TableFacts, size: str = "medium", given: Known | None = None) -> list[Choice]:
    """The settings of a run on a table, in the order in which they are decided.

    given  settings that are decided already, by the names that --set takes. No choice has them

    Raises InputError for a size that there is not.
    """
    if size not in SIZES:
        raise InputError(f"The size is {size!r}, but it must be one of {', '.join(SIZES)}: --size medium.")
    known = dict(given or {})
    choices = []
    for rule in task, history, model, batch, loss, seen, training:
        made = rule(facts, size, known)
        own = {name: value for name, value in made.settings.items() if name not in known}
        known |= own
        if own:
            choices.append(Choice(own, made.why))
    return choices


# The rules, in this order --------------------------------------------------------------------------------------------


def task(facts: TableFacts, size: str, known: Known) -> Choice:
    kind, main = known.get("model.kind", "hstu"), known.get("ranking.main", facts.main_action)
    if not main or kind == "sasrec" or ("ranking" in known and known["ranking"] is None):
        why = ": no action tells some events from others, so there is nothing to rank by" if not main else ""
        settings: dict[str, Value] = {"model.kind": kind}
        if main and facts.exposures:
            settings["data.positive"] = [main]
            why = f". On {facts.idle:.0%} of the events nothing was done, so it is the next with {main}"
        return Choice(settings, f"it learns which item comes next{why}")
    joint = kind not in ("dlrm", "wukong")
    settings = {
        "model.kind": kind,
        "ranking.main": main,
        "ranking.next_item": 0.2 if joint else 0.0,
        "ranking.context": list(facts.user_attributes[:MOST_ATTRIBUTES]),
        "ranking.item_attributes": list(facts.item_attributes[:MOST_ATTRIBUTES]),
        "ranking.log_values": list(facts.skewed_values),
        "evaluation.select": "ne",
    }
    share = f"{main}, in {facts.actions.get(main, 0):.0%} of the events,"
    if not joint:
        return Choice(settings, f"it ranks what is shown: {share} is what it predicts")
    why = f"it learns which item comes next and what is done with it: {share} tells items apart"
    if facts.exposures:
        settings["data.positive"] = [main]
        why += f". On {facts.idle:.0%} of them nothing was done, so the next item is the next with {main}"
    return Choice(settings, why)


def history(facts: TableFacts, size: str, known: Known) -> Choice:
    longest = next((window for window in WINDOWS if window >= facts.p90), WINDOWS[-1])
    taken = min(longest, LONGEST[size])
    events = known.get("data.max_len", taken)
    why = "these fit" if events >= facts.p90 else f"the latest {events:,} are read"
    tokens = events
    if known.get("ranking.main") and known.get("model.kind") != "dlrm":
        tokens = 2 * events + len(known.get("ranking.context", ())) + 1  # an item and an action each, and the candidate
    settings: dict[str, Value] = {"data.max_len": taken}
    if known["model.kind"] not in ("dlrm", "wukong"):
        settings["model.max_len"] = tokens
    return Choice(settings, f"nine users in ten have up to {facts.p90:,.0f} events, and {why}")


def model(facts: TableFacts, size: str, known: Known) -> Choice:
    kind = known["model.kind"]
    if kind in ("dlrm", "wukong"):
        return Choice({}, "")
    width, layers = SIZES[size]
    width = known.get("model.width", width)
    heads = known.get("model.heads", 2)
    each = facts.events / max(1, facts.items)
    dropout = 0.2 if each >= 100 else 0.3 if each >= 30 else 0.5
    settings: dict[str, Value] = {
        "model.width": width,
        "model.layers": layers,
        "model.heads": heads,
        "model.dropout": dropout,
    }
    if kind == "hstu":
        settings |= {
            "model.qk_width": max(1, width // heads),
            "model.v_width": max(1, width // heads),
            "model.linear_dropout": dropout,
            "model.time_bias": facts.has_times,
        }
    else:
        settings["model.hidden"] = width if kind == "sasrec" else width * 8 // 3
    why = f"size {size}; dropout goes by {each:,.0f} events an item (the fewer, the more of it)"
    return Choice(
        settings, why + ("" if facts.has_times or kind != "hstu" else "; no bias by time, since there are no times")
    )


def batch(facts: TableFacts, size: str, known: Known) -> Choice:
    users = next((users for users in (256, 128, 64, 32) if facts.users >= users * STEPS), 16)
    return Choice(
        {"data.users_per_batch": users}, f"so that an epoch over {facts.users:,} users has about {STEPS} steps"
    )


def loss(facts: TableFacts, size: str, known: Known) -> Choice:
    if known["model.kind"] in ("dlrm", "wukong"):
        return Choice({}, "")
    catalogue = f"{facts.items:,} items to tell apart"
    if facts.items < HUGE_CATALOGUE:
        return Choice({"loss.num_negatives": 128 if facts.items < MANY_ITEMS else 512}, catalogue)
    settings: dict[str, Value] = {
        "loss.num_negatives": 1024,
        "loss.shared_negatives": True,
        "training.embedding_optimizer": "rowwise_adamw",
    }
    return Choice(settings, f"{catalogue}, so a step touches only those that it uses")


def seen(facts: TableFacts, size: str, known: Known) -> Choice:
    share = f"{facts.repeats:.1%} of the events are on an item that the user had met before"
    if facts.repeats >= REPEATED:
        return Choice({"evaluation.seen": "none"}, f"{share}, so seen items are recommended again")
    joint = known.get("ranking.main")  # of a joint model those of the window alone can be left out
    return Choice({"evaluation.seen": "window" if joint else "history"}, f"{share}, so seen items are left out")


def training(facts: TableFacts, size: str, known: Known) -> Choice:
    patience = 2 if facts.events >= MANY_EVENTS else 3 if known.get("ranking.main") else 5
    why = f"until {patience} epochs in a row bring nothing on validation"
    return Choice({"training.epochs": 100, "training.patience": patience}, why)
