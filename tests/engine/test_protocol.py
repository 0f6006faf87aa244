"""Protocols: what they hold, repeating them, and what is said where data, networks or scores differ."""

import copy
import json
import os
import shutil

import pytest
import soundfile
from PIL import Image

import main
from dataset.audio import read_window
from dataset.checksums import checksum, file_checksum
from dataset.fixed import read_protocol
from dataset.frames import read_clip
from dataset.index import Clip, write_index
from tests.helpers import Pool, make_checkpoint, table
from utils import save_json

FLAGS = ["--workers", "0", "--num_gpus", "0", "--amp", "off", "--num_vis", "0", "--batch_size_per_gpu", "4"]


class Place:
    """A folder with clips, index file and two runs of tiny networks, x and y."""

    def __init__(self, root, clips):
        self.root = root
        shutil.copytree(clips[0].path_audio.split("/audio/")[0], root / "tree")
        self.clips = [
            Clip(*(str(root / "tree" / path.split("/tree0/")[1]) for path in clip[:2]), clip[2])
            for clip in clips
        ]
        write_index(root / "val.csv", self.clips)
        make_checkpoint(root / "ckpt/x", "--seed", "1")
        make_checkpoint(root / "ckpt/y", "--seed", "1", bias=0.3)

    def evaluate(self, *flags, run="x"):
        """The exit status of an evaluation."""
        argv = ["--mode", "eval", "--id", run, "--ckpt", f"{self.root}/ckpt", *FLAGS, *flags]
        return main.main([*argv, "--list_val", f"{self.root}/val.csv"])

    def read(self, name="x"):
        """The protocol in a folder of ckpt/."""
        return read_protocol(f"{self.root}/ckpt/{name}/protocol.json")


@pytest.fixture(scope="module")
def evaluated(tree, tmp_path_factory):
    """A place where run x has been evaluated; tests must not change it."""
    place = Place(tmp_path_factory.mktemp("place"), tree[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "make_pool", lambda workers: Pool())
        assert place.evaluate() == 0
    return place


@pytest.fixture
def place(evaluated, tmp_path, monkeypatch):
    """A copy of that place, whose protocol is `old.json`, and whose clips are the copied ones."""
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())
    shutil.copytree(evaluated.root, tmp_path / "copy")
    copied = copy.copy(evaluated)
    copied.root = tmp_path / "copy"
    copied.clips = [
        Clip(*(path.replace(str(evaluated.root), str(copied.root)) for path in clip[:2]), clip[2])
        for clip in evaluated.clips
    ]
    write_index(copied.root / "val.csv", copied.clips)
    path = copied.root / "ckpt/x/protocol.json"
    text = path.read_text().replace(str(evaluated.root), str(copied.root))
    (copied.root / "old.json").write_text(text)
    return copied


def repeat(place, capsys, *flags, run="x"):
    """(exit status, lines about the agreement) of repeating old.json."""
    status = place.evaluate("--protocol", f"{place.root}/old.json", *flags, run=run)
    out, place.log = capsys.readouterr()
    return status, out.split("index.html\n")[-1].replace(str(place.root), "ROOT").splitlines()


def test_a_protocol_says_what_was_evaluated_and_how(evaluated):
    found = evaluated.read()
    clips = {clip.name: clip for clip in evaluated.clips}
    assert (found["pairs"], found["seed"]) == ("category", 1234)
    assert found["list"].endswith("val.csv")
    assert found["window"]["audLen"] == 16383
    assert found["metric"]["bss"] == "fast"
    assert found["packages"]["torch"]
    path = f"{evaluated.root}/ckpt/x/frame_best.pth"
    assert found["networks"]["checksums"]["frame"] == file_checksum(path)
    rows = table(f"{evaluated.root}/ckpt/x/metrics.csv")
    assert len(found["mixtures"]) == len(clips) == 9
    for number, mixture in enumerate(found["mixtures"]):
        pair = rows[1 + 2 * number : 3 + 2 * number]
        assert [row[2] for row in pair] == [entry["clip"] for entry in mixture["clips"]]
        sdrs = [float(row[rows[0].index("sdr")]) for row in pair]
        assert mixture["scores"]["sdr"] == pytest.approx(sdrs, abs=1e-3)
        for entry in mixture["clips"]:
            clip = clips[entry["clip"]]
            assert (entry["audio"], entry["frames"], entry["num_frames"]) == clip
            assert (entry["frame"], entry["seconds"], entry["gain"]) == (80, 9.9375, 0.5)
            assert found["clips"][entry["clip"]] == {
                "sound": checksum(read_window(clip.path_audio, 9.9375, 16383, 11025)),
                "pictures": checksum(read_clip(clip.path_frames, [80], 32)),
                "file": file_checksum(clip.path_audio),
            }
    assert len({mixture["id"] for mixture in found["mixtures"]}) == 9


