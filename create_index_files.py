"""Write data/train.csv and data/val.csv from folders of sounds and frames: `python create_index_files.py`."""

import argparse
import hashlib
import os
import re
from collections import Counter, defaultdict

from dataset.frames import path_frame
from dataset.index import Clip, write_index
from dataset.preprocess import VIDEO_SUFFIXES
from utils import UserError, command

AUDIO_SUFFIXES = (".wav", ".mp3")  # the first is preferred
SUFFIXES = re.compile("(" + "|".join(map(re.escape, VIDEO_SUFFIXES + AUDIO_SUFFIXES)) + ")+$", re.IGNORECASE)
PARTS = ("train", "val")
NO_CATEGORY = "(none)"
# MUSIC-21: two of these, with a space between them, name a folder of duets.
# fmt: off
CATEGORIES = (
    "accordion", "acoustic_guitar", "bagpipe", "banjo", "bassoon", "cello", "clarinet", "congas", "drum",
    "electric_bass", "erhu", "flute", "guzheng", "piano", "pipa", "saxophone", "trumpet", "tuba", "ukulele",
    "violin", "xylophone",
)
# fmt: on


def find_sounds(root):
    """The sound files under `root`: {path without suffixes: relative path}."""
    sounds = {}
    for suffix in AUDIO_SUFFIXES:
        for folder, _, names in _walk(root):
            for name in sorted(names):
                if name.lower().endswith(suffix) and not name.startswith("."):
                    sounds.setdefault(_key(folder, name), _join(folder, name))
    return sounds


def find_frames(root):
    """The folders of pictures under `root`: {path without suffixes: (relative path, set of names)}."""
    clips = {}
    for folder, _, names in sorted(_walk(root)):
        pictures = {name for name in names if name.endswith(".jpg") and not name.startswith(".")}
        if pictures:
            clips.setdefault(_key(folder), (folder, pictures))
    return clips


def _walk(root):
    """os.walk with folders relative to `root`, forward slashes, and no hidden ones: half-written clips."""
    if not os.path.isdir(root):
        raise UserError(f"no folder {root}: make it with `python -m dataset.preprocess`, or name another one")
    for folder, inner, names in os.walk(root, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".")]
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        yield ("" if relative == "." else relative), inner, names


def _join(*parts):
    return "/".join(part for part in parts if part)


def _key(*parts):
    return SUFFIXES.sub("", _join(*parts))


def category_of(key):
    """The name of the folder that a clip lies in: `trumpet` of `trumpet/STKXyBGSGyE`."""
    return os.path.basename(os.path.dirname(key)) or NO_CATEGORY


def id_of(key):
    """The video's id: `STKXyBGSGyE` of `trumpet/STKXyBGSGyE`."""
    return os.path.basename(key)


def is_duet(category, categories):
    """Whether a name is two of `categories` with a space between: `flute violin`, not `steel drum`."""
    words = category.split(" ")
    halves = ((" ".join(words[:cut]), " ".join(words[cut:])) for cut in range(1, len(words)))
    return any(first in categories and second in categories for first, second in halves)


def match(root_audio, root_frames, min_frames):
    """Bring sounds and frames together.

    Returns {key: Clip} of the solo clips with both and at least `min_frames` frames, and a Counter of the
    reasons why others were left out.
    """
    sounds, frames = find_sounds(root_audio), find_frames(root_frames)
    keys = sounds.keys() | frames.keys()
    categories = {category_of(key) for key in keys}.union(CATEGORIES)
    clips, left_out = {}, Counter()
    for key in sorted(keys):
        path_frames, pictures = frames.get(key, ("", set()))
        reason = _reason(category_of(key), categories, key in sounds, pictures, min_frames)
        if reason:
            left_out[reason] += 1
        else:
            clips[key] = Clip(
                os.path.join(root_audio, sounds[key]), os.path.join(root_frames, path_frames), len(pictures)
            )
    return clips, left_out


def _reason(category, categories, has_sound, pictures, min_frames):
    """Why a clip is left out; None if it is not."""
    if is_duet(category, categories):
        return "duet"
    if not pictures:
        return "no frames"
    if not has_sound:
        return "no sound"
    if pictures != {path_frame("", number) for number in range(1, len(pictures) + 1)}:
        return f"frames not numbered from {path_frame('', 1)} on without a gap"
    if len(pictures) < min_frames:
        return f"fewer than {min_frames:g} frames"
    return None


