"""Index files and mixture lists of any content: right, or refused in one line."""

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import limits
from dataset.index import Clip, read_index, read_mixtures, write_index, write_mixtures
from dataset.ledger import Ledger
from dataset.preprocess.__main__ import _targets as output_targets
from utils import UserError

COLUMNS = ("video", "state", "reason")
# What may stand in a path: anything but the null character; read_index strips the ends.
paths = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1, max_size=30)
paths = paths.filter(lambda path: path == path.strip())
clips = st.builds(Clip, paths, paths, st.integers(1, limits.MAX_FRAMES))
contents = st.binary(max_size=200) | st.lists(st.sampled_from(
    [b"a/b.wav", b"f/b.mp4", b",", b"\n", b'"', b"\0", b"160", b"1e20", b"9" * 5000, b"\xff", b"\xef\xbb\xbf"]
), max_size=12).map(b"".join)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def is_one_line(message):
    return "\n" not in message and len(message) < 400


def read_or_refuse(read, path):
    """(what `read` reads, "") or ([], why it does not)."""
    try:
        return read(path), ""
    except UserError as error:
        return [], str(error)


def read_ledger(path):
    with Ledger(path, COLUMNS) as ledger:
        return list(ledger.rows.values())


@settings(max_examples=60, deadline=None)
@given(st.lists(clips, min_size=1, max_size=4))
def test_clips_come_back_as_they_were_written(folder, rows):
    write_index(folder / "index.csv", rows)
    assert read_index(folder / "index.csv") == rows
    write_mixtures(folder / "mixtures.csv", [(row, row) for row in rows])
    assert read_mixtures(folder / "mixtures.csv") == [(row, row) for row in rows]


@settings(max_examples=60, deadline=None)
@given(contents)
@example(b"a.wav,a.mp4,100000000000000000000\n")
@example(b"a.wav,a.mp4," + b"9" * 5000)
@example(b"a.wav,a.mp4," + "²".encode())
@example(b'"' + b"x" * 200_000)
@example("a.wav,a.mp4,160\n".encode("utf-16"))
@example(b"a\0.wav,a.mp4,160\n")
def test_other_tables_are_refused_in_one_line(folder, content):
    (folder / "any.csv").write_bytes(content)
    for read in (read_index, read_mixtures):
        rows, message = read_or_refuse(read, folder / "any.csv")
        assert is_one_line(message)
        flat = [clip for row in rows for clip in ([row] if isinstance(row, Clip) else row)]
        assert all(isinstance(clip, Clip) and 0 < clip.num_frames <= limits.MAX_FRAMES for clip in flat)
        assert "\0" not in "".join(clip.path_audio + clip.path_frames for clip in flat)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda rest: b"video,state,reason\n" + rest))
@example(b'video,state,reason\n"' + b"x" * 200_000 + b'"\n')
@example("video,state,reason\n".encode("utf-16"))
@example(b"video,state,reason\na\0,b,c\n")
def test_a_ledger_of_other_bytes_is_refused_in_one_line(folder, content):
    (folder / "ledger.csv").write_bytes(content)
    rows, message = read_or_refuse(read_ledger, folder / "ledger.csv")
    assert is_one_line(message)
    assert all(tuple(row) == COLUMNS for row in rows)
    assert not message or (folder / "ledger.csv").read_bytes() == content


# Names of files that `find_videos` gives: no part is hidden.
parts = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=20)
parts = parts.filter(lambda part: not part.startswith("."))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(parts, min_size=1, max_size=3).map("/".join), max_size=4, unique=True))
def test_outputs_of_videos_of_any_name_stay_in_their_folders(names):
    targets, failures = output_targets([f"{name}.mp4" for name in names], "/out")
    assert len(targets) + len(failures) == len(names)
    for path_frames, path_audio in targets.values():
        assert os.path.normpath(path_frames).startswith("/out/frames/")
        assert os.path.normpath(path_audio).startswith("/out/audio/")
