"""Index files and mixture lists, and create_index_files.py, which writes them."""

import functools
import os
import subprocess
import sys

import pytest

import create_index_files
from dataset.index import (
    SUFFIXES,
    VIDEO_SUFFIXES,
    Clip,
    read_index,
    read_mixtures,
    write_index,
    write_mixtures,
)
from dataset.indexing.split import draw, split
from dataset.indexing.tree import AUDIO_SUFFIXES
from tests.helpers import PROJECT, create, keys, make_clip
from utils import UserError


def test_what_is_written_is_read_back(tmp_path):
    clips = [Clip('./a, b/ü "q".wav', "./f/x.mp4", 3), Clip("c/d\udce9/\udcff.mp3", "c/d", 1)]
    write_index(tmp_path / "list.csv", clips)
    assert read_index(tmp_path / "list.csv") == clips
    write_mixtures(tmp_path / "mixtures.csv", [tuple(clips), tuple(clips[::-1])])
    assert read_mixtures(tmp_path / "mixtures.csv") == [tuple(clips), tuple(clips[::-1])]
    assert b"c/d\xe9/\xff.mp3,c/d,1" in (tmp_path / "mixtures.csv").read_bytes()


def test_a_mixture_is_a_row_of_the_columns_of_its_clips(tmp_path):
    write_mixtures(tmp_path / "list.csv", [tuple(Clip(f"a/{n}.wav", f"f/{n}", n) for n in (1, 2, 3))])
    assert (tmp_path / "list.csv").read_text() == "a/1.wav,f/1,1,a/2.wav,f/2,2,a/3.wav,f/3,3\n"


def test_index_of_earlier_implementations_is_read(tmp_path):
    row = "./data/audio/trumpet/STKXyBGSGyE.wav,./data/frames/trumpet/STKXyBGSGyE.mp4,493"
    (tmp_path / "list.csv").write_text(f"\ufeff{row}\r\n\r\n", encoding="utf-8")
    (clip,) = read_index(tmp_path / "list.csv")
    assert clip == Clip(*row.split(",")[:2], 493)
    assert (clip.category, clip.id, clip.name) == ("trumpet", "STKXyBGSGyE", "trumpet/STKXyBGSGyE")


@pytest.mark.parametrize("name", ["-a_b", "-a_b.mp4", "-a_b.MKV.mp3"])
def test_id_is_without_suffixes(name):
    assert Clip(f"tuba/{name}.wav", "", 1).id == "-a_b"


