"""What a stranger is shown: users with a line about each, items by title, users by item."""

import random
import string
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from louder.histories import StoreDamaged, open_store
from louder.histories.history import Names
from louder.histories.items import ItemFacts
from louder.ids import IdMap
from louder.inference.catalogue import Catalogue
from louder.serving import messages as m
from louder.serving.explore import EVERY_S, SAMPLE, Explorer, by_title, sample_of
from tests.histories.events import event

GENRES = [["drama"], ["drama", "war"], ["war"], ["comedy"], ["comedy", "drama"], []]
TITLES = ["Alien", "The alien", "Aliens", "Babe", None, "% of (alien)"]


@pytest.fixture
def catalogue(tmp_path):
    columns = pa.table({"title": TITLES, "genres": GENRES, "poster": ["https://p.example/0", "http://no", *[None] * 4]})
    catalogue = Catalogue(SimpleNamespace(item_ids=IdMap(pa.array(range(10, 16))), items=columns), tmp_path / "nowhere")
    catalogue.popularity = np.array([1, 5, 2, 9, 9, 3], np.float32)
    return catalogue


@pytest.fixture
def store(tmp_path):
    store = open_store(str(tmp_path / "store"), names=Names())
    yield store
    store.close()


def fill(store, **users):
    """u7=[10, 11]: user 7 met 10 and then 11, one second later; the next user a hundred seconds later"""
    for place, (name, items) in enumerate(users.items()):
        user = int(name[1:])
        store.append([event(user, f"{n}", 100 * place + n, item) for n, item in enumerate(items)])


def explorer_of(store, catalogue):
    live = SimpleNamespace(catalogue=catalogue)
    models = SimpleNamespace(live=live)
    return Explorer(SimpleNamespace(store=store, models=models, reached=lambda function, *given: function(*given)))


def test_a_line_about_a_user_says_what_they_meet_more_than_others(store, catalogue):
    fill(store, u1=[10, 10, 10, 12], u2=[13, 13, 13, 10], u3=[12, 12, 99], u4=[15])
    users = {view["user"]: view for view in explorer_of(store, catalogue).some_users(9)["users"]}
    # of nine genres in all four are drama and three each are war and comedy: 4 / 10, 3 / 10, 3 / 10
    assert users[1]["favourites"] == ["drama"]  # 3 of 4 against 4 of 10; war is 1 of 4 against 3 of 10
    assert users[2]["favourites"] == ["comedy"] and users[3]["favourites"] == ["war"]
    assert users[4]["favourites"] == [] and users[4]["total"] == 1  # an item without a genre
    assert users[2]["latest"] == {
        "item": 10,
        "title": "Alien",
        "attributes": {"genres": ["drama"]},
        "image": "https://p.example/0",
    }
    assert users[3]["latest"] == {"item": 99, "title": ""} and users[3]["total"] == 3  # the model does not know it
    m.SampleAnswer.model_validate({"users": list(users.values())})


def test_users_with_few_events_come_only_where_there_are_no_others(store, catalogue):
    fill(store, u1=[10] * 5, u2=[13] * 4, u3=[12] * 5)
    sample = sample_of(store, catalogue, random.Random(0))
    assert {sample.users[n] for n in sample.choose(2, random.Random(0))} == {1, 3}
    assert {sample.users[n] for n in sample.choose(3, random.Random(0))} == {1, 2, 3}


def test_what_has_no_value_is_nobodys_favourite(store, catalogue):
    columns = pa.table({"title": TITLES, "kind": ["film", None, None, "show", None, None]})
    without = Catalogue(SimpleNamespace(item_ids=catalogue.item_ids, items=columns), catalogue.table_path)
    fill(store, u1=[11, 11, 11, 10], u2=[13, 13, 12], u3=[12])
    sample = sample_of(store, without, random.Random(0))
    assert dict(zip(sample.users, sample.favourites)) == {1: ["film"], 2: ["show"], 3: []}


