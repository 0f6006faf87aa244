"""The media of the pages: sounds, videos, images and the ticks of their axes.

Shapes: L samples; F mask rows, the lowest frequency first; T columns or frames; h, w the vision
network's cells.
"""

import math
import os
import tempfile

import matplotlib
import numpy as np
import scipy.fft
import soundfile
from PIL import Image

import media
import utils

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # samples/s that MP3 supports
MP3_COMPRESSION = 0.45  # on libsndfile's scale, 0 is best: 40 kbit/s at 11025 samples/s
AAC_BITRATE = "48k"  # bit/s
H264_CRF = 27  # constant quality, 0 is best
H264_GOP_SECONDS = 1.0  # between keyframes, to which players can seek
PICTURE_QUALITY = 60  # of WebP and JPEG, 100 is best
FLOOR_DB = -80.0  # what a spectrogram shows as silence, relative to the mixture's peak
WINDOW_HOPS = 4  # STFT window, in hops, as in the network
OVERSAMPLING = 4  # zero-padding of the STFT, for the closely spaced low rows of a log-frequency axis
COLOURS_SOUND = "magma"
COLOURS_MASK = "bone"
COLOURS_ENERGY = "inferno"
ENERGY_ALPHA = 0.85  # of the loudest pixels
RATIO_PERCENTILE = 99  # of ratio masks' values, drawn white; a few values are far higher
MIN_TICK_GAP = 0.11  # fraction of the axis
STEP_LENIENCE = 0.7  # how much closer than requested ticks may be


# ---- sound and video


def write_sound(path, wav, rate):
    """Write wav [L], clipped to ±1, at `rate` samples/s as MP3; resampled if MP3 lacks the rate."""
    wav = np.clip(wav, -1, 1)
    if rate not in MP3_RATES:
        higher = [known for known in MP3_RATES if known > rate]
        known = min(higher, default=MP3_RATES[-1])
        from scipy import signal  # here, as below: it takes a second, and is needed at the end of an epoch

        divisor = math.gcd(known, rate)
        wav, rate = signal.resample_poly(wav, known // divisor, rate // divisor), known
    coding = {"format": "MP3", "compression_level": MP3_COMPRESSION, "bitrate_mode": "CONSTANT"}
    with utils.replacing(path) as temporary, media.writing_sound(path):
        soundfile.write(os.fsencode(temporary), wav, rate, **coding)  # of str, soundfile takes only UTF-8


def write_video(path, frames, fps, wav, rate):
    """Write frames uint8 [T, H, W, 3] at `fps` with the sound wav [L], both from time 0, as H.264 and AAC."""
    height, width = frames.shape[1:3]
    even = np.pad(
        frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge"
    )  # H.264 requires even sizes
    size = f"{even.shape[2]}x{even.shape[1]}"
    with tempfile.TemporaryDirectory() as folder, utils.replacing(path) as temporary:
        path_wav = os.path.join(folder, "sound.wav")
        with media.writing_sound(path_wav):
            soundfile.write(path_wav, np.clip(wav, -1, 1), rate)
        pictures = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{fps:g}", "-i", "pipe:0"]
        gop = str(max(1, round(fps * H264_GOP_SECONDS)))
        coding = ["-c:v", "libx264", "-preset", "veryfast", "-crf", str(H264_CRF), "-g", gop, "-threads", "1"]
        sound = ["-i", path_wav, "-c:a", "aac", "-b:a", AAC_BITRATE]
        layout = ["-pix_fmt", "yuv420p", "-movflags", "+faststart"]
        media.run_ffmpeg(
            [*pictures, *sound[:2], *coding, *sound[2:], *layout, temporary], np.ascontiguousarray(even).data
        )


# ---- pictures


def write_picture(path, pixels, lossless=False):
    """Write pixels uint8 [H, W, 3 or 4]; the path's suffix is its format, .jpg or .webp."""
    with utils.replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, quality=PICTURE_QUALITY, lossless=lossless)


