"""Several processes at one store, and processes that are killed: nothing that was acknowledged is lost."""

import signal
import subprocess
import sys

import pytest
import redis

from louder.errors import InputError
from louder.histories import Arrival, StoreGone, open_store
from louder.histories.files import FileStore
from tests.histories import writer
from tests.histories.conftest import needs_redis
from tests.histories.events import NAMES, event
from tests.histories.servers import Server


def start(url, number, first=0, count=1_000_000):
    command = [sys.executable, "-m", writer.__name__, url, str(number), str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_write_at_once(make, url):
    store = make(names=NAMES)
    processes = [start(url, number, count=60) for number in (1, 2)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert store.history(writer.SHARED).version == store.history(writer.SHARED).total == 120
    assert [store.history(number).items.tolist() for number in (1, 2)] == [list(range(60))] * 2


def test_a_writer_may_be_killed(make, url):
    store, acknowledged = make(names=NAMES), 0
    for _ in range(3):
        process = start(url, 1, first=acknowledged)
        seen = [int(process.stdout.readline()) for _ in range(7)]
        process.kill()
        seen += [int(line) for line in process.communicate()[0].split("\n") if line]
        acknowledged = seen[-1] + 1
        stored = store.history(1).items.tolist()
        assert stored == list(range(len(stored))) and len(stored) in (acknowledged, acknowledged + 1)
        # the shared user was written in the same batch
        assert store.history(writer.SHARED).version >= acknowledged


@needs_redis
def test_a_redis_that_is_gone_and_comes_back(tmp_path):
    server = Server(tmp_path)
    try:
        store = open_store(server.url, names=NAMES)
        store.append([event(1, number, number) for number in range(5)])
        for _ in range(2):
            server.kill()
            for ask in (
                lambda: store.history(1),
                lambda: store.history(1).version,
                lambda: store.append([event(1, "x")]),
                store.users,
                lambda: open_store(server.url),
            ):
                with pytest.raises(StoreGone, match=r"Redis at .* cannot be used"):
                    ask()
            server.start()
            assert store.history(1).version == 5
        assert store.append([event(1, "x", 9)]).stored == 1
        store.close()
    finally:
        server.stop()


@needs_redis
def test_a_redis_that_hangs_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr("louder.histories.redis.READ_S", 0.1)
    server = Server(tmp_path)
    try:
        store = open_store(server.url, names=NAMES)
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreGone):
            store.history(1)
        server.process.send_signal(signal.SIGCONT)
        assert store.history(1).version == 0
        store.close()
    finally:
        server.stop()


def test_the_map_grows_when_it_is_full(tmp_path):
    store = FileStore(tmp_path / "small", names=NAMES, keep=100, map_bytes=1 << 17)
    child = start(str(tmp_path / "small"), 1, count=200)  # follows what this process makes of the map
    for user in range(2, 60):
        store.append([Arrival(user=user, id=f"{number}", item=number * 2**40, time=number) for number in range(100)])
    child.communicate(timeout=60)
    assert child.returncode == 0
    assert store._lmdb.info()["map_size"] > 1 << 17
    assert all(store.history(user).version == 100 for user in range(2, 60)) and store.history(1).version == 200
    store.close()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for place in tmp_path, tmp_path / "notes.txt":
        with pytest.raises(InputError, match="holds something other than a history store"):
            open_store(str(place))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"x" * 10_000)
    with pytest.raises(InputError, match="cannot be opened"):
        open_store(str(tmp_path))


@pytest.mark.parametrize("package", ["lmdb", "redis"])
def test_a_missing_package_is_told(package):
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from louder.histories import open_store\n"
        f"open_store({'redis://localhost' if package == 'redis' else 'nowhere'!r})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "InputError" in done.stderr and "pip install 'louder[serve]'" in done.stderr


@needs_redis
def test_a_redis_that_drops_what_it_has_no_room_for_is_refused(server, monkeypatch):
    """Also one that forbids to ask for its configuration, as those of clouds do."""
    monkeypatch.setattr(redis.Redis, "config_get", forbidden)
    server.empty()
    with redis.Redis(unix_socket_path=server.socket) as client:
        try:
            for policy in "allkeys-lru", "allkeys-random", "allkeys-lfu":
                client.config_set("maxmemory-policy", policy)
                with pytest.raises(
                    InputError, match=f"has maxmemory-policy {policy}, so it drops .* maxmemory-policy noe"
                ):
                    open_store(server.url, names=NAMES)
            for policy in "volatile-lru", "noeviction":
                client.config_set("maxmemory-policy", policy)
                open_store(server.url, names=NAMES).close()
        finally:
            client.config_set("maxmemory-policy", "noeviction")


def forbidden(*_):
    raise redis.ResponseError("unknown command 'CONFIG'")


@needs_redis
def test_a_redis_that_is_full_says_so_and_loses_nothing(server):
    server.empty()
    store = open_store(server.url, names=NAMES)
    with redis.Redis(unix_socket_path=server.socket) as client:
        try:
            store.append([event(1, "a", 1)])
            client.config_set("maxmemory", 1)
            with pytest.raises(StoreGone, match="maxmemory"):
                store.append([event(1, "b", 2)])
            assert store.history(1).times.tolist() == [1]
        finally:
            client.config_set("maxmemory", 0)
    assert store.append([event(1, "b", 2)]).stored == 1
    store.close()


@needs_redis
@pytest.mark.parametrize("synced", [1, 0])
def test_a_newer_redis_is_asked_to_wait_for_its_disk(server, monkeypatch, synced):
    """Redis before 7.2 has no WAITAOF, so a script answers in its place."""
    server.empty()
    plain, asked = redis.client.Pipeline.execute_command, []

    def execute(pipe, *words, **how):
        if words[0] == "WAITAOF":
            asked.append(words)
            words = ("EVAL", f"return {{{synced}, 0}}", 0)
        return plain(pipe, *words, **how)

    monkeypatch.setattr(redis.client.Pipeline, "execute_command", execute)
    store = open_store(server.url, names=NAMES)
    monkeypatch.setattr(store, "_syncs", True)
    if synced:
        assert [store.append([event(1, "a"), event(2, "a")]).stored for _ in range(2)] == [2, 0]
        assert len(asked) == 2  # what was stored before may not be on the disk yet
    else:
        with pytest.raises(StoreGone, match="did not write the events to its disk"):
            store.append([event(1, "a")])
    store.close()
