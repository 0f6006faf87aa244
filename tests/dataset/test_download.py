"""The download of MUSIC: yt-dlp itself, with a local server that refuses, stalls or sends something else."""

import errno
import io
import json
import re
import signal
import socket
import subprocess
import sys

import pytest
from yt_dlp import YoutubeDL
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.networking.common import Response
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import ExtractorError, GeoRestrictedError, YoutubeDLError

from dataset.download import __main__, client
from dataset.download.__main__ import FAILED, GONE
from dataset.download.client import BROKEN, FULL, REFUSED, UNREACHABLE
from dataset.download.video_list import COLUMNS
from dataset.index import find_videos
from dataset.ledger import Ledger
from media import run_ffmpeg
from tests.dataset.video_server import PAGE, WHOLE, Answer, arguments, files, rows, run, states
from tests.helpers import PROJECT

A, B, C = "aaaaaaaaaaa", "-bbbbbbbbb-", "__ccccccc__"  # ids may start with a dash
ODD = "$HOME ~ 100%(id)s"  # name of a folder
ONE, MANY = {"violin": [A]}, {"violin": [f"video{number:06d}" for number in range(30)]}
DASH = (
    '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"><Period>'
    '<AdaptationSet mimeType="audio/mp4">{sound}</AdaptationSet>'
    '<AdaptationSet mimeType="video/mp4">{pictures}</AdaptationSet></Period></MPD>'
)
TRACK = '<Representation id="{0}" height="{1}" codecs="{2}"><BaseURL>/{0}</BaseURL></Representation>'


def fetched(videos):
    """The bytes of the only video; there must be no other file."""
    assert files(videos) == {"ledger.csv", f"violin/{A}.mp4"}
    return (videos / "violin" / f"{A}.mp4").read_bytes()


def test_videos_are_complete_and_downloaded_once(server, videos, capsys):
    categories = {"violin": [A, B, A], ODD: [C, A]}
    assert run(server, videos, categories, "--jobs", 3) == 0
    names = (f"violin/{A}", f"violin/{B}", f"{ODD}/{C}", f"{ODD}/{A}")
    assert files(videos) == {"ledger.csv", *(f"{name}.mp4" for name in names)}
    assert {path.read_bytes() for path in videos.rglob("*.mp4")} == {server.video}
    assert not (videos / ".partial").exists()
    row = rows(videos)[B]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row.pop("time"))
    assert row == dict(id=B, category="violin", state="had", reason="", bytes=str(len(server.video)))
    (videos / "ledger.csv").unlink()
    capsys.readouterr()
    server.asked.clear()
    assert run(server, videos, categories, "--list", videos.parent / "list.json") == 0
    assert server.asked == []
    assert set(states(videos)) == {A, B, C}
    table = [line.rsplit(maxsplit=4) for line in capsys.readouterr().out.splitlines()]
    assert table[0] == ["category", "had", "gone", "failed", "total"]
    assert table[1:] == [[ODD, *"2002"], ["violin", *"2002"], ["all", *"4004"]]


@pytest.mark.parametrize("answers", [[Answer(404)], [WHOLE, Answer(404)], [Answer(410)]])
def test_gone_is_remembered(server, videos, answers):
    expected, server.answers[A] = len(answers), answers
    for _ in range(2):
        assert run(server, videos, ONE) == 0
        assert len(server.asked) == expected
        assert files(videos) == {"ledger.csv"}
        assert rows(videos)[A]["state"] == "gone"
        assert "HTTP Error 4" in rows(videos)[A]["reason"]
    assert run(server, videos, ONE, "--retry") == 0
    assert fetched(videos) == server.video
    assert rows(videos)[A]["reason"] == ""


@pytest.mark.parametrize("when", [0, 1])
@pytest.mark.parametrize("answer", [403, 429, 500, 503, "stall"])
def test_temporary_errors_are_retried(server, videos, answer, when):
    answer = Answer(cut=3000, stall=True) if answer == "stall" else Answer(answer)
    server.answers[A] = [WHOLE] * when + [answer]
    assert run(server, videos, ONE, "--timeout", 1) == 0
    assert server.answers[A] == []
    assert fetched(videos) == server.video


@pytest.mark.parametrize("attempts", [1, 2])
def test_interrupted_transfer_is_resumed_by_this_run_or_the_next(server, videos, attempts):
    server.answers[A] = [WHOLE, Answer(cut=3000)]
    if attempts == 1:
        assert run(server, videos, ONE, "--attempts", 1) == 1
        assert "expected" in rows(videos)[A]["reason"]
    assert run(server, videos, ONE) == 0
    assert [bool(asked) for _, asked in server.asked] == [False, False, False, True]
    assert fetched(videos) == server.video


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        *((Answer(status), f"HTTP Error {status}") for status in (403, 429, 503)),
        (PAGE, "Unsupported URL"),
        (PAGE._replace(kind="video/mp4"), "cannot be read as a video: ffmpeg failed"),
        (Answer(body=b""), "Did not get any data"),
    ],
)
def test_failure_is_reported_and_retried_by_the_next_run(server, videos, answer, reason, capsys):
    server.answers[A] = [answer] * 6
    assert run(server, videos, {"violin": [A, B]}, "--attempts", 3) == 1
    assert states(videos) == {A: "failed", B: "had"}
    assert reason in rows(videos)[A]["reason"]
    assert f"failed: violin/{A}: {rows(videos)[A]['reason']}\n" in capsys.readouterr().err
    assert files(videos) == {"ledger.csv", f"violin/{B}.mp4"}
    server.answers.clear()
    assert run(server, videos, {"violin": [A, B]}) == 0
    assert states(videos) == {A: "had", B: "had"}


