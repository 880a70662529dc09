"""What a sentence says to type leads somewhere; what cannot be meant is told before any work is done."""

import json
from datetime import UTC, date, datetime

import pytest
from runs import untrained_run
from tables import events, random_users, tiny_config, write_table

from louder.api.moments import seconds
from louder.config import seconds_of
from louder.errors import InputError
from louder.etl import LogSpec, build_table
from louder.training.config import EvaluationConfig, TrainingConfig
from louder.training.loop import choose_device

NOW = 1_714_557_600  # 2024-05-01 10:00


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text(f"user_id,item_id,timestamp,click\n1,2,{NOW},1\n1,3,{NOW + 1},0\n")
    return tmp_path / "log.csv"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--column", "timestamp=tss"], "has no column 'tss'|--column timestamp=NAME"),
        (["--column", "user_id=who"], "has no column 'who'|--column user_id=NAME"),
        (["--column", "tss=timestamp"], "the other way round: --column timestamp=tss"),
        (["--action", "like=is_like"], "has no column 'is_like'|--action like=NAME"),
        (["--action", "like=stars >= 4"], "has no column 'stars'|--action like=NAME"),
        (["--value", "watch=secs"], "has no column 'secs'|--value watch=NAME"),
        (["--series", "city=town"], "has no column 'town'|--series city=NAME"),
        (["--items", "nope.csv"], "There is no file or folder nope.csv|file of items, or leave it out"),
        (["--users", "nope.csv"], "There is no file or folder nope.csv|file of users, or leave it out"),
        (["--quote", "x"], "quote is 'x'"),
        (["--delimiter", "ab"], "must be one character"),
        (["--time-unit", "min"], "time_unit is 'min', but it must be one of auto, s, ms"),
    ],
)
def test_a_mistake_in_a_flag_says_the_flag(log, louder, flags, words):
    code, _, err = louder("etl", log, "-o", "t", *flags)
    assert code == 2
    for word in words.split("|"):
        assert word in err


def test_a_table_and_a_run_are_told_apart(louder, tmp_path):
    table = write_table(tmp_path / "t", random_users(20, items=15), items=15)
    run = untrained_run(tiny_config(table), tmp_path / "run")
    (run / "config.json").write_text("{}")
    for command in (["recommend", table, "--user", "1"], ["evaluate", table], ["rank", table, "--items", "1"]):
        code, _, err = louder(*command)
        assert (code, "t is a sequence table, and no run. Train on it: louder train RECIPE --table" in err) == (2, True)
    code, _, err = louder("data", "inspect", run)
    assert (code, "run is a run, and no sequence table" in err) == (2, True)
    (tmp_path / "empty").mkdir()
    code, _, err = louder("evaluate", tmp_path / "empty")
    assert (code, "empty is no run: it has no config.json" in err) == (2, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (str(NOW), NOW),
        ("0", 0),
        ("-5", -5),
        ("2024-05-01", NOW - 36_000),
        ("2024-05-01T10:00", NOW),
        ("2024-05-01 10:00:00", NOW),
        ("2024-05-01T12:00+02:00", NOW),
        ("2024-05-01T10:00:00Z", NOW),
        ("20240501", 20_240_501),
    ],
)
def test_times_are_typed_as_seconds_or_dates(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "99999999999999999999", "2024-13-01", "1e9", "nan", "05/01/2024"])
def test_what_is_no_time_is_told(text):
    with pytest.raises(InputError, match=r"--at 2024-05-01T10:00"):
        seconds(text)


def test_a_time_of_a_request_may_be_a_date(louder, tmp_path):
    table = write_table(tmp_path / "t", [events(*range(9), start=NOW + 600 * user) for user in range(9)], items=15)
    run = untrained_run(tiny_config(table), tmp_path / "run")
    command = "recommend", run, "--user", "100", "--json", "--at"
    dated, counted = louder(*command, "2024-05-01T10:05"), louder(*command, NOW + 300)
    assert dated == counted
    assert dated[0] == 0
    assert dated[1] != louder(*command, "2024-05-01T10:02")[1]
    assert louder(*command, "99999999999999999999")[0] == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (date(2024, 5, 1), NOW - 36_000),
        (datetime(2024, 5, 1, 10), NOW),
        (datetime(2024, 5, 1, 10, tzinfo=UTC), NOW),
    ],
)
def test_dates_of_yaml_are_seconds(given, expected):
    assert seconds_of(given) == expected


