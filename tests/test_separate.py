"""separate.py end to end with tiny networks: what it writes, what adds up, and what it refuses."""

import json
import math
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import separate
from engine.separation import places
from engine.separation.places import cells_of
from media import run_ffmpeg
from pages.overlay import energy_maps
from tests.helpers import NETWORKS, PROJECT, make_checkpoint
from tests.videos import make_video, remux, tone
from utils import UserError

SHARED_FILES = (
    "residual.wav heatmap.mp4 embeddings.mp4 separated.json index.html video.mp4 thumbnail.jpg".split()
)
BITS = 1 / 32768  # one step of 16-bit audio


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("ckpt") / "tiny")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Two seconds of changing grey with two tones, one of them on the left channel only."""
    wave = 0.3 * tone(2, 300) + 0.2 * tone(2, 2000) * [1, 0]
    path = tmp_path_factory.mktemp("video") / "a film.mkv"
    return make_video(path, np.arange(50) * 5, 25, wave)


def run(checkpoint, out, *argv):
    """separate.py's exit status."""
    # bf16 convolutions of maps as small as these videos' are sometimes NaN on CPUs with AMX.
    usual = "--num_sources 2 --amp off --num_gpus 0".split()
    return separate.main([*usual, *map(str, argv), "--ckpt", checkpoint, "--out", str(out)])


def read_outputs(folder, num_sources):
    """(sources and residual [K + 1, samples, channels], samples/s, separated.json); all files must exist."""
    names = [f"source{n}" for n in range(1, num_sources + 1)]
    wavs = {f"{name}.wav" for name in names}
    found = set(os.listdir(folder))
    assert found >= wavs | set(SHARED_FILES)
    assert {name for name in found if name.startswith("source")} == wavs
    assert not [name for name in found if name.startswith(".")]
    numbers = json.loads((folder / "separated.json").read_text())
    assert [source["name"] for source in numbers["sources"]] == names
    waves = [soundfile.read(folder / f"{name}.wav", always_2d=True) for name in [*names, "residual"]]
    return np.stack([wave for wave, _ in waves]), waves[0][1], numbers


def assert_adds_up(waves, path, rate, tmp_path, channels=2):
    """Sources and residual add up to the sound of `path`."""
    arguments = ["-i", str(path), "-ar", str(rate), "-c:a", "pcm_s16le", str(tmp_path / "sound.wav")]
    run_ffmpeg(arguments)
    sound = soundfile.read(tmp_path / "sound.wav", always_2d=True)[0]
    assert waves.shape[2] == channels
    assert abs(waves.shape[1] - len(sound)) <= 1
    count = min(waves.shape[1], len(sound))
    np.testing.assert_allclose(waves.sum(axis=0)[:count], sound[:count], atol=len(waves) * BITS)


def test_what_is_written(checkpoint, video, tmp_path, capsys):
    assert run(checkpoint, tmp_path / "out", video) == 0
    folder = tmp_path / "out" / "a film"
    waves, rate, numbers = read_outputs(folder, 2)
    assert rate == 44100
    assert_adds_up(waves, video, rate, tmp_path)
    assert (numbers["size"], numbers["seconds"]) == ([64, 48], pytest.approx(2, abs=0.01))
    height, width = numbers["cells"]
    cells = [tuple(cell) for source in numbers["sources"] for cell in source["cells"]]
    assert sorted(cells) == [(y, x) for y in range(height) for x in range(width)]
    assert np.array(numbers["energy"]).shape == (len(numbers["times"]), height, width)
    assert 0 < sum(source["share"] for source in numbers["sources"]) <= 1
    assert str(folder / "index.html") in capsys.readouterr().out
    for name in ("video.mp4", "heatmap.mp4", "embeddings.mp4"):
        run_ffmpeg(["-i", str(folder / name), str(tmp_path / f"{name}.wav")])
        assert soundfile.info(tmp_path / f"{name}.wav").duration == pytest.approx(2, abs=0.1)
    assert os.listdir(tmp_path / "out") == ["a film"]


