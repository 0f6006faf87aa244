"""Windows of audio files: the right samples at the right level, whatever the format."""

import struct

import numpy as np
import pytest
import soundfile
import soxr
from PIL import Image

from dataset.audio import read_window
from media import run_ffmpeg
from utils import UserError

RATE = 11025  # samples/s
SAMPLES_16 = np.round(16000 * np.sin(np.arange(10 * RATE) / 7)).astype("<i2")  # 10 s without a header


def make_sound(path, rate=RATE, seconds=10.0, channels=1, level=0.5, **kwargs):
    """Write a tone with a slow beat, so that no two moments are alike; returns the waveform at `rate`."""
    times = np.arange(int(seconds * rate)) / rate
    wave = level * np.sin(2 * np.pi * 440 * times) * np.sin(2 * np.pi * 0.13 * times)
    soundfile.write(path, np.stack([wave] * channels, axis=1), rate, **kwargs)
    return wave.astype(np.float32)


def make_music(seconds, rate):
    """60 partials up to 4 kHz, weaker towards the top, each with its own beat, within ±0.7."""
    rng = np.random.default_rng(0)
    hertz, beats, phases = rng.uniform(60, 4000, 60), rng.uniform(0.1, 2, 60), rng.uniform(0, 6, 60)
    times = np.arange(int(seconds * rate)) / rate
    partials = zip(hertz, beats, phases, strict=True)
    wave = sum(np.sin(2 * np.pi * f * times + p) * np.sin(2 * np.pi * b * times) / f for f, b, p in partials)
    return 0.7 * wave / np.abs(wave).max()


def decibel(noise, signal):
    return 10 * np.log10(np.square(noise).sum() / np.square(signal).sum() + 1e-12)


def header(tag=1, channels=1, rate=RATE, bits=16, size_riff=None, size_data=None):
    """The 44-byte header of a wav; the sizes default to those of SAMPLES_16."""
    size_data = SAMPLES_16.nbytes if size_data is None else size_data
    size_riff = 36 + size_data if size_riff is None else size_riff
    align = channels * bits // 8
    kind = struct.pack("<HHIIHH", tag, channels, rate, rate * align % 2**32, align, bits)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + kind + b"data" + struct.pack("<I", size_data)
    return b"RIFF" + struct.pack("<I", size_riff) + chunks


SUBTYPES = {"PCM_U8": 1e-2, "PCM_16": 1e-4, "PCM_24": 1e-6, "PCM_32": 1e-6, "FLOAT": 1e-6, "DOUBLE": 1e-6}


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_window_has_the_samples_of_the_file(tmp_path, subtype, channels, kind):
    path = tmp_path / "a.wav"
    wave = make_sound(path, channels=channels, subtype=subtype, format=kind)
    window = read_window(path, 5.0, 4001, RATE)
    start = 5 * RATE - 2000
    assert window.dtype == np.float32
    np.testing.assert_allclose(window, wave[start : start + 4001], atol=SUBTYPES[subtype])


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([[0.8, 0.2], [-0.4, 0.4]] * 500), RATE, subtype="FLOAT")
    np.testing.assert_allclose(
        read_window(tmp_path / "a.wav", 0.05, 4, RATE), [0.0, 0.5, 0.0, 0.5], atol=1e-6
    )


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 32000, 44100, 48000, 96000])
@pytest.mark.parametrize("centre", [0.1, 5.03, 9.95])
def test_other_rates_give_the_same_window(tmp_path, rate, centre):
    make_sound(tmp_path / "a.wav", rate)
    make_sound(tmp_path / "b.wav", RATE)
    window, expected = (read_window(tmp_path / name, centre, 8001, RATE) for name in ("a.wav", "b.wav"))
    assert decibel(window - expected, expected) < -40


