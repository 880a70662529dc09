"""The log is the truth: the store has what it has, and nothing else, whatever is killed or cannot be reached."""

import shutil
import subprocess
import sys
import time

import pytest

from louder.errors import InputError
from louder.histories import Arrival, Names, Stored, StoreGone, open_store
from louder.streaming import DeadLetters, FollowingStore, LogGone, LogWriter, Shown
from louder.streaming.following import Applied
from louder.streaming.records import Deletion
from louder.streaming.writer import Place
from tests.streaming import following_writer
from tests.streaming.records_of import done, items

NAMES = Names(("like",))
TEXT = Arrival(1, "a", "text", 1_700_000_000)


@pytest.fixture
def follow(tmp_path):
    """follow(store=..., log=...) -> a following store, closed before it is opened again; .told is what it told"""
    opened, told = [], []

    def close():
        while opened:
            opened.pop().close()

    def open_again(store="store", log="log", every_s=60.0):
        close()
        histories = open_store(str(tmp_path / store), names=NAMES)
        opened.append(histories)
        opened.append(FollowingStore(histories, str(tmp_path / log), every_s=every_s, tell=told.append))
        return opened[-1]

    open_again.told, open_again.close = told, close
    yield open_again
    close()


def history(following, user=1):
    return following.store.history(user).items.tolist()


def test_a_store_that_is_new_is_made_from_the_log(follow, tmp_path):
    following = follow()
    assert following.append([done(n, user=n % 2) for n in range(6)]) == Stored(6, 0)
    assert following.append([done(5, user=1), done(6, user=0)]) == Stored(1, 1)
    following.show(Shown("r", 1, 1_700_000_000, (1,), (0.5,), (1.0,), "m"))
    again = follow(store="another")
    assert again.caught_up == 9
    assert [history(again, user) for user in (0, 1)] == [[0, 2, 4, 6], [1, 3, 5]]
    assert follow(store="another").caught_up == 0 and follow().caught_up == 0


def test_what_is_wrong_is_in_neither(follow, tmp_path):
    following = follow()
    following.append([done(1)])
    for wrong in TEXT, done(2, user="text"), done(10**12):
        with pytest.raises(InputError):
            following.append([done(3), wrong])
    with pytest.raises(InputError):
        following.delete_user("text")
    with pytest.raises(InputError):
        following.delete_event("text", "a")
    follow.close()
    assert items(tmp_path / "log")[0] == [1]


def test_deletions_are_in_the_log_and_a_new_store_has_not_what_was_deleted(follow):
    following = follow()
    following.append([done(n, user=user) for user in (1, 2) for n in range(3)])
    assert following.delete_event(1, "1-0").deleted
    assert following.delete_user(2) == 3
    later = Arrival(2, "later", 9, int(time.time()) + 60)
    assert following.append([done(0, user=1), later, done(1, user=2)]) == Stored(1, 0, 2)
    again = follow(store="another")
    assert [history(again, user) for user in (1, 2)] == [[1, 2], [9]]


def test_a_deletion_that_is_read_again_leaves_what_came_since(follow):
    following = follow()
    following.append([done(1), done(2)])
    at = following.store.history(1).times.max()
    following.logged([Deletion(1, int(at))], lambda: following.store.delete_user(1, int(at)))
    following.append([done(3), done(1)])
    assert history(following) == [3]
    following.store.follow(following.writer.log.id, {n: 0 for n in range(4)})  # as if killed before that was written
    following.applied.offsets.update(dict.fromkeys(range(4), 0))
    assert following.catch_up() == 5 and history(following) == [3]


def test_while_the_store_is_gone_the_log_acknowledges_and_the_store_gets_it_later(follow, monkeypatch, tmp_path):
    following = follow(every_s=0.01)
    following.append([done(1)])
    with monkeypatch.context() as patch:

        def gone(*_):
            raise StoreGone("The store is gone.")

        patch.setattr(following.store, "_update", gone)
        assert following.append([done(2), done(3)]) == Stored(0, 0)
        assert following.lag() == 2 and history(following) == [1]
        with pytest.raises(StoreGone):
            following.delete_event(1, "1-1")
    for _ in range(500):
        if not following.lag() and not following.behind:
            break
        following.ending.wait(0.02)
    assert history(following) == [2, 3]  # and the deletion, that nobody was told of
    assert "The store is gone." in follow.told or follow.told == []


