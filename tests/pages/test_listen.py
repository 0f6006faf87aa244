"""The files of the click-and-listen page: sounds, outlines, numbers and text."""

import base64
import io
import json

import numpy as np
import pytest
import soundfile

from pages import listen

RATE = 16000  # samples/s
SECONDS = 25
HEIGHT, WIDTH, NUM_BASIS, NUM_SOURCES = 3, 4, 3, 2
NAME = 'Größe #1 50% "</script>'  # of the video and its folder, as users may name them


def make_streams(rate=RATE, seconds=SECONDS, count=NUM_BASIS + NUM_SOURCES + 1):
    """Chirps with a slow beat, so that no two moments or streams are alike; the second is loud."""
    times = np.arange(int(rate * seconds)) / rate
    hertz = 250 * 1.37 ** np.arange(count)[:, None]
    phases = 2 * np.pi * hertz * (times + 0.01 * times**2)
    streams = np.sin(phases) * (1 + 0.8 * np.sin(2 * np.pi * 0.7 * times + hertz))
    return (streams * np.where(np.arange(count) == 1, 3.0, 0.2)[:, None]).astype(np.float32)


def make_info(video="video.mp4"):
    draw = np.random.default_rng(5)
    gains = draw.standard_normal((HEIGHT, WIDTH, NUM_BASIS)) * [1, 1 / 15, 1]
    sources = [
        {"name": f"source{k + 1}", "file": f"source {k + 1}.wav", "colour": colour, "cells": [[k, 0], [k, 1]]}
        | {"share": 0.4}
        for k, colour in enumerate(("#cc4400", "#0077aa"))
    ]
    sources[1]["confidence"] = 0.83
    return listen.PageInfo(
        title=NAME,
        video=video,
        size=(64, 48),
        seconds=SECONDS,
        gains=gains.astype(np.float32),
        times=np.arange(SECONDS) + 0.5,
        energy=draw.random((SECONDS, HEIGHT, WIDTH)),
        colours=draw.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8),
        sources=sources,
        residual="residual.wav",
        downloads=[("Heat-map", "heat #1.mp4")],
        spectrogram=draw.random((257, 100)).astype(np.float32),
        spectrogram_top=RATE / 2,
        notes=["A note <b>."],
        trained_on="The networks learned from clips of <i>.",
    )


def write(folder, streams, rate=RATE, pieces=(1000, 300_000)):
    """A PageWriter that received the streams in pieces of alternating length."""
    writer = listen.PageWriter(str(folder), rate, len(streams))
    start = 0
    while start < streams.shape[1]:
        writer.add(streams[:, start : start + pieces[0]])
        start, pieces = start + pieces[0], pieces[::-1]
    return writer


def read_chunk(path):
    """(index, length, wavs [S, length], rate) of a script."""
    arguments = path.read_text().strip().removeprefix("chunk(").removesuffix(");")
    index, length, sounds = json.loads(f"[{arguments}]")
    wavs, rate = [], None
    for sound in sounds:
        wav, rate = (
            soundfile.read(io.BytesIO(base64.b64decode(sound[1]))) if sound else (np.zeros(length), rate)
        )
        assert wav.size == length
        wavs.append(wav * (sound[0] if sound else 0))
    return index, length, np.array(wavs), rate


def correlation(one, other):
    return np.corrcoef(one, other)[0, 1]


# ---- what is written


def test_chunks_hold_the_streams_however_they_come(tmp_path):
    streams = make_streams()
    streams[2] = 0  # a silent one
    for name, pieces in (("a", (1000, 300_000)), ("b", (streams.shape[1], 1))):
        write(tmp_path / name, streams, pieces=pieces).close(make_info())
    chunks = sorted((tmp_path / "a" / "sound").iterdir())
    assert [path.name for path in chunks] == ["0000.js", "0001.js"]
    fade, step = listen.FADE_SECONDS * RATE / 2, listen.CHUNK_SECONDS * RATE
    for k, path in enumerate(chunks):
        assert path.read_bytes() == (tmp_path / "b" / "sound" / path.name).read_bytes()
        index, length, wavs, rate = read_chunk(path)
        start = round(step - fade) if k else 0
        expected = streams[:, start : round(step + fade) if not k else None]
        assert (index, rate, wavs.shape) == (k, RATE, expected.shape)
        assert length == expected.shape[1]
        assert np.abs(wavs.std(axis=1) - expected.std(axis=1)).max() < 0.01
        assert min(correlation(wavs[s], expected[s]) for s in range(6) if s != 2) > 0.998
        assert not wavs[2].any()


@pytest.mark.parametrize(
    ("seconds", "count"), [(0.3, 1), (19.9, 1), (20.01, 1), (20.05, 2), (20.2, 2), (41, 3)]
)
def test_the_last_chunk_ends_with_the_sound(tmp_path, seconds, count):
    streams = make_streams(8000, seconds, 2)
    info = make_info()._replace(gains=np.ones((HEIGHT, WIDTH, 1), np.float32), sources=[])
    write(tmp_path, streams, 8000).close(info)
    chunks = sorted((tmp_path / "sound").iterdir())
    assert len(chunks) == count
    index, length, _, _ = read_chunk(chunks[-1])
    start = round((index * 20 - 0.05) * 8000) if index else 0
    assert start + length == streams.shape[1]