@pytest.mark.parametrize(
    ("flags", "count", "rate"),
    [
        (("--points", "10,10", "50,40", "50,40"), 3, 44100),
        (("--boxes", "0,0,20,48", "40,0,24,48", "--rate", "network"), 2, 11025),
        (("--num_sources", "3", "--no-consistent"), 3, 44100),
        (("--num_sources", "1"), 1, 44100),
        (("--num_sources", "auto"), 1, 44100),  # these networks hear the same everywhere
    ],
)
def test_what_may_be_asked_for(checkpoint, video, tmp_path, flags, count, rate):
    folder = tmp_path / "a film"
    folder.mkdir()
    (folder / "source9.wav").write_text("of an earlier run")
    assert run(checkpoint, tmp_path, video, *flags) == 0
    waves, found, numbers = read_outputs(folder, count)
    assert found == rate
    assert_adds_up(waves, video, rate, tmp_path)
    assert numbers["settings"]["consistent"] == ("--no-consistent" not in flags)
    if "--boxes" in flags:
        columns = [{x for _, x in source["cells"]} for source in numbers["sources"]]
        assert max(columns[0]) < min(columns[1])


def test_masks_of_binary_networks_are_not_cut_off(video, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "ckpt", "--binary_mask", "1", bias=math.log(0.3 / 0.7))
    sound = {}
    for flag in ("--no-consistent", "--consistent"):
        assert run(checkpoint, tmp_path / flag, video, flag) == 0
        sound[flag] = read_outputs(tmp_path / flag / "a film", 2)[0]
    mix = sound["--consistent"].sum(axis=0)
    np.testing.assert_allclose(sound["--no-consistent"], mix * [[[0.3]], [[0.3]], [[0.4]]], atol=3 * BITS)
    np.testing.assert_allclose(sound["--consistent"], mix * [[[0.5]], [[0.5]], [[0]]], atol=3 * BITS)


def test_a_folder_of_videos_and_one_that_cannot_be_used(checkpoint, video, tmp_path, capsys):
    videos = tmp_path / "videos"
    (videos / "b").mkdir(parents=True)
    shutil.copy(video, videos / "good.mkv")
    (videos / "bad.mp4").write_text("no video")
    turned = ["-display_rotation", "90", "-i", str(video), "-t", "1", "-c", "copy"]
    run_ffmpeg([*turned, str(videos / "b" / "turned, short.mp4")])
    out = videos / "out"  # the outputs of an earlier run are not inputs
    (out / "good").mkdir(parents=True)
    shutil.copy(video, out / "good" / "heatmap.mp4")
    assert run(checkpoint, out, videos) == 1
    printed = capsys.readouterr()
    assert f"failed: {videos / 'bad.mp4'}: cannot be read as a video" in printed.err
    assert f"all of them: {out / 'index.html'}" in printed.out
    page = (out / "index.html").read_text()
    assert "good/index.html" in page
    assert "b/turned%2C%20short/index.html" in page
    assert "bad/index.html" not in page
    read_outputs(out / "good", 2)
    assert sorted(os.listdir(out)) == ["b", "good", "index.html"]
    assert read_outputs(out / "b" / "turned, short", 2)[2]["size"] == [48, 64]


def test_networks_that_give_nan_are_one_line(checkpoint, video, tmp_path, capsys, monkeypatch):
    analyse = places.analyse
    monkeypatch.setattr(places, "analyse", lambda windows: spoil(analyse(windows)))
    assert run(checkpoint, tmp_path / "out", video) == 1
    assert (
        "the networks gave values that are not finite; --amp off computes in float32"
        in capsys.readouterr().err
    )


def spoil(analysis):
    return analysis._replace(gram=analysis.gram * np.nan)


def test_a_picture_and_a_sound(checkpoint, tmp_path):
    Image.new("RGB", (60, 90), (0, 200, 0)).save(tmp_path / "a.png")
    soundfile.write(tmp_path / "b.wav", tone(1)[::4, 0] / 2, 11025)
    arguments = [tmp_path / "a.png", "--audio", tmp_path / "b.wav", "--points", "59,89", "0,0"]
    assert run(checkpoint, tmp_path / "out", *arguments) == 0
    waves, rate, numbers = read_outputs(tmp_path / "out" / "a", 2)
    assert (rate, numbers["size"]) == (11025, [60, 90])
    assert_adds_up(waves, tmp_path / "b.wav", rate, tmp_path, channels=1)


def test_silence(checkpoint, tmp_path):
    video = make_video(tmp_path / "a.mkv", [100] * 5, 5, np.zeros((44100, 1)))
    assert run(checkpoint, tmp_path / "out", video) == 0
    waves, _, numbers = read_outputs(tmp_path / "out" / "a", 2)
    assert not waves.any()
    assert not np.array(numbers["energy"]).any()
    assert [source["share"] for source in numbers["sources"]] == [0, 0]


