"""Lists of segments: VGGSound's, AudioSet's and others; what is downloaded of them, and how it is named."""

import re

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataset.download import client
from dataset.download.segments import clean_label, read_segments
from dataset.download.video_list import ID, Collection, Video
from dataset.index import video_of
from dataset.indexing.labels import Entry, read_labels
from dataset.preprocess import __main__ as preprocess
from dataset.preprocess.probe import read_header
from tests.dataset.video_server import Answer, arguments, files, rows
from tests.dataset.video_server import __main__ as download
from tests.videos import SOUND_RATE, make_video
from utils import UserError

A, B, C = "aaaaaaaaaaa", "-bbbbbbbbb-", "__ccccccc__"
FPS = 8
VGGSOUND = f'{A},30,"playing violin, fiddle",train\n{B},0,dog barking,test\n'
AUDIOSET = f"""# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=2, num_segs=2, num_unique_labels=3, num_positive_labels=3
# YTID, start_seconds, end_seconds, positive_labels
{A}, 30.000, 40.000, "/m/09x0r,/t/dd00088"
{B}, 0.000, 7.500, "/m/04rlf"
"""
OTHER = f"ID,label,end,start\n{A},dog; cat ;dog,40,30\n{A},tuba,52.25,45.5\n{B},,9,0\n"


def read(folder, text):
    """(videos, table, number of refused rows) of a list with this text."""
    (folder / "list.csv").write_text(text)
    return read_segments(str(folder / "list.csv"))


def fetch(server, videos, text, *more):
    """Download a list of segments; returns the exit status."""
    path = videos.parent / "list.csv"
    path.write_text(text)
    argv = arguments(server, videos, {}, *more)
    argv[argv.index("--list") + 1] = str(path)
    try:
        return download.main(argv)
    except SystemExit as error:
        return error.code


def test_vggsound(tmp_path):
    videos, table, refused = read(tmp_path, VGGSOUND)
    assert videos == [Video("playing violin, fiddle", A, 30, 40), Video("dog barking", B, 0, 10)]
    first, second = (video.clip for video in videos)
    assert (first, second) == (f"{A}_000030", f"{B}_000000")
    assert table == {
        first: Entry(("playing violin, fiddle",), "train"),
        second: Entry(("dog barking",), "test"),
    }
    assert refused == 0


def test_audioset(tmp_path):
    videos, table, refused = read(tmp_path, AUDIOSET)
    assert videos == [Video("m_09x0r", A, 30, 40), Video("m_04rlf", B, 0, 7.5)]
    assert [entry.labels for entry in table.values()] == [("m_09x0r", "t_dd00088"), ("m_04rlf",)]
    assert refused == 0


def test_any_list_with_a_header(tmp_path):
    videos, table, _ = read(tmp_path, OTHER)
    assert videos == [Video("dog", A, 30, 40), Video("tuba", A, 45.5, 52.25), Video("", B, 0, 9)]
    assert list(table) == [f"{A}_000030", f"{A}_000045_500", f"{B}_000000"]
    assert table[f"{A}_000030"].labels == ("dog", "cat")
    assert {video_of(clip) for clip in table} == {A, B}


def test_rows_of_one_segment_are_one_clip(tmp_path):
    videos, table, _ = read(tmp_path, f"id,start,end,label\n{A},1,5,dog\n{A},1,5,cat\n")
    assert videos == [Video("dog", A, 1, 5)]
    assert table == {f"{A}_000001": Entry(("dog", "cat"), "")}


@pytest.mark.parametrize("text", ["", "# only\n", "a,b\n", "<html>\n", '{"videos": {}}\n', "id,start\n"])
def test_what_is_no_list_is_named(tmp_path, text):
    with pytest.raises(UserError, match=r"list.csv: expected rows of .*, found "):
        read(tmp_path, text)
    with pytest.raises(UserError, match=r"none.csv: cannot be read: No such file"):
        read_segments(str(tmp_path / "none.csv"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("short,0,dog,train", "not a video id"),
        (f"{A},x,dog,train", "not a time in seconds"),
        (f"{A},-1,dog,train", "not a time in seconds"),
        (f"{A},nan,dog,train", "not a time in seconds"),
        (f"{A},1000000,dog,train", "not a time in seconds"),
        (f"{A},0,.dog,train", "not a valid folder name"),
        (f"{A},0,labels.csv,train", "not a valid folder name"),
        (f"{A},0,dog,trial", "not a split"),
        (f"{A},0,dog", "not 4 columns but 3"),
    ],
)
def test_invalid_rows_are_skipped_and_named(tmp_path, caplog, row, reason):
    videos, table, refused = read(tmp_path, f"{B},0,dog,train\n{row}\n")
    assert [video.id for video in videos] == [B]
    assert list(table) == [f"{B}_000000"]
    assert refused == 1
    assert reason in caplog.text


def test_a_segment_ends_after_it_starts(tmp_path, caplog):
    assert read(tmp_path, f"{A}, 5.0, 5.0, dog\n")[2] == 1
    assert "ends before it starts" in caplog.text


rows_of_lists = st.tuples(
    st.sampled_from([A, B, "../../../xx", "$(reboot)aa"]) | st.text(max_size=12),
    st.sampled_from(["0", "30", "1e9", "-5", "inf"]) | st.text(max_size=4),
    st.sampled_from(["40", "..", "/m/09x0r", "../../x", "a;..;b", "/", ".", ""]) | st.text(max_size=70),
    st.sampled_from(["train", "a,../b,/etc", "..\\x", "x/../y"]) | st.text(max_size=70),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(rows_of_lists, max_size=4), st.sampled_from(["", "id,start,end,label\n"]))
