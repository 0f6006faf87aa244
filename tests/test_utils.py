"""Files are written whole or not at all, commands end with the right status, walks end."""

import io
import json
import logging
import os
import stat
import subprocess
import sys
import threading

import pytest

import utils
from media import path_ffmpeg, run_ffmpeg
from tests.helpers import PROJECT
from utils import Progress, UserError, command, duration, progress, replacing, save_json, walk, watch_progress

# ---- progress


def test_progress_can_be_watched(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # no terminal: the bar is not shown
    seen = []
    with watch_progress(lambda *progress: seen.append(progress)), progress(total=5, desc="reading") as bar:
        for count in (1, 3, 1):
            bar.update(count)
    assert seen == [("reading", 1, 5), ("reading", 4, 5), ("reading", 5, 5)]
    with progress(total=5) as bar:
        bar.update(5)
    assert len(seen) == 3


def test_a_watcher_can_stop_the_work():
    def stop(*_):
        raise UserError("stop")

    with pytest.raises(UserError, match="stop"), watch_progress(stop), progress(total=2) as bar:
        bar.update()
    with progress(total=2) as bar:
        bar.update()


# ---- replacing


def test_a_file_appears_whole_in_a_new_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with replacing(path) as temporary:
        assert os.path.dirname(temporary) == str(
            path.parent
        )  # the same file system, so that renaming is atomic
        assert temporary.endswith(".txt")  # writers choose a format by the suffix
        with open(temporary, "w") as file:
            file.write("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_file_can_be_read_by_others_whatever_the_umask(tmp_path):
    for name, umask in (("a", 0o022), ("b", 0o077)):
        before = os.umask(umask)
        try:
            with replacing(tmp_path / name):
                pass
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, "old"])
def test_an_exception_keeps_the_old_file_and_leaves_no_temporary_one(tmp_path, error, old):
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)

    def write():
        with replacing(path) as temporary, open(temporary, "w") as file:
            file.write("a part")
            raise error

    with pytest.raises(error):
        write()
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == (
        [("a.txt", old)] if old else []
    )


def test_a_target_that_cannot_be_replaced_leaves_no_temporary_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), replacing(tmp_path / "folder"):
        pass
    assert os.listdir(tmp_path) == ["folder"]


def test_a_temporary_file_that_the_writer_removed_is_no_second_error(tmp_path):
    def write():
        with replacing(tmp_path / "a") as temporary:
            os.remove(temporary)
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 raised here, without a message
        write()
    assert os.listdir(tmp_path) == []


def test_a_relative_path_is_one_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with replacing("a"):
        pass
    assert os.listdir(tmp_path) == ["a"]


def test_json_keeps_names_that_are_not_utf8(tmp_path):
    value = {"t\udce4st": ["Größe", 1.5, None]}
    path = tmp_path / "t\udce4st.json"
    save_json(path, value)
    assert json.loads(path.read_text(encoding="ascii")) == value
    with pytest.raises(TypeError):
        save_json(path, {"not JSON": object()})
    assert json.loads(path.read_text()) == value


# ---- progress


@pytest.fixture
def lines(monkeypatch):
    """(what is logged, an event of each line): a list and a semaphore."""
    logged, come = [], threading.Semaphore(0)

    def info(text, *arguments):
        logged.append(text % arguments)
        come.release()

    monkeypatch.setattr(utils.logger, "info", info)
    return logged, come


def test_without_a_terminal_lines_come_by_themselves(lines, monkeypatch, capsys):
    monkeypatch.setattr(utils, "LINE_SECONDS", 0.01)
    with progress(total=10, desc="work", unit="step") as bar:
        for count in (0, 4):
            bar.update(count)
            assert lines[1].acquire(timeout=60)
            assert lines[1].acquire(timeout=60), "again, although nothing moves"
    assert lines[0][0].startswith("work: 0 of 10 steps, 0 s so far")
    assert lines[0][-1].startswith("work: 4 of 10 steps, ")
    assert capsys.readouterr() == ("", "")


def test_a_line_counts_from_the_last_one_whatever_made_it(lines):
    now = [0.0]
    bar = Progress(total=10, desc="work", unit="step", clock=lambda: now[0])
    now[0] = 8.0
    bar.update(4)
    bar.report()
    assert lines[0] == ["work: 4 of 10 steps, 0.5 steps/s, 12 s left"]
    assert bar._last == 8.0
    bar.close()
    assert bar._ended.is_set()


def test_a_line_of_bytes_and_one_of_an_unknown_total(lines):
    now = [0.0]
    clock = {"clock": lambda: now[0]}
    with Progress(total=3e6, unit="B", unit_scale=True, desc="a.pth", **clock) as bar:
        now[0] = 2.0
        bar.update(1_000_000)
        bar.report()
    with Progress(unit="video", **clock) as bar:
        bar.update(3)
        now[0] = 302.0
        bar.report()
    with Progress(line=lambda: "own words", **clock) as bar:
        bar.report()
    assert lines[0] == ["a.pth: 1.00M of 3.00M B, 500k B/s, 4 s left", "3 videos, 5 min so far", "own words"]


