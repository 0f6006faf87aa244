"""The evaluation page, ckpt/<id>/visualization/index.html.

`write_row` writes the sounds, videos and pictures of one mixture, in any process, and returns the row's data;
`write_page` writes the page from such rows.
Shapes: L samples; F mask rows, the lowest frequency first; T columns or pictures; h, w the cells of
the frame network.
"""

import math
import os
import re
from typing import NamedTuple

import numpy as np

from pages.curves import LOSS_CURVES, MAX_MARKED, SCORE_CURVES, chart
from pages.filters import FILTERS
from pages.media import (
    COLOURS_ENERGY,
    COLOURS_MASK,
    COLOURS_SOUND,
    FLOOR_DB,
    frequency_ticks,
    gradient,
    heat_map,
    mask_scale,
    power_on_rows,
    spectrogram,
    time_ticks,
    write_mask,
    write_picture,
    write_sound,
    write_video,
)
from pages.render import render
from utils import UserError

PLAIN_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}"
)  # without a dot: never index.html, never outside the folder
SOURCE_FILES = {"video": ".mp4", "still": ".jpg", "heat": ".webp", "mask_pred": ".webp", "mask_true": ".webp"}


class SourceView(NamedTuple):
    """One separated source of a mixture."""

    clip: str  # "violin/AbCdEfGhIjK"
    category: str  # "violin"
    frames: np.ndarray  # uint8 [T, H, W, 3], the frames in the sound's window, at the mixture's `fps`
    # float32 [h, w], sound energy of each pixel's mask, >= 0, any scale, over `still`; None: not looked at
    energy: np.ndarray | None
    still: np.ndarray  # uint8 [H, W, 3], the (centre) frame that the network saw
    mask: np.ndarray  # float32 [F, T], 0..1, ratio masks 0..5
    true_mask: np.ndarray  # float32 [F, T]
    estimate: np.ndarray  # float32 [L], -1..1, the separated sound
    true: np.ndarray  # float32 [L], the source before it was mixed
    oracle: np.ndarray  # float32 [L], the mixture under the true mask
    scores: dict  # dB by name: sdr, sir, sar, si_sdr, sdr_mixture, sdr_oracle; None: silent, not scored


class MixtureView(NamedTuple):
    """One mixture and its sources: one row of the page."""

    name: str  # names the row and its files: letters, digits, "-" and "_"
    mix: np.ndarray  # float32 [L], -1..1
    weight: np.ndarray | None  # float32 [F, T], the loss weighting, if there is a loss
    freqs: np.ndarray  # float32 [F], Hz of each mask row, rising
    rate: int  # samples/s
    fps: float  # frames/s of `frames`
    hop_seconds: float  # seconds between two spectrogram columns
    scores: dict | None  # means over the sources, with the same keys
    sources: list[SourceView]


def write_row(folder, view):
    """Write the media of a MixtureView into folder/<name>/.

    Returns the row for `write_page`: plain data (as JSON has it) with paths relative to `folder`.
    Raises UserError if the name isn't plain or an array has the wrong shape or values.
    """
    check_view(view)
    os.makedirs(os.path.join(folder, view.name), exist_ok=True)
    peak = float(power(view, view.mix).max())
    seconds = view.mix.size / view.rate
    return {
        "name": view.name,
        "seconds": round(seconds, 4),
        "ticks_hz": frequency_ticks(view.freqs),
        "ticks_s": time_ticks(seconds),
        "scores": plain_scores(view.scores),
        "mixture": write_heard(folder, view, "mixture", view.mix, peak),
        "weight": None if view.weight is None else write_weight(folder, view),
        "sources": [write_source(folder, view, index, peak) for index in range(len(view.sources))],
    }


def write_source(folder, view, index, peak):
    """Write one source's media, spectrograms relative to the power `peak`; return its part of the row."""
    source, stem = view.sources[index], f"source{index + 1}"
    scale = mask_scale([mask for each in view.sources for mask in (each.mask, each.true_mask)])
    paths = {part: f"{view.name}/{stem}-{part}{suffix}" for part, suffix in SOURCE_FILES.items()}
    on_disk = {part: os.path.join(folder, path) for part, path in paths.items()}
    write_video(on_disk["video"], source.frames, view.fps, source.estimate, view.rate)
    write_picture(on_disk["still"], source.still)
    if source.energy is None:
        paths["heat"] = None
    else:
        write_picture(on_disk["heat"], heat_map(source.energy, *source.still.shape[:2]))
    write_mask(on_disk["mask_pred"], source.mask, scale)
    write_mask(on_disk["mask_true"], source.true_mask, scale)
    return {
        **paths,
        "clip": source.clip,
        "category": source.category or source.clip,  # trees without categories
        "scores": plain_scores(source.scores),
        "mask_scale": round(scale, 2),
        "predicted": write_heard(folder, view, f"{stem}-predicted", source.estimate, peak),
        "true": write_heard(folder, view, f"{stem}-true", source.true, peak),
        "oracle": write_heard(folder, view, f"{stem}-oracle", source.oracle, peak),
    }