def test_a_repetition_agrees_and_replaces_nothing(place, capsys):
    before = {name: (place.root / "ckpt/x" / name).read_bytes() for name in ("protocol.json", "metrics.json")}
    (place.root / "val.csv").unlink()  # the protocol has all
    status, lines = repeat(place, capsys)
    assert (status, lines) == (0, ["agrees with ROOT/old.json: 9 mixtures, largest difference 0.0000 dB"])
    for name, content in before.items():
        assert (place.root / "ckpt/x" / name).read_bytes() == content
    again = place.read("x/repeated")
    assert again == read_protocol(f"{place.root}/old.json")
    shutil.copy(f"{place.root}/ckpt/x/repeated/protocol.json", f"{place.root}/old.json")
    assert repeat(place, capsys)[0] == 0
    status, lines = repeat(place, capsys, "--num_val", "2")
    assert (status, lines) == (
        0,
        ["agrees with ROOT/old.json: 2 of 9 mixtures, largest difference 0.0000 dB"],
    )


def test_the_data_may_have_moved(place, capsys):
    os.rename(place.root / "tree", place.root / "moved")
    tree = f"{place.root}/moved"
    status, lines = repeat(place, capsys, "--root_audio", f"{tree}/audio", "--root_frame", f"{tree}/frames")
    assert (status, len(lines)) == (0, 1)
    assert lines[0].startswith("agrees with ")


def change_sound(clip, second):
    wave, rate = soundfile.read(clip.path_audio, dtype="int16")
    wave[int(second * rate)] += 1
    soundfile.write(clip.path_audio, wave, rate, subtype="PCM_16")


def mixtures_with(place, *clips):
    """Indices of the mixtures of old.json that have one of `clips`."""
    names = {clip.name for clip in clips}
    mixtures = read_protocol(f"{place.root}/old.json")["mixtures"]
    return [n for n, mixture in enumerate(mixtures) if names & {entry["clip"] for entry in mixture["clips"]}]


def test_one_other_sample_in_the_window_is_named(place, capsys):
    clip = place.clips[4]
    change_sound(clip, 9.9375)
    status, lines = repeat(place, capsys)
    hit = mixtures_with(place, clip)
    assert status == 1
    assert lines[0] == f"differs from ROOT/old.json: {len(hit)} of 9 mixtures ({len(hit)} in data)"
    path = f"ROOT/tree/audio/{clip.name}.wav"
    assert lines[1].startswith(f"  first: mixture {hit[0]} (")
    assert lines[1].endswith(f", data: {clip.name}: other sound in {path}")
    assert len(lines) == 2


def test_other_pictures_and_sound_outside_the_window_are_named_too(place, capsys):
    sound, picture = place.clips[7], place.clips[2]
    change_sound(sound, 1)
    Image.new("RGB", (64, 48)).save(f"{picture.path_frames}/000080.jpg")
    status, lines = repeat(place, capsys)
    assert status == 1
    assert "  2 clips differ:" in lines
    assert f"    {sound.name}: ROOT/tree/audio/{sound.name}.wav has changed outside the window" in lines
    assert f"    {picture.name}: other pictures in ROOT/tree/frames/{picture.name}.mp4" in lines
    first = mixtures_with(place, sound, picture)[0]
    assert f"mixture {first} (" in lines[1]