@pytest.mark.parametrize("num_samples", [4001, 65535])
def test_a_file_and_its_copy_at_the_target_rate_give_the_same_window(tmp_path, num_samples):
    wave = make_music(10, 44100)
    soundfile.write(tmp_path / "a.wav", wave, 44100, subtype="PCM_16")
    soundfile.write(tmp_path / "b.wav", soxr.resample(wave, 44100, RATE, "VHQ"), RATE, subtype="PCM_16")
    for centre in (0.0, 0.1, 1.234567, 5.03, 9.3, 9.95, 10.0):
        window, copy = (
            read_window(tmp_path / name, centre, num_samples, RATE) for name in ("a.wav", "b.wav")
        )
        assert decibel(window - copy, copy) < -50


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_window_of_an_mp3_equals_that_of_the_whole_file(tmp_path, rate, channels):
    make_sound(tmp_path / "a.wav", rate, channels=channels)
    run_ffmpeg(["-i", str(tmp_path / "a.wav"), "-b:a", "64k", str(tmp_path / "a.mp3")])
    whole, _ = soundfile.read(tmp_path / "a.mp3")
    soundfile.write(tmp_path / "whole.wav", whole, rate, subtype="FLOAT")
    for centre in (0.05, 1.0, 5.0, 8.7, 9.99):
        names = ("a.mp3", "whole.wav", "a.wav")
        window, exact, source = (read_window(tmp_path / name, centre, 8001, RATE) for name in names)
        assert decibel(window - exact, exact) < -100
        assert decibel(window - source, source) < -20  # nothing is shifted


@pytest.mark.parametrize("bits", [["-q:a", "4"], ["-b:a", "64k"]])  # variable, constant
def test_an_mp3_without_a_length_tag_is_read_to_its_end(tmp_path, bits):
    soundfile.write(tmp_path / "a.wav", make_music(6, 44100), 44100)
    options = [*bits, "-metadata", "title=" + "x" * 300, "-write_xing"]
    for told in "01":
        run_ffmpeg(["-i", str(tmp_path / "a.wav"), *options, told, str(tmp_path / f"{told}.mp3")])
    late = 1105 / 44100  # the encoder delay, which the tag states as well
    for centre in (1.0, 4.0, 5.5):
        told = read_window(tmp_path / "1.mp3", centre, 8001, 44100)
        untold = read_window(tmp_path / "0.mp3", centre + late + 1e-6, 8001, 44100)
        assert decibel(untold - told, told) < -60


def test_zero_where_the_file_ends(tmp_path):
    wave = make_sound(tmp_path / "a.wav")
    start = read_window(tmp_path / "a.wav", 0.0, 2001, RATE)
    assert not start[:1000].any()
    np.testing.assert_allclose(start[1000:], wave[:1001], atol=1e-4)
    end = read_window(tmp_path / "a.wav", 10.0, 2001, RATE)
    np.testing.assert_allclose(end[:1000], wave[-1000:], atol=1e-4)
    assert not end[1000:].any()


