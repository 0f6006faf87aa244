"""Shards that cannot be used: hostile members, indexes that do not fit, damage."""

import contextlib
import io
import os
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dataset.audio import read_window
from dataset.frames import read_clip
from dataset.shards.members import list_members, path_index, write_members
from dataset.shards.read import Member
from tests.conftest import RATE
from tests.dataset.packing import read_all
from utils import UserError


def tar_of(path, *members):
    """A tar file of (TarInfo fields, bytes)."""
    with tarfile.open(path, "w") as tar:
        for fields, data in members:
            info = tarfile.TarInfo(fields.pop("name"))
            info.size = len(data)
            for name, value in fields.items():
                setattr(info, name, value)
            tar.addfile(info, io.BytesIO(data) if data else None)
    return str(path)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "../a.wav"}, "a name that leads elsewhere"),
        ({"name": "/etc/a.wav"}, "a name that leads elsewhere"),
        ({"name": "x/./a.wav"}, "a name that leads elsewhere"),
        ({"name": "a" * 1025}, "a name of more than 1024 bytes"),
        ({"name": "a.wav", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "not a regular file"),
        ({"name": "a.wav", "type": tarfile.LNKTYPE, "linkname": "b.wav"}, "not a regular file"),
        ({"name": "a.wav", "type": tarfile.FIFOTYPE}, "not a regular file"),
        ({"name": "a.wav", "type": tarfile.CHRTYPE}, "not a regular file"),
        ({"name": "good.wav"}, "a name that occurs twice"),
        ({"name": "a.wav", "size": 10**12}, "1000000000000 bytes, expected at most 1000000000"),
        ({"name": "a.wav", "size": 10**6}, "truncated"),
    ],
)
def test_hostile_members_are_refused_in_one_line(tmp_path, fields, reason):
    path = tar_of(tmp_path / "a.tar", ({"name": "good.wav"}, b"sound"), (dict(fields), b""))
    with pytest.raises(UserError, match=reason) as error:
        write_members(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert not os.path.exists(path_index(path))


@pytest.mark.parametrize("data", [b"no tar file" * 100, b"", b"\0" * 100])
def test_what_is_no_tar_file_is_refused(tmp_path, data):
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(UserError, match="cannot be read as a tar file"):
        write_members(str(tmp_path / "a.tar"))


def test_folders_in_tar_files_are_left_out(tmp_path):
    path = tar_of(
        tmp_path / "a.tar", ({"name": "x", "type": tarfile.DIRTYPE}, b""), ({"name": "x/a.wav"}, b"1")
    )
    assert list_members(path).keys() == {"x/a.wav"}


def bad_index(path, rows=((b"", 0, 10240), (b"a.wav", 512, 5)), kind="S8 <i8 <i8"):
    names = zip(("name", "offset", "length"), kind.split(), strict=False)
    fields = list(names)
    np.save(path_index(path), np.array([row[: len(fields)] for row in rows], fields))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: os.remove(path_index(path)), "no index .*--index"),
        (lambda path: Path(path_index(path)).write_bytes(b""), "cannot be read as an index"),
        (lambda path: np.save(path_index(path), np.zeros(3)), "not an index"),
        (lambda path: bad_index(path, kind="S8 <i8"), "not an index"),
        (lambda path: bad_index(path, kind="S8 <i8 <f8"), "not an index"),
        (lambda path: bad_index(path, rows=((b"a.wav", 0, 5),)), "expected the shard's size first"),
        (lambda path: bad_index(path, rows=((b"", 0, 10240), (b"a.wav", -9, 5))), "lies outside"),
        (lambda path: bad_index(path, rows=((b"", 0, 10240), (b"a.wav", 9, 10**6))), "lies outside"),
        (lambda path: Path(path).write_bytes(b"more" * 2561), "10244 bytes, expected 10240 by its index"),
    ],
)
def test_indexes_that_do_not_fit_are_errors(tmp_path, change, reason):
    path = tar_of(tmp_path / "a.tar", ({"name": "a.wav"}, b"sound"))
    write_members(path)
    assert read_all(f"{path}/a.wav") == b"sound"
    change(path)
    with pytest.raises(UserError, match=reason):
        read_all(f"{path}/a.wav")