def write_heard(folder, view, stem, wav, peak):
    """Write one sound and its spectrogram: {"sound": path, "picture": path}."""
    paths = {"sound": f"{view.name}/{stem}.mp3", "picture": f"{view.name}/{stem}.webp"}
    write_sound(os.path.join(folder, paths["sound"]), wav, view.rate)
    write_picture(os.path.join(folder, paths["picture"]), spectrogram(power(view, wav), peak))
    return paths


def write_weight(folder, view):
    """Write the loss weighting as a picture: {"picture": path, "scale": the weight shown as white}."""
    path = f"{view.name}/weight.webp"
    scale = float(view.weight.max()) or 1.0
    write_mask(os.path.join(folder, path), view.weight, scale)
    return {"picture": path, "scale": float(f"{scale:.3g}")}


def power(view, wav):
    """STFT power [F, T] of wav [L] on the view's rows."""
    return power_on_rows(wav, view.rate, max(1, round(view.hop_seconds * view.rate)), view.freqs)


def plain_scores(scores):
    """Scores as Python floats; None for what wasn't scored or is not a number."""
    plain = {}
    for key, value in (scores or {}).items():
        plain[key] = None if value is None or math.isnan(value) else float(value)
    return plain


# ---- checks


def check_view(view):
    """Raise UserError unless the view's arrays have the shapes and values that its class states."""
    if not isinstance(view.name, str) or not PLAIN_NAME.fullmatch(view.name):
        raise UserError(f"row name: expected letters, digits, '-' and '_', found {view.name!r}")
    require(
        view, view.rate > 0 and view.fps > 0 and view.hop_seconds > 0, "rate, fps, hop_seconds", "above 0"
    )
    require(view, len(view.sources) > 0, "sources", "one at least")
    require(view, view.mix.ndim == 1 and view.mix.size > 0, "mix", "[L]", view.mix)
    rising = view.freqs.ndim == 1 and view.freqs.size > 1 and bool(np.all(np.diff(view.freqs) > 0))
    require(view, rising, "freqs", "[F], rising", view.freqs)
    check_values(view, "mix", view.mix, view.mix.shape)
    if view.weight is not None:
        check_values(view, "weight", view.weight, (view.freqs.size, None), low=0)
    for index, source in enumerate(view.sources):
        check_source(view, source, f"sources[{index}].")


def check_source(view, source, start):
    """Raise UserError unless the arrays of `source` fit the view."""
    for field in ("estimate", "true", "oracle"):
        check_values(view, start + field, getattr(source, field), view.mix.shape)
    for field in ("mask", "true_mask"):
        check_values(view, start + field, getattr(source, field), (view.freqs.size, None))
    if source.energy is not None:
        check_values(view, start + "energy", source.energy, (None, None), low=0)
    check_values(view, start + "frames", source.frames, (None, None, None, 3))
    check_values(view, start + "still", source.still, (None, None, 3))
    pixels = source.frames.dtype == source.still.dtype == np.uint8
    require(view, pixels, start + "frames, still", "uint8", source.frames)


def check_values(view, field, values, shape, low=-math.inf):
    """Raise UserError unless values have `shape` (None: any length but 0), are finite and at least `low`."""
    fits = values.ndim == len(shape) and values.size > 0
    fits = fits and all(want in (None, have) for want, have in zip(shape, values.shape, strict=True))
    require(view, fits, field, f"shape {list(shape)}", values)
    require(view, bool(np.isfinite(values).all()), field, "finite values")
    require(view, bool(values.min() >= low), field, f"values from {low:g}")


def require(view, truth, field, expected, found=None):
    """Raise UserError about a field unless `truth`."""
    if not truth:
        shown = "" if found is None else f", found {found.dtype} {list(found.shape)}"
        raise UserError(f"row {view.name}: {field}: expected {expected}{shown}")


def write_page(folder, rows, summary, options, history, title):
    """Write folder/index.html, whole or not at all.

    rows: what `write_row` returned, in evaluation order; their media lie in `folder`.
    summary: numbers by name: epoch, num_mixtures, num_failed, num_silent, num_gone, loss and, in dB, sdr,
    sir, sar, si_sdr, sdr_mixture, sdr_oracle, sdr_swapped, sdr_average; and localisation, as
    `engine.evaluation.localisation.localise` returns it; any may be missing or None. baseline: the name of a
    method that does not look at pictures.
    options: the run's flags and their values.
    history: {"train": {"epoch": [...], "err": [...]}, "val": {"epoch", "err", "sdr", …}}, may be empty.
    """
    charts = [chart("Loss", "", history, LOSS_CURVES), chart("Scores", "dB", history, SCORE_CURVES)]
    render(
        folder,
        "page.html",
        FILTERS | {"shown": shown},
        title=title,
        rows=rows,
        categories=sorted({source["category"] for row in rows for source in row["sources"]}),
        summary=summary,
        options=options,
        charts=[drawn for drawn in charts if drawn],
        max_marked=MAX_MARKED,
        gradients={
            "sound": gradient(COLOURS_SOUND),
            "mask": gradient(COLOURS_MASK),
            "heat": gradient(COLOURS_ENERGY),
        },
        floor_db=FLOOR_DB,
    )


def shown(value):
    """An option's value as one would type it."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return "''" if value == "" else str(value)
