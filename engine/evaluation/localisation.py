"""Separation and localisation scores on videos with known boxes and tracks.

The ground truth lies beside a video <id>.mp4 as <id>.json: {"sources": [{"instrument", "box": [x, y, w, h],
"track"}, …]}. Duets have two or more sources with a track each. Solos have one source; its track is the
video's own sound.

Separation (duets): SDR, SIR and SAR against the tracks, for the sound at each true box, for the automatic
sources in their best assignment to the tracks, and for the mixture as every estimate.

Localisation: e_i(p) is the share of the energy of track i that the mask of cell p passes, over the whole
video. A cell that passes everything says nothing about where a source is. So the pointing game of duets uses
e_i(p) * e_i(p) / sum over j of e_j(p): how much of source i is heard at p, times the share of source i in
what is heard there, with all sources equally loud. A hit: the maximum lies in box i. Energy in box uses e_i
alone. For solos, both use the energy heard at each cell. Chance of both is the share of cells inside the box:
the mean score of a map whose maximum is anywhere, and the score of a map that is the same everywhere.

IoU, cIoU and AUC compare a region with the box, as Senocak et al. do ("Learning to Localize Sound Source in
Visual Scenes", CVPR 2018): the map of the pointing game is enlarged bilinearly to 224 x 224 pixels and scaled
to 0..1; the region is where it is at least 0.5. cIoU is the share of sources whose region and box have an IoU
of at least 0.5, AUC the area under that share over thresholds 0, 0.05, .. 1. Chance is what a region gets
that covers the whole picture.

N sources; P = h * w cells; L samples at the networks' rate.
"""

import csv
import json
import logging
import math
import os
import tempfile
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from scipy.integrate import trapezoid
from scipy.optimize import linear_sum_assignment

from dataset.index import ERRORS, find_videos, read_index, strip_suffixes
from engine.evaluation.bss_eval import bss_eval
from engine.evaluation.metrics import find_silence
from engine.separation import places
from engine.separation.passes import Rendering, Video, analyse, synthesise
from engine.separation.places import cells_of
from engine.separation.unpack import unpack
from media import media_input, run_ffmpeg
from utils import UserError, progress, replacing

FILE_ROWS = "localisation.csv"
PICTURE = 224  # pixels: side of the square on which regions are compared with boxes
REGION = 0.5  # of a map scaled to 0..1: cells from here on are the region of its source
SUCCESS = 0.5  # IoU of a region that counts as found
SUCCESSES = np.linspace(0, 1, 21)  # the thresholds whose shares of sources make the AUC
REGIONS = ("iou", "ciou", "auc")
PLACES = ("pointing", "pointing_chance", "energy_in_box", *REGIONS, *(f"{score}_chance" for score in REGIONS))
SOUNDS = tuple(f"{score}_{way}" for way in ("boxes", "automatic") for score in ("sdr", "sir", "sar"))
KEYS = {"duets": (*SOUNDS, "sdr_mixture", *PLACES), "solos": PLACES}  # scores of each kind
CHUNK = 64  # cells whose masks are unwarped at a time
MAX_DB = 1000  # stands for infinity where sources are assigned
NUM_RESAMPLES = 10_000  # of the videos, for intervals

logger = logging.getLogger(__name__)


class Source(NamedTuple):
    """A player: box is (x, y, width, height) in pixels of the video, track a sound file or None."""

    instrument: str
    box: tuple
    track: str | None


class Truth(NamedTuple):
    """A video with its ground truth."""

    video: str
    sources: list

    @property
    def kind(self):
        """`duets` or `solos`."""
        return "duets" if len(self.sources) > 1 else "solos"


