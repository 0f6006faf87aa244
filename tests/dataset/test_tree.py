"""Trees of audio and frames: all layouts are read, and unusable clips are left out with a reason."""

import os

import pytest

import create_index_files
from dataset.index import read_index
from dataset.indexing.tree import find_clips, is_duet
from tests.helpers import NUM_FRAMES, create, make_clip, table


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        ("flute violin", True),
        ("acoustic_guitar steel drum", True),
        ("steel drum acoustic_guitar", True),
        ("steel drum", False),
        ("flute", False),
        ("flute big band", False),
        ("", False),
    ],
)
def test_a_duet_is_named_for_two_categories(category, expected):
    assert is_duet(category, {"flute", "violin", "acoustic_guitar", "steel drum"}) == expected


def test_what_a_tree_holds(tmp_path):
    for key in ("flute/a", "flute/v1.5", "flute violin/d"):
        make_clip(tmp_path, key, num_frames=8)
    make_clip(tmp_path, "tuba/v2.5", suffix=None, num_frames=8)
    found = find_clips([(f"{tmp_path}/audio", f"{tmp_path}/frames")], 8, 1, 0.5)
    assert [clip.name for clip in found.solos] == ["flute/a", "flute/v1.5"]
    assert [clip.name for clip in found.duets] == ["flute violin/d"]
    assert [(clip.name, reason) for clip, reason in found.left_out] == [("tuba/v2.5", "no sound")]


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


@pytest.mark.parametrize("frames", ["frames", "frame"])
def test_default_flags_are_those_of_the_documented_trees(tmp_path, monkeypatch, frames):
    make_clip(tmp_path / "data", "flute/a", frames)
    make_clip(tmp_path / "data", "flute/b", frames)
    monkeypatch.chdir(tmp_path)
    create_index_files.main([])
    assert read_index("data/train.csv")[0].path_audio.startswith("./data/audio/flute/")
    assert read_index("data/val.csv")[0].path_frames.startswith(f"./data/{frames}/flute/")


def test_what_is_left_out_is_counted_and_named(tmp_path, capsys):
    for key in ("flute/a", "flute/b", "steel drum/c", "steel drum/d"):
        make_clip(tmp_path, key)
    make_clip(tmp_path, "flute/short", num_frames=NUM_FRAMES - 1)
    make_clip(tmp_path, "flute/silent", suffix=None)
    make_clip(tmp_path, "flute/blind", num_frames=None)
    make_clip(tmp_path, "flute/gap", num_frames=NUM_FRAMES + 1)
    (tmp_path / "frames/flute/gap.mp4/000007.jpg").unlink()
    make_clip(tmp_path, "flute/long sound", seconds=20.6)
    make_clip(tmp_path, "flute/short sound", seconds=19.4)
    make_clip(tmp_path, "flute/torn")
    (tmp_path / "audio/flute/torn.wav").write_bytes(b"RIFF")
    make_clip(tmp_path, "flute/.writing-x", suffix=None)
    train, val = create(tmp_path)
    assert {clip.id for clip in train + val} == set("abcd")
    printed = capsys.readouterr()
    assert [line.split() for line in printed.out.splitlines()[:4]] == [
        ["category", "train", "val"],
        ["flute", "1", "1"],
        ["steel", "drum", "1", "1"],
        ["total", "2", "2"],
    ]
    gap = "frames not numbered consecutively from 000001.jpg"
    for reason in ("fewer than 160 frames: 1", "no sound: 1", "no frames: 1", "0.5 s: 2", f"{gap}: 1"):
        assert reason in printed.out
    assert f"sound cannot be read: {tmp_path}/audio/flute/torn.wav" in printed.err
    assert table(tmp_path / "left_out.csv") == [
        ["clip", "reason"],
        ["flute/blind", "no frames"],
        ["flute/gap", gap],
        ["flute/long sound", "sound and frames differ by more than 0.5 s"],
        ["flute/short", "fewer than 160 frames"],
        ["flute/short sound", "sound and frames differ by more than 0.5 s"],
        ["flute/silent", "no sound"],
        ["flute/torn", "sound cannot be read"],
    ]


