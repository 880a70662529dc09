"""What a run scored on what was held out: the row that the command line prints, with a table of it."""

from collections.abc import Sequence
from pathlib import Path

from louder.api import facts
from louder.results import Row

METRICS = "hr@1", "hr@10", "hr@50", "ndcg@10", "mrr", "coverage@10"
OF_AN_ACTION = "ne", "auc", "gauc_user", "log_loss", "calibration"


class Measured(dict[str, object]):
    """A result of `evaluate`: names -> numbers, as `louder evaluate --json` prints them. `metrics` of a run that finds the
    next item, beside `popularity`; `actions` and `values` of one that ranks; `answer` of both stages."""

    def __init__(self, row: Row) -> None:
        super().__init__(row)

    def __repr__(self) -> str:
        return "\n\n".join(as_text(*table) for table in tables(dict(self)))

    def _repr_html_(self) -> str:
        return "".join(facts.table(*table) for table in tables(dict(self)))


Cells = Sequence[Sequence[object]]


def tables(row: Row) -> list[tuple[str, Sequence[str], Cells]]:
    """Title, head and cells of each."""
    found: list[tuple[str, Sequence[str], Cells]] = []
    if "metrics" in row:
        head = (
            f"{row['run']} on {row['part']}: {row['users']:,} users, {row['items']:,} items, epoch {row['epoch'] + 1}"
        )
        cells = [[name, row["metrics"][name], row["popularity"][name]] for name in METRICS]
        found.append((head, ["metric", row["run"], "popularity"], cells))
    if "actions" in row:
        head = f"{row['run']} on {row['part']}: {row['impressions']:,} exposures"
        cells = [[name, *(own.get(key) for key in OF_AN_ACTION)] for name, own in row["actions"].items()]
        found.append((head, ["action", *OF_AN_ACTION], cells))
        if row["values"]:
            found.append(("values", ["value", "rmse"], [[name, own["rmse"]] for name, own in row["values"].items()]))
    if "next_item" in row:
        names = [name for name in METRICS if name in row["next_item"]]
        found.append(("next item", ["metric", row["run"]], [[name, row["next_item"][name]] for name in names]))
    if answer := row.get("answer"):
        names = ["hr@10", "ndcg@10", "liked_hr@10", "coverage@10"]
        lists = ["default", "retrieval", "ranker", "popularity"]
        cells = [[title, *(answer[title].get(name) for name in names)] for title in lists]
        found.append((f"lists of both stages: {answer['requests']:,} requests", ["list", *names], cells))
    return found


def as_text(title: str, head: Sequence[str], cells: Cells) -> str:
    rows = [list(map(str, head)), *([facts.shown(x) for x in row] for row in cells)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]) for first, *rest in rows]
    return "\n".join([title, *lines])


class ReportPage:
    """A page about a run, in a file that any browser opens."""

    def __init__(self, path: Path, measured: Measured) -> None:
        self.path, self.measured = path, measured

    def __repr__(self) -> str:
        return f"{self.path}\n{self.measured!r}"

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        link = f'<p><a href="{self.path.resolve().as_uri()}" target="_blank">{facts.escape(str(self.path))}</a></p>'
        return self.measured._repr_html_() + link

    def open(self) -> None:
        """In the browser."""
        import webbrowser

        webbrowser.open(self.path.resolve().as_uri())
