"""One clip of the demo set: drawn, synthesised, encoded and written with its ground truth."""

import contextlib
import os
import subprocess
import tempfile
import zlib
from typing import NamedTuple

import numpy as np
import soundfile

from dataset.demo.picture import FRAME_RATE, HEIGHT, WIDTH, Film
from dataset.demo.score import compose
from dataset.demo.sound import perform
from dataset.demo.soundfont import AUDIO_RATE
from media import path_ffmpeg, writing_sound
from utils import UserError, replacing, save_json

ID_LENGTH = 11
ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
STEREO_CHANCE = 0.5
PAN = 0.4  # maximum fraction of the level that moves from one channel to the other
LOUDEST = 0.98 / (1 + PAN)  # of full scale, so that no channel clips
ENCODER = [
    *"-c:v libx264 -preset ultrafast -tune zerolatency -crf 28 -g 125 -pix_fmt yuv420p".split(),
    *"-c:a aac -aac_coder fast -b:a 96k".split(),
]


class Task(NamedTuple):
    """One clip to make; the same task gives the same bytes."""

    out: str
    categories: tuple  # one, or two for a duet
    number: int  # among the clips of these categories
    seed: int
    seconds: int

    @property
    def id(self):
        """An id like YouTube's."""
        rng = self._rng("id")
        letters = [ID_LETTERS[rng.integers(len(ID_LETTERS))] for _ in range(ID_LENGTH)]
        return (
            "".join(letters) if letters[0] != "-" else "".join(["_", *letters[1:]])
        )  # "-" would start an option

    @property
    def stem(self):
        """Path of the clip's files, without suffix."""
        kind = "duets" if self.is_duet else "videos"
        return os.path.join(self.out, kind, " ".join(self.categories), self.id)

    @property
    def is_duet(self):
        """Whether the clip has two sources, each with its own track."""
        return len(self.categories) > 1

    @property
    def letters(self):
        """The tracks of a duet, by source; a solo has none, as its sound is the video's."""
        return "ab" if self.is_duet else ""

    @property
    def paths(self):
        """All files of the clip; the video, written last, is the last."""
        suffixes = [f".{letter}.wav" for letter in self.letters]
        return [self.stem + suffix for suffix in (*suffixes, ".json", ".mp4")]

    def _rng(self, purpose):
        words = (*self.categories, str(self.number), purpose)
        return np.random.default_rng([self.seed, zlib.crc32(" ".join(words).encode())])

    def make(self):
        """Write the clip's files."""
        rng = self._rng("clip")
        parts = [(category, compose(rng, category, self.seconds)) for category in self.categories]
        tracks = _quantise([perform(rng, category, notes, self.seconds) for category, notes in parts])
        film = Film(rng, parts, self.seconds)
        self._write_tracks(tracks)
        self._write_truth(film.boxes)
        self._write_video(film, _mix(rng, tracks, film.boxes))

    def _write_tracks(self, tracks):
        for letter, track in zip(self.letters, tracks, strict=False):
            path = f"{self.stem}.{letter}.wav"
            with replacing(path) as temporary, writing_sound(path):
                soundfile.write(temporary, track, AUDIO_RATE, subtype="PCM_16")

    def _write_truth(self, boxes):
        sources = [
            {"instrument": category, "box": list(box)}
            for category, box in zip(self.categories, boxes, strict=True)
        ]
        for source, letter in zip(sources, self.letters, strict=False):
            source["track"] = f"{self.id}.{letter}.wav"
        truth = {"id": self.id, "seconds": self.seconds, "fps": FRAME_RATE, "sources": sources}
        save_json(f"{self.stem}.json", truth)

    def _write_video(self, film, sound):
        with replacing(f"{self.stem}.mp4") as temporary, tempfile.TemporaryDirectory() as folder:
            path_sound = os.path.join(folder, "sound.wav")
            with writing_sound(path_sound):
                soundfile.write(path_sound, sound, AUDIO_RATE, subtype="PCM_16")
            encode(film, path_sound, temporary)


def _quantise(tracks):
    """Sounds of equal length -> [N, L] int16, attenuated if their sum could exceed LOUDEST."""
    tracks = np.stack(tracks)
    gain = min(LOUDEST / np.abs(tracks).sum(0).max(), 1)
    return np.round(tracks * gain * 32767).astype(np.int16)


def _mix(rng, tracks, boxes):
    """[L] mono or [L, 2] stereo int16; the mean of the two channels is the sum of the tracks [N, L]."""
    total = tracks.sum(0)
    if rng.random() > STEREO_CHANCE:
        return total.astype(np.int16)
    middles = np.array([(x + w / 2) / WIDTH for x, _, w, _ in boxes])
    side = ((2 * middles - 1) * PAN) @ tracks
    return np.round(np.stack([total - side, total + side], axis=1)).astype(np.int16)


def encode(frames, path_sound, path):
    """Write frames ([H, W, 3] uint8, an iterable) and a sound file as a video: H.264 and AAC.

    Raises UserError with ffmpeg's last error message if it fails.
    """
    pictures = f"-f rawvideo -pix_fmt rgb24 -s {WIDTH}x{HEIGHT} -r {FRAME_RATE} -i -".split()
    command = [path_ffmpeg(), "-hide_banner", "-loglevel", "error", "-y", *pictures, "-i", path_sound]
    command += [*ENCODER, "-threads", "1", "-fflags", "+bitexact", path]
    with tempfile.TemporaryFile() as log:
        with (
            contextlib.suppress(BrokenPipeError),  # if ffmpeg gives up, its exit status says so
            subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log) as process,
        ):
            for frame in frames:
                process.stdin.write(np.ascontiguousarray(frame).data)
        if process.returncode:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise UserError(f"{path}: ffmpeg failed ({process.returncode}): {lines[-1]}")