def find_truths(list_duets, list_solos, list_val=""):
    """The list of `Truth` of both lists; each is a folder of videos, a text file with a path per line, or "".

    From a folder of solos, only clips of the index file `list_val` are taken, if that file exists.
    Raises UserError, naming the file, if there are no videos or a ground truth is malformed.
    """
    solos = _find_videos(list_solos) if list_solos else []
    if os.path.isdir(list_solos) and os.path.isfile(list_val):
        ids = {clip.id for clip in read_index(list_val)}
        unseen = [video for video in solos if strip_suffixes(os.path.basename(video)) in ids]
        if not unseen:
            raise UserError(f"{list_solos}: none of its {len(solos)} videos is a clip of {list_val}")
        solos = unseen
    duets = _find_videos(list_duets) if list_duets else []
    truths = [_read_truth(video, True) for video in duets]
    return truths + [_read_truth(video, False) for video in solos]


def _find_videos(path):
    """Videos of a folder that have a JSON beside them, or the videos that a text file names."""
    if os.path.isdir(path):
        videos = [os.path.join(path, name) for name in find_videos(path)]
        videos = [video for video in videos if os.path.isfile(_path_truth(video))]
    else:
        try:
            with open(path, encoding="utf-8", errors=ERRORS) as file:
                videos = [line.strip() for line in file if line.strip()]
        except FileNotFoundError:
            raise UserError(f"{path}: no such folder, and no such list of videos") from None
    if not videos:
        raise UserError(f"{path}: no videos with a .json beside them")
    return videos


def _path_truth(video):
    return os.path.splitext(video)[0] + ".json"


def _read_truth(video, is_duet):
    path = _path_truth(video)
    try:
        with open(path, encoding="utf-8") as file:
            sources = [_read_source(source, path) for source in json.load(file)["sources"]]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, expected the boxes of {os.path.basename(video)}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        expected = 'expected {"sources": [{"box": [x, y, width, height]}, …]}'
        raise UserError(f"{path}: {expected}, found {error!r}") from None
    if (len(sources) > 1) != is_duet or not sources:
        raise UserError(
            f"{path}: expected {'two sources or more' if is_duet else 'one source'}, found {len(sources)}"
        )
    for source in sources if is_duet else []:
        if not source.track or not os.path.isfile(source.track):
            raise UserError(f'{path}: expected a sound file as "track" of each, found {source.track}')
    return Truth(video, sources)


def _read_source(source, path):
    box = tuple(float(number) for number in source["box"])
    if len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
        raise ValueError(f"box {source['box']}")
    track = source.get("track")
    return Source(
        str(source.get("instrument", "")), box, track and os.path.join(os.path.dirname(path), track)
    )


def localise(pixels, device, sampling, truths, folder):
    """Score all `truths` and write localisation.csv, a row for each source, into `folder`.

    pixels: a `PixelSeparator` on `device`; sampling: a `dataset.music.Sampling`. Returns
    {kind: {"count", "failed", score: mean over videos, "intervals": {score: (low, high)}}}.
    """
    rows = []
    for truth in progress(truths, desc="localisation", unit="video"):
        found = {}
        try:
            found = _measure(truth, pixels, device, sampling)
        except (UserError, OSError, soundfile.SoundFileError) as error:
            logger.warning("left out: %s: %s", truth.video, error)
        rows.append((truth, found))
    _write_rows(os.path.join(folder, FILE_ROWS), rows)
    kinds = dict.fromkeys(truth.kind for truth in truths)
    return {kind: _summarize(kind, [found for truth, found in rows if truth.kind == kind]) for kind in kinds}


def _measure(truth, pixels, device, sampling):
    """{score: [N]} of one video. Raises UserError if it cannot be used."""
    with tempfile.TemporaryDirectory() as work:
        unpacked = unpack(truth.video, work, sampling.fps, sampling.aud_rate)
        unpacked = unpacked._replace(own_sound=unpacked.sound)  # score what the networks hear
        video = Video(unpacked, sampling, pixels.separator.spectral.hop)
        analysis = analyse(video, pixels, device)
        boxes, large = (
            np.stack([cells_of(source.box, unpacked.size, shape) for source in truth.sources])
            for shape in (analysis.shape, (PICTURE, PICTURE))
        )
        if truth.kind == "solos":
            return _score_places(analysis.energy.sum(axis=0)[None], boxes, large)
        tracks = np.stack([_read_track(source.track, work, video) for source in truth.sources])
        found = _score_places(passed_energy(video, pixels, device, analysis, tracks), boxes, large)
        if len(boxes) > boxes[0].size:
            raise UserError(f"{len(boxes)} sources, but {boxes[0].size} places in all")
        groups = places.group(analysis.gram, len(boxes))[0].reshape(boxes.shape)
        ways = [_synthesise(video, pixels, device, analysis, regions) for regions in (boxes, groups)]
        mix = video.own_window(0, video.num_samples)[0].numpy()
        return found | score_sounds(tracks, mix, *ways)


