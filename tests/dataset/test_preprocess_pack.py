"""Videos straight into shards: the same bytes as from folders, resumed, in parts, and listed."""

import os
import re
import shutil

import pytest

import create_index_files
from dataset.index import Clip, read_index
from dataset.indexing.labels import Entry, add_labels, read_labels
from dataset.preprocess import __main__ as preprocess
from dataset.shards.encode import Encoding
from dataset.shards.write import packed_clips
from tests.dataset.packing import pack_all, read_all
from tests.test_scripts import SCRIPTS, make_environment
from tests.test_scripts import run as run_script

NAMES = [f"{category}/{category[0]}{n}.mp4" for category in ("flute", "tuba") for n in range(3)]


@pytest.fixture
def videos(good_video, tmp_path):
    for name in NAMES:
        os.makedirs((tmp_path / "videos" / name).parent, exist_ok=True)
        shutil.copy(good_video, tmp_path / "videos" / name)
    return tmp_path / "videos"


def run(videos, *flags):
    return preprocess.main([f"--videos={videos}", f"--out={videos.parent}/data", "--jobs=2", *flags])


def tars(videos):
    return {path.name: path.read_bytes() for path in (videos.parent / "data" / "shards").glob("*.tar*")}


def test_videos_go_straight_into_the_shards_that_folders_would_give(videos, tmp_path, capsys):
    assert run(videos, "--pack") == 0
    assert "6 videos: 6 packed, 0 already there, 0 failed" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"shards"}  # nothing else is left
    assert run(videos) == 0
    data = tmp_path / "data"
    clips = [
        Clip(str(data / "audio" / f"{name[:-4]}.wav"), str(data / "frames" / name), 24) for name in NAMES
    ]
    pack_all(clips, tmp_path / "other", 300, Encoding())
    assert {path.name: path.read_bytes() for path in (tmp_path / "other").glob("*.tar*")} == tars(videos)


def test_packing_videos_resumes(videos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(preprocess, "pack_videos", smaller(preprocess.pack_videos))
    assert run(videos, "--pack") == 0
    whole = tars(videos)
    assert len(whole) == 12
    (tmp_path / "data" / "shards" / "000002.tar").unlink()
    assert run(videos, "--pack") == 0
    assert "1 packed, 5 already there" in capsys.readouterr().out
    assert tars(videos) == whole


def smaller(function):
    """`pack_videos` with shards of one clip."""
    return lambda *parts: function(*parts[:-2], 1, parts[-1])


def test_bad_videos_are_named_and_the_others_packed(videos, tmp_path, capsys):
    (videos / "tuba" / "bad.mp4").write_bytes(b"no video")
    shutil.copy(videos / NAMES[0], videos / "flute" / "f0.mkv")
    assert run(videos, "--pack") == 1
    out = capsys.readouterr()
    assert "failed: tuba/bad.mp4: cannot be read as a video" in out.err
    assert "has the same id" in out.err
    assert "8 videos: 6 packed, 0 already there, 2 failed" in out.out
    ledger = (tmp_path / "data" / "shards" / "shards.csv").read_text()
    assert "tuba/bad.mp4,failed,cannot be read as a video" in ledger


def test_parts_and_index_files_of_shards(videos, tmp_path, capsys):
    for part in ("1/2", "2/2"):
        assert run(videos, "--pack", f"--shard={part}") == 0
    shards = tmp_path / "data" / "shards"
    assert {clip.name for clip in packed_clips(str(shards)).values()} == {name[:-4] for name in NAMES}
    flags = [f"--shards={shards}", f"--path_output={tmp_path}/lists", "--trainset_ratio=0.6"]
    with pytest.raises(SystemExit):
        create_index_files.main(flags)
    assert "fewer than 160 frames: 6" in capsys.readouterr().err
    create_index_files.main([*flags, "--min_seconds=3"])
    train, val = (read_index(tmp_path / "lists" / f"{part}.csv") for part in ("train", "val"))
    assert sorted(clip.name for clip in train + val) == sorted(name[:-4] for name in NAMES)
    assert {clip.num_frames for clip in train + val} == {24}
    assert all(read_all(clip.path_audio)[:4] == b"fLaC" for clip in train + val)


def test_parts_at_the_same_time_keep_their_hands_off_each_other(videos, monkeypatch):
    folders = []
    (videos.parent / "data").mkdir()

    def pack(*parts):
        with parts[2] as folder:  # the staging folder
            folders.append(folder)
            if len(folders) < 3:
                run(videos, "--pack", f"--shard={len(folders) + 1}/3")
            assert os.path.isdir(folder)
        return {}, 0

    monkeypatch.setattr(preprocess, "pack_videos", pack)
    assert run(videos, "--pack", "--shard=1/3") == 0
    assert len(set(folders)) == 3


def index(folder, *flags):
    """The exit status of create_index_files.py for the shards in a folder."""
    try:
        return create_index_files.main(
            [f"--shards={folder}", f"--path_output={folder}/..", "--min_seconds=3", *flags]
        )
    except SystemExit as exit:
        return exit.code


def test_the_script_ends_parts_and_indexes_the_shards(videos, tmp_path):
    script, environment = SCRIPTS / "preprocess_videos.sh", make_environment(tmp_path / "env")
    out = tmp_path / "data"
    flags = [f"--videos={videos}", "--out", str(out), "--pack", "--shard_mb", "1", "--min_seconds", "3"]
    result = run_script(script, *flags, "--shard", "1/2", env=environment)
    assert result.returncode == 0, result.stderr
    assert not (out / "train.csv").exists()
    result = run_script(script, *flags, env=environment)
    assert result.returncode == 0, result.stderr
    clips = read_index(out / "train.csv") + read_index(out / "val.csv")
    assert sorted(clip.name for clip in clips) == sorted(name[:-4] for name in NAMES)
    assert all(clip.path_audio.startswith(f"{out}/shards/") for clip in clips)
    assert len({clip.path_audio.partition(".tar/")[0] for clip in clips}) >= 2


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("--merge 2 --pack --out a", "--merge: not for --pack: run --pack without .*--shards a/shards`"),
        ("--merge 2 --shard 1/2", "--merge: it merges all parts; use it without --shard"),
        ("--shard_mb 300", "--shard_mb: expected --pack with it"),
    ],
)
def test_flags_that_do_not_go_together_are_one_line(capsys, flags, reason):
    with pytest.raises(SystemExit) as exit:
        preprocess.main(flags.split())
    assert exit.value.code == 2
    assert re.fullmatch(f"error: {reason}\n", capsys.readouterr().err)