def test_errors_name_the_clip(tmp_path, shards):
    path = tar_of(
        tmp_path / "a.tar", ({"name": "x/a.wav"}, b"sound"), ({"name": "x/a.000001.jpg"}, b"no jpeg")
    )
    write_members(path)
    for call, reason in {
        lambda: read_window(f"{path}/x/a.wav", 1, 100, RATE): "not a wav or mp3 file",
        lambda: read_window(f"{path}/x/b.wav", 1, 100, RATE): "no member x/b.wav in the shard",
        lambda: read_window(f"{tmp_path}/b.tar/x/b.wav", 1, 100, RATE): "No such file",
        lambda: read_clip(f"{path}/x/a", [1], 32): "not a readable JPEG",
        lambda: read_clip(f"{path}/x/a", [2], 32): "no such picture$",
        lambda: read_clip(f"{path}/x/b", [1], 32): "no such picture, and no such folder",
    }.items():
        with pytest.raises(UserError, match=f"{tmp_path}.*{reason}"):
            call()


@pytest.mark.parametrize("use", ["sound", "picture"])
def test_a_shard_that_shrinks_while_it_is_open_is_an_error(shards, tmp_path, use, monkeypatch):
    clip = shards[1][0]
    shard = clip.path_audio.partition(".tar/")[0] + ".tar"
    for path in (shard, path_index(shard)):
        shutil.copy(path, tmp_path)
    inside = f"{tmp_path}/{os.path.basename(shard)}/{clip.name}"
    read_window(f"{inside}.wav", 10, 100, RATE)
    monkeypatch.setattr(os, "pread", lambda *_: b"")
    monkeypatch.setattr(Member, "handle", lambda _: None)
    with pytest.raises(UserError, match="the shard is truncated"):
        read_window(f"{inside}.wav", 10, 100, RATE) if use == "sound" else read_clip(inside, [1], 32)


def sound_bytes(subtype="PCM_16", before=b"", after=b""):
    """A wav file of one second of noise, with more bytes before and after the samples."""
    out = io.BytesIO()
    soundfile.write(out, np.random.default_rng(1).uniform(-0.1, 0.1, RATE), RATE, subtype, format="WAV")
    data = out.getvalue()
    at = data.index(b"data")
    data = data[:at] + before + data[at:] + after
    return with_size(data, len(data) - 8, b"RIFF")


def with_size(data, size, chunk=b"data"):
    """A wav file that says that a chunk of it has `size` bytes."""
    at = data.index(chunk) + 4
    return data[:at] + struct.pack("<I", size) + data[at + 4 :]


LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + b"\x0e\0\0\0of some one \0\0"


@pytest.mark.parametrize(
    ("data", "in_place"),
    [
        (sound_bytes(), True),
        (sound_bytes(before=LIST), True),
        (sound_bytes(after=LIST), True),
        (sound_bytes(after=bytes(-len(sound_bytes()) % 512)), True),  # the next member follows at once
        (sound_bytes() + LIST, False),
        (sound_bytes()[:-1000], False),
        (sound_bytes(before=LIST)[:-20], False),  # by less than the chunk
        (with_size(sound_bytes(), 10**6), True),
        (with_size(sound_bytes(), 0xFFFFFFFF), True),
        (with_size(sound_bytes(), 0), True),
        (with_size(sound_bytes(), 0, b"RIFF"), False),
        (with_size(sound_bytes(), 0xFFFFFFFF, b"RIFF"), False),
        (sound_bytes("FLOAT"), True),
        (sound_bytes("MS_ADPCM"), True),
        (sound_bytes("MS_ADPCM")[:-300], False),
    ],
)
def test_wav_files_in_shards_end_where_they_do_in_folders(tmp_path, monkeypatch, data, in_place):
    loud = sound_bytes()[:44] + b"\x70" * 4 * RATE  # would be heard
    shard = tar_of(tmp_path / "a.tar", ({"name": "data/x.wav"}, data), ({"name": "data/y.wav"}, loud))
    write_members(shard)
    path = tmp_path / "x.wav"
    path.write_bytes(data)
    calls, readinto = [], Member.readinto
    monkeypatch.setattr(Member, "readinto", lambda *args: calls.append(1) or readinto(*args))
    for centre, count in ((0.5, 4000), (0.9, 4000), (0.5, 3 * RATE)):
        found, expected = [], []
        for source, waves in ((f"{shard}/data/x.wav", found), (str(path), expected)):
            with contextlib.suppress(UserError):
                waves.append(read_window(source, centre, count, RATE))
        np.testing.assert_array_equal(found, expected)
    assert bool(calls) != in_place