def _read_track(path, work, video):
    """[L] the sound file at `path`, mono at the networks' rate, cut or zero-padded to the video's length."""
    converted = os.path.join(work, "track.wav")
    try:
        run_ffmpeg([*media_input(path), "-map", "0:a:0", "-ac", "1", "-ar", str(video.rate), converted])
    except UserError as error:
        raise UserError(f"{path}: cannot be read as sound: {error}") from None
    with soundfile.SoundFile(converted) as file:
        return file.read(video.num_samples, dtype="float32", fill_value=0.0)


def passed_energy(video, pixels, device, analysis, tracks):
    """[N, h, w] share of the energy of each track [N, L] that each cell's mask passes, over the video."""
    spectral, length = pixels.separator.spectral, video.sampling.aud_len
    tracks = torch.nn.functional.pad(torch.from_numpy(tracks), (0, length))
    passed, whole, done = 0.0, 0.0, 0
    with torch.inference_mode():
        for batch in video.windows("comparing"):
            maps = torch.from_numpy(analysis.maps[done : done + len(batch)]).to(device)
            done += len(batch)
            _, feat_sound = pixels.sound_features(torch.stack([window.mix for window in batch]).to(device))
            for n, window in enumerate(batch):
                true = tracks[:, window.start : window.start + length].to(device)
                power = spectral.stft(true).abs().square().flatten(1)
                masks = pixels.cell_masks(maps[n : n + 1], feat_sound[n : n + 1])[0]
                chunks = [spectral.unwarp(chunk).square().flatten(1) for chunk in masks.split(CHUNK)]
                passed = (
                    passed + torch.cat([power @ chunk.T for chunk in chunks], dim=1).double().cpu().numpy()
                )
                whole = whole + power.sum(dim=1, keepdim=True).double().cpu().numpy()
    return (passed / np.maximum(whole, 1e-30)).reshape(-1, *analysis.shape)


def _score_places(energy, boxes, large):
    """{score: [N]} of energy maps [N, h, w].

    boxes: bool [N, h, w], the true cells; large: bool [N, PICTURE, PICTURE], the true pixels.
    """
    clear = energy**2 / np.maximum(energy.sum(axis=0), 1e-30)
    found = score_regions(clear, large)
    energy, clear, boxes = (values.reshape(len(boxes), -1) for values in (energy, clear, boxes))
    return found | {
        "pointing": boxes[np.arange(len(boxes)), clear.argmax(axis=1)].astype(float),
        "pointing_chance": boxes.mean(axis=1),
        "energy_in_box": (energy * boxes).sum(axis=1) / np.maximum(energy.sum(axis=1), 1e-30),
    }


def score_regions(maps, boxes):
    """{score: [N]} of the regions where maps [N, h, w] are high, and of chance, against the boxes' pixels.

    boxes: bool [N, PICTURE, PICTURE]. A map that is the same everywhere has the whole picture as its region.
    """
    large = torch.from_numpy(maps)[:, None]
    large = torch.nn.functional.interpolate(large, (PICTURE, PICTURE), mode="bilinear")[:, 0].numpy()
    low, high = (extreme(axis=(1, 2), keepdims=True) for extreme in (large.min, large.max))
    regions = large >= low + REGION * (high - low)
    iou = (regions & boxes).sum(axis=(1, 2)) / (regions | boxes).sum(axis=(1, 2))
    chance = {f"{score}_chance": values for score, values in _successes(boxes.mean(axis=(1, 2))).items()}
    return _successes(iou) | chance


