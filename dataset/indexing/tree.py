"""Match trees of audio files and frames into clips, with a reason for each clip that is left out."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from dataset.audio import sound_seconds
from dataset.index import AUDIO_SUFFIXES, Clip, path_frame, strip_suffixes
from dataset.shards.write import packed_clips
from utils import UserError, progress, walk

NUM_THREADS = 16  # mostly waiting for the disk
SOUND_UNREADABLE = "sound cannot be read"
# Categories of MUSIC-21. Two of them with a space between name a folder of duets.
# fmt: off
CATEGORIES = (
    "accordion", "acoustic_guitar", "bagpipe", "banjo", "bassoon", "cello", "clarinet", "congas", "drum",
    "electric_bass", "erhu", "flute", "guzheng", "piano", "pipa", "saxophone", "trumpet", "tuba", "ukulele",
    "violin", "xylophone",
)
# fmt: on


class Found(NamedTuple):
    """The clips in trees: lists of usable solos and duets, and [(Clip, reason)] of the others.

    The category and id of clips left out are right, but their paths may not exist.
    """

    solos: list
    duets: list
    left_out: list


def find_clips(trees, fps, min_seconds, max_difference):
    """Match audio and frames. trees: a list of (audio root, frames root). Returns a `Found`.

    fps: frames/s; min_seconds: of frames; max_difference: seconds between the lengths of audio and frames.
    Of clips with the same category and id, the first usable one in the order of the trees is taken.
    """
    keys, clips, reasons = [], [], []
    for root_audio, root_frames in trees:
        for key, clip, reason in _match(root_audio, root_frames, min_seconds * fps):
            keys.append(key)
            clips.append(clip)
            reasons.append(reason)
    return _sort_out(keys, clips, reasons, fps, max_difference)


def find_packed(folder, fps, min_seconds, max_difference):
    """Find the clips in the shards of a folder, see `dataset.shards`; otherwise as `find_clips`."""
    clips = list(packed_clips(folder).values())
    reasons = [
        None if clip.num_frames >= min_seconds * fps else _too_few(min_seconds * fps) for clip in clips
    ]
    return _sort_out([clip.name for clip in clips], clips, reasons, fps, max_difference)


def _too_few(min_frames):
    return f"fewer than {min_frames:g} frames"


def _sort_out(keys, clips, reasons, fps, max_difference):
    """`Found` of clips, of which some have reasons to be left out; looks for more of these."""
    categories = {clip.category for clip in clips}
    duets = {name for name in categories if is_duet(name, categories.union(CATEGORIES))}
    duet_videos = {clip.video for clip in clips if clip.category in duets}
    for n, clip in enumerate(clips):
        if clip.video in duet_videos and clip.category not in duets:
            reasons[n] = reasons[n] or "also a duet"
    _check_sounds(clips, reasons, fps, max_difference)
    taken = set()
    for n in range(len(clips)):
        if keys[n] in taken:
            reasons[n] = reasons[n] or "in an earlier tree"
        elif not reasons[n]:
            taken.add(keys[n])
    pairs = list(zip(clips, reasons, strict=True))
    whole = [clip for clip, reason in pairs if not reason]
    return Found(
        solos=[clip for clip in whole if clip.category not in duets],
        duets=[clip for clip in whole if clip.category in duets],
        left_out=[pair for pair in pairs if pair[1]],
    )


def _match(root_audio, root_frames, min_frames):
    """[(path without suffixes, Clip, None or the reason to leave it out)] of all files found, sorted."""
    sounds, frames = find_sounds(root_audio), find_frames(root_frames)
    pairs = []
    for key in sorted(sounds.keys() | frames.keys()):
        path_frames, count, numbered = frames.get(key, (key, 0, False))
        reason = None
        if not count:
            reason = "no frames"
        elif key not in sounds:
            reason = "no sound"
        elif not numbered:
            reason = f"frames not numbered consecutively from {path_frame('', 1)}"
        elif count < min_frames:
            reason = _too_few(min_frames)
        path_audio = os.path.join(root_audio, sounds.get(key, key + AUDIO_SUFFIXES[0]))
        pairs.append((key, Clip(path_audio, os.path.join(root_frames, path_frames), count), reason))
    return pairs


def find_sounds(root):
    """The audio files under `root`: {path without suffixes: relative path}."""
    found = [
        (rank, _join(folder, name))
        for folder, names in _walk(root)
        for name in names
        for rank, suffix in enumerate(AUDIO_SUFFIXES)
        if name.lower().endswith(suffix) and not name.startswith(".")
    ]
    sounds = {}
    for _, path in sorted(found):
        sounds.setdefault(strip_suffixes(path), path)
    return sounds


def find_frames(root):
    """The frames folders under `root`: {path without suffixes: (relative path, count, whether gapless)}."""
    found = {}
    for folder, names in _walk(root):
        pictures = pictures_of(names)
        if pictures:
            found[folder] = folder, len(pictures), is_numbered(pictures)
    frames = {}
    for folder in sorted(found, reverse=True):  # prefer `<id>.mp4`, from preprocess, to an older `<id>`
        frames.setdefault(strip_suffixes(folder), found[folder])
    return frames


def pictures_of(names):
    """The set of `names` that are frames."""
    return {name for name in names if name.endswith(".jpg") and not name.startswith(".")}


def is_numbered(pictures):
    """Whether the frames are numbered 1, 2, 3, … without a gap."""
    return all(path_frame("", number) in pictures for number in range(1, len(pictures) + 1))


def _walk(root):
    if not os.path.isdir(root):
        raise UserError(
            f"no folder {root}: create it with `python -m dataset.preprocess`, or pass another one"
        )
    return walk(root)


def _join(*parts):
    return "/".join(part for part in parts if part)


def is_duet(category, categories):
    """Whether a name is two `categories` joined by a space: `flute violin`, but not `steel drum`."""
    words = category.split(" ")
    halves = ((" ".join(words[:cut]), " ".join(words[cut:])) for cut in range(1, len(words)))
    return any(first in categories and second in categories for first, second in halves)


def _check_sounds(clips, reasons, fps, max_difference):
    """Open the audio of every clip that has no reason yet; record problems in `reasons`."""

    def check(n):
        try:
            difference = abs(sound_seconds(clips[n].path_audio) - clips[n].num_frames / fps)
        except UserError:
            return SOUND_UNREADABLE
        far = difference > max_difference
        return f"sound and frames differ by more than {max_difference:g} s" if far else None

    numbers = [n for n, reason in enumerate(reasons) if not reason]
    for n, reason in zip(numbers, map_threads(check, numbers, unit="sound"), strict=True):
        reasons[n] = reason


def map_threads(function, items, unit):
    """[function(item) for item in items], in threads, with a progress bar that counts `unit`s."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return list(progress(pool.map(function, items), total=len(items), unit=unit))
