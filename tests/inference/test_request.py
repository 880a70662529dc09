"""Events in any order become the columns of a history."""

import math

import pytest

from louder.errors import InputError
from louder.histories.history import Names
from louder.inference.request import Event, history_of
from tests.histories.events import NAMES


def event(item=1, time=0, **more):
    return Event(item, time, **more)


def test_a_history_is_put_in_order_and_ties_stay_as_they_came():
    history = history_of([event(1, 20), event(2, 10), event(3, 20), event(4, 10)], NAMES)
    assert history.items.tolist() == [2, 4, 1, 3] and history.times.tolist() == [10, 10, 20, 20]


def test_actions_are_bits_and_values_columns():
    events = [event(actions=["like", "like"]), event(actions=["like", "click"], values={"rating": 2.5}), event()]
    history = history_of(events, NAMES)
    assert history.actions.tolist() == [2, 3, 0] and history.names == NAMES
    shown = [[None if math.isnan(x) else x for x in row] for row in history.values.tolist()]
    assert shown == [[None, None], [None, 2.5], [None, None]]


def test_items_of_one_request_have_one_number_and_those_of_none_have_none():
    history = history_of([event(request=text) for text in ("a", "b", None, "a", None)], NAMES)
    one, other, none, again, also_none = history.requests.tolist()
    assert one == again >= 0 and other >= 0 and one != other and none == also_none == -1


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"actions": ["buy"]}, "There is no action 'buy'; the model knows click, like."),
        ({"values": {"buy": 1.0}}, "seconds, rating"),
    ],
)
def test_names_that_the_model_does_not_know_are_refused(wrong, text):
    with pytest.raises(InputError, match=text):
        history_of([event(**wrong)], NAMES)
    with pytest.raises(InputError, match="the model knows none"):
        history_of([event(**wrong)], Names())


def test_an_empty_history_has_its_columns():
    assert history_of([], NAMES).values.shape == (0, 2) and len(history_of([], NAMES)) == 0