def split(keys, ratio, seed):
    """Divide clips between training and validation: {key: "train" or "val"}.

    A video goes wholly to one part, whatever categories it occurs in. In every category `ratio` of the
    videos, rounded, are for training, and one at least is in each part where there are two. The order of
    `keys` does not matter. A video more or less moves one other at most, if it is in one category.
    """
    categories = defaultdict(set)  # of each video
    for key in keys:
        categories[id_of(key)].add(category_of(key))
    counts = Counter(name for names in categories.values() for name in names)
    room = {name: _num_train(count, ratio) for name, count in counts.items()}
    parts = {}
    # Videos in several categories come first: the others then fill up what is left in each.
    for video in sorted(categories, key=lambda video: (-len(categories[video]), _draw(video, seed))):
        fits = all(room[name] > 0 for name in categories[video])
        parts[video] = "train" if fits else "val"
        for name in categories[video]:
            room[name] -= fits
    return {key: parts[id_of(key)] for key in keys}


def _num_train(count, ratio):
    """How many of a category's `count` videos are for training."""
    train = round(ratio * count)
    return min(max(train, 1), count - 1) if count > 1 else train


def _draw(video, seed):
    """A number for each video that depends on nothing but the seed."""
    return hashlib.sha256(f"{seed}/{video}".encode(errors="surrogateescape")).digest()


def summary(parts, left_out):
    """The table of clips per category, and what was left out, as text."""
    counts = {part: Counter(category_of(key) for key in parts if parts[key] == part) for part in PARTS}
    names = sorted(set().union(*counts.values()))
    width = max(len(name) for name in [*names, "category"])
    lines = [f"{'category':{width}}  {'train':>6}  {'val':>6}"]
    lines += [f"{name:{width}}  {counts['train'][name]:6}  {counts['val'][name]:6}" for name in names]
    lines += [f"{'total':{width}}  {counts['train'].total():6}  {counts['val'].total():6}"]
    return "\n".join([*lines, _left_out_line(left_out)])


def _left_out_line(left_out):
    reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(left_out.items()))
    return f"left out: {reasons or 'nothing'}"


def _ratio(text):
    ratio = float(text)
    if not 0 < ratio < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, found {text}")
    return ratio


def _parse(argv):
    parser = argparse.ArgumentParser(
        description="Write train.csv and val.csv from folders of sounds and frames."
    )
    parser.add_argument(
        "--root_audio", default="./data/audio", help="sounds: [<category>/]<id>.wav (%(default)s)"
    )
    parser.add_argument(
        "--root_frame",
        default="./data/frames",
        help="pictures: [<category>/]<id>.mp4/000001.jpg (%(default)s)",
    )
    parser.add_argument("--fps", type=float, default=8, help="pictures a second (%(default)s)")
    parser.add_argument(
        "--path_output", default="./data", help="folder for train.csv and val.csv (%(default)s)"
    )
    parser.add_argument(
        "--trainset_ratio", type=_ratio, default=0.8, help="share of training videos (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1234, help="other seeds split otherwise (%(default)s)")
    parser.add_argument("--min_seconds", type=float, default=20, help="leave shorter clips out (%(default)s)")
    return parser.parse_args(argv)


@command
def main(argv=None):
    """Match, split and write; print what came of it."""
    args = _parse(argv)
    clips, left_out = match(args.root_audio, args.root_frame, args.min_seconds * args.fps)
    if not clips:
        raise UserError(
            f"no clip in both {args.root_audio} and {args.root_frame}; {_left_out_line(left_out)}"
        )
    parts = split(clips, args.trainset_ratio, args.seed)
    for part in PARTS:
        if part not in parts.values():
            raise UserError(f"no clip for {part}: a category needs two videos to be in both parts")
    print(summary(parts, left_out))
    # In a drawn order the first rows stand for all: evaluation may be told to take no more.
    keys = sorted(clips, key=lambda key: (_draw(id_of(key), args.seed), key))
    for part in PARTS:
        path = os.path.join(args.path_output, f"{part}.csv")
        write_index(path, [clips[key] for key in keys if parts[key] == part])
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