def test_a_split_may_be_named_by_dates(louder):
    split = [
        "data.split.kind=time",
        "data.split.validation_from=2024-05-01",
        "data.split.test_from=2024-05-01 10:00:00",
    ]
    code, out, err = louder("train", "demo", "--table", "t", "--show", *(word for x in split for word in ("--set", x)))
    assert (code, err) == (0, "")
    assert f"validation_from: {NOW - 36_000}\n" in out
    assert f"test_from: {NOW}\n" in out


@pytest.mark.parametrize("seed", [-1, 2**32, 99999999999999999999])
def test_a_seed_has_its_bounds(seed):
    with pytest.raises(InputError, match=r"training\.seed must be"):
        TrainingConfig(seed=seed)


@pytest.mark.parametrize("name", ["cuda:99", "xpu", "tpu", ""])
def test_a_device_that_is_not_there_is_told(name):
    with pytest.raises(InputError, match=r"training\.device is"):
        choose_device(name)


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_where_a_row_goes_is_looked_at_first(command, louder, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr("louder.training.tasks.evaluate_run", lambda *_, **__: called.append(1))
    monkeypatch.setattr("louder.training.loop.train", lambda *_, **__: called.append(1))
    target = ["demo", "--table", "t"] if command == "train" else ["r"]
    code, _, err = louder(command, *target, "--row", tmp_path)
    assert (code, called) == (2, [])
    assert "no file that a row can be added to. Name another: --row FILE.jsonl" in err


# --- people who come back ---------------------------------------------------------------------------------------------


@pytest.fixture
def repeating(tmp_path):
    """Everybody goes round the same few items: each target was met before."""
    users = [events(*([user % 3, user % 3 + 1, user % 3 + 2] * 3)) for user in range(20)]
    return write_table(tmp_path / "t", users, items=6)


def test_targets_that_were_seen_are_counted_and_told(repeating, tmp_path, louder):
    run = untrained_run(tiny_config(repeating), tmp_path / "run")
    code, out, _ = louder("evaluate", run)
    assert code == 0
    said = " ".join(out.split())
    assert "20 of 20 targets were left out as already seen, so they count as misses." in said
    assert "--set evaluation.seen=none" in said
    assert json.loads(louder("evaluate", run, "--json")[1])["targets_left_out"] == 20
    _, out, _ = louder("evaluate", run, "--seen", "none")
    assert "left out" not in out
    assert json.loads(louder("evaluate", run, "--seen", "none", "--json")[1])["targets_left_out"] == 0


def test_a_run_that_leaves_nothing_out_recommends_what_was_seen(repeating, tmp_path, louder):
    config = tiny_config(repeating, evaluation=EvaluationConfig(seen="none"))
    back, new = untrained_run(config, tmp_path / "back"), untrained_run(tiny_config(repeating), tmp_path / "new")

    def items(run, *flags):
        return {entry["item"] for entry in json.loads(louder("recommend", run, "--user", "100", "--json", *flags)[1])}

    seen = {1000, 1001, 1002}
    assert items(back) == items(new, "--seen") == {1000 + item for item in range(6)}
    assert items(new) == items(back, "--unseen") == {1000 + item for item in range(6)} - seen


def test_a_column_that_is_not_there_is_told_from_python_too(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n1,2,3\n")
    with pytest.raises(InputError, match=r"no column 'x'.*--value watch=NAME"):
        build_table(tmp_path / "log.csv", tmp_path / "t", spec=LogSpec(values={"watch": "x"}))


@pytest.mark.parametrize("command", ["inspect", "report", "recommend"])
def test_an_output_never_replaces_what_was_read(command, repeating, tmp_path, louder):
    run = untrained_run(tiny_config(repeating), tmp_path / "run")
    precious = tmp_path / "users.csv"
    precious.write_text("user\n100\n101\n")
    arguments = {
        "inspect": ["data", "inspect", repeating, "--html", precious],
        "report": ["report", run, "-o", precious],
        "recommend": ["recommend", run, "--users", precious, "-o", precious],
    }[command]
    code, _, _ = louder(*arguments)
    assert (code, precious.read_text()) == (2, "user\n100\n101\n")


def test_a_page_is_replaced_by_a_page(repeating, tmp_path, louder):
    page = tmp_path / "page.html"
    page.write_text("")
    for _ in range(2):
        assert louder("data", "inspect", repeating, "--html", page)[0] == 0
    page.write_text("my notes")
    code, _, err = louder("data", "inspect", repeating, "--html", page)
    assert (code, page.read_text()) == (2, "my notes")
    assert "is there and is no page, so it is left alone. Choose another place: --html FILE.html" in err
