"""The benchmark of shards: encodings and reading."""

import os
import subprocess

import pytest

from arguments import parse_args
from benchmark.shards import __main__ as command
from benchmark.shards import encodings, reading
from benchmark.shards.encodings import Variant
from dataset.index import write_index
from utils import save_json


def test_encodings_are_compared_with_the_first(tree, tmp_path, monkeypatch):
    write_index(tmp_path / "val.csv", tree[1][:1])
    options = {"num_frames": 1, "imgSize": 32, "audLen": 16383, "audRate": 11025, "frameRate": 8}
    scores = iter([5.0, 5.5, 4.0])
    monkeypatch.setattr(encodings, "_evaluate", lambda *_: (next(scores), options))
    variants = {"as it is": Variant(), "small": Variant("flac", "webp", 30), "tiny": Variant(side=16)}
    rows = encodings.measure(variants, str(tmp_path / "val.csv"), "no run", str(tmp_path / "work"))
    first, small, tiny = rows.values()
    assert first["KB sound"] == os.path.getsize(tree[1][0].path_audio) / 1000
    assert small["KB sound"] < first["KB sound"]
    assert small["KB frames"] < first["KB frames"]
    assert tiny["KB frames"] == first["KB frames"]  # frames that are kept keep their size
    assert [row["difference"] for row in rows.values()] == [0, 0.5, -1]
    assert first["ms to decode"] > 0
    lines = encodings.table(rows).splitlines()
    assert lines[0].startswith("| encoding | KB sound |")
    assert lines[3].startswith("| small |")
    assert lines[3].endswith("| 5.50 | +0.50 |")


def test_a_run_is_evaluated_on_the_encoded_clips_not_on_its_mixture_list(tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    save_json(run / "options.json", {"list_val_mix": "mixtures.csv"})

    def fake(command, **_):
        args = vars(parse_args([*command[2:], "--num_gpus", "0"]))
        assert (args["list_val"], args["list_val_mix"]) == ("encoded.csv", "")
        save_json(os.path.join(args["ckpt"], "run", "metrics.json"), {"sdr": 3.5})
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", fake)
    assert encodings._evaluate(str(run), "encoded.csv", str(tmp_path / "work"))[0] == 3.5


def test_folders_and_shards_are_read_in_turn(tmp_path, monkeypatch):
    for name, value in {"ROUNDS": 2, "ITEMS": 2, "SECONDS": 1, "CATEGORIES": 2}.items():
        monkeypatch.setattr(reading, name, value)
    lines = reading.measure(4, str(tmp_path))
    assert lines[0] == "4 clips of 1 s with 8 frames"
    assert lines[1].startswith("a cold cache has been emptied of contents")
    assert [line.split(":")[0] for line in lines[2:]] == ["folders", "shards", "cold", "warm"]


@pytest.mark.parametrize(
    ("flags", "text"),
    [(["--reading", "3"], "expected at least 300 clips"), (["--run", "none"], "found no options.json")],
)
def test_mistakes_are_one_line(flags, text, capsys):
    with pytest.raises(SystemExit):
        command.main(flags)
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") == 1
