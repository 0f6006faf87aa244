"""Index files as tables: the same clips as in a list, from memory-mapped columns."""

import errno
import filecmp
import glob
import os
import pickle
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from dataset.index import Clip, read_index, write_index
from dataset.indexing import columns, table
from dataset.indexing.table import ClipTable, fingerprint, open_index, tally, write_table
from utils import UserError

ODD_NAMES = [
    "plain",
    "two words",
    "comma, quote \" and 'more'",
    "dots.in.it",
    "übung",
    "b\udcff",
    "a\nb",
    ".wav",
]


def make_index(path, count=40):
    """Write an index file with awkward names; returns its clips."""
    clips = []
    for n in range(count):
        name = f"{ODD_NAMES[n % len(ODD_NAMES)]}{n // 3}"
        suffix = (".wav", ".mp3", ".mp4.wav")[n % 3]
        clips.append(Clip(f"audio/c {n % 5}/{name}{suffix}", f"frames/c {n % 5}/{name}", n + 1))
    write_index(path, clips)
    return clips


def test_a_table_has_the_clips_of_the_list(tmp_path):
    path = str(tmp_path / "list.csv")
    clips = make_index(path)
    found = ClipTable(path)
    assert list(found) == clips == read_index(path)
    assert [found[-1], found[:3], found[100:]] == [clips[-1], clips[:3], []]
    with pytest.raises(IndexError):
        found[len(clips)]
    assert found.num_frames.tolist() == [clip.num_frames for clip in clips]
    for kind, names in (("category", [c.category for c in clips]), ("video", [c.id for c in clips])):
        known = {}
        assert found.labels(kind).tolist() == [known.setdefault(name, len(known)) for name in names]


def test_blank_lines_and_a_byte_order_mark_are_not_clips(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"\xef\xbb\xbfa/x.wav,f/x,3\r\n\r\n\na/y.wav,f/y,4\n\n")
    found = ClipTable(str(path))
    assert list(found) == [Clip("a/x.wav", "f/x", 3), Clip("a/y.wav", "f/y", 4)]


def test_columns_are_built_once_and_again_when_the_file_changes(tmp_path, monkeypatch):
    path = str(tmp_path / "list.csv")
    make_index(path)
    ClipTable(path)
    with monkeypatch.context() as patch:
        patch.setattr(table, "_build", lambda *_: pytest.fail("built again"))
        assert len(ClipTable(path)) == 40
    make_index(path, count=41)
    assert len(ClipTable(path)) == 41


def test_a_written_table_has_the_files_of_one_that_was_read(tmp_path):
    path, written = str(tmp_path / "list.csv"), str(tmp_path / "written")
    clips = make_index(path)
    write_table(written, clips)
    assert list(pickle.loads(pickle.dumps(ClipTable("list.csv", written)))) == list(ClipTable(path)) == clips
    (read,) = glob.glob(f"{path}.columns/*")
    names = os.listdir(read)
    assert filecmp.cmpfiles(read, written, names, shallow=False) == (names, [], [])
    os.remove(f"{written}/rows.csv")
    with pytest.raises(UserError, match="written: damaged or gone"):
        ClipTable("list.csv", written)


def test_a_list_that_changes_while_it_is_open_changes_nothing(tmp_path):
    path = str(tmp_path / "list.csv")
    clips = make_index(path)
    found = ClipTable(path)
    with open(path, "w"):  # emptied in place, as by an editor
        pass
    assert list(found) == clips


def test_what_a_killed_process_left_is_deleted_a_day_later(tmp_path):
    path = str(tmp_path / "list.csv")
    clips = make_index(path)
    for name, seconds in ((".old", columns.LEFT_SECONDS + 60), (".new", 60)):
        os.makedirs(f"{path}.columns/{name}")
        os.utime(f"{path}.columns/{name}", (time.time() - seconds,) * 2)
    assert list(ClipTable(path)) == clips
    left = os.listdir(f"{path}.columns")
    assert len(left) == 2
    assert ".new" in left


@pytest.mark.parametrize("damage", ["missing", "short", "empty", "other bytes"])
def test_damaged_columns_are_replaced(tmp_path, damage):
    path = str(tmp_path / "list.csv")
    clips = make_index(path)
    ClipTable(path)
    (column,) = glob.glob(f"{path}.columns/*/videos.npy")
    if damage == "missing":
        os.remove(column)
    elif damage == "short":
        np.save(column, np.zeros(3, np.int32))
    else:
        with open(column, "wb") as file:
            file.write(b"no numpy" if damage == "other bytes" else b"")
    assert list(ClipTable(path)) == clips