def test_lengths_may_differ_by_max_difference(tmp_path):
    make_clip(tmp_path, "flute/a", seconds=19.5)
    make_clip(tmp_path, "flute/b", seconds=22)
    make_clip(tmp_path, "flute/c", seconds=20.5)
    train, val = create(tmp_path)
    assert {clip.id for clip in train + val} == {"a", "c"}
    train, val = create(tmp_path, "--max_difference=2")
    assert {clip.id for clip in train + val} == {"a", "b", "c"}


def test_many_unreadable_files_are_listed_in_part(tmp_path, capsys):
    make_clip(tmp_path, "flute/a", num_frames=8)
    make_clip(tmp_path, "flute/b", num_frames=8)
    for number in range(13):
        make_clip(tmp_path, f"flute/torn{number:02d}", num_frames=8)
        (tmp_path / f"audio/flute/torn{number:02d}.wav").write_bytes(b"")
    create(tmp_path, "--min_seconds=1")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert "torn00.wav" in lines[0]
    assert "3 more, see left_out.csv" in lines[-1]


def test_shortest_clip_follows_rate_and_flag(tmp_path):
    make_clip(tmp_path, "flute/a", num_frames=10, seconds=2.5)
    make_clip(tmp_path, "flute/b", num_frames=10, seconds=2.5)
    train, val = create(tmp_path, "--fps=4", "--min_seconds=2.5")
    assert (len(train), len(val)) == (1, 1)
    with pytest.raises(SystemExit):
        create(tmp_path, "--fps=4", "--min_seconds=2.6")


def test_duets_have_a_list_of_their_own(tmp_path, capsys):
    for key in ("flute/a", "flute/b", "tuba/c", "tuba/d", "flute/twice"):
        make_clip(tmp_path, key, num_frames=8)
    for key in ("flute violin/e", "steel drum acoustic_guitar/f", "steel drum/g", "flute violin/twice"):
        make_clip(tmp_path, key, num_frames=8)
    make_clip(tmp_path, "flute violin/short", num_frames=7)
    train, val = create(tmp_path, "--min_seconds=1")
    assert {clip.id for clip in train + val} == set("abcdg")
    duets = read_index(tmp_path / "duets.csv")
    assert {clip.name for clip in duets} == {
        "flute violin/e",
        "steel drum acoustic_guitar/f",
        "flute violin/twice",
    }
    assert ["flute/twice", "also a duet"] in table(tmp_path / "left_out.csv")
    assert ["flute violin/short", "fewer than 8 frames"] in table(tmp_path / "left_out.csv")
    assert f"wrote {tmp_path}/duets.csv: 3 clips" in capsys.readouterr().out


def test_several_trees_are_read_as_one(tmp_path, capsys):
    first, second = tmp_path / "1", tmp_path / "2"
    for key in ("flute/a", "flute/b", "tuba/c"):
        make_clip(first, key, num_frames=8)
    make_clip(first, "tuba/torn", num_frames=8)
    (first / "audio/tuba/torn.wav").write_bytes(b"")
    for key in ("flute/a", "tuba/d", "erhu/b", "tuba/torn"):
        make_clip(second, key, "frame", "", ".mp3", num_frames=9)
    roots = [f"{first}/audio", f"{second}/audio"], [f"{first}/frames", f"{second}/frame"]
    flags = ["--root_audio", *roots[0], "--root_frame", *roots[1], f"--path_output={tmp_path}"]
    create_index_files.main([*flags, "--min_seconds=1"])
    train, val = read_index(tmp_path / "train.csv"), read_index(tmp_path / "val.csv")
    paths = {clip.name: clip.path_audio for clip in train + val}
    assert paths == {
        "flute/a": f"{first}/audio/flute/a.wav",
        "flute/b": f"{first}/audio/flute/b.wav",
        "tuba/c": f"{first}/audio/tuba/c.wav",
        "tuba/d": f"{second}/audio/tuba/d.mp3",
        "erhu/b": f"{second}/audio/erhu/b.mp3",
        "tuba/torn": f"{second}/audio/tuba/torn.mp3",
    }
    assert not {clip.id for clip in train} & {clip.id for clip in val}
    assert "in an earlier tree: 1, sound cannot be read: 1" in capsys.readouterr().out
    assert ["flute/a", "in an earlier tree"] in table(tmp_path / "left_out.csv")
    with pytest.raises(SystemExit):
        create_index_files.main([*flags, "--root_frame", roots[1][0]])
    assert "expected the same number of folders" in capsys.readouterr().err