def test_at_most_480_lines_with_sound_in_one_mp4(server, videos, tmp_path):
    (tmp_path / "whole.mp4").write_bytes(server.video)
    for height, flag in {240: "-an", 480: "-an", 720: "-an", 0: "-vn"}.items():
        path = tmp_path / f"{height}.mp4"
        run_ffmpeg(["-i", str(tmp_path / "whole.mp4"), "-c", "copy", flag, str(path)])
        server.answers[f"track{height}"] = [Answer(body=path.read_bytes())]
    pictures = "".join(TRACK.format(f"track{height}", height, "avc1.4d401e") for height in (240, 480, 720))
    manifest = DASH.format(sound=TRACK.format("track0", 0, "mp4a.40.2"), pictures=pictures)
    server.answers[A] = [Answer(body=manifest.encode(), kind="application/dash+xml")]
    assert run(server, videos, ONE) == 0
    assert server.names() == {A, "track480", "track0"}
    assert fetched(videos)
    run_ffmpeg(["-i", str(videos / f"violin/{A}.mp4"), *"-map 0:v:0 -map 0:a:0 -f null -".split()])


def start(*args):
    """The command in its own process, with Ctrl-C enabled even if the tests run in the background."""
    program = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    program += "runpy.run_module('dataset.download', run_name='__main__')"
    argv = [sys.executable, "-c", program, *arguments(*args)]
    return subprocess.Popen(argv, cwd=PROJECT, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_run_resumes(server, videos, how):
    server.answers[B] = [WHOLE, Answer(cut=3000, stall=True)]
    with start(server, videos, {"violin": [A, B, C]}, "--timeout", 300) as process:
        assert server.stalled.wait(300)
        process.send_signal(how)
        _, complaint = process.communicate(timeout=300)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert complaint.endswith("interrupted\n")
        assert states(videos) == {A: "had"}
    assert find_videos(str(videos)) == [f"violin/{A}.mp4"]
    server.asked.clear()
    assert run(server, videos, {"violin": [A, B, C]}) == 0
    assert server.names() == {B, C}
    assert states(videos) == dict.fromkeys([A, B, C], "had")
    assert files(videos) == {"ledger.csv", *(f"violin/{name}.mp4" for name in (A, B, C))}


def test_second_process_is_locked_out(server, videos, capsys):
    with Ledger(str(videos / "ledger.csv"), COLUMNS, num_keys=2):
        assert run(server, videos, ONE) == 2
    assert "already running" in capsys.readouterr().err
    assert server.asked == []


def test_cookies_are_passed_on_and_their_file_is_left_alone(server, videos, tmp_path, capsys):
    path = tmp_path / "cookies.txt"
    text = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t2147483647\tflavour\toat\n"
    for content, status in {text: 0, "flavour=oat": 2}.items():
        path.write_text(content)
        assert run(server, videos, {"violin": [A if status == 0 else B]}, "--cookies", path) == status
        assert path.read_text() == content
    assert server.cookies == ["flavour=oat"] * 2
    assert run(server, videos, {"violin": [B]}, "--cookies_from_browser", "netscape") == 2
    assert capsys.readouterr().err.count("error: cookies cannot be read: ") == 2


def test_hopeless_run_stops(server, videos, capsys):
    server.answers = {name: [Answer(429), Answer(403)] for name in MANY["violin"]}
    assert run(server, videos, MANY, "--attempts", 2) == 2
    assert "5 failures in a row: the server refuses this machine" in capsys.readouterr().err
    assert list(states(videos).values()) == ["failed"] * 5
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # not listening
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/{{id}}"
        assert run(server, videos, MANY, "--url_template", address) == 2
    assert "3 failures in a row: the server cannot be reached" in capsys.readouterr().err
    assert list(states(videos).values()) == ["failed"] * 5
    server.answers.clear()
    assert run(server, videos, MANY, "--limit", 6) == 0
    assert list(states(videos).values()) == ["had"] * 6


def test_invalid_entries_reach_neither_server_nor_disk(server, videos, capsys):
    ids = ["../../etc/x", "; rm -rf ~ ", "$(reboot)aa", A + "\n", A + "a", "", 5, None, ["x"], A]
    folders = ["..", "a/b", "", ".hidden", "a\nb", "a\\b", "x" * 61, "\ud800"]
    assert run(server, videos, {"violin": ids} | {folder: [B] for folder in folders}) == 0
    assert server.names() == {A}
    assert files(videos.parent) == {"list.json", "videos/ledger.csv", f"videos/violin/{A}.mp4"}
    output = capsys.readouterr()
    assert output.err.count("list.json: not a video id: ") == len(ids) - 1
    assert output.err.count("list.json: not a valid folder name: ") == len(folders)
    assert f"{len(ids) - 1 + len(folders)} entries of the lists were skipped" in output.out


@pytest.mark.parametrize("text", ["<html>", "[]", '{"videos": 5}', '{"violin": "x"}', "[" * 9999])
def test_invalid_list_is_named(server, videos, capsys, tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    assert run(server, videos, {}, "--list", tmp_path / "other.json") == 2
    assert re.fullmatch(r'error: .*other.json: expected .*{"videos": {.*\n', capsys.readouterr().err)
    assert run(server, videos, {}, "--list", tmp_path / "none.json") == 2
    assert "none.json: cannot be read: No such file" in capsys.readouterr().err


def test_published_lists_are_fetched_once_and_kept(server, videos, capsys):
    name, flags = "MUSIC_solo_videos.json", ["--lists", "solo", "--lists-url", f"{server.url}/lists"]
    server.answers[name] = [Answer(404), PAGE, Answer(body=json.dumps({"tuba": [A]}).encode())]
    for complaint in ("404", "expected JSON"):
        assert run(server, videos, {}, *flags) == 2
        assert re.search(f"{name}: cannot be downloaded: .*{complaint}.*--list\n", capsys.readouterr().err)
        assert not videos.exists()
    for _ in range(2):
        assert run(server, videos, {"violin": [B]}, *flags) == 0
        assert files(videos) == {name, "ledger.csv", f"tuba/{A}.mp4", f"violin/{B}.mp4"}
    assert len(server.asked) == 7


def test_choice_of_categories_and_numbers(server, videos, capsys):
    lists = {"violin": [A, B, C], "tuba": [C, B], "flute": [A]}
    assert run(server, videos, lists, "--categories", "violin", "tuba", "--limit", 1) == 0
    assert files(videos) == {"ledger.csv", f"violin/{A}.mp4", f"tuba/{C}.mp4"}
    for mistake in ("--categories=?", "--wait=nan", "--url_template=x", "--cookies=?"):
        assert run(server, videos, lists, mistake) == 2
        assert mistake.partition("=")[0] in capsys.readouterr().err.splitlines()[-1]


def judged(error):
    """The outcome for an error that an extractor raises inside yt-dlp."""

    def fail(*_):
        raise error

    members = {"_VALID_URL": "fake:(?P<id>.*)", "_real_extract": fail}
    with YoutubeDL({"logger": client.Sink()}, auto_init=False) as ydl:
        ydl.add_info_extractor(type("FakeIE", (InfoExtractor,), members)())
        with pytest.raises((YoutubeDLError, OSError)) as raised:
            ydl.extract_info("fake:x")
    return client.judge(raised.value)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (GONE, "Private video. Sign in if you've been granted access to this video"),
        (GONE, "Video unavailable. This video is no longer available because the account was terminated"),
        (GONE, "Video unavailable. This video contains content from X, who has blocked it in your country"),
        (GONE, "This video has been removed by the uploader"),
        (GONE, "This video is not available"),
        (GONE, "Join this channel to get access to members-only content like this video"),
        (GONE, "Sign in to confirm your age. Use --cookies-from-browser or --cookies for the authentication"),
        (REFUSED, "Sign in to confirm you’re not a bot. Use --cookies"),
        (REFUSED, "Video unavailable. This content isn't available, try again later. The session"),
        (FAILED, "Requested format is not available"),
        (BROKEN, TransportError("timed out")),
        (UNREACHABLE, TransportError(cause=ConnectionRefusedError(errno.ECONNREFUSED, "refused"))),
        (UNREACHABLE, TransportError(cause=socket.gaierror(-3, "no name"))),
        (FULL, OSError(errno.ENOSPC, "No space left on device")),
        (GONE, GeoRestrictedError("Not here")),
    ],
)
def test_errors_are_classified(kind, error):
    words, cause = (error, None) if isinstance(error, str) else ("Please sign in", error)
    assert judged(ExtractorError(words, cause=cause, expected=True))[:2] == (kind, words)
    assert cause is None or judged(cause).kind == kind


def test_odd_pages_and_pauses():
    outcome = judged(ExtractorError("Unable to\n extract a private " + "x" * 500))
    assert outcome.kind == FAILED
    assert re.fullmatch("Unable to extract a private x{100,}…", outcome.reason)
    answer = Response(io.BytesIO(), "http://x", {"Retry-After": "7"}, status=429)
    assert judged(HTTPError(answer))[::2] == (REFUSED, 7.0)
    assert __main__._pause_before_next(1, 0.0, 7.0) == 7
    assert __main__._pause_before_next(99, 5.0, 0.0) == __main__.MAX_PAUSE