def test_no_shards_are_one_line(tmp_path, capsys):
    assert index(tmp_path / "none") == 2
    assert capsys.readouterr().err == (
        f"error: no folder {tmp_path}/none: expected shards such as {tmp_path}/none/000000.tar\n"
    )
    (tmp_path / "a").mkdir()
    start = f"error: no shards in {tmp_path}/a: expected *.tar, each with an index, found "
    assert index(tmp_path / "a") == 2
    assert capsys.readouterr().err == f"{start}no tar file\n"
    (tmp_path / "a" / "b.tar").write_bytes(b"")
    assert index(tmp_path / "a") == 2
    hint = f"index it with `python -m dataset.shards --index {tmp_path}/a/b.tar`"
    assert capsys.readouterr().err == f"{start}b.tar without one: {hint}\n"


def test_tar_files_without_an_index_are_named(videos, tmp_path, capsys):
    assert run(videos, "--pack") == 0
    shards = tmp_path / "data" / "shards"
    assert index(shards) is None
    assert "no index" not in capsys.readouterr().err
    for number in range(11):
        (shards / f"x{number:02}.tar").write_bytes(b"")
    assert index(shards) is None
    err = capsys.readouterr().err.splitlines()
    line = "left out: {0}: no index: index it with `python -m dataset.shards --index {0}`"
    assert err[-11:-1] == [line.format(f"{shards}/x{number:02}.tar") for number in range(10)]
    assert err[-1] == "left out: 1 more tar files without an index"


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [
        ("", ": 1000 bytes, expected [0-9]+ by its index: copy both again, delete both to pack .*"),
        (".index.npy", ": cannot be read as an index: .*: make it again with `.* --index .*000000.tar`"),
    ],
)
def test_a_truncated_shard_is_one_line(videos, tmp_path, capsys, suffix, reason):
    assert run(videos, "--pack") == 0
    shards = tmp_path / "data" / "shards"
    os.truncate(shards / f"000000.tar{suffix}", 1000)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(videos, "--pack")
    err = capsys.readouterr().err
    assert re.fullmatch(f"error: {shards}/000000.tar{suffix}{reason}\n", err)
    assert index(shards) == 2
    assert capsys.readouterr().err == err


def test_labels_go_with_the_clips(videos, tmp_path):
    table = {name[-6:-4]: Entry(("wind", "brass"), "test" if "0" in name else "train") for name in NAMES}
    add_labels(videos / "labels.csv", table)
    assert run(videos, "--pack") == 0
    shards = tmp_path / "data" / "shards"
    flags = [f"--shards={shards}", f"--path_output={tmp_path}/lists", "--min_seconds=3"]
    create_index_files.main(flags)
    assert {clip.id for clip in read_index(tmp_path / "lists" / "test.csv")} == {"f0", "t0"}
    assert read_labels(tmp_path / "lists" / "labels.csv") == table