@pytest.mark.parametrize("flags", [["--points", "64,10"], ["--boxes", "0,48,5,5"]])
def test_places_outside_of_the_picture_are_refused(checkpoint, video, tmp_path, flags, capsys):
    assert run(checkpoint, tmp_path / "out", video, *flags) == 1
    assert "lies outside of the video, which is 64 × 48 pixels" in capsys.readouterr().err
    assert not os.path.exists(tmp_path / "out")


def refused(capsys, *argv):
    """The error that separate.py prints."""
    with pytest.raises(SystemExit) as stop:
        separate.main(["--num_gpus", "0", *map(str, argv)])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_without_networks_it_is_said_what_to_do(video, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkdir("ckpt")
    assert "train some (./scripts/demo.sh), or name a folder (--ckpt)" in refused(capsys, video)
    assert "no run gone in ./ckpt: there are none" in refused(capsys, video, "--ckpt", "gone")
    make_checkpoint(tmp_path / "ckpt" / "old")
    newer = make_checkpoint(tmp_path / "ckpt" / "new")
    os.utime(tmp_path / "ckpt" / "old" / "sound_best.pth", (1, 1))
    args = separate._parse([str(video), "--num_gpus", "0"])
    assert os.path.abspath(separate.load(args)[2]) == newer
    for name in ("o", "old", "ckpt/ol", str(tmp_path / "ckpt" / "o")):
        assert os.path.abspath(separate.find_networks(name)) == str(tmp_path / "ckpt" / "old")
    assert "no run x in ./ckpt: found new, old" in refused(capsys, video, "--ckpt", "x")


def test_older_networks_take_flags(video, tmp_path, capsys):
    older = make_checkpoint(tmp_path / "older", options=False)
    out = ("--out", tmp_path / "out")
    assert "the weights are of another network" in refused(capsys, video, "--ckpt", older, *out)
    assert "--audLen 16000 gives 63 spectrogram columns" in refused(
        capsys, video, "--ckpt", older, *NETWORKS, "--audLen", "16000", *out
    )
    assert run(older, tmp_path / "out", video, *NETWORKS) == 0
    read_outputs(tmp_path / "out" / "a film", 2)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--points", "1,2", "--boxes", "1,2,3,4"], "--points and --boxes: one of them"),
        (["--points", "1,2,3"], "expected 2 numbers with commas between, found '1,2,3'"),
        (["--boxes", "1,2,3,x"], "expected 4 numbers with commas between, found '1,2,3,x'"),
        (["--points", "nan,1"], "expected 2 numbers"),
        (["--num_sources", "0"], "expected auto or a number from 1 to 8, found '0'"),
        (["--num_gpus", "99"], "argument --num_gpus: invalid choice: 99"),
        (["--amp", "fp16"], "--amp fp16 needs a GPU"),
        (["another.mp4", "--audio", "a.wav"], "--audio goes with one picture, found 2 files"),
    ],
)
def test_what_cannot_be_asked_for(flags, complaint, capsys):
    assert complaint in refused(capsys, "a.mp4", *flags)


