"""Videos that decoders complain about: they are used, and it is said."""

import csv

import pytest

from dataset.preprocess import __main__
from dataset.preprocess.probe import damage
from media import run_ffmpeg
from tests.videos import remux

LOG = [
    "[info]   Duration: 00:00:03.00, start: 0.000000",
    "[swscaler @ 0x1] [warning] deprecated pixel format used",
    "[h264 @ 0x5f] [error] error while decoding MB 3 4",
    "[vist#0:0/h264 @ 0x1] [dec:h264 @ 0x2] [warning] corrupt decoded frame",
]


def test_complaints_are_counted_and_the_first_is_told():
    assert damage(LOG) == "damaged: the decoders complained 2 times, first: error while decoding MB 3 4"
    assert damage(LOG[3:]) == "damaged: the decoders complained 1 times, first: corrupt decoded frame"
    assert damage(LOG[:2]) == ""


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder with a whole video and a copy of it with wrong bytes in the pictures."""
    folder = tmp_path_factory.mktemp("videos")
    inputs = "-f lavfi -i testsrc=size=128x96:rate=25:duration=4 -f lavfi -i sine=duration=4".split()
    run_ffmpeg([*inputs, "-pix_fmt", "yuv420p", "-g", "50", str(folder / "good.mp4")])
    remux(folder / "good.mp4", folder / "damaged.mp4", "-bsf:v", "noise=amount=if(eq(n\\,50)\\,200\\,0)")
    return folder


def test_a_damaged_video_is_named_in_the_table_and_a_whole_one_is_not(videos, tmp_path, capsys):
    assert __main__.main([f"--videos={videos}", f"--out={tmp_path}", "--jobs=1"]) == 0
    with open(tmp_path / "preprocess.csv", newline="") as file:
        rows = {row["video"]: row for row in csv.DictReader(file)}
    assert (rows["good.mp4"]["state"], rows["good.mp4"]["reason"]) == ("done", "")
    assert rows["damaged.mp4"]["state"] == "done"
    assert rows["damaged.mp4"]["reason"].startswith("damaged: the decoders complained ")
    assert capsys.readouterr().err.count("note: damaged.mp4: damaged: ") == 1
