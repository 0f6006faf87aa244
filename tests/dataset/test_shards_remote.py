"""Shards on a server that drops, truncates and delays: the same bytes, within the cache's bounds."""

import contextlib
import errno
import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context

import pytest
import torch

import limits
from dataset.music import MUSICMixDataset, Sampling
from dataset.shards import read, remote
from dataset.shards.read import is_file, list_frames, open_media
from tests.dataset.packing import history, read_all
from utils import UserError

pytest.importorskip("aiohttp", reason="needs requirements-remote.txt")

SMALL = Sampling(img_size=32, aud_len=16383)


class Server(ThreadingHTTPServer):
    """Serves a folder. faults: what happens to the coming requests, in order; then `always`."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.faults, self.always, self.asked = folder, [], None, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        found = os.path.exists(self.path_file())
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(os.path.getsize(self.path_file()) if found else 0))
        self.end_headers()

    def path_file(self):
        return os.path.join(self.server.folder, os.path.basename(self.path.partition("?")[0]))

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers["Range"]))
        fault = server.faults.pop(0) if server.faults else server.always
        path = self.path_file()
        if isinstance(fault, int) or not os.path.exists(path):
            self.send_error(fault or 404)
            return
        with open(path, "rb") as file:
            body = file.read()
        size, span = len(body), re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
        if span and fault != "whole":
            first, last = map(int, span.groups())
            body = body[first : last + 1]
        self.send_response(206 if span and fault != "whole" else 200)
        if span and fault != "whole":
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        short = body[: len(body) // 2]
        self.send_header("Content-Length", str(len(short if fault == "short" else body)))
        self.end_headers()
        if fault == "late":
            time.sleep(2)
        with contextlib.suppress(ConnectionError):  # the client has given up
            self.wfile.write(short if fault in ("short", "dropped") else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(shards, tmp_path, monkeypatch):
    """A server of shards; the cache is empty, and waiting is short."""
    monkeypatch.setenv("SOP_SHARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(remote, "BLOCK", 1 << 16)
    read._open_remote.cache_clear()
    with Server(os.path.dirname(shards[1][0].path_audio.partition(".tar/")[0])) as server:
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        yield server
        server.shutdown()


@pytest.fixture
def impatient(monkeypatch):
    """Call it with a fault: only where this is "late", requests time out soon, also on a busy machine."""
    return lambda fault: monkeypatch.setattr(limits, "REQUEST_SECONDS", 1 if fault == "late" else 60)


def at(server, clips):
    """The same clips on the server."""
    return [
        clip._replace(
            path_audio=clip.path_audio.replace(server.folder, server.url),
            path_frames=clip.path_frames.replace(server.folder, server.url),
        )
        for clip in clips
    ]


def test_members_on_a_server_have_the_same_bytes(server, shards):
    for clip, there in zip(shards[1], at(server, shards[1]), strict=True):
        assert read_all(there.path_audio) == read_all(clip.path_audio)
        assert read_all(f"{there.path_frames}/000007.jpg") == read_all(f"{clip.path_frames}/000007.jpg")
        assert there.name == clip.name
        assert is_file(there.path_audio)
        assert list_frames(there.path_frames) == list_frames(clip.path_frames)


def test_only_ranges_are_asked_for_and_each_of_them_once(server, shards):
    clip = at(server, shards[1])[0]
    for _ in range(3):
        read_all(f"{clip.path_frames}/000001.jpg")
        read._open_remote.cache_clear()  # as in another process
    (index, no_range), (shard, span) = server.asked
    assert index == f"{shard}.index.npy"
    assert no_range is None
    first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", span).groups())
    assert last - first + 1 == 1 << 16


def test_requests_that_fail_are_told_once(server, shards, caplog):
    server.faults = [503, 503, 503]
    read_all(at(server, shards[1])[0].path_audio)
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert message.startswith(f"{server.url}: ")
    assert "503" in message


@pytest.mark.parametrize("fault", ["dropped", "short", "late", 500, 503, 429])
def test_faults_that_pass_change_nothing(server, shards, fault, impatient):
    impatient(fault)
    clip = shards[1][1]
    there = at(server, [clip])[0]
    server.faults = [fault, fault, None, fault, fault]
    assert read_all(there.path_audio) == read_all(clip.path_audio)
    assert not server.faults


@pytest.mark.parametrize(
    ("fault", "tries", "reason"),
    [
        ("dropped", remote.TRIES, "ClientPayloadError|ServerDisconnected|ContentLength"),
        ("short", remote.TRIES, "32768 of 65536 bytes"),
        ("late", remote.TRIES, "Timeout"),
        (503, remote.TRIES, "503"),
        (403, 1, "403"),
        (404, 1, "FileNotFoundError"),
        ("whole", 1, "knows no range requests"),
    ],
)
def test_faults_that_last_are_one_line(server, shards, fault, tries, reason, impatient):
    impatient(fault)
    there = at(server, shards[1])[2]
    list_frames(there.path_frames)  # the index is there
    server.always, server.asked[:] = fault, []
    with pytest.raises(UserError, match=f"{server.url}/.*({reason})") as error:
        read_all(there.path_audio)
    assert "\n" not in str(error.value)
    assert len(server.asked) == tries


def test_a_damaged_index_is_asked_for_again_and_then_an_error(server, shards):
    there = at(server, shards[1])[0]
    server.faults = ["short"]
    assert read_all(there.path_audio)
    read._open_remote.cache_clear()
    other = at(server, shards[1])[-1]
    server.always = "short"
    with pytest.raises(UserError, match=r"\.tar\.index\.npy: cannot be read"):
        read_all(other.path_audio)


def test_the_cache_is_bounded_and_keeps_what_is_used(server, shards, monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "SHARD_CACHE_BYTES", 600_000)
    clips = at(server, shards[1])
    for _ in range(2):
        for clip, inside in zip(clips, shards[1], strict=True):
            assert read_all(clip.path_audio) == read_all(inside.path_audio)
            files = [path for path in (tmp_path / "cache").iterdir()]
            assert sum(path.stat().st_size for path in files) <= 600_000
    assert not [path for path in files if path.name.startswith(".writing")]
    server.asked.clear()
    assert read_all(clips[-1].path_audio) == read_all(shards[1][-1].path_audio)
    assert not server.asked


def test_a_full_disk_only_leaves_nothing_in_the_cache(server, shards, monkeypatch, tmp_path):
    there = at(server, shards[1])[0]
    list_frames(there.path_frames)  # the index is there

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(remote, "replacing", full)
        assert read_all(there.path_audio) == read_all(shards[1][0].path_audio)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npy"]


def test_a_damaged_block_is_fetched_again(server, shards, tmp_path):
    there = at(server, shards[1])[0]
    whole = read_all(there.path_audio)
    blocks = [path for path in (tmp_path / "cache").iterdir() if not path.name.endswith(".npy")]
    for path in blocks:
        path.write_bytes(b"half")
    assert read_all(there.path_audio) == whole


def test_workers_share_a_server_that_drops(server, shards):
    packed, there = (MUSICMixDataset(c, SMALL, train=True) for c in (shards[1], at(server, shards[1])))
    assert there[0]["info"]["failures"] == []  # connections are open when the workers start
    server.faults = ["dropped", None, "short", 503, None, "dropped"] * 3
    loader = torch.utils.data.DataLoader(
        there, batch_size=None, num_workers=2, multiprocessing_context=get_context("fork")
    )
    for index, item in enumerate(loader):
        expected = packed[index]
        assert item["info"] == expected["info"]
        assert all(torch.equal(item[key], expected[key]) for key in ("mix", "sources", "frames"))


def test_training_from_a_server_that_drops_gives_the_same_losses(
    server, shards, tmp_path, monkeypatch, impatient
):
    impatient("late")
    monkeypatch.setattr(limits, "SHARD_CACHE_BYTES", 1_000_000)  # so that blocks are asked for again
    expected = history(shards[0], tmp_path / "folders", monkeypatch)
    server.faults = ["dropped", None, "short", None, "late", 503, None] * 3
    assert history(at(server, shards[1]), tmp_path / "server", monkeypatch) == expected
    assert not server.faults


def test_s3_is_read_as_well(server, shards, monkeypatch):
    pytest.importorskip("s3fs", reason="needs requirements-remote.txt")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    remote._file_system.cache_clear()
    clip = shards[1][0]
    server.faults = [None, "dropped", 503]
    path = clip.path_audio.replace(server.folder, "s3://bucket")
    assert read_all(path) == read_all(clip.path_audio)
    assert all(asked.startswith("/bucket/000000.tar") for asked, _ in server.asked)
    gone = path.replace("000000.tar", "000099.tar")
    with pytest.raises(UserError, match=r"s3://bucket/000099\.tar\.index\.npy: cannot be read: FileNotFound"):
        read_all(gone)


def test_missing_packages_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("SOP_SHARD_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "fsspec", None)
    remote._file_system.cache_clear()
    read._open_remote.cache_clear()
    with pytest.raises(UserError, match=r"pip install -r requirements-remote\.txt"):
        open_media("http://127.0.0.1:9/a.tar/flute/a.wav")
