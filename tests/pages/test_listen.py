"""The click-and-listen page: the files that are written, and the page in a real browser from file://."""

import base64
import io
import itertools
import json
import re

import numpy as np
import pytest
import soundfile

from pages import listen
from tests.videos import make_video

RATE = 16000  # samples/s
SECONDS = 25
HEIGHT, WIDTH, NUM_BASIS, NUM_SOURCES = 3, 4, 3, 2
NAME = 'Größe #1 50% "</script>'  # of the video and its folder, as users may name them
# Records the page's output: the last 32768 samples, and the state at their end.
TAP = "window.tap = new AnalyserNode(context, { fftSize: 32768 }); master.connect(tap)"
TAPPED = """() => {
    const wav = new Float32Array(32768);
    tap.getFloatTimeDomainData(wav);
    return [Array.from(wav), listen.state()];
}"""


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


def test_gallery(tmp_path):
    entries = [(NAME, f"{NAME}/index.html", None, "one & two"), ("b", "b/index.html", "b/still #1.jpg", "")]
    listen.write_gallery(str(tmp_path), entries)
    html = (tmp_path / "index.html").read_text()
    assert 'href="Gr%C3%B6%C3%9Fe%20%231%2050%25%20%22%3C/script%3E/index.html"' in html
    assert 'src="b/still%20%231.jpg"' in html
    assert "one &amp; two" in html
    assert "</script>" not in html


# ---- in a browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / 'Größe #1 50% "'
    levels = np.arange(SECONDS * 5) % 200
    make_video(folder / "video ü#.mp4", levels, 5, np.zeros((44100 * SECONDS, 1)), codec="aac")
    write(folder, make_streams()).close(make_info("video ü#.mp4"))
    return folder


@pytest.fixture
def page(open_page, folder):
    """The page with its first chunk loaded and drawn."""
    page = open_page(folder / "index.html")
    page.wait_for_function("listen.state().chunks.length === 2 && drawnChunk === 0")
    return page


def click_cell(page, row, column):
    box = page.locator("#stage").bounding_box()
    across, down = (column + 0.3) / WIDTH * box["width"], (row + 0.6) / HEIGHT * box["height"]
    page.mouse.click(box["x"] + across, box["y"] + down)


def rendered(page, start, stop):
    data = page.evaluate(
        """async ([start, stop]) => {
            const bytes = new Uint8Array((await listen.render(start, stop)).buffer);
            let text = "";
            for (const byte of bytes) text += String.fromCharCode(byte);
            return btoa(text);
        }""",
        [start, stop],
    )
    return np.frombuffer(base64.b64decode(data), "<f4")


def sound_of(weights, start, stop):
    return (np.asarray(weights) @ make_streams())[round(start * RATE) : round(stop * RATE)]


def place_weights(row, column):
    return [*make_info().gains[row, column], 0, 0, 0]


def test_each_place_has_its_sound_even_across_chunks(page):
    heard = []
    for row, column in ((0, 1), (2, 3)):
        click_cell(page, row, column)
        assert page.locator("#status").inner_text().lower() == f"place column {column + 1}, row {row + 1}"
        for start, stop in ((0, 2), (18, 22), (23, 25)):
            wav, expected = rendered(page, start, stop), sound_of(place_weights(row, column), start, stop)
            assert correlation(wav, expected) > 0.99
            assert 0.99 < wav.std() / expected.std() < 1.01
            heard.append(wav)
            border = slice(int(1.9 * RATE), int(2.1 * RATE))  # no gap and no doubled sound
            assert correlation(wav[border], expected[border]) > 0.99 or stop != 22
    assert correlation(heard[1], heard[4]) < 0.9


def wait_until_in_step(page, picture=0.7):
    page.wait_for_function(
        """picture => {
            const state = listen.state();
            if (!state.sound || state.picture < picture) return false;
            return Math.abs(state.sound.time - state.sound.latency - state.picture) < 0.06;
        }""",
        arg=picture,
    )