def test_a_row_that_is_no_clip_is_named(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("a/x.wav,f/x,3\na/y.wav,f/y\n")
    with pytest.raises(UserError, match=r"list\.csv:2: expected AUDIO_PATH"):
        ClipTable(str(path))
    assert os.listdir(tmp_path) == ["list.csv"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('a/x.wav,f/x,3\n"a/y.wav,f/y,4\n' + "z" * 140000, r":3: cannot be read as a table: field larger"),
        ("a/x.wav,f/x,3\na\rb,f/y,4\n", r":2: (cannot be read as a table|expected AUDIO_PATH)"),
        ("\n\n\n", r": the index file is empty"),
    ],
)
def test_what_is_no_table_is_named_by_file_and_line(tmp_path, text, reason):
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode())
    for function in (read_index, ClipTable):
        with pytest.raises(UserError, match=r"list\.csv" + reason):
            function(str(path))
    assert os.listdir(tmp_path) == ["list.csv"]


def length_of(path):
    """The number of clips of a table."""
    return len(list(ClipTable(path)))


def test_several_processes_open_a_list_for_the_first_time(tmp_path):
    path = str(tmp_path / "list.csv")
    with ProcessPoolExecutor(4) as pool:
        for count in range(3000, 3010):
            make_index(path, count)
            assert list(pool.map(length_of, [path] * 8)) == [count] * 8
    assert len(os.listdir(f"{path}.columns")) == 1  # those of former states are deleted


def test_the_folder_of_columns_has_the_usual_permissions(tmp_path):
    path = str(tmp_path / "list.csv")
    make_index(path)
    ClipTable(path)
    (tmp_path / "plain").mkdir()
    (folder,) = glob.glob(f"{path}.columns/*")
    assert os.stat(folder).st_mode == os.stat(tmp_path / "plain").st_mode


def test_columns_go_elsewhere_if_one_must_not_write_beside_the_list(tmp_path, monkeypatch):
    path = str(tmp_path / "list.csv")
    clips = make_index(path)
    makedirs, refused = os.makedirs, []

    def make(folder, **options):
        if folder.startswith(path):
            refused.append(folder)
            raise PermissionError(errno.EACCES, "Permission denied")
        makedirs(folder, **options)

    monkeypatch.setattr(os, "makedirs", make)
    monkeypatch.setenv("SOP_COLUMNS", str(tmp_path / "elsewhere"))
    assert list(ClipTable(path)) == list(ClipTable(path)) == clips
    assert len(refused) == 1  # built once
    monkeypatch.setenv("SOP_COLUMNS", f"{path}/below a file")
    with pytest.raises(
        UserError, match=r"list\.csv: its columns cannot be written \(SOP_COLUMNS\): .*denied"
    ):
        ClipTable(path)


def test_a_list_that_is_replaced_while_it_is_opened_is_opened_again(tmp_path, monkeypatch):
    path = str(tmp_path / "list.csv")
    make_index(path)
    load, counts = table._load, iter([50, 60])

    def load_and_replace(*parts):
        found = load(*parts)
        if found is not None:
            for count in counts:
                make_index(path, count)
                break
        return found

    monkeypatch.setattr(table, "_load", load_and_replace)
    found = ClipTable(path)
    assert list(found) == read_index(path)
    assert len(found) == 60


def test_other_processes_map_the_same_columns(tmp_path):
    path = str(tmp_path / "list.csv")
    clips = make_index(path)
    sent = pickle.dumps(ClipTable(path))
    assert len(sent) < 1000
    assert list(pickle.loads(sent)) == clips


def test_only_long_lists_become_tables(tmp_path, monkeypatch):
    path = str(tmp_path / "list.csv")
    clips = make_index(path)
    assert isinstance(open_index(path), list)
    monkeypatch.setattr(table, "MANY", 41)  # names with line breaks: more lines than clips
    assert list(open_index(path)) == clips
    with pytest.raises(UserError, match="no index file"):
        open_index(str(tmp_path / "missing.csv"))


def test_what_a_table_contains_is_what_the_list_contains(tmp_path):
    path = str(tmp_path / "list.csv")
    clips = make_index(path)
    assert tally(ClipTable(path)) == tally(clips)


def test_the_same_clips_have_one_fingerprint(tmp_path):
    paths = [str(tmp_path / name) for name in ("one.csv", "same.csv", "other.csv")]
    for path, count in zip(paths, (40, 40, 41), strict=True):
        make_index(path, count)
    for one, same, other in (map(ClipTable, paths), map(read_index, paths)):
        assert fingerprint(one) == fingerprint(same) != fingerprint(other)
