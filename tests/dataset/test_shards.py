"""Shards: what is packed is what is read, from any process; packing resumes and gives the same bytes."""

import json
import os
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import soundfile
import torch

import create_index_files
from dataset.audio import read_window, sound_seconds
from dataset.checksums import file_checksum
from dataset.frames import read_clip
from dataset.index import Clip, read_index, read_mixtures, write_index, write_mixtures
from dataset.music import MUSICMixDataset, Sampling
from dataset.shards import __main__ as command
from dataset.shards.encode import Encoding
from dataset.shards.members import list_members
from dataset.shards.read import is_file, is_folder, list_frames
from dataset.shards.write import find_shards, pack
from tests.conftest import RATE
from tests.dataset.packing import KEEP, history, pack_all, read_all
from utils import UserError

SMALL = Sampling(img_size=32, aud_len=16383)


def same_items(one, other):
    assert one["info"] == other["info"]
    return all(torch.equal(one[key], other[key]) for key in ("mix", "sources", "frames"))


def test_members_have_the_bytes_of_the_files(shards):
    for clip, packed in zip(*shards, strict=True):
        assert packed.name == clip.name
        assert packed.num_frames == clip.num_frames
        with open(clip.path_audio, "rb") as file:
            assert file.read() == read_all(packed.path_audio)
        assert file_checksum(packed.path_audio) == file_checksum(clip.path_audio)
        assert sorted(list_frames(packed.path_frames)) == sorted(os.listdir(clip.path_frames))
        for name in ("000001.jpg", "000160.jpg"):
            with open(os.path.join(clip.path_frames, name), "rb") as file:
                assert file.read() == read_all(f"{packed.path_frames}/{name}")


def test_shards_are_tar_files_in_the_layout_of_webdataset(shards):
    path, _, key = shards[1][0].path_frames.partition(".tar/")
    with tarfile.open(f"{path}.tar") as tar:
        names = tar.getnames()
        start = names.index(f"{key}.wav")
        assert names[start : start + 3] == [f"{key}.wav", f"{key}.json", f"{key}.000001.jpg"]
        text = json.load(tar.extractfile(f"{key}.json"))
        assert text == {"category": "violin", "id": "violin0", "frames": 160}
        one = tar.getmember(f"{key}.000001.jpg")
    assert list_members(f"{path}.tar")[one.name] == (one.offset_data, one.size)


@pytest.mark.parametrize("sound", ["keep", "flac"])
@pytest.mark.parametrize("train", [True, False])
def test_items_from_shards_equal_those_from_folders(tree, tmp_path, sound, train):
    packed = pack_all(tree[1], tmp_path / "shards", encoding=Encoding(sound))
    inside = [packed[clip.name] for clip in tree[1]]
    one, other = (MUSICMixDataset(clips, SMALL, train=train, semitones=2) for clips in (tree[1], inside))
    for index in range(len(one)):
        assert same_items(one[index], other[index])


def test_a_list_in_shards_trains_in_forked_workers_and_threads(shards):
    folders, packed = (MUSICMixDataset(clips, SMALL, train=True) for clips in shards)
    assert packed[0]["info"]  # shards are open when the workers start
    loader = torch.utils.data.DataLoader(
        packed, batch_size=None, num_workers=2, multiprocessing_context=get_context("fork")
    )
    for item, expected in zip(loader, (folders[index] for index in range(len(folders))), strict=True):
        assert same_items(item, expected)
    with ThreadPoolExecutor(8) as pool:
        for item, index in zip(pool.map(packed.__getitem__, range(9)), range(9), strict=True):
            assert same_items(item, folders[index])


def test_training_from_folders_and_from_shards_gives_the_same_losses(shards, tmp_path, monkeypatch):
    one, other = (history(shards[n], tmp_path / f"{n}", monkeypatch) for n in (0, 1))
    assert len(one["train"]["err"]) >= 8
    assert one == other


def test_each_shard_is_opened_once(shards, monkeypatch):
    from dataset.shards import read

    read._open_local.cache_clear()
    opened, whole = [], read.open_regular
    monkeypatch.setattr(read, "open_regular", lambda path: opened.append(path) or whole(path))
    dataset = MUSICMixDataset(shards[1], SMALL, train=True)
    for index in range(9):
        assert dataset[index]["info"]["failures"] == []
    used = {clip.path_audio.partition(".tar/")[0] + ".tar" for clip in shards[1]}
    assert sorted(opened) == sorted(used)
    assert len(used) > 1


def test_closed_shards_leave_no_open_files(shards):
    from dataset.shards import read

    read._open_local.cache_clear()
    before = len(os.listdir("/proc/self/fd"))
    read_all(shards[1][0].path_audio)
    assert len(os.listdir("/proc/self/fd")) > before
    read._open_local.cache_clear()
    assert len(os.listdir("/proc/self/fd")) == before


