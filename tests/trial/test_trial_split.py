"""By time where people come back; else the last events."""

import numpy as np

from louder.data.table import open_table
from louder.data.targets import split
from louder.trial.split import choose_split
from louder.trial.systems import latest_of_each
from tests.tables import events, write_table


def test_the_cuts_are_at_eight_and_nine_tenths_of_the_events(tmp_path):
    users = [events(*range(10), start=user, gap=100) for user in range(20)]
    table = open_table(write_table(tmp_path / "t", users))
    config, said = choose_split(table, enough=20)
    assert (config.kind, config.validation_from, config.test_from) == ("time", 800, 900)
    assert "first 80 %" in said
    assert len(split(table, "test", config, held_out=2).users) == 20


def test_visitors_who_never_return_have_their_last_event_held_out(tmp_path):
    users = [events(*range(5), start=10_000 * user) for user in range(30)]
    config, said = choose_split(open_table(write_table(tmp_path / "t", users)), enough=20)
    assert config.kind == "leave_last_out" and "Fewer than 20 people come back" in said


def test_a_log_of_one_moment_or_without_times_cannot_be_cut(tmp_path):
    at_once = [events(*range(5), gap=0) for _ in range(30)]
    assert choose_split(open_table(write_table(tmp_path / "a", at_once)), enough=1)[0].kind == "leave_last_out"
    ordered = open_table(write_table(tmp_path / "b", [events(*range(5))] * 30, has_times=False))
    assert "has no times" in choose_split(ordered, enough=1)[1]


def test_item_knn_counts_the_latest_events_of_each_user():
    assert latest_of_each(np.array([0, 0, 0, 2, 3, 3]), 2).tolist() == [False, True, True, True, True, True]
