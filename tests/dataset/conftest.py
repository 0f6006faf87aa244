"""Clips in shards, and a web server of videos for the tests of downloads."""

import logging
import threading

import pytest

from media import run_ffmpeg
from tests.dataset.packing import pack_all
from tests.dataset.video_server import Server


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """The bytes of a one-second video with a tone."""
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    inputs = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=10", "-f", "lavfi", "-i", "sine"]
    run_ffmpeg([*inputs, "-t", "1", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(path)])
    return path.read_bytes()


@pytest.fixture
def server(video):
    with Server(video) as server:
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        yield server
        server.released.set()
        server.shutdown()


@pytest.fixture
def videos(tmp_path, monkeypatch):
    """A folder that does not exist yet. No proxy for localhost; the command's log handler is removed."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield tmp_path / "videos"
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)


@pytest.fixture(scope="module")
def shards(tree, tmp_path_factory):
    """(clips in folders, the same clips in shards)."""
    packed = pack_all(tree[1], tmp_path_factory.mktemp("packed"))
    return tree[1], [packed[clip.name] for clip in tree[1]]