def test_a_missing_clip_is_named_and_the_others_are_compared(place, capsys):
    clip = place.clips[3]
    os.remove(clip.path_audio)
    status, lines = repeat(place, capsys)
    hit = mixtures_with(place, clip)
    assert status == 1
    assert f"{len(hit)} of 9 mixtures ({len(hit)} in data)" in lines[0]
    assert f"{clip.name}: missing: no sound at ROOT/tree/audio/{clip.name}.wav" in lines[1]
    assert f"{len(hit)} of 9 mixtures are left out: 1 clips are gone, e.g. {clip.name}" in place.log
    folder = place.root / "ckpt/x/repeated"
    assert table(folder / "gone.csv")[1:] == [[clip.name, "sound", str(len(hit))]]
    summary = json.loads((folder / "metrics.json").read_text())
    assert (summary["num_gone"], summary["num_mixtures"]) == (len(hit), 9 - len(hit))


def test_other_networks_may_have_other_scores_but_not_other_data(place, capsys):
    status, lines = repeat(place, capsys, run="y")
    assert status == 0
    assert lines[0].startswith("data and mixtures agree with ROOT/old.json: 9 mixtures; other networks, ")
    assert not lines[0].endswith(" 0.0000 dB")
    change_sound(place.clips[0], 1)
    status, lines = repeat(place, capsys, run="y")
    assert status == 1
    assert "in data)" in lines[0]


def test_other_windows_are_refused_in_one_line(place, capsys):
    with pytest.raises(SystemExit) as stop:
        repeat(place, capsys, "--num_frames", "3", "--frameRate", "4")
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    expected = "--num_frames 1 there, 3 here; --frameRate 8 there, 4 here"
    assert f"the run x takes other windows: {expected}" in lines[-1]


def test_the_metric_is_that_of_the_protocol(place, capsys):
    found = read_protocol(f"{place.root}/old.json")
    save_json(f"{place.root}/old.json", found | {"metric": {"bss": "mir_eval"}})
    lines = repeat(place, capsys, "--num_val", "1")[1]
    assert place.read("x/repeated")["metric"]["bss"] == "mir_eval"
    assert lines[0].startswith("agrees")
    save_json(f"{place.root}/old.json", found | {"metric": {"bss": "other"}})
    with pytest.raises(SystemExit):
        repeat(place, capsys)
    assert "old.json: bss: expected one of fast, mir_eval, found 'other'" in capsys.readouterr().err


def test_a_mixture_list_and_a_protocol_are_one_too_many(place, capsys):
    with pytest.raises(SystemExit):
        repeat(place, capsys, "--list_val_mix", "x.csv")
    assert (
        "--protocol sets the mixtures to evaluate: it does not go with --list_val_mix"
        in capsys.readouterr().err
    )


# ---- lists


def test_clips_that_share_a_name_are_told_apart(place):
    clip = place.clips[0]
    write_index(place.root / "val.csv", [clip, place.clips[1], clip._replace(num_frames=100)])
    assert place.evaluate("--val_pairs", "original") == 0
    entries = [mixture["clips"][0] for mixture in place.read()["mixtures"]]
    assert [entry["clip"] for entry in entries] == [clip.name, place.clips[1].name, f"{clip.name}#2"]
    found = place.read()["clips"]
    assert found[clip.name]["file"] == found[f"{clip.name}#2"]["file"]
    assert found[clip.name]["sound"] != found[f"{clip.name}#2"]["sound"]