# ---- packing


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if ".tar" in path.name}


def test_packing_again_gives_the_same_bytes_and_remakes_what_died(tree, tmp_path):
    pack_all(tree[1], tmp_path / "a")
    pack_all(tree[1], tmp_path / "b")
    whole = bytes_of(tmp_path / "a")
    assert len(whole) >= 6
    assert bytes_of(tmp_path / "b") == whole
    (tmp_path / "b" / "000001.tar").unlink()  # died after the index was written
    (tmp_path / "b" / "000002.tar").unlink()  # died before
    (tmp_path / "b" / "000002.tar.index.npy").unlink()
    (tmp_path / "b" / "000001.tar.part").write_bytes(b"half")
    os.utime(tmp_path / "b" / "000000.tar", (1, 1))
    pack_all(tree[1], tmp_path / "b")
    assert bytes_of(tmp_path / "b") == whole
    assert os.path.getmtime(tmp_path / "b" / "000000.tar") == 1  # kept


@pytest.mark.parametrize("name", ["000001.tar", "1of2-000000.tar"])
def test_packing_never_replaces_tar_files_of_others(tree, tmp_path, name):
    tag = name.partition("-")[0] if "-" in name else ""
    (tmp_path / "a").mkdir()
    for other in ("notes.tar", "2of2-000000.tar", name):
        (tmp_path / "a" / other).write_bytes(b"of others")
    with pytest.raises(UserError, match=f"a/{name}: a tar file without an index .*--index .*or move it away"):
        pack(tree[1], str(tmp_path / "a"), 5e5, KEEP, tag)
    (tmp_path / "a" / name).unlink()
    pack_all(tree[1], tmp_path / "a", tag=tag)
    assert (tmp_path / "a" / "notes.tar").read_bytes() == b"of others"
    assert (tmp_path / "a" / "2of2-000000.tar").read_bytes() == b"of others"


def test_a_run_killed_at_any_rename_resumes(tree, tmp_path, monkeypatch):
    pack_all(tree[1], tmp_path / "whole")
    for count in range(1, 7):
        folder, left, replace = tmp_path / f"{count}", [count], os.replace

        def die(source, target, left=left, replace=replace):
            if ".tar" in str(target):
                left[0] -= 1
                if not left[0]:
                    raise KeyboardInterrupt
            replace(source, target)

        monkeypatch.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            pack_all(tree[1], folder)
        monkeypatch.undo()
        assert find_shards(str(folder))[1] == []
        pack_all(tree[1], folder)
        assert bytes_of(folder) == bytes_of(tmp_path / "whole")


def test_shards_end_with_the_clip_that_reaches_the_size(tree, tmp_path):
    pack_all(tree[1], tmp_path / "a", megabytes=1.2)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "a").glob("*.tar"))]
    one_clip = os.path.getsize(tree[1][0].path_audio) + 160 * 4096
    assert all(1.2e6 <= size < 1.2e6 + one_clip for size in sizes[:-1])


def test_parts_that_are_packed_apart_have_all_clips(tree, tmp_path):
    pack_all(tree[1][::2], tmp_path / "a", tag="1of2")
    packed = pack_all(tree[1][1::2], tmp_path / "a", tag="2of2")
    assert packed.keys() == {clip.name for clip in tree[1]}
    assert (tmp_path / "a" / "1of2-000000.tar").exists()
    assert (tmp_path / "a" / "2of2-shards.csv").exists()


def test_flac_is_smaller_and_other_sounds_are_kept(tmp_path):
    wave = 0.5 * np.sin(np.arange(20 * RATE) / 30)
    write = {"a.wav": "PCM_16", "b.wav": "FLOAT", "c.mp3": None}
    clips = []
    for name, subtype in write.items():
        path, folder = tmp_path / "x" / name, tmp_path / "x" / name[0]
        folder.mkdir(parents=True)
        soundfile.write(path, wave, RATE, subtype=subtype)
        (folder / "000001.jpg").write_bytes(b"a picture")
        clips.append(Clip(str(path), str(folder), 1))
    packed = pack_all(clips, tmp_path / "shards", encoding=Encoding("flac"))
    assert [os.path.basename(clip.path_audio) for clip in packed.values()] == ["a.flac", "b.wav", "c.mp3"]
    assert len(read_all(packed["x/a"].path_audio)) < 0.8 * os.path.getsize(clips[0].path_audio)
    for clip in clips:
        inside = packed[clip.name]
        assert sound_seconds(inside.path_audio) == sound_seconds(clip.path_audio)
        windows = [read_window(each.path_audio, 7.0, 4001, RATE) for each in (clip, inside)]
        np.testing.assert_array_equal(*windows)