def test_a_terminal_gets_a_bar_and_no_lines_by_themselves(lines, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(utils, "LINE_SECONDS", 0)
    with progress(range(3), desc="work", unit="step") as bar:
        assert list(bar) == [0, 1, 2]
    assert "work: 100%" in capsys.readouterr().err
    assert lines[0] == []


def test_other_processes_are_silent(lines, monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(utils, "LINE_SECONDS", 0)
    with progress(total=3) as bar:
        bar.update()
        bar.report()
    assert lines[0] == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (99, "99 s"), (100, "2 min"), (3569, "59 min"), (11100, "3 h 5 min")]
)
def test_durations_as_text(seconds, text):
    assert duration(seconds) == text


# ---- command


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        ("UserError('a.csv: expected b, found c')", 2, "error: a.csv: expected b, found c\n"),
        (r"UserError('t\udce4st: not UTF-8')", 2, "error: t\\udce4st: not UTF-8\n"),
        ("OSError(28, 'Disk full', 'a.csv')", 2, "error: [Errno 28] Disk full: 'a.csv'\n"),
        ("KeyboardInterrupt", 130, "interrupted\n"),
    ],
)
def test_expected_errors_are_one_line_and_a_status(error, status, line):
    result = run_command(f"raise {error}")
    assert (result.returncode, result.stderr, result.stdout) == (status, line, "")


def test_other_errors_show_where_they_come_from():
    result = run_command("raise ValueError('a bug')")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "ValueError: a bug" in result.stderr


def test_a_reader_that_has_gone_is_no_traceback():
    script = "import os\nos.close(1)\nos.dup2(writer, 1)\nfor _ in range(10**5): print('line')"
    reader, writer = os.pipe()
    os.close(reader)
    result = run_command(f"writer = {writer}\n{script}", pass_fds=[writer])
    os.close(writer)
    assert (result.returncode, result.stderr) == (2, "")


def test_names_that_are_not_utf8_are_printed_as_their_bytes():
    result = run_command(r"print('t\udce4st')", text=False)
    assert (result.returncode, result.stdout) == (0, b"t\xe4st\n")


def test_a_command_gets_its_arguments_and_returns_its_result():
    @command
    def main(argv=None):
        """What it does."""
        return argv

    assert main(["a"]) == ["a"]
    assert main.__doc__ == "What it does."


def run_command(body, text=True, **options):
    """Run a command whose main has this body, in a process of its own."""
    lines = "\n    ".join(body.split("\n"))
    script = f"from utils import UserError, command\n@command\ndef main():\n    {lines}\nmain()"
    argv = [sys.executable, "-c", script]
    return subprocess.run(argv, cwd=PROJECT, capture_output=True, text=text, check=False, **options)


# ---- walk


def test_hidden_folders_are_skipped_and_files_come_with_their_folder(tmp_path):
    for path in ("a/b/1.mp4", "a/2.mp4", "3.mp4", ".4.mp4", ".partial/5.mp4", "a/.6/b/7.mp4"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    found = {folder: sorted(names) for folder, names in walk(tmp_path)}
    assert found == {"": [".4.mp4", "3.mp4"], "a": ["2.mp4"], "a/b": ["1.mp4"]}


def test_links_are_followed_and_each_folder_comes_once(tmp_path):
    for path in ("root/a/1.mp4", "elsewhere/2.mp4"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "a" / "up").symlink_to(tmp_path / "root")  # a cycle
    (tmp_path / "root" / "a" / "self").symlink_to(tmp_path / "root" / "a")
    found = list(walk(tmp_path / "root"))
    assert sorted(name for _, names in found for name in names) == ["1.mp4", "2.mp4"]
    assert len(found) == 3


def test_a_root_that_is_a_link_or_hidden_is_walked(tmp_path):
    (tmp_path / ".hidden" / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / ".hidden")
    for root in (".hidden", "link"):
        assert [folder for folder, _ in walk(tmp_path / root)] == ["", "a"]


def test_a_missing_root_holds_nothing(tmp_path):
    assert list(walk(tmp_path / "gone")) == []


# ---- ffmpeg


def test_ffmpegs_last_complaint_becomes_the_error(tmp_path):
    with pytest.raises(UserError, match=r"ffmpeg failed \(\d+\): .*No such file"):
        run_ffmpeg(["-i", str(tmp_path / "gone.mp4"), "-f", "null", "-"])
    with pytest.raises(UserError, match="gone: cannot be run as ffmpeg"):
        run_ffmpeg(["-version"], ffmpeg=str(tmp_path / "gone"))


def test_ffmpeg_takes_and_gives_bytes_and_its_log():
    log = []
    raw = ["-f", "s16le", "-ar", "8000", "-ac", "1"]
    assert run_ffmpeg(["-loglevel", "info", *raw, "-i", "-", *raw, "-"], b"\1\0" * 9, log) == b"\1\0" * 9
    assert any("pcm_s16le" in line for line in log)


def test_a_missing_ffmpeg_is_a_users_mistake(monkeypatch):
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", raise_runtime_error)
    with pytest.raises(UserError, match="ffmpeg not found: gone"):
        path_ffmpeg()


def raise_runtime_error():
    raise RuntimeError("gone")