def power_on_rows(wav, rate, hop, freqs):
    """STFT power [F, T] of wav [L]: a column per `hop` samples, a row for the band around each of freqs, Hz.

    Averages each band, while the network's warp samples single bins, so that tones between rows stay visible.
    """
    from scipy import signal

    window = signal.get_window("hann", WINDOW_HOPS * hop)
    padded = np.pad(wav, window.size // 2)
    columns = np.lib.stride_tricks.sliding_window_view(padded, window.size)[::hop]
    spectrum = scipy.fft.rfft(columns * window, OVERSAMPLING * window.size).astype(np.complex64)
    power = np.square(np.abs(spectrum)).T
    bin_hz = rate / (OVERSAMPLING * window.size)
    below = np.concatenate([np.zeros_like(power[:1]), np.cumsum(power, 0, dtype=np.float64)])
    middles = (freqs[1:] + freqs[:-1]) / 2
    edges = np.concatenate([[freqs[0]], middles, [freqs[-1]]]) / bin_hz + 0.5
    edges = np.maximum.accumulate(np.clip(edges, 0, len(power)))
    low = np.minimum(edges.astype(int), len(power) - 1)
    part = (edges - low)[:, None]
    cumulative = below[low] * (1 - part) + below[low + 1] * part
    return np.diff(cumulative, axis=0) / np.maximum(np.diff(edges), 1e-6)[:, None]


def spectrogram(power, peak):
    """Draw power [F, T] in dB relative to `peak`, FLOOR_DB to 0: uint8 [F, T, 3], row 0 at the bottom."""
    if peak <= 0:
        return colour(np.zeros_like(power), COLOURS_SOUND)
    decibels = 10 * np.log10(np.maximum(power / peak, 10 ** (FLOOR_DB / 10)))
    return colour(1 - decibels / FLOOR_DB, COLOURS_SOUND)


def colour(values, name):
    """Draw values [F, T], 0..1, in matplotlib's colormap `name`: uint8 [F, T, 3], row 0 at the bottom."""
    return matplotlib.colormaps[name](np.clip(values[::-1], 0, 1), bytes=True)[..., :3]


def write_mask(path, mask, scale):
    """Write mask [F, T] as a .webp image: 0 black, `scale` white. Binary masks are stored losslessly."""
    pixels = colour(mask / scale, COLOURS_MASK)
    write_picture(path, pixels, lossless=bool(np.isin(mask, (0, scale)).all()))


def mask_scale(masks):
    """The mask value drawn white: 1, or the 99th percentile of ratio masks that exceed it."""
    highest = max(np.max(mask) for mask in masks)
    if highest <= 1:
        return 1.0
    return max(1.0, *(float(np.percentile(mask, RATIO_PERCENTILE)) for mask in masks))


def heat_map(energy, height, width):
    """Energy [h, w], >= 0, as an overlay uint8 [height, width, 4]: louder pixels are brighter and denser.

    Relative to the loudest pixel. Without any energy the image is fully transparent.
    """
    smooth = Image.fromarray(energy.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    share = np.clip(np.asarray(smooth) / max(float(energy.max()), np.finfo(np.float32).tiny), 0, 1)
    overlay = matplotlib.colormaps[COLOURS_ENERGY](share, bytes=True)
    overlay[..., 3] = np.round(255 * ENERGY_ALPHA * share)
    return overlay


# ---- axes


def nice_steps(low, high, count):
    """Multiples of 1, 2 or 5 times a power of ten within low..high: about `count` of them."""
    rough = STEP_LENIENCE * (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def frequency_ticks(freqs):
    """Ticks of an axis with rows at freqs [F], Hz: a list of {"at": percent from the bottom, "label"}."""
    low, high = float(freqs[0]), float(freqs[-1])
    if np.allclose(np.diff(freqs), (high - low) / (len(freqs) - 1), rtol=1e-2):
        wanted = nice_steps(low, high, 5)
    else:
        wanted = [digit * 10.0**power for power in range(6) for digit in (1, 2, 5)]
    ticks, previous = [], math.inf
    for hertz in sorted((hertz for hertz in wanted if low <= hertz <= high), reverse=True):
        at = (float(np.interp(hertz, freqs, np.arange(len(freqs)))) + 0.5) / len(freqs)
        if previous - at >= MIN_TICK_GAP:
            ticks.append({"at": round(100 * at, 2), "label": label_hertz(hertz)})
            previous = at
    return ticks[::-1]


def label_hertz(hertz):
    """5000 -> "5k", 200 -> "200"."""
    return f"{hertz / 1000:g}k" if hertz >= 1000 else f"{hertz:g}"


def time_ticks(seconds):
    """Ticks of an axis of 0..`seconds`: a list of {"at": percent from the left, "label"}."""
    return [{"at": round(100 * at / seconds, 2), "label": f"{at:g}"} for at in nice_steps(0, seconds, 4)]


def gradient(name, count=12):
    """`count` colours of the colormap `name`, from low to high, in CSS notation."""
    colours = matplotlib.colormaps[name](np.linspace(0, 1, count), bytes=True)
    return ["#" + bytes(colour[:3].tolist()).hex() for colour in colours]
