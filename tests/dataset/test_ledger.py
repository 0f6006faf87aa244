"""The tables of outcomes."""

import os
import subprocess
import sys

import pytest

from dataset.ledger import Ledger
from tests.helpers import PROJECT
from utils import UserError

COLUMNS = ("id", "category", "state")


def table(path):
    return Ledger(str(path), COLUMNS, num_keys=2)


def test_rows_are_written_at_once_and_sorted_at_the_end(tmp_path):
    path = tmp_path / "new" / "t.csv"
    with table(path) as ledger:
        ledger.record(id="b", category="x", state="failed")
        ledger.record(id="a", category="x", state="had")
        assert path.read_text().splitlines()[1:] == ["b,x,failed", "a,x,had"]
        ledger.record(id="b", category="x", state="had")
    assert path.read_text() == "id,category,state\na,x,had\nb,x,had\n"
    with table(path) as ledger:
        assert ledger.rows["b", "x"] == {"id": "b", "category": "x", "state": "had"}


def test_any_name_survives(tmp_path):
    names = ["a,b", 'q"uote', "line\nbreak", "umläut", os.fsdecode(b"\xff.mp4"), "-x"]
    with table(tmp_path / "t.csv") as ledger:
        for name in names:
            ledger.record(id=name, category="", state="had")
    with table(tmp_path / "t.csv") as ledger:
        assert {key[0] for key in ledger.rows} == set(names)


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_row_that_was_cut_off_is_dropped_and_the_next_is_whole(tmp_path, cut):
    text = 'id,category,state\na,x,had\n"b, b",x,had\n'
    (tmp_path / "t.csv").write_text(text[:-cut])
    with table(tmp_path / "t.csv") as ledger:
        assert list(ledger.rows) == [("a", "x")]
        ledger.record(id="c", category="x", state="had")
    with table(tmp_path / "t.csv") as ledger:
        assert list(ledger.rows) == [("a", "x"), ("c", "x")]


def test_a_killed_process_loses_nothing_and_locks_nothing(tmp_path):
    code = (
        "import os, signal\n"
        "from dataset.ledger import Ledger\n"
        f"ledger = Ledger({str(tmp_path / 't.csv')!r}, {COLUMNS}, 2).__enter__()\n"
        "ledger.record(id='a', category='x', state='had')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == -9
    with table(tmp_path / "t.csv") as ledger:
        assert list(ledger.rows) == [("a", "x")]


def test_a_second_process_is_locked_out(tmp_path):
    with table(tmp_path / "t.csv"), pytest.raises(UserError, match="in use"), table(tmp_path / "t.csv"):
        pass
    with table(tmp_path / "t.csv"):
        pass


def test_another_table_is_not_overwritten(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with (
        pytest.raises(UserError, match="expected the columns id,category,state, found a,b"),
        table(tmp_path / "t.csv"),
    ):
        pass
    assert (tmp_path / "t.csv").read_text() == "a,b\n1,2\n"


def test_an_unwritable_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), table(tmp_path / "file" / "t.csv"):
        pass