def test_unreadable_clips_are_in_the_protocol_and_agree_when_unreadable_again(place, capsys):
    many = [place.clips[n % 9]._replace(num_frames=150 + n) for n in range(24)]
    bad = place.root / "bad/tuba/x.wav"
    bad.parent.mkdir(parents=True)
    bad.write_text("no sound")
    many[5] = many[5]._replace(path_audio=str(bad))
    write_index(place.root / "val.csv", many)
    assert place.evaluate() == 0
    found = place.read()
    assert "cannot be read as sound" in found["clips"]["tuba/x"]["missing"]
    failed = [mixture for mixture in found["mixtures"] if mixture["status"] == "failed"]
    assert failed
    assert all(mixture["id"] is None and len(mixture["clips"]) == 2 for mixture in failed)
    shutil.copy(f"{place.root}/ckpt/x/protocol.json", f"{place.root}/old.json")
    status, lines = repeat(place, capsys)
    assert (status, lines[0][:6]) == (0, "agrees")


def test_a_published_list_is_scored_and_says_of_how_many(place, capsys):
    names = [clip.name for clip in place.clips]
    rows = [f"/{names[0]}.wav, /{names[1]}.wav", f"/tuba/none.wav, /{names[2]}.wav"] * 2
    (place.root / "list.csv").write_text("\n".join(rows) + "\n")
    roots = ["--root_audio", f"{place.root}/tree/audio", "--root_frame", f"{place.root}/tree/frames"]
    assert place.evaluate("--list_val_mix", f"{place.root}/list.csv", *roots) == 0
    out, err = capsys.readouterr()
    assert "(2 of 4 mixtures, 2 gone, 0 failed, 0 silent" in out
    assert "2 of 4 mixtures are left out: 1 clips are gone, e.g. tuba/none" in err
    rows = table(place.root / "ckpt/x/metrics.csv")
    assert [(row[0], row[2]) for row in rows[1:]] == [
        ("0", names[0]),
        ("0", names[1]),
        ("2", names[0]),
        ("2", names[1]),
    ]
    assert table(place.root / "ckpt/x/gone.csv")[1:] == [["tuba/none", "sound and frames", "2"]]
    assert ">Gone</dt><dd>2<" in (place.root / "ckpt/x/visualization/index.html").read_text()
    found = place.read()
    assert found["pairs"] == "list"
    assert [mixture["status"] for mixture in found["mixtures"]] == ["scored", "failed"] * 2
    assert found["clips"]["tuba/none"]["missing"].startswith("no sound at ")
    assert names[2] not in found["clips"]
    shutil.copy(f"{place.root}/ckpt/x/protocol.json", f"{place.root}/old.json")
    assert repeat(place, capsys)[0] == 0


def test_mixtures_of_one_category_have_a_folder_of_their_own(place, capsys):
    clips = place.clips[:8]  # three violins and tubas, two flutes
    other = clips[0]._replace(path_audio=clips[0].path_audio.replace("violin/violin0", "erhu/e"))
    os.makedirs(os.path.dirname(other.path_audio))
    shutil.copy(clips[0].path_audio, other.path_audio)
    write_index(place.root / "val.csv", [*clips, other])
    before = (place.root / "ckpt/x/metrics.json").read_bytes()
    (place.root / "ckpt/x/README.md").write_text("# x\n\nAbout x.\n\n## Scores\n\nmine\n")
    assert place.evaluate("--val_pairs", "same") == 0
    assert "val.csv: 1 clips are left out: fewer than 2 videos of erhu" in capsys.readouterr().err
    assert (place.root / "ckpt/x/metrics.json").read_bytes() == before
    assert "mine" in (place.root / "ckpt/x/README.md").read_text()
    folder = place.root / "ckpt/x/same"
    files = {"metrics.csv", "metrics.json", "protocol.json", "statistics.csv", "visualization"}
    assert files == set(os.listdir(folder))
    summary = json.loads((folder / "metrics.json").read_text())
    assert (summary["num_mixtures"], summary["num_clips_alone"]) == (6, 1)
    found = place.read("x/same")
    assert found["pairs"] == "same"
    for mixture in found["mixtures"]:
        first, second = (entry["clip"] for entry in mixture["clips"])
        assert first != second
        assert first.split("/")[0] == second.split("/")[0]
    shutil.copy(folder / "protocol.json", f"{place.root}/old.json")
    assert repeat(place, capsys)[0] == 0
    assert place.read("x/repeated")["pairs"] == "same"