@pytest.mark.parametrize("seed", range(8))
def test_a_few_users_have_different_favourites(store, catalogue, seed):
    fill(store, u1=[10] * 5, u2=[10] * 5, u3=[10] * 5, u4=[13] * 5, u5=[12] * 5)
    sample = sample_of(store, catalogue, random.Random(seed))
    chosen = [sample.users[n] for n in sample.choose(3, random.Random(seed))]
    assert {4, 5} < set(chosen) and len(chosen) == 3


def test_users_of_an_item_are_told_the_latest_first_and_once(store, catalogue):
    fill(store, u1=[11, 11], u2=[10, 11], u3=[12])
    found = explorer_of(store, catalogue).users_of("11", 5)
    assert [view["user"] for view in found["users"]] == [2, 1] and found["sample"] == 3
    assert found["item"]["title"] == "The alien" and "image" not in found["item"]  # not over HTTPS
    assert [view["user"] for view in explorer_of(store, catalogue).users_of("11", 1)["users"]] == [2]
    m.ItemUsersAnswer.model_validate(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [("alien", [12, 10, 11, 15]), ("ALIENS", [12]), ("%", [15]), ("(a", [15]), (".", []), ("zzz", [])],
)
def test_items_are_found_by_title_those_that_begin_so_first(catalogue, text, found):
    assert by_title(catalogue, text, 9) == found and by_title(catalogue, text, 1) == found[:1]


def test_without_titles_nothing_is_found(catalogue):
    for columns in None, catalogue.columns.drop_columns("title"):
        catalogue.columns = columns
        assert by_title(catalogue, "alien", 9) == []


def test_titles_that_were_told_are_found_and_those_they_replace_are_not(store, catalogue):
    fill(store, u1=[10, 77], u2=[77, 11], u3=[77])
    told = {
        10: ItemFacts(title="Alien, restored"),
        12: ItemFacts(title="Ameise"),
        77: ItemFacts("New alien", {"genres": "war"}),
    }
    catalogue.updates.take(told)
    # 12 is no more called so, and nobody knows how popular 77 is
    assert by_title(catalogue, "alien", 9) == [10, 11, 15, 77]
    assert by_title(catalogue, "restored", 9) == [10] and by_title(catalogue, "ameise", 9) == [12]
    catalogue.updates.take({77: ItemFacts(title="Mars")})
    assert by_title(catalogue, "mars", 9) == [77] and by_title(catalogue, "new", 9) == []
    catalogue.updates.take({77: told[77]})
    explorer, new = explorer_of(store, catalogue), {"item": 77, "title": "New alien", "attributes": {"genres": ["war"]}}
    assert explorer.items("new", 9) == {"items": [new]}
    found = explorer.users_of("77", 9)
    assert found["item"] == new and [view["user"] for view in found["users"]] == [3, 2, 1]
    assert {view["latest"]["title"] for view in found["users"]} == {"New alien", "The alien"}
    m.ItemUsersAnswer.model_validate(found)


def test_a_sample_is_read_once_a_minute_and_bounded(store, catalogue, monkeypatch):
    now = [50.0]
    monkeypatch.setattr("louder.serving.explore.time.monotonic", lambda: now[0])
    letters = string.ascii_lowercase
    store.append([event(f"{letter}{n}", "a", 5, 10) for letter in letters for n in range(2 * SAMPLE // len(letters))])
    explorer = explorer_of(store, catalogue)
    read = []
    monkeypatch.setattr(store, "history", lambda user, whole=store.history: read.append(user) or whole(user))
    for _ in range(3):
        explorer.some_users(5)
        explorer.users_of("10", 5)
    assert len(read) == SAMPLE == len(set(read))
    assert {user[0] for user in read} == set(letters)  # not only the first ones
    before, now[0] = len(read), 50.0 + EVERY_S
    explorer.some_users(5)
    assert len(read) == 2 * before


def test_an_empty_store_and_a_damaged_user_are_no_mistake(store, catalogue, monkeypatch):
    assert explorer_of(store, catalogue).some_users(5) == {"users": []}
    fill(store, u1=[10], u2=[11])

    def history(user, whole=store.history):
        if user == 1:
            raise StoreDamaged("1")
        return whole(user)

    monkeypatch.setattr(store, "history", history)
    assert [view["user"] for view in explorer_of(store, catalogue).some_users(5)["users"]] == [2]
