"""The protocol of an evaluation, protocol.json: what was evaluated and how, with checksums and scores.

`compare` says whether an evaluation that repeats a protocol agrees with it.
"""

import contextlib
import math
import os
import platform
from collections import Counter
from importlib import metadata
from typing import NamedTuple

import torch

from dataset.checksums import checksum, file_checksum
from dataset.fixed import FILE_PROTOCOL, VERSION, what_is_gone
from engine.card import code_version
from engine.options import MODEL_OPTIONS
from models.separator import choose_amp
from utils import UserError, save_json

WINDOW = ("num_mix", "num_frames", "stride_frames", "frameRate", "imgSize", "audLen", "audRate")  # options
PACKAGES = (
    "torch torchvision timm numpy scipy librosa soxr soundfile mir_eval simplejpeg pillow scikit-learn"
).split()
SAME_SCORE = 0.01  # dB
SURROUNDINGS = ("metric", "code", "packages", "machine")  # sections that may explain other scores
OF_ALL_CLIPS = "sdr_average"  # not a mixture's own: the average picture is that of all clips of the list
MAX_NAMED = 10  # clips listed in a message


def make_protocol(args, evaluator, results, weights, device, repeated=None):
    """The protocol of an evaluation, as JSON has it.

    evaluator: after its run; results: list of `Result`; weights: {network: file}; repeated: the protocol that
    the evaluation repeated, if any.
    """
    dataset = evaluator.loader.dataset
    labels = _labels(dataset.clips)
    clips = _clips(evaluator, labels)
    found = {result.index: result for result in results}
    mixtures = [_mixture(dataset, index, labels, clips, found.get(index)) for index in range(len(dataset))]
    origin = {
        "list": args.list_val_mix or args.list_val,
        "pairs": "list" if args.list_val_mix else args.val_pairs,
        "seed": args.seed,
    }
    if repeated:
        origin = {key: repeated.get(key) for key in origin}
    return {
        "version": VERSION,
        **origin,
        "window": {key: getattr(args, key) for key in WINDOW},
        "metric": {"bss": args.bss, "mir_eval": _version("mir_eval")},
        "networks": {
            "checksums": {name: file_checksum(path) for name, path in weights.items()},
            "options": {key: getattr(args, key) for key in MODEL_OPTIONS},
        },
        "code": code_version(),
        "packages": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "machine": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
            "precision": choose_amp(args.amp, device.type),
        },
        "clips": clips,
        "mixtures": mixtures,
    }


def write_protocol(folder, protocol):
    """Write protocol.json."""
    save_json(os.path.join(folder, FILE_PROTOCOL), protocol)


def _version(package):
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)


def _labels(clips):
    """A label of its own for each clip: its name, numbered from the second clip of that name on."""
    counts, labels = Counter(), []
    for clip in clips:
        counts[clip.name] += 1
        labels.append(clip.name if counts[clip.name] == 1 else f"{clip.name}#{counts[clip.name]}")
    return labels


def _clips(evaluator, labels):
    """{label: the clip's checksums, or {"missing": reason}}; clips that were not needed are left out."""
    found = {}
    for number, clip in enumerate(evaluator.loader.dataset.clips):
        if number in evaluator.checksums:
            found[labels[number]] = evaluator.checksums[number]
        elif not clip.num_frames:
            paths = {"sound": clip.path_audio, "frames": clip.path_frames}
            gone = what_is_gone(clip)
            texts = [f"no {what} at {path}" for what, path in paths.items() if what in gone]
            found[labels[number]] = {"missing": ", ".join(texts) or "was gone when the protocol was written"}
        elif clip.name in evaluator.failures.reasons:
            found[labels[number]] = {"missing": evaluator.failures.reasons[clip.name]}
    return found


def _mixture(dataset, index, labels, clips, result):
    """One mixture of a protocol; result: its `Result`, None if it has none."""
    entries, gain = [], 1 / dataset.sampling.num_mix
    for number in dataset.mixture(index):
        frame, seconds = dataset.middle(number)
        path_audio, path_frames, num_frames = dataset.clips[number]
        entries.append(
            {
                "clip": labels[number],
                "audio": path_audio,
                "frames": path_frames,
                "num_frames": num_frames,
                "frame": frame,
                "seconds": seconds,
                "gain": gain,
            }
        )
    scores = {}
    if result:
        kept = result.scores.keys() - {OF_ALL_CLIPS}
        scores = {key: [_rounded(value) for value in result.scores[key]] for key in sorted(kept)}
    return {
        "id": _mixture_id(entries, clips) if result else None,
        "status": (result.status or "scored") if result else "failed",
        "clips": entries,
        "scores": scores,
    }


def _mixture_id(entries, clips):
    """A checksum of the decoded windows and the gains; the order of the clips counts."""
    parts = [f"{clips[entry['clip']]['sound']} {entry['gain']:.6f}" for entry in entries]
    return checksum("\n".join(parts).encode())


def _rounded(value):
    """A score with four decimals; None if it is not finite, which JSON does not have."""
    return round(float(value), 4) if math.isfinite(value) else None


# ---- repeating


