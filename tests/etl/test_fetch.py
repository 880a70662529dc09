"""Downloads, from a server on this machine."""

import errno
import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from louder.errors import InputError
from louder.etl import fetch

ARCHIVE = bytes(range(256)) * 2_000


class Server:
    """Serves files with ranges, and breaks off, changes or fails when told to."""

    def __init__(self) -> None:
        self.files = {"/set.zip": ARCHIVE}
        self.requests: list[tuple[str, str | None]] = []
        self.stop_after: int | None = None
        self.validators = True

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                self.answer(handler)

            def log_message(handler, *arguments) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.requests.append((handler.path, asked))
        body = self.files.get(handler.path)
        if body is None:
            handler.send_error(404)
            return
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        start = 0
        if asked and handler.headers.get("If-Range") == tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                handler.send_error(416)
                return
        handler.send_response(206 if start else 200)
        if self.validators:
            handler.send_header("ETag", tag)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        handler.wfile.write(body[start : self.stop_after])

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    register(monkeypatch, server.url + "/set.zip", ARCHIVE)
    yield server
    server.close()


def register(monkeypatch, url: str, content: bytes) -> None:
    md5 = hashlib.md5(content).hexdigest()
    monkeypatch.setitem(fetch.DATASETS, "ml-1m", fetch.PublicDataset(url=url, checksum=f"md5:{md5}", licence=""))


def test_a_download_arrives_whole_and_reports_progress(server, tmp_path):
    heard = []
    file = fetch.fetch("ml-1m", tmp_path / "new", lambda done, total: heard.append((done, total)))
    assert file == tmp_path / "new" / "set.zip"
    assert file.read_bytes() == ARCHIVE
    assert heard[0] == (0, len(ARCHIVE))
    assert heard[-1] == (len(ARCHIVE), len(ARCHIVE))
    assert os.listdir(file.parent) == ["set.zip"]
    fetch.fetch("ml-1m", tmp_path / "new")
    assert len(server.requests) == 1  # it was there already


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    server.files["/set.zip"] = ARCHIVE[:-1] + b"!"
    with pytest.raises(InputError) as caught:
        fetch.fetch("ml-1m", tmp_path)
    for part in (
        hashlib.md5(ARCHIVE).hexdigest(),
        hashlib.md5(ARCHIVE[:-1] + b"!").hexdigest(),
        "louder data fetch ml-1m",
    ):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_that_is_there_already_is_left_alone(server, tmp_path):
    (tmp_path / "set.zip").write_bytes(b"mine")
    with pytest.raises(InputError, match="Remove it, then: louder data fetch ml-1m"):
        fetch.fetch("ml-1m", tmp_path)
    assert (tmp_path / "set.zip").read_bytes() == b"mine"


def test_an_archive_published_anew_is_held_to_the_checksum_beside_it(server, tmp_path):
    newer = ARCHIVE + b"errata"
    server.files["/set.zip"] = newer
    server.files["/set.zip.md5"] = f"MD5 (set.zip) = {hashlib.md5(newer).hexdigest()}\n".encode()
    assert fetch.fetch("ml-1m", tmp_path).read_bytes() == newer


def test_a_download_that_broke_off_goes_on_where_it_stopped(server, tmp_path):
    server.stop_after = 200_000
    with pytest.raises(InputError, match=r"broke off .*Repeat the command to go on"):
        fetch.fetch("ml-1m", tmp_path)
    assert not (tmp_path / "set.zip").exists()
    assert (tmp_path / "set.zip.part").stat().st_size == 200_000
    server.stop_after = None
    heard = []
    file = fetch.fetch("ml-1m", tmp_path, lambda done, total: heard.append((done, total)))
    assert server.requests[-1] == ("/set.zip", "bytes=200000-")
    assert heard[0] == (200_000, len(ARCHIVE))
    assert file.read_bytes() == ARCHIVE
    assert os.listdir(tmp_path) == ["set.zip"]


def test_a_file_that_changed_meanwhile_is_fetched_from_the_start(server, tmp_path, monkeypatch):
    server.stop_after = 200_000
    with pytest.raises(InputError):
        fetch.fetch("ml-1m", tmp_path)
    server.stop_after = None
    newer = bytes(reversed(ARCHIVE))
    server.files["/set.zip"] = newer
    register(monkeypatch, server.url + "/set.zip", newer)
    assert fetch.fetch("ml-1m", tmp_path).read_bytes() == newer


def test_without_a_validator_nothing_is_joined(server, tmp_path):
    server.validators = False
    server.stop_after = 200_000
    with pytest.raises(InputError):
        fetch.fetch("ml-1m", tmp_path)
    server.stop_after = None
    assert fetch.fetch("ml-1m", tmp_path).read_bytes() == ARCHIVE
    assert server.requests[-1] == ("/set.zip", None)


def test_a_part_that_is_whole_already(server, tmp_path):
    (tmp_path / "set.zip.part").write_bytes(ARCHIVE)
    (tmp_path / "set.zip.part.etag").write_text(f'"{hashlib.md5(ARCHIVE).hexdigest()}"')
    assert fetch.fetch("ml-1m", tmp_path).read_bytes() == ARCHIVE


def test_no_connection_and_no_file_are_said(server, tmp_path, monkeypatch):
    register(monkeypatch, server.url + "/gone.zip", ARCHIVE)
    with pytest.raises(InputError, match=r"gone\.zip answered 404 .*in a browser and put it at .*gone\.zip"):
        fetch.fetch("ml-1m", tmp_path)
    register(monkeypatch, "http://127.0.0.1:9/set.zip", ARCHIVE)
    with pytest.raises(InputError, match=r"cannot be reached .*Check the connection"):
        fetch.fetch("ml-1m", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_url(tmp_path, monkeypatch):
    (tmp_path / "set.zip").write_bytes(ARCHIVE)
    register(monkeypatch, (tmp_path / "set.zip").as_uri(), ARCHIVE)
    assert fetch.fetch("ml-1m", tmp_path / "out").read_bytes() == ARCHIVE


def test_a_full_disk_leaves_nothing(server, tmp_path, monkeypatch):
    def full(response, part, *arguments):
        part.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "copy", full)
    with pytest.raises(InputError, match="is full"):
        fetch.fetch("ml-1m", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        fetch.fetch("ml-1m", tmp_path / "file")


@pytest.mark.parametrize(("name", "near"), [("ml1m", "ml-1m"), ("ML-20M", "ml-20m"), ("amazon_book", "amazon-books")])
def test_an_unknown_name_gets_the_nearest(tmp_path, name, near):
    with pytest.raises(InputError, match=f"Did you mean: louder data fetch {near}"):
        fetch.fetch(name, tmp_path)


def test_a_name_near_to_nothing_gets_the_list(tmp_path):
    with pytest.raises(InputError, match=r"there are ml-100k, .*kuairand-pure\.$"):
        fetch.fetch("zzzz", tmp_path)


def test_known_sets_have_official_addresses_and_checksums():
    for source in fetch.DATASETS.values():
        publishers = "https://files.grouplens.org/", "https://snap.stanford.edu/", "https://zenodo.org/records/"
        assert source.url.startswith(publishers)
        kind, digest = source.checksum.split(":")
        assert len(digest) == {"md5": 32, "sha256": 64}[kind]


def test_the_command_prints_the_licence_and_the_next_step(server, tmp_path):
    from typer.testing import CliRunner

    from louder.cli.data import app

    done = CliRunner().invoke(app, ["fetch", "ml-1m", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "checksum right" in done.output
    assert "Next: louder etl" in done.output
