"""Damaged clips are named once, in the log and in a file beside the run."""

import logging

import pytest
import simplejpeg
from PIL import Image

from dataset.frames import read_pixels
from dataset.music import MUSICMixDataset, Sampling
from engine.failures import FILE_DAMAGED, Failures
from tests.helpers import table

NAME, COMPLAINT = "flute/a", "000001.jpg: Corrupt JPEG data"


def batch(*damaged):
    return {"info": [{"failures": [], "damaged": list(damaged)}], "dropped": []}


def test_a_damaged_clip_is_named_once_also_by_a_run_that_is_resumed(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            failures = Failures(100, "train.csv", str(tmp_path))
            for _ in range(3):
                failures.add(batch((NAME, COMPLAINT), (NAME, "another one")))
                failures.join()
    assert caplog.messages == [f"damaged: clip {NAME}: {COMPLAINT}"]
    assert table(tmp_path / FILE_DAMAGED) == [["clip", "complaint"], [NAME, COMPLAINT]]
    assert len(failures) == 0


def test_no_file_without_damage(tmp_path):
    failures = Failures(100, "train.csv", str(tmp_path))
    failures.add(batch())
    failures.join()
    assert not list(tmp_path.iterdir())


@pytest.fixture
def damaged_jpeg(tmp_path):
    """A JPEG that libjpeg decodes with a complaint."""
    path = tmp_path / "a.jpg"
    Image.effect_noise((200, 100), 50).convert("RGB").save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    with pytest.raises(ValueError, match=r".+"):
        simplejpeg.decode_jpeg(path.read_bytes())
    return path


def test_complaints_of_the_jpeg_decoder_are_passed_on(damaged_jpeg, tmp_path):
    damaged = []
    try:
        pixels, _ = read_pixels(damaged_jpeg, 50, damaged)
    except ValueError:
        pytest.skip("this version of PIL refuses it")
    assert pixels.shape[3] >= 50
    assert len(damaged) == 1
    assert damaged[0].startswith(f"{damaged_jpeg}: ")
    Image.new("RGB", (60, 60)).save(tmp_path / "b.jpg")
    Image.new("RGB", (60, 60)).save(tmp_path / "c.jpg", format="PNG")
    for name in ("b.jpg", "c.jpg"):
        read_pixels(tmp_path / name, 50, damaged)
    assert len(damaged) == 1


def test_an_item_names_its_damaged_clips(tree, monkeypatch):
    def read_clip(folder, numbers, size, crop, out, damaged):
        out[:] = 0
        damaged.append("x.jpg: Corrupt JPEG data")

    monkeypatch.setattr("dataset.music.read_clip", read_clip)
    item = MUSICMixDataset(tree[1], Sampling(img_size=32, aud_len=1023), train=True)[0]
    names = [tree[1][number].name for number in item["info"]["clips"]]
    assert item["info"]["damaged"] == [(name, "x.jpg: Corrupt JPEG data") for name in names]
