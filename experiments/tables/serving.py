"""docs/benchmarks/serving.md: what was asked of the service, and what was measured."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.tables.lines import Tables, rows_of, table
from louder.results import Row

RETRIEVE, RECOMMEND = "retrieve top-100", "recommend, 500 ranked"
HALF, OVER = "recommend at half of saturation", "recommend at three times saturation"
HOUR = "an hour at half of saturation, beside other programs"


def serving() -> list[str]:
    rows = rows_of("serving")
    by_case = {(row["case"], row["implementation"]): row for row in rows if row["bench"] == "serving"}
    half, hour, over, swaps, gone = (
        by_case[case, "louder"] for case in (HALF, HOUR, OVER, "hot reloads", "redis gone")
    )
    alone = {name: by_case[f"{name}, cached, one client", "louder"] for name in (RETRIEVE, RECOMMEND)}
    kills = {row["implementation"]: row for row in rows if row["bench"] == "store_kill"}  # the latest
    contract = next(row for row in reversed(rows) if row["bench"] == "serving_contract")
    counts = ", ".join(f"{count} {name}" for name, count in gone["gone"].items())
    at_half = f"{HALF} ({half['per_second']:.0f} a second), {half['seconds']:.0f} s"
    accepted, well = "accepted p99 300 ms, the rest 429, well again in 5 s", f"{over['recovered_s']:.1f} s"
    wrong = f"{swaps['mixed_or_failed']} failed or mixed of {swaps['requests']:,}, by {len(swaps['versions'])} models"
    violations = f"{sum(contract['failures'].values())} of {contract['cases']:,} cases"
    outage = f"Redis gone for {gone['seconds']:.0f} s", "with a history answered, others 503, back by itself"
    lines = [
        ("retrieve 100, kept history, one client", "p50 5 ms, p99 15 ms", latency(alone[RETRIEVE])),
        ("recommend (500 ranked), kept history, one client", "", latency(alone[RECOMMEND])),
        (at_half, "p99 100 ms, no errors, memory flat", f"{latency(half)}; {statuses(half)}; {memory(half)}"),
        (f"{HOUR} ({hour['per_second']:.0f} a second)", "memory flat", f"{statuses(hour)}; {memory(hour)}"),
        *(
            (f"{name}, 16 clients, against --no-cache", "5 times", against(by_case, f"{name}, 16 clients"))
            for name in (RETRIEVE, RECOMMEND)
        ),
        (f"{OVER}, {over['seconds']:.0f} s", accepted, f"{latency(over)}; {statuses(over)}; {well}"),
        (f"{swaps['reloads']} hot reloads at half of saturation", "none failed, none mixed", wrong),
        *(killed(name, kills[store]) for store, name in {"files": "files", "redis": "Redis"}.items()),
        ("Schemathesis", "10,000 cases, no 5xx, no violation", violations),
        (*outage, f"{counts}; back after {gone['back_after_s']:.1f} s"),
    ]
    return table(["what", "asked", "measured"], lines)


def killed(store: str, row: Row) -> tuple[str, str, str]:
    lost = f"{row['lost']} of {row['acknowledged']:,}"
    return f"kill -9, {row['kills']} times, {store}", "no acknowledged event lost", lost


def memory(row: Row) -> str:
    told = f"{row['mib'][0]:,} MiB before, {row['mib'][1]:,} after a minute"
    middle = f", {row['mib'][15]:,} after a quarter of an hour" if len(row["mib"]) > 30 else ""
    return f"{told}{middle}, {row['mib'][-1]:,} after all"


def latency(row: Row) -> str:
    return f"p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms"


def statuses(row: Row) -> str:
    return ", ".join(f"{count:,} with {status}" for status, count in row["statuses"].items())


def against(by_case: dict[tuple[str, str], Row], case: str) -> str:
    kept, never = (by_case[case, name]["per_second"] for name in ("louder", "no-cache"))
    return f"{kept:,.0f} against {never:,.0f} a second: {kept / never:.1f} times"


def sizing() -> list[str]:
    """What a process and a user of the service take, by store."""
    rows = {row["case"]: row for row in rows_of("serving") if row["bench"] == "serving"}
    found = [rows[case] for case in ("sizing, files", "sizing, redis") if case in rows]
    facts: dict[str, Callable[[Row], str]] = {
        "memory of a process before its first request": lambda row: f"{row['mib']:,} MiB",
        "kept keys and values, each user": lambda row: f"{row['cached_bytes'] / row['active_users'] / 1000:,.0f} kB",
        "store, each user": lambda row: f"{row['store_bytes'] / row['users'] / 1000:,.1f} kB",
        "events stored a second, 1 in a request, 8 clients": partial(stored, 1),
        "events stored a second, 100 in a request, 8 clients": partial(stored, 100),
    }
    lines = [[name, *(told(row) for row in found)] for name, told in facts.items()] if len(found) == 2 else []
    return table(["what", "files", "Redis"], lines)


def stored(events: int, row: Row) -> str:
    return f"{row[f'events_per_second_by_{events}']:,} (p99 {row[f'p99_ms_by_{events}']:,.0f} ms)"


def above_keep() -> list[str]:
    """What users get who did more than a store keeps: by the first row that there is, and by the latest."""
    rows = [row for row in rows_of("serving") if row["bench"] == "heavy_users"]
    facts: dict[str, Callable[[Row], str]] = {
        "offered, and had already": lambda row: f"{row['had_already']} of {row['answered']}",
        "scores off those of the whole history, at most": lambda row: f"{row['score_off']:.2g}",
        "requests after a new event that missed the cache": lambda row: f"{row['misses']} of {row['requests']}",
    }
    lines = [[name, told(rows[0]), told(rows[-1])] for name, told in facts.items()] if len(rows) > 1 else []
    return table(["what", "before", "now"], lines)


def bad_clients() -> list[str]:
    """Clients that are impatient, greedy or slow, and an end under load; nothing where it was not measured."""
    rows = {row["case"]: row for row in rows_of("serving") if row["bench"] == "serving"}
    told: dict[str, Callable[[Row], list[tuple[str, str, str]]]] = {
        "impatient clients": impatient,
        "greedy clients": greedy,
        "filter bombs": bombs,
        "slow clients": slow,
        "SIGTERM under load": ended,
    }
    lines = [line for case, lines_of in told.items() if case in rows for line in lines_of(rows[case])]
    return table(["what", "asked", "measured"], lines) if lines else []


def impatient(row: Row) -> list[tuple[str, str, str]]:
    rates = ", ".join(f"{rate:,.0f} at {clients}" for clients, rate in zip(row["clients"], row["per_second"]))
    asked = "at 64 and afterwards .8 of the best"
    return [("clients that ask again at once when they are refused, answers a second", asked, rates)]


def greedy(row: Row) -> list[tuple[str, str, str]]:
    alone = row["alone"]["per_second"]
    what = f"4 clients beside {{}} that rank {row['items']:,} items each time"
    kinds = {"1": "1 of another address", "8": "8 of another address", "8 of the same address": "8 of the same address"}
    return [
        (what.format(kind), ".8", f"{beside['per_second']:,.0f} of {alone:,.0f} a second alone; {statuses(beside)}")
        for name, kind in kinds.items()
        if (beside := row.get(f"beside {name}")) is not None
    ]


def bombs(row: Row) -> list[tuple[str, str, str]]:
    def line(kind: str, asked: str) -> tuple[str, str, str]:
        beside, alone = row[kind], row["alone"]["per_second"]
        told = f"{beside['per_second']:,.0f} of {alone:,.0f} a second alone, p99 {beside['p99_ms']:.0f} ms"
        return (f"4 clients beside 1 of another address that filters by {kind} each time", asked, told)

    return [line("5,000 values", "refused"), line("500 values", "answered"), line("16,384 denied", "answered")]


def slow(row: Row) -> list[tuple[str, str, str]]:
    (before, rate), (empty, full) = row["per_second"], row["mib"]
    idle = f"{rate:,.0f} a second, {before:,.0f} without; {full - empty:,} MiB"
    dripping = f"within {row['slow_closed_s']:.0f} s"
    return [
        (f"4 clients beside {row['idle']:,} idle connections", "no answer lost", f"{idle}; {statuses(row)}"),
        (f"{row['slow']:,} connections that send a byte of their headers each second", "closed", dripping),
        ("headers that never end", "closed", f"after {row['endless_headers_bytes'] / 1024:,.0f} KiB"),
    ]


def ended(row: Row) -> list[tuple[str, str, str]]:
    after = row["after_s"]
    told = f"/readyz is 503 after {after['ready 503']:.1f} s, listening ends after {after['ended']:.1f} s"
    return [("SIGTERM while 4 clients ask, --grace 3", "none failed before", f"{told}; {statuses(row)}")]


def first_uses() -> list[str]:
    """The first answer of each kind and the second, of a service that has just opened its port."""
    rows = [row for row in rows_of("serving") if row.get("case") == "first uses"]
    lines = [[kind, *(f"{ms:,.0f} ms" for ms in both)] for row in rows[-1:] for kind, both in row["ms"].items()]
    return table(["what", "the first", "the second"], lines)


def canaries() -> list[str]:
    """Models that were published in place of a live one, and what was said of them when it was measured last."""
    latest = {(Path(row["command"].split()[3]).name, row["case"]): row["refused"] for row in rows_of("canaries")}
    lines = [[*names, refused.partition(". To take")[0] or "taken"] for names, refused in latest.items()]
    return table(["live", "published", "said"], lines)


def publishing() -> list[str]:
    """Deltas beside the whole model, and the pause of a service that takes one."""
    rows = {(row["implementation"], row["items"]): row for row in rows_of("publish") if row["case"] == "delta"}
    lines = [
        [
            f"{run}, {items:,} items",
            f"{row['base_bytes'] / 1e6:,.1f} MB",
            f"{row['delta_bytes'] / 1e6:,.2f} MB",
            f"{row['share']:.1%}",
            *(f"{1000 * row[name]:,.0f} ms" for name in ("publish_s", "prepare_s", "take_s", "take_max_s")),
        ]
        for (run, items), row in rows.items()
    ]
    names = ["model", "whole", "delta", "share", "publish", "read and check", "pause", "longest pause"]
    return table(names, lines)


def publishing_under_load() -> list[str]:
    rows = {(row["implementation"], row["items"]): row for row in rows_of("publish") if "publishes" in row}
    lines = [
        [
            f"{run}, {items:,} items",
            f"{row['publishes']}",
            f"{row['requests']:,}",
            f"{row['failed']}",
            f"{row['mixed']}",
            f"{1000 * row['p50_s']:,.0f} ms",
            f"{1000 * row['p99_s']:,.0f} ms",
            f"{row['seen_after_s']:.2f} s",
        ]
        for (run, items), row in rows.items()
    ]
    return table(["model", "publishes", "requests", "failed", "mixed", "p50", "p99", "answers by it after"], lines)


def long_histories() -> list[str]:
    """With its cache and without, for histories of some lengths."""
    rows = [row for row in rows_of("serving") if row.get("case") == "long histories"]
    lines = [
        [
            f"{row['events']:,}",
            *(f"{row[name]:.1f} ms" for name in ("kept_ms", "anew_ms")),
            f"{row['times_faster']:.1f}",
        ]
        for row in rows
    ]
    return table(["events of a history", "cached", "--no-cache", "times faster"], lines)


TABLES: Tables = {
    "long histories": long_histories,
    "serving": serving,
    "sizing": sizing,
    "above-keep": above_keep,
    "bad-clients": bad_clients,
    "first uses": first_uses,
    "canaries": canaries,
    "publishing": publishing,
    "publishing under load": publishing_under_load,
}