def test_an_id_in_a_solo_and_a_duet_tree_is_a_duet(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    for key in ("flute/a", "flute/b", "flute/c"):
        make_clip(first, key, num_frames=8)
    make_clip(second, "flute violin/a", num_frames=8)
    roots = [f"--root_audio {first}/audio {second}/audio --root_frame {first}/frames {second}/frames"]
    create_index_files.main([*roots[0].split(), f"--path_output={tmp_path}", "--min_seconds=1"])
    solos = read_index(tmp_path / "train.csv") + read_index(tmp_path / "val.csv")
    assert {clip.id for clip in solos} == {"b", "c"}
    assert [clip.name for clip in read_index(tmp_path / "duets.csv")] == ["flute violin/a"]


def test_names_that_are_not_utf8_are_written_and_printed(tmp_path, capsys):
    strange = os.fsdecode(b"caf\xe9")
    for key in (f"{strange}/a\udcff", f"{strange}/b", "flute/c", "flute/d"):
        make_clip(tmp_path, key, num_frames=8)
    make_clip(tmp_path, f"{strange}/torn", num_frames=8)
    (tmp_path / f"audio/{strange}/torn.wav").write_bytes(b"")
    train, val = create(tmp_path, "--min_seconds=1")
    assert {clip.id for clip in train + val} == {"a\udcff", "b", "c", "d"}
    assert all(os.path.isfile(clip.path_audio) for clip in train + val)
    assert [f"{strange}/torn", "sound cannot be read"] in table(tmp_path / "left_out.csv")
    assert "caf\\udce9" in capsys.readouterr().out
    assert create_index_files.main(["--check", f"--path_output={tmp_path}"]) == 0
    assert "caf\\udce9" in capsys.readouterr().out


def test_missing_root_is_named(tmp_path, capsys):
    make_clip(tmp_path, "flute/a", num_frames=None)
    with pytest.raises(SystemExit) as stop:
        create(tmp_path)
    assert stop.value.code == 2
    assert f"error: no folder {tmp_path}/frames" in capsys.readouterr().err


def test_nothing_that_matches_is_an_error_with_reasons(tmp_path, capsys):
    make_clip(tmp_path, "flute/a", num_frames=None)
    make_clip(tmp_path, "flute/b", suffix=None)
    with pytest.raises(SystemExit):
        create(tmp_path)
    assert "no frames: 1, no sound: 1" in capsys.readouterr().err
    assert len(table(tmp_path / "left_out.csv")) == 3
    assert not (tmp_path / "train.csv").exists()


def test_files_of_one_name_are_pointed_out(tmp_path, capsys):
    for key in ("flute/clip1", "tuba/clip1", "flute/clip2", "tuba/clip2", "flute/b", "tuba/c"):
        make_clip(tmp_path, key)
    create(tmp_path)
    assert "note: flute/clip1, tuba/clip1 count as one video" in (printed := capsys.readouterr().out)
    assert "more such names: 1" in printed
    make_clip(tmp_path / "new", "flute/a")
    make_clip(tmp_path / "new", "flute/b")
    create(tmp_path / "new")
    assert "count as one video" not in capsys.readouterr().out
