"""Lists that were shown, as ranks that can be read off the file."""

import numpy as np
import pytest

from louder.data.table import open_table
from louder.errors import InputError
from louder.trial.present import read_shown
from louder.trial.systems import Held
from tests.tables import events, write_table


@pytest.fixture
def table(tmp_path):
    """Users 100 to 103 with items 1000 to 1005; the last event of each, at time 180, is held out."""
    return open_table(
        write_table(tmp_path / "t", [events(0, 1, 2, 3), events(1, 2, 3, 4), events(2, 3, 4, 5), events(0, 1, 2, 5)])
    )


def held(table) -> Held:
    rows = table.offsets[1:] - 1
    return Held(rows, np.arange(4), table.ids[rows], np.full(4, 3), np.ones(4))


def written(folder, text):
    file = folder / "lists.csv"
    file.write_text(text)
    return file


def test_a_rank_is_the_position_of_what_came_next(table, tmp_path):
    file = written(
        tmp_path,
        "user,item,position\n100,1003,2\n100,1001,1\n101,1001,1\n102,1005,12\n999,1001,1\n101,7,2\n",
    )
    shown = read_shown(file, table, held(table))
    assert shown.asked.tolist() == [0, 1, 2]  # user 103 was shown nothing
    assert shown.ranks.tolist() == [2, np.inf, 12]
    assert (shown.longest, shown.rows, shown.unknown, shown.timed) == (10, 6, 2, False)


def test_the_latest_list_before_the_event_counts(table, tmp_path):
    file = written(
        tmp_path,
        "user,item,position,timestamp\n"
        "100,1003,1,50\n100,1001,1,170\n"  # the later list has it no more
        "101,1001,1,60\n101,1004,3,180\n"  # shown in that second
        "102,1005,1,181\n",  # too late
    )
    shown = read_shown(file, table, held(table))
    assert (shown.asked.tolist(), shown.ranks.tolist(), shown.timed) == ([0, 1], [np.inf, 3], True)
    assert shown.longest == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user,item\n100,1001\n", "have no column 'position'; they have user, item"),
        ("user,item,position\n100,1001,first\n", "'position' of the lists .* something else than numbers"),
        ("user,item,position\n100,1001,0\n", "is below 1"),
        ("user,item,position\n7,1001,1\n", "are of none of the 4 users who are asked about. Are their ids"),
        ("user,item,position,timestamp\n100,1001,1,999\n", "before the event that was held out"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(table, tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        read_shown(written(tmp_path, text), table, held(table))


def test_a_file_that_is_not_there_is_told(table, tmp_path):
    with pytest.raises(InputError, match=r"no\.csv cannot be read"):
        read_shown(tmp_path / "no.csv", table, held(table))
