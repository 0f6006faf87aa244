"""Servers and lists that try to plant files, or to have other files read."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import limits
from dataset.download import video_list
from dataset.download.video_list import Collection
from tests.dataset.test_hostile import PLAYLISTS
from tests.dataset.video_server import Answer, files, rows, run
from utils import UserError

ID = "aaaaaaaaaaa"


@pytest.mark.parametrize("kind", ["video/mp4", "video/webm", "video/x-matroska"])
@pytest.mark.parametrize("playlist", PLAYLISTS)
def test_a_served_playlist_is_not_kept_as_a_video(server, videos, tmp_path, kind, playlist):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(server.video)
    body = PLAYLISTS[playlist].format(secret=secret).encode()
    server.answers[ID] = [Answer(body=body, kind=kind)] * 9
    assert run(server, videos, {"violin": [ID]}, "--attempts", 1) == 1
    assert rows(videos)[ID]["state"] == "failed"
    assert not [name for name in files(videos) if name.endswith(".mp4")]


@pytest.mark.parametrize("playlist", PLAYLISTS)
def test_a_served_playlist_is_not_kept_as_a_segment(server, videos, tmp_path, playlist):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(server.video)
    server.answers[ID] = [Answer(body=PLAYLISTS[playlist].format(secret=secret).encode())] * 99
    (tmp_path / "segments.csv").write_text(f"{ID},0,violin,train\n")
    assert run(server, videos, {}, "--list", tmp_path / "segments.csv", "--attempts", 1) == 1
    assert rows(videos)[f"{ID}_000000"]["state"] == "failed"
    assert not [name for name in files(videos) if name.endswith(".mp4")]


def test_a_video_that_is_too_large_is_not_kept(server, videos, monkeypatch):
    monkeypatch.setattr(limits, "MAX_VIDEO_BYTES", len(server.video) - 1)
    assert run(server, videos, {"violin": [ID]}) == 1
    assert "SOP_MAX_VIDEO_BYTES" in rows(videos)[ID]["reason"]
    assert files(videos) == {"ledger.csv"}


def test_a_list_that_is_too_large_is_not_read(server, videos, monkeypatch, capsys):
    monkeypatch.setattr(limits, "MAX_LIST_BYTES", 100)
    server.answers["MUSIC_solo_videos.json"] = [Answer(body=b" " * 101)]
    assert run(server, videos, {}, "--lists", "solo", "--lists-url", f"{server.url}/lists") == 2
    assert "larger than 100 bytes (SOP_MAX_LIST_BYTES)" in capsys.readouterr().err


names = st.text(max_size=70) | st.sampled_from(["..", "../../x", "/etc", "a/b", "a\\b", ".x", "", "\0", "~"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
lists = st.dictionaries(names, st.lists(names | values | st.just(ID), max_size=4), max_size=4)


@settings(max_examples=60, deadline=None)
@given(lists | values | st.fixed_dictionaries({"videos": lists}))
def test_whatever_a_list_says_files_stay_in_their_folder(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("lists")
    (folder / "list.json").write_text(json.dumps(value))
    try:
        videos, _ = video_list.read([folder / "list.json"])
    except UserError as error:
        message = str(error)
    else:
        message = ""
        check_places(videos, folder)
    assert "\n" not in message


def check_places(videos, folder):
    """All paths lie where they belong."""
    collection = Collection(folder / "videos")
    for video in videos:
        for path in (collection.path(video), collection.partial(video)):
            assert os.path.normpath(path) == path
            assert path.startswith(f"{folder}/videos/")
            os.fsencode(path)
        assert os.path.dirname(os.path.dirname(collection.path(video))) == f"{folder}/videos"