def test_suffixes_are_those_of_sounds_and_videos():
    assert all(SUFFIXES.sub("", f"a.b{suffix}") == "a.b" for suffix in VIDEO_SUFFIXES + AUDIO_SUFFIXES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a.wav,b,3\na.wav,b\n", "list.csv:2: .*2 column"),
        ("a.wav,b,many\n", "list.csv:1: .*'many'"),
        ("a.wav,b,0\n", "above 0"),
        ("a.wav, ,3\n", "empty one"),
        ("\0\xff", "cannot be read|column"),
    ],
)
def test_bad_rows_are_named(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=message):
        read_index(tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mixture list is empty"),
        ("a.wav,b,3\n", "list.csv:1: .*2 times, found 3 column"),
        ("a.wav,b,3,c.wav,d,4\n\na.wav,b,3\n", "list.csv:3: .*2 times, found 3 column"),
        ("a.wav,b,3,c.wav,d,4,e.wav,f,5\na.wav,b,3,c.wav,d,4\n", "list.csv:2: .*3 times, found 6 column"),
        ("a.wav,b,3,c.wav,d,x\n", "list.csv:1: .*'x'"),
    ],
)
def test_bad_rows_of_mixture_lists_are_named(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_mixtures(tmp_path / "list.csv")


@pytest.mark.parametrize("read", [read_index, read_mixtures])
def test_missing_files_say_how_to_make_them(tmp_path, read):
    with pytest.raises(UserError, match="create_index_files"):
        read(tmp_path / "none.csv")


def test_files_of_an_earlier_run_are_reported_and_kept(tmp_path, capsys):
    for key in keys(flute=10, tuba=10):
        make_clip(tmp_path, key, num_frames=8)
    make_clip(tmp_path, "flute violin/e", num_frames=8)
    create(tmp_path, "--min_seconds=1", "--test_ratio=0.1")
    (tmp_path / "audio/flute violin/e.wav").unlink()
    before = (tmp_path / "duets.csv").read_bytes()
    assert "note:" not in capsys.readouterr().out
    create(tmp_path, "--min_seconds=1")
    printed = capsys.readouterr().out
    for name in ("test", "duets"):
        assert f"note: {tmp_path}/{name}.csv is from an earlier run and was not updated" in printed
    assert printed.count("note:") == 2
    assert (tmp_path / "duets.csv").read_bytes() == before


def test_the_same_seed_gives_the_same_files_in_any_order_of_listing(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    for key in keys(flute=6, tuba=6, erhu=6):
        make_clip(tree, key, num_frames=8)
        make_clip(tree, key, folder_suffix="", suffix=".mp3", num_frames=9)
    make_clip(tree, "flute tuba/x", num_frames=8)
    make_clip(tree, "flute/torn", num_frames=7)
    walk = os.walk

    def walk_in_order(backwards, *args, **kwargs):
        for folder, inner, names in walk(*args, **kwargs):
            inner.sort(reverse=backwards)
            yield folder, inner, sorted(names, reverse=backwards)

    written = []
    for order, seed in ((False, 1), (True, 1), (False, 2)):
        monkeypatch.setattr(os, "walk", functools.partial(walk_in_order, order))
        out = tmp_path / f"{order}{seed}"
        roots = [f"--root_audio={tree}/audio", f"--root_frame={tree}/frames"]
        flags = ["--min_seconds=1", "--test_ratio=0.15", "--trainset_ratio=0.5", f"--seed={seed}"]
        create_index_files.main([*roots, f"--path_output={out}", *flags])
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
    names = "train.csv val.csv test.csv duets.csv val_mix2.csv val_mix3.csv left_out.csv".split()
    assert sorted(written[0]) == sorted(names)
    assert written[0] == written[1]
    assert all(written[0][name] != written[2][name] for name in ("train.csv", "val.csv", "val_mix2.csv"))


def test_rows_are_shuffled_and_wav_is_preferred(tmp_path):
    names = keys(flute=4, tuba=4)
    for key in names:
        make_clip(tmp_path, key, num_frames=8)
        make_clip(tmp_path, key, folder_suffix="", suffix=".mp3", num_frames=9)
    train, val = create(tmp_path, "--min_seconds=1")
    drawn = sorted(names, key=lambda key: draw(key.split("/")[1], 1234))
    assert [clip.name for clip in train] == [key for key in drawn if key in {clip.name for clip in train}]
    assert all(clip.path_audio.endswith(".wav") and clip.num_frames == 8 for clip in train + val)
    expected = split({key.split("/")[1]: {key.split("/")[0]} for key in names}, 0.8, 1234)
    assert {clip.id for clip in val} == {video for video, part in expected.items() if part == "val"}


def test_ratios_work_and_no_video_is_in_two_files(tmp_path):
    for key in [*keys(flute=20, tuba=10), "flute/shared", "tuba/shared"]:
        make_clip(tmp_path, key, num_frames=1)
    flags = ["--min_seconds=0", "--max_difference=9", "--trainset_ratio=0.6"]
    first = create(tmp_path, *flags)[0]
    train, val = create(tmp_path, *flags, "--test_ratio=0.3")
    assert train == first
    lists = {"train": train, "val": val, "test": read_index(tmp_path / "test.csv")}
    for part, ratio in (("train", 0.6), ("val", 0.1), ("test", 0.3)):
        for category, total in (("flute", 21), ("tuba", 11)):
            number = sum(clip.category == category for clip in lists[part])
            assert abs(number - ratio * total) <= 1
    ids = [{clip.id for clip in clips} for clips in lists.values()]
    assert sum(map(len, ids)) == len(set().union(*ids)) == 31
    assert sum(map(len, lists.values())) == 32


def test_a_single_video_cannot_be_split(tmp_path, capsys):
    make_clip(tmp_path, "flute/a")
    with pytest.raises(SystemExit):
        create(tmp_path)
    assert "no clip for val" in capsys.readouterr().err
    assert not (tmp_path / "train.csv").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--trainset_ratio 0", "--trainset_ratio"),
        ("--trainset_ratio 1", "--trainset_ratio"),
        ("--trainset_ratio 1.5", "--trainset_ratio"),
        ("--trainset_ratio nan", "--trainset_ratio"),
        ("--trainset_ratio most", "expected a number above 0 and below 1, found most"),
        ("--test_ratio -0.1", "--test_ratio"),
        ("--test_ratio 0.2", "leave nothing for val"),
        ("--fps 0", "--fps"),
        ("--min_seconds -1", "--min_seconds"),
        ("--max_difference inf", "--max_difference"),
        ("--num_mixtures 0", "--num_mixtures"),
        ("--root_audio a b", "expected the same number of folders"),
        ("--split_ids a.csv", "expected train=FILE, val=FILE or test=FILE, found a.csv"),
        ("--split_ids train=", "--split_ids"),
        ("--split_ids dev=a.csv", "--split_ids"),
        ("--split_ids val=a.csv val=b.csv", "one file for each part"),
        ("--split_ids val=a.csv --test_ratio 0.1", "not allowed with"),
        ("--split_ids val=a.csv --trainset_ratio 0.8", "not allowed with"),
    ],
)
def test_invalid_flags_are_rejected(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        create_index_files.main(flags.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_help_lists_the_flags():
    result = subprocess.run(
        [sys.executable, PROJECT / "create_index_files.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for flag in "--root_audio --root_frame --fps --path_output --trainset_ratio --seed --check".split():
        assert flag in result.stdout
