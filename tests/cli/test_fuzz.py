"""Odd files and odd command lines, drawn by a seed: each ends with an answer or a sentence, and leaves nothing half made.

It draws for a few seconds. For longer: LOUDER_FUZZ_SECONDS=600 pytest tests/cli/test_fuzz.py
"""

import json
import os
import random
import shlex
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import untrained_run
from tables import random_users, ranking_table, tiny_config, tiny_ranking_config, write_ranking_table, write_table

SECONDS = float(os.environ.get("LOUDER_FUZZ_SECONDS", "6"))
NOW = 1_700_000_000
CELLS = [
    *(
        "",
        " ",
        "NaN",
        "-1",
        "0",
        "1e400",
        "99999999999999999999",
        '"',
        '""',
        "'",
        "\0",
        "é",
        "💥",
        "0x1f",
        "4,5",
        "a|b",
    ),
    *(
        "2024-05-01",
        "31/12/2024",
        "20240501",
        "45413",
        "true",
        "null",
        "[1, 2]",
        "{}",
        "::",
        "\t",
        "\r",
        "-9223372036854775808",
    ),
]
NAMES = [
    "user_id",
    "item_id",
    "timestamp",
    "rating",
    "request_id",
    "USER_ID",
    "",
    "raw",
    "file_row_number",
    "a b",
    '"',
    "💥",
]
WORDS = [
    "",
    "nan",
    "-1",
    "0",
    "1",
    "99999999999999999999",
    "1e9",
    "no/such/file",
    ".",
    "..",
    "/dev/null",
    "-",
    "a=b",
    "=",
    "💥",
    "'",
]
FLAGS = {
    "--column": ["timestamp=ts", "user_id=item_id", "item_id=", "x=y", "timestamp=user_id", "ts=timestamp"],
    "--action": ["like=rating >= 4", "like=rating", "a=nope", "a=rating > x", "=", "a==", "a=user_id == 1"],
    "--value": ["rating=rating", "v=user_id", "v=nope", "p=__position"],
    "--series": ["city=item_id", "user=rating", "s=nope"],
    "--time-unit": ["s", "ms", "iso", "excel", "min", ""],
    "--time-format": ["%Y", "%Q", "%", "%d/%m/%Y|%Y"],
    "--delimiter": [",", ";", "tab", "ab", "", '"'],
    "--encoding": ["latin-1", "utf-16", "klingon", "ascii", "base64"],
    "--quote": ["none", '"', "x"],
    "--format": [
        "csv",
        "jsonl",
        "parquet",
        "sequences",
        "movielens",
        "kuairand",
        "leave-one-out",
        "amazon-ratings",
        "x",
    ],
    "--items": ["LOG", "ITEMS", "no.csv", "."],
    "--users": ["LOG", "ITEMS"],
    "--k-core": ["2", "99", "-1", "x"],
    "--min-user-events": ["2", "-5"],
    "--memory": ["1KB", "lots", "100MB"],
    "--threads": ["1", "0", "-1"],
    "--name": ["", "a/b", "💥"],
    "--no-times": [None],
    "--string-ids": [None],
    "--drop-duplicates": [None],
    "--json": [None],
}


def rows_of(draw: random.Random) -> tuple[list[str], list[list[str]]]:
    names = ["user_id", "item_id", "timestamp", "rating"]
    rows = [
        [str(draw.randrange(5)), str(draw.randrange(7)), str(NOW + draw.randrange(9**5)), str(draw.randrange(6))]
        for _ in range(draw.choice([1, 3, 40]))
    ]
    for _ in range(draw.choice([0, 0, 1, 3])):
        rows[draw.randrange(len(rows))][draw.randrange(4)] = draw.choice(CELLS)
    if draw.random() < 0.2:
        names[draw.randrange(4)] = draw.choice(NAMES)
    return names, rows


def content_of(draw: random.Random) -> tuple[str, bytes]:
    """The name and the bytes of a log, rarely a good one."""
    names, rows = rows_of(draw)
    kind = draw.choice(["csv", "csv", "txt", "jsonl", "json", "parquet"])
    if kind == "parquet":
        columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
        if draw.random() < 0.5:
            columns |= {name: pa.array(range(len(rows))) for name in names[:2]}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        data = sink.getvalue().to_pybytes()
    elif kind in ("jsonl", "json"):
        objects = [dict(zip(names, row)) for row in rows]
        data = (json.dumps(objects) if kind == "json" else "\n".join(map(json.dumps, objects))).encode()
    else:
        between, end = draw.choice([",", ",", ";", "\t", " ", "::"]), draw.choice(["\n", "\n", "\r\n"])
        lines = [between.join(line) for line in ([names] * (draw.random() < 0.8) + rows)]
        data = (end.join(lines) + end).encode(draw.choice(["utf-8", "utf-8", "utf-16"]), errors="replace")
    for _ in range(draw.choice([0, 0, 1, 2])):
        at = draw.randrange(len(data) + 1)
        odd = draw.choice([b"", b'"', b"\0", b"\xff", b"\n\n", data[at : at + 50], os.fsencode(draw.choice(CELLS))])
        data = data[:at] + odd + data[at + draw.choice([0, 1, 30, len(data)]) :]
    return draw.choice(["log", "log[1]", "a log", "log.parquet", "log.zip", "log.gz"]) + draw.choice(
        [f".{kind}", ""]
    ), data