@pytest.mark.parametrize(
    ("name", "rate"), [("a.wav", RATE), ("a.wav", 44100), ("a.wav", 8000), ("a.mp3", 44100)]
)
def test_around_the_end_windows_have_their_length_and_past_it_they_are_zero(tmp_path, name, rate):
    make_sound(tmp_path / name, rate, seconds=2.0003, level=0.9)
    end = int(2.0003 * rate) * RATE // rate
    for start in (end - 2, end - 1, end, end + 1, end + 500, 100 * RATE):
        for num_samples in (1, 2, 301):
            window = read_window(tmp_path / name, (start + num_samples // 2 + 0.5) / RATE, num_samples, RATE)
            assert len(window) == num_samples
            assert start <= end or not window.any()
    for num_samples in (1, 3):
        assert len(read_window(tmp_path / name, 0.0, num_samples, RATE)) == num_samples


def test_before_the_start_it_is_zero(tmp_path):
    make_sound(tmp_path / "a.wav")
    assert not read_window(tmp_path / "a.wav", -1.0, 2001, RATE).any()


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_short_file_is_repeated(tmp_path, rate):
    make_sound(tmp_path / "a.wav", rate, seconds=1.0)
    wave = make_sound(tmp_path / "b.wav", RATE, seconds=1.0)
    window = read_window(tmp_path / "a.wav", 1.5, 2 * RATE, RATE)
    expected = np.tile(wave, 3)[RATE // 2 : RATE // 2 + 2 * RATE]
    assert decibel(window[: 2 * RATE - 1] - expected[: 2 * RATE - 1], expected) < -40


def test_one_sample_is_a_sound(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.5]), RATE)
    np.testing.assert_allclose(read_window(tmp_path / "a.wav", 0.0, 4, RATE), [0, 0, 0.5, 0.5])


@pytest.mark.parametrize("name", ["a.wav", "a.mp3"])
@pytest.mark.parametrize("rate", [8000, RATE, 44100])
def test_full_scale_stays_full_scale(tmp_path, name, rate):
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT") if name == "a.wav" else (None,):
        soundfile.write(tmp_path / name, np.sin(np.arange(rate) * 3000 / rate), rate, subtype=subtype)
        window = read_window(tmp_path / name, 0.5, 4000, RATE)
        assert 0.97 < np.abs(window).max() <= 1.0
        assert np.sqrt(2 * np.square(window).mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_louder_samples_are_clipped_and_nothing_is_normalised(tmp_path, rate):
    wave = np.linspace(-1.7, 1.7, 2 * rate)
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    window = read_window(tmp_path / "a.wav", 1.0, 2 * RATE - 2000, RATE)
    expected = np.clip(np.linspace(-1.7, 1.7, 2 * RATE), -1, 1)[1001:-999]
    np.testing.assert_allclose(window, expected, atol=1e-3)


SIZES = {"streamed": (2**32 - 1, 2**32 - 1), "too long": (2**31 - 1, 2**31 - 1), "riff 0": (0, None)}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_wrong_sizes_in_the_header_are_tolerated(tmp_path, sizes):
    (tmp_path / "a.wav").write_bytes(header(1, 1, RATE, 16, *sizes) + SAMPLES_16.tobytes())
    window = read_window(tmp_path / "a.wav", 9.5, RATE, RATE)
    np.testing.assert_allclose(window[: RATE - 1], SAMPLES_16[-RATE:-1] / 32768, atol=1e-6)


def test_wavs_that_ffmpeg_piped_are_read(tmp_path):
    wave = make_sound(tmp_path / "a.wav")
    piped = run_ffmpeg(["-i", str(tmp_path / "a.wav"), "-f", "wav", "-"])
    (tmp_path / "b.wav").write_bytes(piped)
    np.testing.assert_allclose(
        read_window(tmp_path / "b.wav", 9.0, 101, RATE), wave[-RATE - 50 :][:101], atol=1e-4
    )


@pytest.mark.parametrize("odd", [0, 1])
def test_a_wav_that_is_cut_off_ends_where_it_is_cut(tmp_path, odd):
    (tmp_path / "a.wav").write_bytes((header() + SAMPLES_16.tobytes())[: 44 + 2 * 5 * RATE + odd])
    window = read_window(tmp_path / "a.wav", 5.0, 2001, RATE)
    np.testing.assert_allclose(window[:1000], SAMPLES_16[5 * RATE - 1000 : 5 * RATE] / 32768, atol=1e-6)
    assert not window[1000:].any()
    assert not read_window(tmp_path / "a.wav", 9.0, 2001, RATE).any()
    long = read_window(tmp_path / "a.wav", 3.0, 6 * RATE, RATE)  # longer than what is left: repeated
    np.testing.assert_allclose(long[5 * RATE :], SAMPLES_16[:RATE] / 32768, atol=1e-6)


def test_an_mp3_that_is_cut_off_is_read_up_to_there_and_refused_beyond(tmp_path):
    soundfile.write(tmp_path / "whole.mp3", make_music(10, RATE), RATE)
    content = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(content[: len(content) // 2])
    window, whole = (read_window(tmp_path / name, 2.0, 4001, RATE) for name in ("cut.mp3", "whole.mp3"))
    np.testing.assert_allclose(window, whole, atol=1e-4)
    with pytest.raises(UserError, match=r"cut\.mp3: .*no sound at 8\.8 s of 10\.0 s: truncated"):
        read_window(tmp_path / "cut.mp3", 9.0, 4001, RATE)


NAMES = [
    "ü 日本 😀.wav",
    "a'b\"c.wav",
    "-x.wav",
    " .wav",
    "#%s{}.wav",
    "a:b.wav",
    "a.raw",
    "no_suffix",
    "a.mp3",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_format_comes_from_the_content_not_the_name(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wave = make_sound(name, format="WAV")
    np.testing.assert_allclose(read_window(name, 5.0, 101, RATE), wave[5 * RATE - 50 :][:101], atol=1e-4)
    make_sound(name, format="MP3")
    assert read_window(name, 5.0, RATE, RATE).any()


NOT_THERE = {
    "missing.wav": "No such file",
    "no_folder/a.wav": "No such file",
    "empty.wav/a.wav": "Not a directory",
    "x" * 300 + ".wav": "name too long",
    "a\0b.wav": "null byte",
    "folder.wav": "Is a directory",
}
LEVELS = {  # of float samples
    "nan": (np.nan, "samples reach nan, expected -1 to 1"),
    "infinite": (np.inf, "samples reach inf"),
    "huge": (3e38, r"samples reach 3e\+38"),
    "integers_as_floats": (32767.0, "samples reach 32767"),
}
FOREIGN = "not a wav or mp3 file, or damaged"


def bad_contents(folder):
    """{name: (content, part of the error)} of files that are not audio or cannot be read."""
    make_sound(folder / "good.mp3")
    run_ffmpeg(["-i", str(folder / "good.mp3"), "-c:a", "aac", str(folder / "good.m4a")])
    Image.new("RGB", (60, 40)).save(folder / "good.jpg")
    mp3, aac, jpeg = ((folder / f"good.{suffix}").read_bytes() for suffix in ("mp3", "m4a", "jpg"))
    page = b"<html><body>404</body></html>"
    noise = np.random.default_rng(0).bytes(20000)
    raw = SAMPLES_16.tobytes()
    return {
        "empty.wav": (b"", "the file is empty"),
        "empty.mp3": (b"", "the file is empty"),
        "text.wav": (b"this is no sound", FOREIGN),
        "page.wav": (page, FOREIGN),
        "page.mp3": (page * 50, FOREIGN),
        "picture.wav": (jpeg, FOREIGN),
        "aac.wav": (aac, FOREIGN),
        "aac.mp3": (aac, FOREIGN),
        "zeros.wav": (bytes(20000), FOREIGN),
        "zeros.mp3": (bytes(20000), FOREIGN),
        "samples.raw": (raw, FOREIGN),
        "noise.wav": (noise, FOREIGN),
        "garbage.mp3": (b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + noise, FOREIGN),
        "crumb.mp3": (mp3[:100], FOREIGN),
        "damaged.mp3": (mp3[:1000] + noise, "cannot be read as sound"),
        "riff.wav": (header()[:12], "No 'data' chunk"),
        "half_a_header.wav": (header()[:36], "No 'data' chunk"),
        "header.wav": (header(), "contains no sound"),
        "size_0.wav": (header(size_data=0) + raw, "contains no sound"),
        "codec.wav": (header(tag=0x1234) + raw, "Malformed 'fmt ' chunk"),
        "channels_0.wav": (header(channels=0) + raw, "Channel count is zero"),
        "channels_2000.wav": (header(channels=2000) + raw, "Too many channels"),
        "rate_0.wav": (header(rate=0) + raw, "cannot be read as sound"),
        "bits_0.wav": (header(bits=0) + raw, "unimplemented format"),
    }


@pytest.fixture(scope="module")
def bad_sounds(tmp_path_factory):
    """(folder, {name: part of the error}); some of the files do not exist."""
    folder = tmp_path_factory.mktemp("bad")
    words = dict(NOT_THERE)
    for name, (content, text) in bad_contents(folder).items():
        (folder / name).write_bytes(content)
        words[name] = text
    for rate in (RATE, 44100):
        for name, (value, text) in LEVELS.items():
            soundfile.write(
                folder / f"{name}_{rate}.wav", np.full((2 * rate, 2), value), rate, subtype="FLOAT"
            )
            words[f"{name}_{rate}.wav"] = text
    (folder / "folder.wav").mkdir()
    return folder, words


def test_bad_audio_is_a_one_line_error_that_names_the_file(bad_sounds):
    folder, words = bad_sounds
    assert len(words) >= 36
    for name, text in words.items():
        path = f"{folder}/{name}"
        with pytest.raises(UserError, match=text) as caught:
            read_window(path, 1.0, 1000, RATE)
        message = str(caught.value)
        assert message.startswith(f"{path}: cannot be read as sound: ")
        assert "\n" not in message
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_only_the_window_must_be_valid(tmp_path):
    wave = np.full(10 * RATE, 0.5)
    wave[5 * RATE] = np.nan
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    assert (read_window(tmp_path / "a.wav", 2.0, RATE, RATE) == 0.5).all()
    with pytest.raises(UserError, match="nan"):
        read_window(tmp_path / "a.wav", 5.0, RATE, RATE)


def test_only_the_window_is_read_of_a_wav(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(header(size_data=2**31 - 64))
    with open(path, "r+b") as file:
        file.truncate(2**31 - 20)  # 27 hours, as a sparse file
    assert not read_window(path, 24 * 3600, 65535, RATE).any()