def test_whatever_a_list_says_clips_stay_in_their_folder(tmp_path_factory, rows, header):
    folder = tmp_path_factory.mktemp("lists")
    with open(folder / "list.csv", "w", newline="", encoding="utf-8") as file:
        file.write(header)
        for row in rows:  # Python 3.10's csv.writer knows no null character
            file.write(",".join('"{}"'.format(column.replace('"', '""')) for column in row) + "\n")
    try:
        videos, table, _ = read_segments(str(folder / "list.csv"))
    except UserError:
        return
    collection = Collection(str(folder / "videos"))
    for video in videos:
        assert ID.fullmatch(video.id)
        path = collection.path(video)
        parts = path.removeprefix(str(folder / "videos") + "/").split("/")
        assert len(parts) == (2 if video.category else 1)
        assert not set(parts) & {"..", ".", ""}
        assert all(len(part.encode()) < 256 and part.isprintable() for part in parts)
        assert all(label == clean_label(label) for label in table[video.clip].labels)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """30 s, each of which has a grey level and a pitch of its own, with one keyframe every 10 s."""
    times = np.arange(30 * SOUND_RATE) / SOUND_RATE
    sound = np.sin(2 * np.pi * (300 + 100 * times.astype(int)) * times)[:, None]
    levels = np.repeat(np.arange(30) * 8, 25)
    path = make_video(tmp_path_factory.mktemp("long") / "a.mp4", levels, 25, sound, codec="aac")
    return path.read_bytes()


def moments(videos, clip, tmp_path):
    """The seconds of the long video that a downloaded clip shows, and those that it plays, one per second."""
    preprocess.main([f"--videos={videos}", f"--out={tmp_path / 'out'}", "--jobs=1"])
    frames = sorted((tmp_path / "out/frames" / f"{clip}.mp4").glob("*.jpg"))
    seen = [round(np.asarray(Image.open(path).convert("L")).mean() / 8, 1) for path in frames]
    wave, rate = soundfile.read(tmp_path / "out/audio" / f"{clip}.wav")
    heard = []
    for start in range(0, len(wave) // rate * rate, rate):
        part = wave[start + rate // 4 : start + 3 * rate // 4]
        heard.append(np.abs(np.fft.rfft(part)).argmax() * rate / len(part) / 100 - 3)
    return seen, heard


@pytest.mark.parametrize("how", ["segment", "whole"])
def test_only_the_segment_is_kept_and_frames_and_sound_are_its_own(
    server, videos, long_video, tmp_path, monkeypatch, how
):
    server.video = long_video
    cut, cuts = client._cut, []
    monkeypatch.setattr(client, "_cut", lambda *args: cuts.append(args[2:]) or cut(*args))
    if how == "whole":  # ffmpeg fails, and yt-dlp's own transfer gets the whole
        transfers = client._arguments_of_transfers
        monkeypatch.setattr(client, "_arguments_of_transfers", lambda _: transfers(1) | {"ffmpeg_i": ["-x"]})
    assert fetch(server, videos, f"id,start,end,label\n{A},7,14,dog\n") == 0
    clip = f"dog/{A}_000007"
    assert files(videos) == {"ledger.csv", "labels.csv", f"{clip}.mp4"}
    assert rows(videos)[f"{A}_000007"]["state"] == "had"
    assert server.names() == {A}
    assert cuts == ([(7, 14)] if how == "whole" else [])
    assert read_header(str(videos / f"{clip}.mp4")) == pytest.approx(7, abs=0.1)
    seen, heard = moments(videos, clip, tmp_path)
    assert len(seen) == pytest.approx(7 * FPS, abs=1)
    assert np.round(seen[3::FPS]).tolist() == list(range(7, 14))
    assert np.round(heard).tolist() == list(range(7, 14))[: len(heard)]
    assert read_labels(str(tmp_path / "out/labels.csv")) == {f"{A}_000007": Entry(("dog",), "")}


def test_segments_are_downloaded_once_and_their_labels_are_kept(server, videos, long_video, capsys):
    server.video = long_video
    server.answers[C] = [Answer(404)]
    text = f"id,start,end,label,split\n{A},0,2,a/b;c,train\n{A},5,7,c,test\n{C},0,2,c,\n"
    assert fetch(server, videos, text) == 0
    names = f"a_b/{A}_000000.mp4", f"c/{A}_000005.mp4"
    assert files(videos) == {"ledger.csv", "labels.csv", *names}
    assert {name: row["state"] for name, row in rows(videos).items()} == {
        f"{A}_000000": "had",
        f"{A}_000005": "had",
        f"{C}_000000": "gone",
    }
    assert read_labels(str(videos / "labels.csv")) == {
        f"{A}_000000": Entry(("a_b", "c"), "train"),
        f"{A}_000005": Entry(("c",), "test"),
        f"{C}_000000": Entry(("c",), ""),
    }
    server.asked.clear()
    assert fetch(server, videos, text) == 0
    assert server.asked == []
    assert fetch(server, videos, f"{B},0,horn,train\n", "--categories", "horn") == 0
    assert len(read_labels(str(videos / "labels.csv"))) == 4
    assert fetch(server, videos, f"{B},0,..,train\n") == 0
    assert "1 entries of the lists were skipped" in capsys.readouterr().out


def test_a_segment_after_the_end_is_a_failure(server, videos, long_video):
    server.video = long_video
    assert fetch(server, videos, f"{A},50,dog,train\n", "--attempts", 1) == 1
    assert re.search("cannot be read|empty|failed", rows(videos)[f"{A}_000050"]["reason"])
    assert files(videos) == {"ledger.csv", "labels.csv"}