def _successes(iou):
    """{score: [N]} of regions with these IoU [N] with their boxes; its means are the shares of sources."""
    auc = trapezoid((iou[:, None] >= SUCCESSES).astype(float), SUCCESSES, axis=1)
    return dict(zip(REGIONS, (iou, (iou >= SUCCESS).astype(float), auc), strict=True))


def _synthesise(video, pixels, device, analysis, regions):
    """[N, L] the sounds of regions bool [N, h, w], made as separate.py makes them."""
    chunks = synthesise(video, pixels, device, analysis, Rendering(regions, consistent=True))
    return np.concatenate([sounds[:-1, 0] for sounds, _ in chunks], axis=1)


def score_sounds(tracks, mix, at_boxes, automatic):
    """{score: [N] dB} of estimates against tracks, all [N, L]. Raises UserError if one is silent."""
    status = find_silence(tracks, np.concatenate([at_boxes, automatic]), mix)
    if status:
        raise UserError(status)
    estimates = np.concatenate([at_boxes, automatic, mix[None]])
    pairs = bss_eval(*(torch.from_numpy(sounds)[None] for sounds in (tracks, estimates)))
    pairs = torch.cat(pairs).numpy()  # [3, N, 2 N + 1]: score, track, estimate
    count = len(tracks)
    own = pairs.diagonal(axis1=1, axis2=2)
    scores = (*own, *_assign(pairs[:, :, count:-1]), pairs[0, :, -1])
    return dict(zip((*SOUNDS, "sdr_mixture"), scores, strict=True))


def _assign(pairs):
    """(sdr, sir, sar), each [N], of the assignment of best mean SDR; pairs: [3, N tracks, N estimates]."""
    sdr = np.nan_to_num(pairs[0], nan=-MAX_DB, posinf=MAX_DB, neginf=-MAX_DB)
    rows, columns = linear_sum_assignment(sdr, maximize=True)
    return pairs[:, rows, columns]


def _summarize(kind, results):
    """Means over the sources of a video, then over the videos that were measured; None without any."""
    measured = [found for found in results if found]
    summary = {"count": len(results), "failed": len(results) - len(measured)}
    intervals = {}
    for key in KEYS[kind]:
        means = [np.mean(found[key]) for found in measured if np.isfinite(found[key]).all()]
        summary[key] = float(np.mean(means)) if means else None
        if len(means) > 1 and not key.endswith("_chance"):
            intervals[key] = interval(means)
    return summary | {"intervals": intervals}


def interval(values):
    """(low, high) of the mean of a score: 95 % of its means over videos that are drawn with replacement.

    values [V], the score of each video. The same values give the same interval.
    """
    drawn = np.random.default_rng(0).integers(len(values), size=(NUM_RESAMPLES, len(values)))
    low, high = np.quantile(np.asarray(values)[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def _write_rows(path, rows):
    """Write a row for each source; rows: list of (Truth, {score: [N]}), {} for videos that were skipped."""
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors=ERRORS) as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["kind", "video", "source", "instrument", "status", *KEYS["duets"]])
        for truth, found in rows:
            for n, source in enumerate(truth.sources):
                values = [f"{found[key][n]:.4f}" if key in found else "" for key in KEYS["duets"]]
                status = "measured" if found else "left out"
                writer.writerow([truth.kind, truth.video, n, source.instrument, status, *values])


def localisation_line(summary):
    """One line of the scores that `localise` returns."""
    names = {"sdr_boxes": "SDR at boxes", "sdr_automatic": "automatic", "sdr_mixture": "mixture"}
    names |= {"pointing": "pointing", "pointing_chance": "chance", "energy_in_box": "energy in box"}
    names |= {"ciou": "cIoU", "ciou_chance": "chance", "auc": "AUC", "auc_chance": "chance"}
    parts = []
    for kind, means in summary.items():
        values = [f"{name} {means[key]:.2f}" for key, name in names.items() if means.get(key) is not None]
        failed = f" ({means['failed']} failed)" if means["failed"] else ""
        parts.append(f"{kind} {means['count']}{failed}: {', '.join(values) or 'none'}")
    return f"[Localisation] {'; '.join(parts)}"
