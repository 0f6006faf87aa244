"""A folder of shards has one set of settings: packing with others is an error."""

import json

import pytest

from dataset.preprocess import __main__ as preprocess
from dataset.shards.encode import Encoding
from dataset.shards.settings import FILE_SETTINGS, check_settings
from tests.dataset.packing import KEEP, pack_all
from tests.dataset.test_preprocess import copies
from utils import UserError

SIZES = {"fps": 8, "rate": 11025, "short_side": 246}


def record(folder):
    return json.loads((folder / FILE_SETTINGS).read_text())


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        (Encoding("flac", "webp", 80), "--sound keep, found --sound flac"),
        (Encoding("keep", "jpeg", 80), "--frames webp, found --frames jpeg"),
        (Encoding("keep", "keep", 80), "--frames webp, found --frames keep"),
        (Encoding("keep", "webp", 60), "--quality 80, found --quality 60"),
    ],
)
def test_packing_with_another_encoding_is_an_error(tree, tmp_path, encoding, found):
    made = Encoding("keep", "webp", 80)
    pack_all(tree[1][:2], tmp_path, encoding=made)
    assert record(tmp_path) == made._asdict()
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.tar*")}
    match = (
        f"{FILE_SETTINGS}: shards here are packed with {found}: choose another --out, or delete the shards"
    )
    with pytest.raises(UserError, match=match):
        pack_all(tree[1][:3], tmp_path, encoding=encoding)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.tar*")} == before
    assert len(pack_all(tree[1][:3], tmp_path, encoding=made)) == 3


def test_frames_that_are_kept_have_no_quality(tree, tmp_path):
    pack_all(tree[1][:1], tmp_path)
    assert record(tmp_path) == {"sound": "keep", "frames": "keep"}
    pack_all(tree[1][:2], tmp_path, encoding=Encoding("keep", "keep", 20))


@pytest.mark.parametrize("flag", ["fps", "rate", "short_side"])
def test_videos_with_other_settings_are_refused(good_video, tmp_path, capsys, flag):
    videos = copies(good_video, tmp_path / "videos", "a/a.mp4")
    flags = [f"--videos={videos}", f"--out={tmp_path}", "--jobs=1", "--pack"]
    assert preprocess.main(flags) == 0
    shards = tmp_path / "shards"
    assert record(shards) == {"sound": "flac", "frames": "keep"} | SIZES
    copies(good_video, tmp_path / "videos", "b/b.mp4")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        preprocess.main([*flags, f"--{flag}=2000"] if flag != "fps" else [*flags, "--fps=4"])
    err = capsys.readouterr().err
    value = 4 if flag == "fps" else 2000
    expected = f"--{flag} {SIZES[flag]}, found --{flag} {value}: "
    assert err.startswith(f"error: {shards}/{FILE_SETTINGS}: shards here are packed with {expected}")
    assert err.count("\n") == 1
    assert preprocess.main(flags) == 0
    assert "1 packed, 1 already there" in capsys.readouterr().out


def test_settings_that_were_not_known_are_added(tmp_path):
    check_settings(tmp_path, KEEP, is_empty=True)
    check_settings(tmp_path, KEEP, SIZES)
    assert record(tmp_path) == {"sound": "keep", "frames": "keep"} | SIZES
    check_settings(tmp_path, KEEP)
    assert record(tmp_path) == {"sound": "keep", "frames": "keep"} | SIZES


def test_shards_without_a_record_are_kept_without_one(tree, tmp_path):
    pack_all(tree[1][:1], tmp_path)
    (tmp_path / FILE_SETTINGS).unlink()
    pack_all(tree[1][:2], tmp_path, encoding=Encoding("flac"))
    assert not (tmp_path / FILE_SETTINGS).exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "cannot be read: Expecting"), ("[1]", r"expected the settings .*, found \[1\]")],
)
def test_a_damaged_record_is_an_error(tmp_path, text, reason):
    (tmp_path / FILE_SETTINGS).write_text(text)
    with pytest.raises(UserError, match=f"{tmp_path}/{FILE_SETTINGS}: {reason}"):
        check_settings(tmp_path, KEEP)
