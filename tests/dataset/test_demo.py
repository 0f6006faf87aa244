"""The demo set: its clips are what their ground truth says."""

import collections
import itertools
import json
import os
import pathlib
import re
import subprocess

import numpy as np
import pytest
import soundfile
from scipy.stats import ks_2samp

from dataset.demo import picture, soundfont
from dataset.demo.__main__ import main, make_parser, pairs_of, plan
from dataset.demo.clip import ID_LENGTH, Task, encode
from dataset.demo.picture import DRIFT, FRAME_RATE, HEIGHT, WIDTH, Film
from dataset.demo.score import INSTRUMENTS, PITCH_HIGH, PITCH_LOW, Note, compose
from dataset.demo.sound import perform, sounding_rms
from dataset.demo.soundfont import AUDIO_RATE, SoundFont, default_path
from media import path_ffmpeg, run_ffmpeg
from utils import UserError

SECONDS = 8
SMALL = ["--clips_per_category", "1", "--num_duets", "2", "--seconds", str(SECONDS)]
PAUSE = (4.5, 5.5)  # seconds, in `bursts`


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small set."""
    out = tmp_path_factory.mktemp("demo")
    main(["--out", str(out), *SMALL, "--jobs", "2"])
    return out


@pytest.fixture
def still_camera(monkeypatch):
    monkeypatch.setattr(picture, "_camera", lambda rng, num: np.full((num, 2), DRIFT))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def boxes_of(path):
    return [source["box"] for source in json.loads(path.with_suffix(".json").read_text())["sources"]]


def bursts():
    """Six notes, three seconds of rest, six notes."""
    starts = [burst + 0.3 * number for burst in (0.5, 6.0) for number in range(6)]
    return [Note(start, 0.25, 60 + 3 * number % 20, 0.0) for number, start in enumerate(starts)]


def test_layout(folder):
    solos, duets = sorted(folder.glob("videos/*/*.mp4")), sorted(folder.glob("duets/*/*.mp4"))
    assert [path.parent.name for path in solos] == sorted(INSTRUMENTS)
    assert len(duets) == 2
    for path in solos + duets:
        assert re.fullmatch(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{{ID_LENGTH - 1}}}", path.stem)
        truth = json.loads(path.with_suffix(".json").read_text())
        assert (truth["id"], truth["seconds"], truth["fps"]) == (path.stem, SECONDS, FRAME_RATE)
        names = [source["instrument"] for source in truth["sources"]]
        assert " ".join(sorted(names)) == path.parent.name
    assert not list(folder.rglob(".writing-*"))


def test_same_seed_same_bytes_whatever_jobs(folder, tmp_path):
    main(["--out", str(tmp_path), *SMALL, "--jobs", "1"])
    assert contents(tmp_path) == contents(folder)


def test_other_seed_other_clips(folder, tmp_path):
    task = Task(str(tmp_path), ("flute",), 0, 1, SECONDS)
    task.make()
    (first,) = folder.glob("videos/flute/*.mp4")
    assert task.id != first.stem
    assert (tmp_path / "videos/flute" / f"{task.id}.mp4").read_bytes() != first.read_bytes()


def test_second_run_only_makes_missing_files(folder, capsys):
    before = {path: os.stat(path).st_mtime_ns for path in folder.rglob("*.*")}
    (lost,) = folder.glob("videos/violin/*.mp4")
    data = lost.read_bytes()
    lost.unlink()
    main(["--out", str(folder), *SMALL])
    assert "1 made now" in capsys.readouterr().out
    assert lost.read_bytes() == data
    after = {path: os.stat(path).st_mtime_ns for path in folder.rglob("*.*")}
    rewritten = {path.suffix for path in before if before[path] != after[path]}
    assert rewritten == {".mp4", ".json"}
    assert sum(before[path] != after[path] for path in before) == 2


def test_streams(folder):
    for path in folder.rglob("*.mp4"):
        command = [path_ffmpeg(), "-hide_banner", "-i", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=False).stderr
        video, audio = re.findall(r"Stream .*: (Video: .*|Audio: .*)", text)
        assert video.startswith("Video: h264")
        assert "yuv420p" in video
        assert f"{WIDTH}x{HEIGHT}" in video
        assert f"{FRAME_RATE} fps" in video
        assert audio.startswith("Audio: aac")
        assert f"{AUDIO_RATE} Hz" in audio
        assert "Duration: 00:00:08" in text


def test_tracks_sum_to_the_sound_of_the_video(folder):
    for path in folder.glob("duets/*/*.mp4"):
        tracks = [soundfile.read(path.with_suffix(f".{name}.wav"), dtype="int16") for name in "ab"]
        assert [rate for _, rate in tracks] == [AUDIO_RATE] * 2
        total = sum(track.astype(float) for track, _ in tracks) / 32768
        raw = run_ffmpeg(["-i", str(path), "-ac", "1", "-f", "f32le", "-"])
        heard = np.frombuffer(raw, np.float32)[: len(total)]
        assert np.corrcoef(heard, total[: len(heard)])[0, 1] > 0.95
        assert np.abs(total).max() < 1


def test_boxes_are_inside_and_apart(tmp_path):
    tasks = plan(make_parser().parse_args(["--out", str(tmp_path), "--num_duets", "15", "--seconds", "8"]))
    for task in tasks[::4]:
        parts = [(category, bursts()) for category in task.categories]
        boxes = Film(np.random.default_rng(task.number), parts, 1).boxes
        for x, y, w, h in boxes:
            assert x >= 0
            assert y >= 0
            assert x + w <= WIDTH
            assert y + h <= HEIGHT
            assert h >= 0.35 * HEIGHT
        for (x, _, w, _), (following, *_) in itertools.pairwise(sorted(boxes)):
            assert x + w <= following


@pytest.mark.usefixtures("still_camera")
@pytest.mark.parametrize("category", INSTRUMENTS)
def test_players_move_with_the_notes_within_their_box(category):
    film = Film(np.random.default_rng(3), [(category, bursts())], SECONDS)
    frames = np.stack(list(film)).astype(np.int16)
    changes = np.abs(np.diff(frames, axis=0))
    ((x, y, w, h),) = film.boxes
    inside = changes[:, y : y + h, x : x + w]
    motion = inside.mean((1, 2, 3))
    start, end = (int(time * FRAME_RATE) for time in PAUSE)
    assert motion[start:end].max() == 0
    onsets = [round(note.onset * FRAME_RATE) for note in bursts()]
    assert all(motion[onset - 1 : onset + 5].max() > 0.2 for onset in onsets)
    assert changes.sum() == inside.sum()


def test_players_as_wide_as_their_slot_fit():
    for seed in range(100):
        left = 0.37 * seed  # so that some round up, others down
        player = picture._place(
            np.random.default_rng(seed), "accordion", [Note(0, 1, 60, 0)], left, left + 90, 1
        )
        assert player.box[0] > left
        assert player.box[0] + player.box[2] < left + 91


def test_registers_overlap_too_much_to_tell_instruments_apart_by_pitch():
    """The best pitch threshold between two instruments misclassifies (1 - KS) / 2 of the notes."""
    pitches = {
        category: [n.pitch for seed in range(150) for n in compose(np.random.default_rng(seed), category, 24)]
        for category in INSTRUMENTS
    }
    for some, others in itertools.combinations(pitches.values(), 2):
        assert ks_2samp(some, others).statistic < 0.4
    assert min(map(min, pitches.values())) >= PITCH_LOW
    assert max(map(max, pitches.values())) <= PITCH_HIGH


def test_levels_do_not_reveal_the_instrument_and_few_windows_are_silent():
    for category in INSTRUMENTS:
        levels = []
        for seed in range(3):
            rng = np.random.default_rng(seed)
            sound = perform(rng, category, compose(rng, category, SECONDS), SECONDS)
            assert np.abs(sound).max() <= 0.9 + 1e-6
            levels.append(20 * np.log10(sounding_rms(sound)))
            parts = np.sqrt((sound.reshape(SECONDS * 2, -1) ** 2).mean(1))
            assert np.mean(parts > 0.1 * sounding_rms(sound)) > 0.8
        assert np.mean(levels) == pytest.approx(-20, abs=3)
        assert np.ptp(levels) <= 6.1


@pytest.mark.parametrize("program", sorted({p for i in INSTRUMENTS.values() for p in i.programs}))
@pytest.mark.parametrize("pitch", [57, 64, 72])
def test_notes_are_in_tune(program, pitch):
    note = SoundFont(default_path()).note(program, pitch, 0.6)[4410 : 4410 + 8192]
    likeness = np.fft.irfft(np.abs(np.fft.rfft(note, 2 * len(note))) ** 2)
    period = AUDIO_RATE / (440 * 2 ** ((pitch - 69) / 12))
    low, high = (round(period * 2 ** (semitones / 12)) for semitones in (-8, 8))
    found = low + likeness[low:high].argmax()
    assert 12 * abs(np.log2(found / period)) < 0.3


def test_struck_notes_decay_and_bowed_ones_do_not():
    font = SoundFont(default_path())
    for category, instrument in INSTRUMENTS.items():
        note = font.note(instrument.programs[0], 67, 1.0)
        early, late = (np.std(note[int(t * AUDIO_RATE) :][:4410]) for t in (0.1, 0.9))
        assert (late < 0.5 * early) == instrument.struck, category


def test_pairs_are_spread_evenly():
    pairs = pairs_of(list(INSTRUMENTS))
    assert len(set(pairs)) == len(pairs) == 15
    assert set(collections.Counter(itertools.chain(*pairs[:12])).values()) == {4}


@pytest.mark.parametrize(
    "words",
    [
        ["--clips_per_category", "0"],
        ["--seconds", "7"],
        ["--seconds", "9.5"],
        ["--num_duets", "-1"],
        ["--jobs", "0"],
        ["--seed", "x"],
    ],
)
def test_bad_numbers_are_rejected(words, capsys):
    with pytest.raises(SystemExit) as stop:
        make_parser().parse_args(words)
    assert stop.value.code == 2
    assert f"{words[0]}: expected a whole number from" in capsys.readouterr().err


def test_other_settings_are_an_error(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(folder), *SMALL, "--seed", "5"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "seed 0 instead of 5" in error
    assert str(folder) in error
    assert "choose another --out" in error


@pytest.mark.parametrize("text", ["nonsense", "[]"])
def test_broken_settings_are_an_error(tmp_path, capsys, text):
    (tmp_path / "demo.json").write_text(text)
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), *SMALL])
    assert "demo.json: expected" in capsys.readouterr().err


def test_a_file_in_the_way_is_an_error(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "taken"), *SMALL])
    assert "taken: cannot be written" in capsys.readouterr().err


def test_missing_soundfont_is_an_error(monkeypatch):
    monkeypatch.setattr(soundfont.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="install pretty_midi"):
        default_path()


def test_failed_encoding_is_an_error(tmp_path):
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    with pytest.raises(UserError, match="ffmpeg failed"):
        encode([frame] * 50, str(tmp_path / "none.wav"), str(tmp_path / "video.mp4"))
    assert not pathlib.Path(tmp_path / "video.mp4").exists()
