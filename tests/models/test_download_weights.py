"""The download of released weights, from a server that refuses, drops connections or sends other files."""

import hashlib
import http.client
import io
import os
import ssl
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

import limits
import web
from models import download_weights
from models.download_weights import FILES, LEGACY_MAGIC, RELEASED_ID, fetch
from utils import UserError

PAUSE = 0.01  # seconds


def checkpoint(legacy=False, value=None):
    """The bytes of a checkpoint in the current or the legacy format; value: instead of weights."""
    file = io.BytesIO()
    value = {"weight": torch.arange(5000.0)} if value is None else value
    torch.save(value, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def flipped(data):
    """The bytes of a checkpoint with a wrong bit among the numbers."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


class Server(ThreadingHTTPServer):
    """Serves `body` at every URL, as its attributes say; records the Range header of each request."""

    body, status, kind = checkpoint(), 200, "application/octet-stream"
    ranges = True  # whether it supports resuming
    break_after = ()  # bytes after which each of the first transfers is cut
    failures = ()  # status codes of the first responses
    length = None  # the header Content-Length; None: the right one, "": none
    moved = None  # redirects all requests to this URL

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, number = self.server, len(self.server.asked)
        server.asked.append(self.headers["Range"])
        if number < len(server.failures):
            self.send_error(server.failures[number])
            return
        if server.moved:
            self.send_response(302)
            self.send_header("Location", server.moved)
            self.end_headers()
            return
        first = int(self.headers["Range"][6:-1]) if self.headers["Range"] and server.ranges else 0
        if first >= len(server.body) > 0:
            self.send_error(416)
            return
        self.send_response(206 if first else server.status)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(server.body) - 1}/{len(server.body)}")
        if server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", server.kind)
        if server.length != "":
            self.send_header("Content-Length", server.length or str(len(server.body) - first))
        self.end_headers()
        left = server.break_after[number] if number < len(server.break_after) else len(server.body)
        self.wfile.write(server.body[first : first + left])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "ckpt" / "a model" / FILES[0]


def refused(server, target, message):
    """The download fails with a one-line error that contains `message`, and leaves no file."""
    with pytest.raises(UserError, match=message) as error:
        fetch(f"{server.url}/x", str(target), pause=PAUSE)
    assert "\n" not in str(error.value)
    assert server.url in str(error.value)
    assert not target.parent.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_download_is_the_file_on_the_server(server, target, legacy):
    server.body = checkpoint(legacy)
    assert server.body.startswith(LEGACY_MAGIC) == legacy
    assert fetch(f"{server.url}/x", str(target)) is True
    assert target.read_bytes() == server.body
    assert os.listdir(target.parent) == [target.name]


def test_an_existing_file_is_kept(server, target):
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    assert fetch(f"{server.url}/x", str(target)) is False
    assert server.asked == []
    assert target.read_text() == "mine"


@pytest.mark.parametrize("status", [403, 404])
def test_refusal_is_reported_and_not_retried(server, target, status):
    server.failures, server.status = [status] * 9, status
    refused(server, target, f"the server answered {status} ")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"", "application/octet-stream", "empty file"),
        (b"<html>Moved</html>", "text/html; charset=utf-8", "answered 200 with a web page"),
        (b"<html>Moved</html>", "application/octet-stream", "not a checkpoint: it starts with b'<html>"),
        (checkpoint()[:-100], "application/octet-stream", "not a checkpoint: it starts with b'PK"),
        (
            b"x" * 1000 + checkpoint()[-22:],
            "application/octet-stream",
            "not a checkpoint: it starts with b'xx",
        ),
        (flipped(checkpoint()), "application/octet-stream", "not a checkpoint: it starts with b'PK"),
        (
            checkpoint(value=[1, 2]),
            "application/octet-stream",
            "read as weights: it holds something else",
        ),
        (checkpoint(value={}), "application/octet-stream", "read as weights: it holds something else"),
        (checkpoint(value=threading.Thread), "application/octet-stream", "cannot be read as weights: "),
        (LEGACY_MAGIC + bytes(1000), "application/octet-stream", "cannot be read as weights: "),
    ],
)
def test_files_that_are_not_checkpoints_are_rejected(server, target, body, kind, message):
    server.body, server.kind = body, kind
    refused(server, target, message)


def test_interrupted_transfer_is_resumed(server, target):
    server.break_after = [5000, 3000]
    assert fetch(f"{server.url}/x", str(target), pause=PAUSE)
    assert server.asked == [None, "bytes=5000-", "bytes=8000-"]
    assert target.read_bytes() == server.body


def test_interrupted_transfer_is_resumed_by_the_next_run(server, target):
    server.break_after = [5000]
    with pytest.raises(UserError, match="connection was lost"):
        fetch(f"{server.url}/x", str(target), attempts=1)
    assert os.listdir(target.parent) == [target.name + ".part"]
    assert fetch(f"{server.url}/x", str(target))
    assert server.asked == [None, "bytes=5000-"]
    assert target.read_bytes() == server.body
    assert os.listdir(target.parent) == [target.name]


def test_interrupted_transfer_restarts_if_the_server_cannot_resume(server, target):
    server.break_after, server.ranges = [5000, 3000], False
    assert fetch(f"{server.url}/x", str(target), pause=PAUSE)
    assert server.asked == [None, None, None]
    assert target.read_bytes() == server.body


def test_partial_file_is_dropped_if_the_server_cannot_resume(server, target):
    server.ranges = False
    target.parent.mkdir(parents=True)
    target.with_name(target.name + ".part").write_bytes(b"old")
    assert fetch(f"{server.url}/x", str(target), pause=PAUSE)
    assert target.read_bytes() == server.body


def test_partial_file_that_is_longer_than_the_file_is_dropped(server, target):
    target.parent.mkdir(parents=True)
    target.with_name(target.name + ".part").write_bytes(server.body + b"more")
    assert fetch(f"{server.url}/x", str(target), pause=PAUSE)
    assert target.read_bytes() == server.body


def test_transfers_that_cannot_be_resumed_leave_no_files(server, target):
    server.break_after, server.ranges = [5000] * 9, False
    refused(server, target, f"connection was lost after 5000 of {len(server.body)} bytes")


def test_busy_server_is_retried(server, target):
    server.failures = [503, 429, 500]
    assert fetch(f"{server.url}/x", str(target), pause=PAUSE)
    assert len(server.asked) == 4


def test_server_that_stays_busy_is_an_error(server, target):
    server.failures = [503] * 9
    refused(server, target, r"the server answered 503 .*\(5 attempts\)")
    assert len(server.asked) == 5


def test_missing_server_is_an_error(target):
    server = Server()
    server.server_close()
    refused(server, target, "no response: .*refused")


def test_command_fetches_the_three_files_once(server, tmp_path, capsys):
    arguments = ["--url", f"{server.url}/release/", "--ckpt", str(tmp_path)]
    assert download_weights.main(arguments) == 0
    assert {path.name for path in (tmp_path / RELEASED_ID).iterdir()} == set(FILES)
    assert download_weights.main(arguments) == 0
    assert capsys.readouterr().out.count("already exists") == len(server.asked) == 3


def test_command_reports_a_refusal_in_one_line(server, tmp_path, capsys):
    server.failures = [403]
    assert download_weights.main(["another one", "--url", server.url, "--ckpt", str(tmp_path)]) == 1
    expected = f"error: {server.url}/another%20one/{FILES[0]}: the server answered 403 Forbidden\n"
    assert capsys.readouterr().err == expected
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://127.0.0.1/"])
def test_redirects_to_other_schemes_are_refused(server, target, url):
    server.moved = url
    refused(server, target, "[Rr]edirect.* to ")


def test_a_redirect_from_https_to_http_is_refused():
    request = urllib.request.Request("https://127.0.0.1/x")
    with pytest.raises(UserError, match=r"redirects to 'http://127\.0\.0\.1/x', expected https"):
        web._Redirects().redirect_request(request, None, 302, "", {}, "http://127.0.0.1/x")


def test_certificates_are_verified(monkeypatch, target):
    asked = []
    monkeypatch.setattr(
        http.client.HTTPSConnection, "connect", lambda self: asked.append(self._context) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        fetch("https://127.0.0.1/x", str(target), attempts=1)
    assert (asked[0].verify_mode, asked[0].check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("length", ["abc", "-5", "1e3", "9" * 30, "٣"])
def test_a_length_that_is_no_number_is_refused(server, target, length):
    server.length = length.encode().decode("latin-1")
    refused(server, target, "Content-Length: .*, expected a number")


@pytest.mark.parametrize("length", [None, ""])
def test_weights_are_bounded_with_and_without_a_length(server, target, monkeypatch, length):
    monkeypatch.setattr(limits, "MAX_WEIGHTS_BYTES", len(server.body) - 1)
    server.length = length
    refused(server, target, r"larger than .* bytes \(SOP_MAX_WEIGHTS_BYTES\)")


def test_published_hashes_are_compared(server, tmp_path, capsys):
    found = hashlib.sha256(server.body).hexdigest()
    command = ["--url", server.url, "--ckpt", str(tmp_path), "--sha256", found, found.upper()]
    assert download_weights.main([*command, "0" * 64]) == 1
    assert f"another file: SHA-256 {found}, expected {'0' * 64}" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path / RELEASED_ID)) == sorted(FILES[:2])
    assert download_weights.main([*command, found]) == 0


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "/etc"])
def test_a_name_cannot_leave_the_folder(name, capsys):
    with pytest.raises(SystemExit):
        download_weights.main([name])
    assert "expected a plain name" in capsys.readouterr().err


def test_invalid_urls_are_rejected(capsys):
    with pytest.raises(SystemExit):
        download_weights.main(["--url", "file:///etc"])
    assert "--url: expected http" in capsys.readouterr().err