def test_videos_of_one_name_are_refused(tmp_path):
    for name in ("x/a.mp4", "y/a.mkv", "a/a.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    one, other = str(tmp_path / "x/a.mp4"), str(tmp_path / "y/a.mkv")
    with pytest.raises(UserError, match=r"a\.mkv and .*a\.mp4 would both be written to a: rename one"):
        separate.place_videos([one, other], "out")
    with pytest.raises(UserError, match="lies in the folder that its page would be written to"):
        separate.place_videos([str(tmp_path / "a/a.mp4")], str(tmp_path))
    with pytest.raises(UserError, match="all its videos belong to pages in --out"):
        separate.place_videos([str(tmp_path)], str(tmp_path))
    assert separate.place_videos([one, one, f"{tmp_path}/y/../x/a.mp4"], "out") == [(one, "a")]
    found = separate.place_videos([str(tmp_path)], "out")
    assert found == [(str(tmp_path / name), name[:-4]) for name in ("a/a.mp4", "x/a.mp4", "y/a.mkv")]


def test_cells_of_points_and_boxes():
    size, shape = (400, 300), (3, 4)
    assert np.argwhere(cells_of((399, 0, 0, 0), size, shape)).tolist() == [[0, 3]]
    assert np.argwhere(cells_of((199, 201, 0, 0), size, shape)).tolist() == [[2, 1]]
    assert cells_of((0, 0, 400, 300), size, shape).all()
    assert np.argwhere(cells_of((100, 100, 200, 99), size, shape)).tolist() == [[1, 1], [1, 2]]
    assert np.argwhere(cells_of((5, 5, 1000, 10), size, shape)).tolist()[0][0] == 0


def test_energy_maps_are_between_their_windows():
    energy = np.array([0.0, 4.0])[:, None, None] * np.ones((2, 1, 2))
    maps = energy_maps(energy, [1.0, 2.0], 6, 2)
    assert maps.shape == (6, 1, 2, 4)
    assert maps.dtype == np.uint8
    alpha = maps[:, 0, 0, 3].astype(int)
    assert alpha[0] == alpha[1] == 0
    assert alpha[3] == pytest.approx(0.75 * alpha[4], abs=1)
    assert alpha[4] == alpha[5] > 200
    assert not energy_maps(0 * energy, [1.0, 2.0], 6, 2)[..., 3].any()


def test_a_variable_rate_and_a_late_start(checkpoint, tmp_path):
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.1, 30))
    video = make_video(tmp_path / "a.mkv", np.arange(30) * 8, sound=tone(2), times=times, late=(0.5, 0.2))
    out = remux(video, tmp_path / "b.mp4", "-strict", "-2", "-c:a", "aac")
    assert run(checkpoint, tmp_path / "out", video, out) == 0
    for name in "ab":
        waves, _, numbers = read_outputs(tmp_path / "out" / name, 2)
        assert waves.shape[1] / 44100 == pytest.approx(numbers["seconds"], abs=0.01)


def test_it_can_be_called_from_python(checkpoint, video, tmp_path):
    found = separate.separate(video, checkpoint, tmp_path / "out", num_gpus=0, num_sources=3)
    waves, rate, numbers = read_outputs(tmp_path / "out" / "a film", 3)
    assert (found.rate, found.folder) == (rate, str(tmp_path / "out" / "a film"))
    np.testing.assert_allclose(
        np.concatenate([found.sources, found.residual[None]]), waves.transpose(0, 2, 1), atol=1e-6
    )
    assert found.energy.shape == (len(found.times), *numbers["cells"])


def test_mistakes_from_python_are_user_errors(video, tmp_path):
    with pytest.raises(UserError, match="no trained networks"):
        separate.separate(video, str(tmp_path), tmp_path / "out", num_gpus=0)
    with pytest.raises(UserError, match=r"x\.mp4: no such file"):
        separate.separate("x.mp4", str(tmp_path), tmp_path / "out", num_gpus=0)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    for present, asked, used in ((0, None, 0), (2, None, 1), (2, 1, 1), (2, 0, 0)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda present=present: present)
        assert separate.count_gpus(asked) == used
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="1 asked for, 0 found"):
        separate.count_gpus(1)


def test_bad_files_are_named_before_networks_are_loaded(checkpoint, tmp_path, monkeypatch, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    monkeypatch.setattr(separate, "load", lambda args: 1 / 0)
    assert run(checkpoint, tmp_path / "out", tmp_path / "text.mp4", tmp_path / "gone.mp4") == 1
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"failed: {tmp_path}/text.mp4: cannot be read as a video",
        f"failed: {tmp_path}/gone.mp4: no such file",
    ]


def test_names_need_not_be_utf_8(checkpoint, video, tmp_path):
    folder = os.fsencode(tmp_path) + b"/t\xe4st"
    os.mkdir(folder)
    for name in (b"f\xfclm.mkv", b"\xe9tude.mkv"):
        shutil.copyfile(video, folder + b"/" + name)
    out = os.fsencode(tmp_path) + b"/\xf6ut"
    command = [sys.executable, "separate.py", folder, "--ckpt", checkpoint, "--out", out, "--num_gpus", "0"]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    assert out + b"/f\xfclm/index.html: 2.0 s" in result.stdout
    assert {b"source1.wav", b"index.html", b"heatmap.mp4"} <= set(os.listdir(out + b"/f\xfclm"))
    assert os.path.getsize(out + b"/index.html")