@pytest.mark.parametrize("frames", ["jpeg", "webp"])
def test_opus_and_a_lower_quality_are_smaller_and_close(tree, tmp_path, frames):
    clip = tree[1][0]
    packed = pack_all([clip], tmp_path / "shards", encoding=Encoding("opus", frames, 30))[clip.name]
    assert len(read_all(packed.path_audio)) < 0.3 * os.path.getsize(clip.path_audio)
    one, other = (read_window(each.path_audio, 7.0, 8001, RATE) for each in (clip, packed))
    assert np.square(one - other).mean() < 0.01 * np.square(one).mean()
    one, other = (read_clip(each.path_frames, [5], 48).astype(int) for each in (clip, packed))
    assert 0 < np.abs(one - other).mean() < 12
    assert list_frames(packed.path_frames) == sorted(os.listdir(clip.path_frames))
    data = read_all(f"{packed.path_frames}/000001.jpg")
    assert (data[8:12] == b"WEBP") == (frames == "webp")
    assert is_file(f"{packed.path_frames}/000001.jpg")


def test_an_mp3_without_a_length_is_decoded_whole_from_a_shard(tmp_path):
    wave = 0.5 * np.sin(np.arange(10 * 44100) / 30)
    soundfile.write(tmp_path / "a.mp3", wave, 44100)
    data = (tmp_path / "a.mp3").read_bytes()
    first = next(at for tag in (b"Xing", b"Info") if (at := data.find(tag)) >= 0)
    (tmp_path / "a.mp3").write_bytes(data[:first] + b"none" + data[first + 4 :])
    clip = Clip(str(tmp_path / "a.mp3"), str(tmp_path), 1)
    (tmp_path / "000001.jpg").write_bytes(b"a picture")
    packed = pack_all([clip], tmp_path / "shards")[clip.name]
    np.testing.assert_array_equal(
        read_window(packed.path_audio, 5.0, 4001, RATE), read_window(clip.path_audio, 5.0, 4001, RATE)
    )


# ---- the command


@pytest.fixture
def lists(tree, tmp_path):
    """(folder, list of its index file and its mixture list)."""
    clips = tree[1]
    write_index(tmp_path / "train.csv", clips)
    write_mixtures(tmp_path / "val_mix2.csv", [(clips[0], clips[1]), (clips[2], clips[3])])
    return tmp_path, [str(tmp_path / "train.csv"), str(tmp_path / "val_mix2.csv")]


def test_the_command_writes_lists_of_clips_in_shards(lists, tree, capsys):
    folder, paths = lists
    assert command.main(["--lists", *paths, f"--out={folder}/shards", "--shard_mb=1"]) == 0
    clips = read_index(folder / "shards" / "train.csv")
    assert [clip.name for clip in clips] == [clip.name for clip in tree[1]]
    assert all(is_file(clip.path_audio) and is_folder(clip.path_frames) for clip in clips)
    assert clips[0].path_audio == f"{folder}/shards/000000.tar/violin/violin0.flac"
    mixtures = read_mixtures(folder / "shards" / "val_mix2.csv")
    assert mixtures == [(clips[0], clips[1]), (clips[2], clips[3])]
    assert "9 clips: 9 in shards, 0 failed" in capsys.readouterr().out
    assert create_index_files.main(["--check", f"{folder}/shards/train.csv"]) == 0


def test_parts_write_shards_and_the_last_run_the_lists(lists):
    folder, paths = lists
    for part in ("1/2", "2/2"):
        assert command.main(["--lists", *paths, f"--out={folder}/shards", f"--shard={part}"]) == 0
        assert not (folder / "shards" / "train.csv").exists()
    assert command.main(["--lists", *paths, f"--out={folder}/shards"]) == 0
    assert len(read_index(folder / "shards" / "train.csv")) == 9
    assert len(list((folder / "shards").glob("*.tar"))) == 2


def test_clips_that_cannot_be_read_are_named_and_left_out(lists, tree, tmp_path, capsys):
    folder, paths = lists
    lost = Clip(str(tmp_path / "flute" / "gone.wav"), str(tmp_path / "gone"), 3)
    write_index(paths[0], [lost, *tree[1]])
    assert command.main(["--lists", *paths, f"--out={folder}/shards"]) == 1
    out = capsys.readouterr()
    assert f"failed: flute/gone: {lost.path_audio}: cannot be packed: No such file" in out.err
    assert "9 rows, 1 left out" in out.out
    assert "flute/gone,failed," in (folder / "shards" / "shards.csv").read_text()