def check_window(protocol, args):
    """Raise UserError unless the run takes windows of sound and frames as the protocol --protocol does."""
    here = {key: getattr(args, key) for key in WINDOW}
    differing = [key for key in WINDOW if protocol["window"].get(key) != here[key]]
    if differing:
        texts = [f"--{key} {protocol['window'].get(key)} there, {here[key]} here" for key in differing]
        raise UserError(f"{args.protocol}: the run {args.id} takes other windows: {'; '.join(texts)}")


class _Difference(NamedTuple):
    """How a mixture differs; its cause is "data", "mixture", "scores", or "" if it does not."""

    index: int
    cause: str
    texts: list
    decibels: float


def compare(path, there, here):
    """Whether the protocol `here` agrees with `there`, which was read from `path`: (bool, text to print).

    It agrees if clips and mixtures have the same checksums and, with the same networks, all scores differ by
    less than SAME_SCORE. Mixtures are compared up to the end of the shorter list.
    """
    pairs = list(zip(there["mixtures"], here["mixtures"], strict=False))
    total = len(there["mixtures"])
    count = f"{total}" if len(pairs) == total else f"{len(pairs)} of {total}"
    other_networks = there["networks"] != here["networks"]
    found = [_difference(n, *pair, there["clips"], here["clips"]) for n, pair in enumerate(pairs)]
    differing = [each for each in found if each.cause and not (other_networks and each.cause == "scores")]
    if differing:
        return False, _describe(path, differing, count, there, here)
    largest = max((each.decibels for each in found if math.isfinite(each.decibels)), default=0.0)
    if other_networks:
        text = (
            f"data and mixtures agree with {path}: {count} mixtures; other networks, scores differ by up to"
        )
        return True, f"{text} {largest:.4f} dB"
    return True, f"agrees with {path}: {count} mixtures, largest difference {largest:.4f} dB"


def _difference(index, there, here, clips_there, clips_here):
    """The `_Difference` of one mixture; its cause is "" if there is none."""
    decibels = _largest(there["scores"], here["scores"])
    texts = []
    for one, other in zip(there["clips"], here["clips"], strict=False):
        text = _clip_difference(other, clips_there.get(one["clip"]), clips_here.get(other["clip"]))
        texts += [f"{other['clip']}: {text}"] if text else []
    if texts:
        return _Difference(index, "data", list(dict.fromkeys(texts)), decibels)
    if there.get("id") != here["id"]:
        return _Difference(index, "mixture", [f"id {here['id']}, expected {there.get('id')}"], decibels)
    if there.get("status") != here["status"]:
        return _Difference(index, "scores", [f"{here['status']}, expected {there.get('status')}"], decibels)
    cause = "scores" if decibels >= SAME_SCORE else ""
    return _Difference(index, cause, [f"by up to {decibels:.4f} dB"], decibels)


def _clip_difference(entry, there, here):
    """How a clip's data differ; "" if they don't, or if one of the evaluations did not need the clip.

    entry: the clip in a mixture; there, here: what `clips` of the two protocols has of it.
    """
    if not there or not here or ("missing" in there and "missing" in here):
        return ""
    if "missing" in here:
        return f"missing: {here['missing']}"
    if "missing" in there:
        return "was missing there"
    differing = {key for key in ("sound", "file", "pictures") if there.get(key) != here[key]}
    audio, texts = entry["audio"], []
    if {"sound", "file"} <= differing:
        texts.append(f"other sound in {audio}")
    elif "sound" in differing:
        texts.append(f"{audio} is the same file but decodes to other samples")
    elif "file" in differing:
        texts.append(f"{audio} has changed outside the window")
    texts += [f"other pictures in {entry['frames']}"] if "pictures" in differing else []
    return ", ".join(texts)


def _largest(there, here):
    """The largest difference in dB of two mixtures' scores; infinite if only one of two is finite."""
    largest = 0.0
    for key in there.keys() & here.keys():
        for one, other in zip(there[key], here[key], strict=False):
            if one is not None and other is not None:
                largest = max(largest, abs(one - other))
            elif one is not other:
                largest = math.inf
    return largest


def _describe(path, differing, count, there, here):
    """Some lines on how an evaluation differs from the protocol at `path`."""
    first, causes = differing[0], Counter(each.cause for each in differing)
    listed = ", ".join(f"{number} in {cause}" for cause, number in causes.items())
    names = " + ".join(entry["clip"] for entry in here["mixtures"][first.index]["clips"])
    lines = [
        f"differs from {path}: {len(differing)} of {count} mixtures ({listed})",
        f"  first: mixture {first.index} ({names}), {first.cause}: {'; '.join(first.texts)}",
    ]
    texts = list(dict.fromkeys(text for each in differing if each.cause == "data" for text in each.texts))
    if len(texts) > 1:
        lines += [f"  {len(texts)} clips differ:", *(f"    {text}" for text in texts[:MAX_NAMED])]
        lines += [f"    and {len(texts) - MAX_NAMED} more"] if len(texts) > MAX_NAMED else []
    if causes["scores"]:
        changed = ", ".join(key for key in SURROUNDINGS if there.get(key) != here[key]) or "nothing"
        lines.append(f"  the networks are the same; apart from scores, {changed} differs")
    return "\n".join(lines)