def test_a_rate_that_mp3_does_not_support(tmp_path):
    streams = make_streams(20000, 2, 1)
    writer = write(tmp_path, streams, 20000)
    writer._write_chunk()
    writer._finish_chunk()
    _, length, wavs, rate = read_chunk(tmp_path / "sound" / "0000.js")
    assert (rate, length) == (22050, 44100)
    assert correlation(wavs[0], make_streams(22050, 2, 1)[0]) > 0.995


@pytest.mark.parametrize("rate", listen.MP3_RATES)
@pytest.mark.parametrize("num_streams", [1, 15, 25])
def test_the_encoders_delay_and_gain_are_known_at_every_rate(rate, num_streams):
    wav = make_streams(rate, 1, 1)[0]
    mp3 = listen.encode_mp3(wav, rate, listen.bitrate(num_streams))
    decoded, _ = soundfile.read(io.BytesIO(mp3))
    assert decoded.size == wav.size
    assert correlation(decoded, wav) > 0.99
    assert decoded.std() == pytest.approx(listen.MP3_GAIN * wav.std(), rel=0.01)


def test_the_sound_stays_within_its_budget():
    for num_streams in range(1, 26):
        bytes_per_minute = listen.bitrate(num_streams) * 1000 / 8 * 60 * 4 / 3 * num_streams
        assert bytes_per_minute <= listen.MAX_BYTES_PER_MINUTE


def test_chunks_of_an_earlier_page_are_deleted(tmp_path):
    write(tmp_path, make_streams(8000, 41, 1), 8000)
    assert list((tmp_path / "sound").iterdir())
    listen.PageWriter(str(tmp_path), RATE, 6)
    assert not list((tmp_path / "sound").iterdir())


def test_the_outline_of_cells():
    assert listen.border([[2, 1]]) == "M1 2v1M1 2h1M2 2v1M1 3h1"
    assert listen.border([[0, 0], [0, 1]]).count("M") == 6


def test_the_corner_is_in_the_largest_part():
    assert listen.corner([[0, 0], [2, 3], [3, 2], [3, 3]]) == [3, 2]
    assert listen.corner([[4, 1]]) == [1, 4]


def test_quiet_cells_are_not_outlined():
    energy = np.array([[100, 5, 0], [3, 2, 0.1]])
    assert listen.audible([[0, 0], [0, 1]], energy) == [[0, 0]]
    assert listen.audible([[0, 2], [1, 1], [1, 0], [1, 2]], energy) == [[1, 1], [1, 0]]  # by its own loudest
    assert listen.audible([[0, 2]], energy) == [[0, 2]]
    assert listen.audible([], energy) == []


def test_the_scale_of_energy_is_that_of_the_overlay():
    scale = listen.energy_scale()
    assert [tick["at"] for tick in scale["ticks"]] == pytest.approx([0, 25.1, 50.1, 100])  # amplitude
    assert scale["colours"][0].endswith("00")  # transparent
    assert int(scale["colours"][-1][-2:], 16) == round(255 * listen.ENERGY_ALPHA)


def html_of(folder, **changes):
    info = make_info()._replace(**changes)
    write(folder, make_streams(8000, 1, NUM_BASIS + len(info.sources) + 1), 8000).close(info)
    return " ".join((folder / "index.html").read_text().split())


def test_the_page_says_what_one_sees(tmp_path):
    html = html_of(tmp_path)
    assert "into 2 sources, outlined in the picture." in html
    assert "The networks learned from clips of &lt;i&gt;. </p>" in html
    assert html.count("40 % of the energy") == 2
    assert "20 % of the energy" in html  # the residual
    assert html.count("similarity") == 1
    assert "similarity 0.83" in html


def test_what_the_page_is_not_told_is_left_out(tmp_path):
    source = {"name": "flute", "file": "a.wav", "colour": "#cc4400", "cells": [], "share": 1.0}
    html = html_of(tmp_path, sources=[source], trained_on="")
    assert "into 1 source, outlined in the picture. </p>" in html
    assert "similarity" not in html
    assert 'class="number tag"' not in html  # no cells, no place for it


def test_gallery(tmp_path):
    entries = [(NAME, f"{NAME}/index.html", None, "one & two"), ("b", "b/index.html", "b/still #1.jpg", "")]
    listen.write_gallery(str(tmp_path), entries)
    html = (tmp_path / "index.html").read_text()
    assert 'href="Gr%C3%B6%C3%9Fe%20%231%2050%25%20%22%3C/script%3E/index.html"' in html
    assert 'src="b/still%20%231.jpg"' in html
    assert "one &amp; two" in html
    assert "</script>" not in html