def test_what_the_log_does_not_take_is_not_in_the_store(follow, monkeypatch):
    following = follow()
    following.append([done(1)])
    with monkeypatch.context() as patch:
        patch.setattr("louder.streaming.tail.os.write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
        with pytest.raises(LogGone):
            following.append([done(2)])
        following.show(Shown("r", 1, 0, (), (), (), "m"))
        for _ in range(500):
            if following.answers_lost:
                break
            following.ending.wait(0.01)
        assert following.answers_lost == 1
    assert history(following) == [1] and following.append([done(3)]).stored == 1


def test_what_the_store_does_not_take_goes_to_the_dead_letters(follow, tmp_path):
    with LogWriter(tmp_path / "log") as log:
        log.append([done(1), TEXT, Deletion("text", 5), done(2)])
    following = follow()
    assert history(following) == [1, 2] and following.caught_up == 4 and following.lag() == 0
    letters = DeadLetters(tmp_path / "log" / "dead.jsonl").letters()
    assert [x.kind for x in letters] == ["refused"] * 2 and "item ids of the store are integers" in str(letters[0])


def test_a_store_does_not_follow_a_log_that_was_cut(follow, tmp_path):
    follow().append([done(n) for n in range(9)])
    follow.close()
    shutil.copytree(tmp_path / "log", tmp_path / "copy")
    follow().append([done(n) for n in range(9, 15)])
    follow.close()
    shutil.rmtree(tmp_path / "log")
    shutil.copytree(tmp_path / "copy", tmp_path / "log")
    with pytest.raises(InputError, match="ends at 9, but was read up to 15"):
        follow()
    follow(log="other").append([done(20)])
    assert follow(log="other").caught_up == 0


@pytest.mark.parametrize("known", ["store", "new store"])
def test_kills_leave_nothing_in_the_store_alone_and_nothing_acknowledged_behind(follow, tmp_path, known):
    acknowledged = []
    open_store(str(tmp_path / "store"), names=NAMES).close()
    for kills in range(3):
        words = [str(tmp_path / "store"), str(tmp_path / "log"), str(1_000_000 * kills)]
        process = subprocess.Popen(
            [sys.executable, "-m", following_writer.__name__, *words], stdout=subprocess.PIPE, text=True
        )
        lines = [process.stdout.readline() for _ in range(7)]
        process.kill()
        acknowledged += [int(line) for line in [*lines, *process.communicate()[0].splitlines()] if line.strip()]
        store = open_store(str(tmp_path / "store"))
        alone = [item for user in (1, 2, 3) for item in store.history(user).items.tolist()]
        store.close()
        with LogWriter(tmp_path / "log"):  # what a crash left unfinished is finished
            pass
        logged, _ = items(tmp_path / "log")
        assert set(alone) <= set(logged) and set(acknowledged) <= set(logged)
    following = follow(store=known)
    found = [item for user in (1, 2, 3) for item in history(following, user)]
    assert sorted(found) == sorted(logged) and following.lag() == 0


def test_offsets_are_passed_in_order_whatever_order_they_come_in():
    applied = Applied({0: 5, 1: 0})
    applied.add([Place(0, 7), Place(0, 6), Place(1, 0), Place(0, 3)])
    assert applied.offsets == {0: 5, 1: 1}
    applied.add([Place(0, 5)])
    assert applied.offsets == {0: 8, 1: 1} and applied.ahead == {0: set(), 1: set()}
    applied.add([Place(0, 9), Place(0, 12)])
    applied.jump({0: 9, 1: 0})
    assert applied.offsets == {0: 10, 1: 1} and applied.ahead[0] == {12}
