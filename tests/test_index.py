"""Index files, and create_index_files.py that makes them."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import create_index_files
from dataset.index import Clip, read_index, write_index
from utils import UserError

NUM_FRAMES = 160  # 20 seconds
PROJECT = Path(__file__).parents[1]


def make_clip(root, key, frames="frames", folder_suffix=".mp4", suffix=".wav", num_frames=NUM_FRAMES):
    """A sound file and a folder of pictures, all empty; `suffix` or `num_frames` None leaves one out."""
    if suffix:
        path = root / "audio" / (key + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if num_frames:
        folder = root / frames / (key + folder_suffix)
        folder.mkdir(parents=True)
        for number in range(1, num_frames + 1):
            (folder / f"{number:06d}.jpg").touch()


def create(root, *flags, frames="frames"):
    create_index_files.main(
        [f"--root_audio={root}/audio", f"--root_frame={root}/{frames}", f"--path_output={root}", *flags]
    )
    return read_index(root / "train.csv"), read_index(root / "val.csv")


def keys(**counts):
    return [
        f"{category}/{category[:2]}{number:09d}" for category in counts for number in range(counts[category])
    ]


def test_what_is_written_is_read_back(tmp_path):
    clips = [Clip('./a, b/ü "q".wav', "./f/x.mp4", 3), Clip("c/d/e.mp3", "c/d", 1)]
    write_index(tmp_path / "list.csv", clips)
    assert read_index(tmp_path / "list.csv") == clips


def test_index_of_earlier_implementations_is_read(tmp_path):
    row = "./data/audio/trumpet/STKXyBGSGyE.wav,./data/frames/trumpet/STKXyBGSGyE.mp4,493"
    (tmp_path / "list.csv").write_text(f"\ufeff{row}\r\n\r\n", encoding="utf-8")
    (clip,) = read_index(tmp_path / "list.csv")
    assert clip == Clip(*row.split(",")[:2], 493)
    assert (clip.category, clip.id, clip.name) == ("trumpet", "STKXyBGSGyE", "trumpet/STKXyBGSGyE")


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


def test_missing_index_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match="create_index_files"):
        read_index(tmp_path / "none.csv")


@pytest.mark.parametrize("category", ["flute/", ""])
@pytest.mark.parametrize("frames", ["frames", "frame"])
@pytest.mark.parametrize(("folder_suffix", "suffix"), [(".mp4", ".wav"), ("", ".mp3"), (".webm", ".wav")])
def test_every_tree_in_use_is_read(tmp_path, category, frames, folder_suffix, suffix):
    for video in ("AAAAAAAAAAA", "-BBBBBBBBBB", "CCC CCC,CCC"):
        make_clip(tmp_path, category + video, frames, folder_suffix, suffix)
    train, val = create(tmp_path, frames=frames)
    assert (len(train), len(val)) == (2, 1)
    for clip in train + val:
        assert clip.path_audio == f"{tmp_path}/audio/{category}{clip.id}{suffix}"
        assert clip.path_frames == f"{tmp_path}/{frames}/{category}{clip.id}{folder_suffix}"
        assert clip.num_frames == NUM_FRAMES


def test_paths_stay_as_given(tmp_path, monkeypatch):
    make_clip(tmp_path, "flute/a")
    make_clip(tmp_path, "flute/b")
    monkeypatch.chdir(tmp_path)
    create_index_files.main(
        ["--root_audio", "./audio/", "--root_frame", "frames", "--path_output", "new/folder"]
    )
    clips = read_index("new/folder/train.csv") + read_index("new/folder/val.csv")
    assert sorted(clip.path_audio for clip in clips) == ["./audio/flute/a.wav", "./audio/flute/b.wav"]
    assert sorted(clip.path_frames for clip in clips) == ["frames/flute/a.mp4", "frames/flute/b.mp4"]


def test_default_flags_are_those_of_the_documented_tree(tmp_path, monkeypatch):
    make_clip(tmp_path / "data", "flute/a")
    make_clip(tmp_path / "data", "flute/b")
    monkeypatch.chdir(tmp_path)
    create_index_files.main([])
    assert read_index("data/train.csv")[0].path_audio.startswith("./data/audio/flute/")
    assert read_index("data/val.csv")[0].path_frames.startswith("./data/frames/flute/")


def test_what_is_left_out_is_counted_by_reason(tmp_path, capsys):
    for key in ("flute/a", "flute/b", "steel drum/c", "steel drum/d"):
        make_clip(tmp_path, key)
    make_clip(tmp_path, "flute violin/duet")
    make_clip(tmp_path, "acoustic_guitar steel drum/duet too")
    make_clip(tmp_path, "flute/short", num_frames=NUM_FRAMES - 1)
    make_clip(tmp_path, "flute/silent", suffix=None)
    make_clip(tmp_path, "flute/blind", num_frames=None)
    make_clip(tmp_path, "flute/gap", num_frames=NUM_FRAMES + 1)
    (tmp_path / "frames/flute/gap.mp4/000007.jpg").unlink()
    make_clip(tmp_path, "flute/.writing-x", suffix=None)
    train, val = create(tmp_path)
    assert {clip.id for clip in train + val} == set("abcd")
    printed = capsys.readouterr().out
    assert [line.split() for line in printed.splitlines()[:4]] == [
        ["category", "train", "val"],
        ["flute", "1", "1"],
        ["steel", "drum", "1", "1"],
        ["total", "2", "2"],
    ]
    for reason in ("duet: 2", "fewer than 160 frames: 1", "no sound: 1", "no frames: 1", "without a gap: 1"):
        assert reason in printed


def test_shortest_clip_follows_rate_and_flag(tmp_path):
    make_clip(tmp_path, "flute/a", num_frames=10)
    make_clip(tmp_path, "flute/b", num_frames=10)
    train, val = create(tmp_path, "--fps=4", "--min_seconds=2.5")
    assert (len(train), len(val)) == (1, 1)
    with pytest.raises(SystemExit):
        create(tmp_path, "--fps=4", "--min_seconds=2.6")


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8, 0.99])
def test_ratio_holds_in_every_category(ratio):
    all_keys = keys(flute=50, tuba=7, erhu=2, cello=1)
    parts = create_index_files.split(all_keys, ratio, seed=1)
    for category, total in Counter(key.split("/")[0] for key in all_keys).items():
        train = sum(parts[key] == "train" for key in all_keys if key.startswith(category))
        assert abs(train - ratio * total) <= 1
        assert total == 1 or 0 < train < total


def test_video_in_several_categories_is_in_one_part():
    all_keys = keys(flute=20, tuba=10) + [
        f"{c}/shared{n}" for c in ("flute", "tuba", "erhu") for n in range(5)
    ]
    parts = create_index_files.split(all_keys, 0.8, seed=3)
    for number in range(5):
        assert len({parts[f"{category}/shared{number}"] for category in ("flute", "tuba", "erhu")}) == 1
    for category, total in (("flute", 25), ("tuba", 15), ("erhu", 5)):
        assert sum(parts[k] == "train" for k in parts if k.startswith(category)) == 0.8 * total


def test_split_depends_on_the_seed_and_not_on_the_order():
    all_keys = keys(flute=30, tuba=9)
    parts = create_index_files.split(all_keys, 0.8, seed=1)
    assert create_index_files.split(all_keys[::-1], 0.8, seed=1) == parts
    assert create_index_files.split(all_keys, 0.8, seed=2) != parts


def test_a_video_that_is_gone_moves_one_other_at_most():
    all_keys = keys(flute=100)
    before = create_index_files.split(all_keys, 0.8, seed=1)
    after = create_index_files.split(all_keys[:50] + all_keys[51:], 0.8, seed=1)
    assert sum(before[key] != after[key] for key in after) <= 1


@pytest.mark.parametrize("backwards", [False, True])
def test_files_are_the_same_in_any_order_of_listing(tmp_path, monkeypatch, backwards):
    for key in keys(flute=4, tuba=4):
        make_clip(tmp_path, key, num_frames=8)
        make_clip(tmp_path, key, folder_suffix="", suffix=".mp3", num_frames=9)
    walk = os.walk

    def walk_in_order(*args, **kwargs):
        for folder, inner, names in walk(*args, **kwargs):
            inner.sort(reverse=backwards)
            yield folder, inner, sorted(names, reverse=backwards)

    monkeypatch.setattr(os, "walk", walk_in_order)
    train, val = create(tmp_path, "--min_seconds=1")
    drawn = sorted(keys(flute=4, tuba=4), key=lambda key: create_index_files._draw(key.split("/")[1], 1234))
    assert [clip.name for clip in train] == [key for key in drawn if key in {clip.name for clip in train}]
    assert all(clip.path_audio.endswith(".wav") and clip.num_frames == 9 for clip in train + val)
    expected = create_index_files.split(keys(flute=4, tuba=4), 0.8, 1234)
    assert {clip.name for clip in val} == {key for key, part in expected.items() if part == "val"}


def test_missing_root_is_named(tmp_path, capsys):
    make_clip(tmp_path, "flute/a", num_frames=None)
    with pytest.raises(SystemExit) as stop:
        create(tmp_path)
    assert stop.value.code == 2
    assert f"error: no folder {tmp_path}/frames" in capsys.readouterr().err


def test_nothing_that_matches_is_an_error(tmp_path, capsys):
    make_clip(tmp_path, "flute/a", num_frames=None)
    make_clip(tmp_path, "flute/b", suffix=None)
    with pytest.raises(SystemExit):
        create(tmp_path)
    assert "no frames: 1, no sound: 1" in capsys.readouterr().err
    assert not (tmp_path / "train.csv").exists()


def test_a_single_video_cannot_be_split(tmp_path, capsys):
    make_clip(tmp_path, "flute/a")
    with pytest.raises(SystemExit):
        create(tmp_path)
    assert "no clip for val" in capsys.readouterr().err
    assert not (tmp_path / "train.csv").exists()


@pytest.mark.parametrize("ratio", ["0", "1", "1.5", "nan", "most"])
def test_ratio_out_of_range_is_refused(ratio, capsys):
    with pytest.raises(SystemExit):
        create_index_files.main(["--trainset_ratio", ratio])
    assert "--trainset_ratio" in capsys.readouterr().err


def test_help_is_there():
    result = subprocess.run(
        [sys.executable, PROJECT / "create_index_files.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--trainset_ratio" in result.stdout