@pytest.mark.parametrize("start", [0, 18.8])  # within a chunk; across two
def test_live_sound_is_that_of_the_place_and_in_sync(page, start):
    assert page.evaluate("listen.state().context") is None
    page.evaluate("start => seek(start)", start)
    page.wait_for_function("!video.seeking")
    click_cell(page, 1, 2)
    wait_until_in_step(page, start + 0.4)
    page.evaluate(TAP)
    page.wait_for_function("picture => video.currentTime > picture", arg=start + 2)
    wav, state = page.evaluate(TAPPED)
    assert state["context"] == "running"
    assert abs(state["sound"]["time"] - state["sound"]["latency"] - state["picture"]) < 0.15
    wav = np.array(wav)[-RATE:]
    expected = sound_of(place_weights(1, 2), 0, SECONDS)
    end = round(state["sound"]["time"] * RATE)
    shifts = range(end - RATE // 5, end + RATE // 10)
    assert max(correlation(wav, expected[shift - wav.size : shift]) for shift in shifts) > 0.99


def test_dragging_during_playback_leaves_no_gap(page):
    click_cell(page, 0, 0)
    wait_until_in_step(page)
    page.evaluate(TAP)
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    for step in range(1, 20):
        page.mouse.move(box["x"] + box["width"] * step / 20, box["y"] + 5)
        page.wait_for_timeout(60)
    page.mouse.up()
    wav = np.abs(page.evaluate(TAPPED)[0])[-RATE:]
    blocks = wav.reshape(-1, RATE // 50).max(axis=1)  # of 20 ms
    assert blocks.min() > 0.1 * np.median(blocks)
    assert page.evaluate("listen.state().column") == WIDTH - 1


def test_mixer(page):
    page.get_by_role("button", name="Solo source2").click()
    assert page.evaluate("listen.state().mode") == "sources"
    assert correlation(rendered(page, 1, 2), sound_of([0, 0, 0, 0, 1, 0], 1, 2)) > 0.99
    page.get_by_role("button", name="Solo source2").click()
    page.get_by_role("button", name="Mute residual").click()
    page.get_by_label("Volume of source1").fill("50")
    assert page.locator("#status").inner_text().lower() == "source1, source2"
    assert correlation(rendered(page, 1, 2), sound_of([0, 0, 0, 0.25, 1, 0], 1, 2)) > 0.99
    page.get_by_label("Original").check()
    assert correlation(rendered(page, 1, 2), sound_of([0, 0, 0, 1, 1, 1], 1, 2)) > 0.99


def test_overlays(page):
    pixels = "overlay.hidden ? '' : overlay.toDataURL()"
    seen = {page.evaluate(pixels)}
    for name in ("Energy", "Embeddings"):
        page.get_by_label(name).check()
        seen.add(page.evaluate(pixels))
    page.get_by_label("Energy").check()
    page.evaluate("seek(7)")
    page.wait_for_function("Math.abs(video.currentTime - 7) < 0.1 && !video.seeking")
    seen.add(page.evaluate(pixels))
    assert len(seen) == 4
    page.get_by_label("Opacity").fill("20")
    assert page.evaluate("getComputedStyle(overlay).opacity") == "0.2"
    page.get_by_label("None").check()
    assert page.evaluate(pixels) == ""


def test_keyboard(page):
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "stage"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    start = page.evaluate("[choice.row, choice.column]")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("[choice.row, choice.column]") == [start[0] - 1, start[1] - 1]
    page.wait_for_function("!video.paused && listen.state().sound")
    page.keyboard.press(" ")
    page.wait_for_function("video.paused && !listen.state().sound")
    for key, mode in (("o", "original"), ("p", "place"), ("1", "sources")):
        page.keyboard.press(key)
        assert page.evaluate("choice.mode") == mode
    page.keyboard.press("e")
    assert not page.evaluate("overlay.hidden")
    page.keyboard.press("l")
    page.wait_for_function("video.currentTime >= 5")


def test_seeking_loads_the_needed_chunk(page):
    page.get_by_label("Time").fill("21")
    page.wait_for_function("drawnChunk === 1")
    assert page.evaluate("listen.state().chunks") == [1]
    ticks = page.locator("#spectrograms .axis-x").first.inner_text()
    assert ticks.split()[0] == "0:20"


def test_spectrograms_show_the_place(page):
    before = page.evaluate("byId('heard').toDataURL()")
    assert before == page.evaluate("byId('mixture').toDataURL()")  # the original
    page.keyboard.press("2")
    page.wait_for_function("before => byId('heard').toDataURL() !== before", arg=before)
    assert before == page.evaluate("byId('mixture').toDataURL()")


def test_fits_the_screen_light_and_dark(page):
    for width, scheme in itertools.product((360, 390, 820, 1400), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(re.search(r"\d+", ground)[0]) < 128) == (scheme == "dark")
        assert len(page.screenshot()) > 10_000


def test_names_are_escaped(page):
    assert page.title() == NAME
    assert page.locator("h1").inner_text() == NAME
    assert page.get_by_role("link", name="Heat-map").get_attribute("href") == "heat%20%231.mp4"
    assert page.locator(".note").inner_text() == "A note <b>."