def test_indexing_counts_the_shards(tree, tmp_path, capsys):
    pack_all(tree[1], tmp_path / "a")
    paths = [str(path) for path in sorted((tmp_path / "a").glob("*.tar"))]
    before = bytes_of(tmp_path / "a")
    for path in paths:
        os.remove(f"{path}.index.npy")
    assert command.main(["--index", paths[0]]) == 0
    assert capsys.readouterr().out == "1 shard indexed\n"
    assert command.main(["--index", *paths[1:]]) == 0
    assert capsys.readouterr().out == f"{len(paths) - 1} shards indexed\n"
    assert bytes_of(tmp_path / "a") == before


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "x").mkdir()
    sound, picture = tmp_path / "x" / "a.wav", tmp_path / "x" / "000001.jpg"
    sound.write_bytes(b"no sound")
    picture.write_bytes(b"no picture")
    clip = Clip(str(sound), str(picture.parent), 1)
    for encoding, text in (
        (Encoding(), f"{sound}: cannot be packed: not a wav file, or damaged"),
        (Encoding("keep", "webp"), f"{picture}: cannot be packed: not a JPEG or WebP file, or damaged"),
    ):
        assert pack([clip], str(tmp_path / "s" / encoding.frames), 1e6, encoding) == {"x/a": text}


def mistake(*flags):
    with pytest.raises(SystemExit) as exit:
        command.main([*map(str, flags)])
    return exit.value.code


def test_mistakes_are_one_line(lists, tree, tmp_path, capsys, monkeypatch):
    folder, paths = lists
    twin = tree[1][0]._replace(path_audio=str(tmp_path / "else" / "violin" / "violin0.wav"))
    write_index(folder / "twins.csv", [tree[1][0], twin])
    (folder / "b").mkdir()
    shutil.copy(paths[0], folder / "b" / "train.csv")
    cases = {
        "lies in --out": ["--lists", *paths, "--out", folder],
        "train.csv twice": ["--lists", paths[0], folder / "b" / "train.csv"],
        "two clips of one name": ["--lists", folder / "twins.csv", "--out", folder / "t"],
        "no index file": ["--lists", folder / "no.csv"],
        "expected i/n": ["--shard", "3/2"],
        "whole number": ["--shard_mb", "0"],
        "no index files: expected data/train.csv": [],
        "--index: not together with --lists or --shard": ["--index", "a.tar", "--shard", "1/2"],
        "--lists or --shard": ["--index", "a.tar", "--lists", paths[0]],
        "--quality: expected --frames jpeg or --frames webp": ["--quality", "30"],
        "none.tar: cannot be read as a tar file: No such file": ["--index", "none.tar"],
    }
    monkeypatch.chdir(folder)
    for text, flags in cases.items():
        assert mistake(*flags) == 2
        err = capsys.readouterr().err
        assert text in err
        assert err.count("\n") == 1


def test_another_number_of_frames_than_in_the_shard_is_an_error(tree, tmp_path):
    pack_all(tree[1][:1], tmp_path / "a")
    with pytest.raises(UserError, match="160 frames, expected 80: delete that shard"):
        pack([tree[1][0]._replace(num_frames=80)], str(tmp_path / "a"), 1e6, KEEP)


def test_folders_named_like_shards_are_folders(tree, tmp_path):
    shutil.copytree(os.path.dirname(tree[1][0].path_audio), tmp_path / "a.tar" / "violin")
    window = read_window(tmp_path / "a.tar" / "violin" / "violin0.wav", 5, 1000, RATE)
    np.testing.assert_array_equal(window, read_window(tree[1][0].path_audio, 5, 1000, RATE))
    assert is_folder(tmp_path / "a.tar" / "violin")
    assert "violin0.wav" in list_frames(tmp_path / "a.tar" / "violin")


def test_ids_with_dots_keep_their_frames(tree, tmp_path):
    clip = tree[1][0]
    counts = {"abc": 3, "abc.def": 2}
    for name, count in counts.items():
        (tmp_path / "x" / name).mkdir(parents=True)
        shutil.copy(clip.path_audio, tmp_path / "x" / f"{name}.wav")
        for number in range(1, count + 1):
            shutil.copy(f"{clip.path_frames}/000001.jpg", tmp_path / "x" / name / f"{number:06d}.jpg")
    clips = [
        Clip(str(tmp_path / "x" / f"{name}.wav"), str(tmp_path / "x" / name), n)
        for name, n in (("abc", 3), ("abc.def", 2))
    ]
    packed = pack_all(clips, tmp_path / "s")
    assert {name: clip.num_frames for name, clip in packed.items()} == {"x/abc": 3, "x/abc.def": 2}
    assert len(list_frames(packed["x/abc"].path_frames)) == 3
