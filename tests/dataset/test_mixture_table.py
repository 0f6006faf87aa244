"""Long mixture lists: the same mixtures as in a list, from memory-mapped columns."""

import glob
import os
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from dataset.index import read_mixtures, write_mixtures
from dataset.indexing import mixture_table
from dataset.indexing.mixture_table import FILE_NUMBERS, MixtureTable
from tests.dataset.test_table import make_index
from utils import UserError


@pytest.fixture
def path(tmp_path):
    """A list of 60 mixtures of three of 40 clips, which come up several times."""
    clips = make_index(str(tmp_path / "clips.csv"))
    found = str(tmp_path / "mixtures.csv")
    write_mixtures(found, [tuple(clips[(n * step + n) % 40] for step in (1, 2, 3)) for n in range(60)])
    return found


def clips_of(table):
    """The mixtures of a table as tuples of clips."""
    return [tuple(table.clips[number] for number in mixture) for mixture in table]


def test_a_table_has_the_mixtures_of_the_list(path):
    table = MixtureTable(path)
    assert clips_of(table) == read_mixtures(path)
    assert len(set(table.clips)) == len(table.clips) == 40
    assert [table[-1], table[:2], table[60:]] == [list(table)[-1], list(table)[:2], []]
    first = [number for mixture in table for number in mixture]
    assert list(dict.fromkeys(first)) == list(range(40))  # numbered as they appear, as in a short list
    with pytest.raises(IndexError):
        table[60]


def test_other_processes_map_the_same_columns(path):
    table = MixtureTable(path)
    sent = pickle.dumps(table)
    assert len(sent) < 1000
    assert clips_of(pickle.loads(sent)) == clips_of(table)


def test_columns_are_built_once_and_again_when_the_file_changes(path, monkeypatch):
    MixtureTable(path)
    with monkeypatch.context() as patch:
        patch.setattr(mixture_table, "_build", lambda *_: pytest.fail("built again"))
        assert len(MixtureTable(path)) == 60
    write_mixtures(path, read_mixtures(path)[:7])
    assert clips_of(MixtureTable(path)) == read_mixtures(path)


@pytest.mark.parametrize("damage", ["missing", "short", "other bytes"])
@pytest.mark.parametrize("name", [FILE_NUMBERS, "clips/rows.csv"])
def test_damaged_columns_are_replaced(path, name, damage):
    MixtureTable(path)
    (column,) = glob.glob(f"{path}.columns/*/{name}")
    if damage == "missing":
        os.remove(column)
    elif damage == "short" and name.endswith(".npy"):
        np.save(column, np.zeros((3, 3), np.int32))
    else:
        with open(column, "wb") as file:
            file.write(b"a/x.wav,f/x,3\n" if damage == "short" else b"no numpy")
    assert clips_of(MixtureTable(path)) == read_mixtures(path)


def test_a_clip_may_be_written_in_several_ways(tmp_path):
    path = tmp_path / "mixtures.csv"
    path.write_text("a/x.wav,f/x,3,b/y.wav,f/y,4\n b/y.wav,f/y ,04,a/x.wav,f/x,3\n")
    table = MixtureTable(str(path))
    assert clips_of(table) == read_mixtures(path)


def test_a_row_of_another_size_is_named(path):
    with open(path, "a") as file:
        file.write("a/x.wav,f/x,3\n")
    with pytest.raises(UserError, match=r"mixtures\.csv:\d+: expected AUDIO_PATH.* 3 times"):
        MixtureTable(path)
    assert not os.path.exists(f"{path}.columns")


def length_of(path):
    """The number of mixtures and of clips."""
    table = MixtureTable(path)
    return len(table), len(table.clips)


def test_several_processes_open_a_list_for_the_first_time(path):
    mixtures = read_mixtures(path)
    with ProcessPoolExecutor(4) as pool:
        for count in range(51, 61):
            write_mixtures(path, mixtures[:count])
            assert list(pool.map(length_of, [path] * 8)) == [(count, 40)] * 8