def etl_of(draw: random.Random, folder: Path) -> list[str]:
    name, data = content_of(draw)
    (folder / name).write_bytes(data)
    (folder / "items.csv").write_bytes(content_of(draw)[1])
    arguments = ["etl", name, "-o", draw.choice(["t", "t", "deep/t", ".", name, f"{name}/t", "items.csv"])]
    for flag in draw.sample(sorted(FLAGS), draw.choice([0, 0, 1, 2, 3])):
        value = draw.choice(FLAGS[flag])
        arguments += [flag] if value is None else [flag, {"LOG": name, "ITEMS": "items.csv"}.get(value, value)]
    if draw.random() < 0.2:
        arguments.append("--overwrite")
    if draw.random() < 0.15:
        (folder / "log.yaml").write_bytes(
            draw.choice([b"", b"a: [", b"columns: 3", b"items: []", data[:80], b"series: {a: 1}"])
        )
        arguments += ["--schema", "log.yaml"]
    return arguments


def use_of(draw: random.Random, folder: Path, runs: list[Path]) -> list[str]:
    """A command on a run or a table, with odd words."""
    run = str(draw.choice(runs))
    table = run.replace("run", "table")
    (folder / "odd.json").write_text(
        draw.choice(["[]", "{}", "[1000]", '[{"item": 1}]', "[[1]]", '[{"item": 1000, "time": 1e99}]', "x", ""])
    )
    words = [*WORDS, "100", "1000", run, table, "odd.json"]
    command, options = draw.choice(
        [
            (
                ["recommend", run],
                [
                    "--user",
                    "--user",
                    "-k",
                    "--at",
                    "--history",
                    "--table",
                    "--users",
                    "-o",
                    "--where",
                    "--cap",
                    "--pin",
                ],
            ),
            (
                ["rank", run],
                ["--user", "--items", "--items", "--at", "--history", "--context", "--sort", "--new-items"],
            ),
            (["evaluate", run], ["--part", "--seen", "--table", "--row"]),
            (["data", "inspect", draw.choice([table, run, "odd.json", "."])], ["--html"]),
            (["report", run], ["-o", "--table"]),
            (["index", run], ["--kind", "--lists", "--probes", "--table"]),
            (
                [
                    "train",
                    draw.choice(["demo", "nope", "odd.json", "demo:x"]),
                    "--table",
                    draw.choice([table, run, "x"]),
                    "--show",
                ],
                ["--set", "--set"],
            ),
            (
                ["data", "synth", "checkerboard", "--users", "4", "--items", "6", "--length", "3"],
                ["-o", "--seed", "--communities"],
            ),
        ]
    )
    settings = [
        "training.seed",
        "training.learning_rate",
        "data.max_len",
        "model.width",
        "data.split.test_from",
        "nope",
        "training",
    ]
    for option in draw.sample(options, draw.randrange(1, min(4, len(options) + 1))):
        value = draw.choice(words)
        command += [option, f"{draw.choice(settings)}={value}" if option == "--set" else value]
    return command


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzed")
    write_table(
        folder / "table", random_users(20, items=15, actions=2), items=15, actions=["like", "share"], titles=True
    )
    untrained_run(tiny_config(folder / "table"), folder / "run")
    write_ranking_table(folder / "rank-table", ranking_table(1, users=30, longest=20, items=6))
    untrained_run(tiny_ranking_config(folder / "rank-table"), folder / "rank-run")
    return [folder / "run", folder / "rank-run"]


def check(louder, folder: Path, arguments: list[str], seed: int) -> None:
    """Run one command in an empty folder: an answer, or a sentence and exit code 2."""
    before = {file for file in folder.iterdir()}
    try:
        code, _, err = louder(*arguments)
    except Exception as error:
        raise AssertionError(f"seed {seed} in {folder}: louder {shlex.join(arguments)}") from error
    told = f"seed {seed} in {folder}: louder {shlex.join(arguments)}: {code} {err}"
    assert code in (0, 2), told
    assert "Traceback" not in err, told
    left = {file.name for file in folder.iterdir()} - {file.name for file in before}
    assert not [name for name in left if name.startswith(".")], told
    if code == 2 and arguments[0] == "etl":
        assert not left - {"deep"}, told


@pytest.mark.parametrize("what", ["etl", "use"])
def test_whatever_is_typed_ends_with_an_answer_or_a_sentence(what, louder, runs, tmp_path, monkeypatch):
    start, seed = time.monotonic(), int(os.environ.get("LOUDER_FUZZ_SEED", "0"))
    while time.monotonic() - start < SECONDS:
        folder = tmp_path / str(seed)
        folder.mkdir()
        monkeypatch.chdir(folder)
        draw = random.Random(f"{what} {seed}")
        check(louder, folder, etl_of(draw, folder) if what == "etl" else use_of(draw, folder, runs), seed)
        seed += 1
