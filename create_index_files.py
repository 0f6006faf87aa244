"""Write data/train.csv and data/val.csv from folders of audio and frames: `python create_index_files.py`.

--check validates existing index files instead.
"""

import argparse
import os
import sys
from collections import Counter, defaultdict

import environment  # noqa: F401

from dataset.index import write_index, write_mixtures, write_rows
from dataset.indexing.check import check_lists, count_cases, report
from dataset.indexing.labels import FILE_LABELS, add_labels, beside, read_labels
from dataset.indexing.mixtures import draw_mixtures
from dataset.indexing.split import PARTS, draw, held_out, read_split, split, videos_of
from dataset.indexing.tree import CATEGORIES, SOUND_UNREADABLE, find_clips, find_packed
from dataset.shards.write import find_shards
from utils import Parser, UserError, command, set_up_logging

EXAMPLES = """
python create_index_files.py
python create_index_files.py --root_audio my_data/audio --root_frame my_data/frames --path_output my_data
python create_index_files.py --check data/train.csv data/val.csv
"""
TRAINSET_RATIO = 0.8
ROOT_FRAME, ROOT_FRAME_OLD = "./data/frames", "./data/frame"
MIXTURES = {2: "val_mix2.csv", 3: "val_mix3.csv"}  # by clips per mixture
LISTS = (*(f"{part}.csv" for part in PARTS), "duets.csv", *MIXTURES.values())
MAX_NAMED = 10  # examples printed per kind of problem


def find(args):
    """Find the clips in the folders given on the command line; see `dataset.indexing.tree.Found`."""
    if args.shards:
        check_shards(args.shards)
        return find_packed(args.shards, args.fps, args.min_seconds, args.max_difference)
    roots_frame = args.root_frame
    if roots_frame == [ROOT_FRAME] and not os.path.isdir(ROOT_FRAME) and os.path.isdir(ROOT_FRAME_OLD):
        roots_frame = [ROOT_FRAME_OLD]
    trees = list(zip(args.root_audio, roots_frame, strict=True))
    return find_clips(trees, args.fps, args.min_seconds, args.max_difference)


def check_shards(folder):
    """Name the tar files without an index in a folder of shards. Raises UserError if it has no shards."""
    shards, others = find_shards(folder)
    if not shards:
        hint = f": index it with `python -m dataset.shards --index {others[0]}`" if others else ""
        found = f"{os.path.basename(others[0])} without one{hint}" if others else "no tar file"
        raise UserError(f"no shards in {folder}: expected *.tar, each with an index, found {found}")
    for path in others[:MAX_NAMED]:
        hint = f"index it with `python -m dataset.shards --index {path}`"
        say(f"left out: {path}: no index: {hint}", sys.stderr)
    if len(others) > MAX_NAMED:
        say(f"left out: {len(others) - MAX_NAMED} more tar files without an index", sys.stderr)


def divide(found, args, table):
    """Split the clips: {part: list of Clip} of the requested parts, and [(Clip, reason)] of the others.

    table: as `read_labels` returns it.
    """
    left_out, names = found.left_out, list(PARTS) if args.test_ratio else list(PARTS[:2])
    if args.split_ids:
        ids = read_split(args.split_ids)
        parts, names = ids, [part for part in PARTS if part in args.split_ids]
        here = {clip.video for clip in found.solos}
        gone = Counter(part for video, part in ids.items() if video not in here)
        for part in names:
            say(f"{args.split_ids[part]}: {gone[part]} of {Counter(ids.values())[part]} ids not found")
        others = [clip for clip in found.solos if clip.video not in ids]
        left_out = left_out + [(clip, "in none of the lists") for clip in others]
    else:
        parts = split_others(found.solos, held_out(found.solos, table), args)
        names = [part for part in PARTS if part in names or part in parts.values()]
    lists = {part: [clip for clip in found.solos if parts.get(clip.video) == part] for part in names}
    return lists, left_out


def split_others(clips, published, args):
    """{video: part}: the `published` parts of videos held out, and of the others by the ratios.

    With videos for validation among the published ones, all others are for training.
    """
    others = videos_of(clip for clip in clips if clip.video not in published)
    if published:
        say(f"{FILE_LABELS}: {len(published)} videos are kept from training by the published split")
    if "val" in published.values():
        return published | dict.fromkeys(others, "train")
    test_ratio = 0 if published else args.test_ratio
    return published | split(others, args.trainset_ratio, args.seed, test_ratio)


def write_lists(lists, folder, args, table):
    """Write an index file per part, and mixture lists of the validation clips; report what was written."""
    written = {f"{part}.csv": (write_index, clips, "clips") for part, clips in lists.items() if clips}
    for num_mix, name in MIXTURES.items():
        mixtures = draw_mixtures(lists.get("val", ()), num_mix, args.num_mixtures, args.seed, table)
        if mixtures:
            written[name] = write_mixtures, mixtures, f"mixtures of {num_mix}"
        else:
            say(f"no {name}: needs validation clips of {num_mix} categories and {num_mix} videos")
    for name in LISTS:
        path = os.path.join(folder, name)
        if name in written:
            write, rows, what = written[name]
            write(path, rows)
            say(f"wrote {path}: {len(rows)} {what}")
        elif os.path.exists(path):
            say(f"note: {path} is from an earlier run and was not updated")


def name_doubtful(clips):
    """Point out categories that may be duets: their names have a space, and one half is a known category."""
    categories = {clip.category for clip in clips}
    known = categories.union(CATEGORIES)
    for name in sorted(categories):
        words = name.split(" ")
        if len(words) > 1 and (words[0] in known or words[-1] in known):
            say(f"note: {name!r} is treated as one instrument: not both halves are known categories")


def name_shared(clips):
    """Point out files of one name in several categories: they count as one video, and are never mixed."""
    names = defaultdict(set)
    for clip in clips:
        names[clip.id].add(clip.name)
    shared = [sorted(found) for found in names.values() if len(found) > 1]
    if shared:
        more = f"; more such names: {len(shared) - 1}" if len(shared) > 1 else ""
        say(
            f"note: {', '.join(min(shared))} count as one video, since they have one name: if they are "
            f"different videos, give their files different names{more}"
        )


def summary(lists, left_out):
    """A table of clips per category, and what was left out, as text."""
    counts = {part: Counter(clip.category for clip in clips) for part, clips in lists.items()}
    names = sorted(set().union(*counts.values()))
    width = max(len(name) for name in [*names, "category"])
    lines = [f"{'category':{width}}" + "".join(f"  {part:>6}" for part in counts)]
    lines += [f"{name:{width}}" + "".join(f"  {counts[part][name]:6}" for part in counts) for name in names]
    lines += [f"{'total':{width}}" + "".join(f"  {counts[part].total():6}" for part in counts)]
    return "\n".join([*lines, reasons_line(left_out)])


def reasons_line(left_out):
    """The number of clips left out for each reason, as text."""
    counts = Counter(reason for _, reason in left_out)
    reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(counts.items()))
    return f"left out: {reasons or 'nothing'}"


def name_unreadable(left_out):
    """List unreadable audio files on stderr."""
    paths = [clip.path_audio for clip, reason in left_out if reason == SOUND_UNREADABLE]
    for path in paths[:MAX_NAMED]:
        say(f"{SOUND_UNREADABLE}: {path}", sys.stderr)
    if len(paths) > MAX_NAMED:
        say(f"{SOUND_UNREADABLE}: {len(paths) - MAX_NAMED} more, see left_out.csv", sys.stderr)


def say(text, file=None):
    """Print text that may contain file names that are not UTF-8."""
    file = file or sys.stdout
    encoding = file.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=file)


def create(args):
    """Match audio and frames, split the clips, write the files and print a summary."""
    found, table = find(args), {}
    for path in [os.path.join(args.shards, FILE_LABELS)] if args.shards else map(beside, args.root_audio):
        table |= read_labels(path)
    lists, left_out = divide(found, args, table)
    rows = sorted((clip.name, reason) for clip, reason in left_out)
    write_rows(os.path.join(args.path_output, "left_out.csv"), [("clip", "reason"), *rows])
    name_unreadable(left_out)
    if not found.solos:
        roots = args.shards or ", ".join([*args.root_audio, *args.root_frame])
        text = f"no solo clip with both sound and frames of at least {args.min_seconds:g} s (--min_seconds)"
        raise UserError(f"{text} in {roots}; {reasons_line(left_out)}")
    for part, clips in lists.items():
        if not clips:
            hint = "none of its ids were found" if args.split_ids else "too few videos to split"
            raise UserError(f"no clip for {part}: {hint}")
    # Shuffled, so that the first rows are a fair sample: --num_val may limit evaluation to them.
    lists = {
        part: sorted(clips, key=lambda clip: (draw(clip.id, args.seed), clip))
        for part, clips in [*lists.items(), ("duets", found.duets)]
        if clips
    }
    say(summary(lists, left_out))
    name_doubtful(found.solos)
    name_shared(found.solos)
    write_lists(lists, args.path_output, args, table)
    add_labels(os.path.join(args.path_output, FILE_LABELS), table)


def check(args):
    """Print the problems of index files; return 1 if there are errors, else 0."""
    usual = [os.path.join(args.path_output, name) for name in LISTS]
    paths = args.check or [path for path in usual if os.path.exists(path)]
    if not paths:
        raise UserError(f"no index files in {args.path_output}: expected one of {', '.join(LISTS)}")
    sections = check_lists(paths, args.fps, args.max_difference)
    errors, warnings = count_cases(sections)
    say(report(sections, None if args.verbose else MAX_NAMED))
    say(f"{len(paths)} files: {errors} errors, {warnings} warnings")
    return int(errors > 0)


def _number(low, high, low_is_in):
    def parse(text):
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not (low < number < high or (low_is_in and number == low)):
            raise argparse.ArgumentTypeError(f"expected a number {wanted}, found {text}")
        return number

    wanted = f"of at least {low}" if low_is_in else f"above {low}"
    wanted += f" and below {high}" if high < float("inf") else ""
    return parse


_ratio = _number(0, 1, False)
_share = _number(0, 1, True)
_positive = _number(0, float("inf"), False)
_length = _number(0, float("inf"), True)


def _count(text):
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text}")
    return int(text)


def _part(text):
    part, _, path = text.partition("=")
    if part not in PARTS or not path:
        raise argparse.ArgumentTypeError(f"expected train=FILE, val=FILE or test=FILE, found {text}")
    return part, path


def _parse(argv):
    parser = Parser(EXAMPLES, description="Write index files of folders of audio and frames, or check them.")
    _add_trees(parser.add_argument_group("input").add_argument)
    _add_split(parser.add_argument_group("output").add_argument)
    _add_check(parser.add_argument_group("check").add_argument)
    args = parser.parse_args(argv)
    if len(args.root_audio) != len(args.root_frame):
        parser.error("--root_audio and --root_frame: expected the same number of folders")
    if args.split_ids and (args.trainset_ratio or args.test_ratio):
        parser.error("--split_ids: not allowed with --trainset_ratio or --test_ratio")
    if args.split_ids and len(dict(args.split_ids)) < len(args.split_ids):
        parser.error("--split_ids: expected one file for each part")
    args.split_ids = dict(args.split_ids or [])
    args.trainset_ratio = args.trainset_ratio or TRAINSET_RATIO
    if args.trainset_ratio + args.test_ratio >= 1:
        parser.error("--trainset_ratio and --test_ratio leave nothing for val: expected a sum below 1")
    return args


def _add_trees(add):
    add(
        "--root_audio",
        nargs="+",
        default=["./data/audio"],
        metavar="DIR",
        help="audio files: [<category>/]<id>.wav or .mp3 (./data/audio)",
    )
    add(
        "--root_frame",
        nargs="+",
        default=[ROOT_FRAME],
        metavar="DIR",
        help=f"frames: [<category>/]<id>.mp4/000001.jpg, one folder per --root_audio ({ROOT_FRAME})",
    )
    add("--shards", metavar="DIR", help="instead: shards of `python -m dataset.preprocess --pack`")
    add("--fps", type=_positive, default=8, help="frames per second (%(default)s)")
    add("--min_seconds", type=_length, default=20, help="skip clips shorter than this (%(default)s)")
    add(
        "--max_difference",
        type=_length,
        default=0.5,
        help="skip clips whose audio and frames differ in length by more seconds (%(default)s)",
    )


def _add_split(add):
    add("--path_output", default="./data", help="folder of the index files (%(default)s)")
    add("--trainset_ratio", type=_ratio, help=f"fraction of videos for training ({TRAINSET_RATIO})")
    add("--test_ratio", type=_share, default=0, help="fraction for test; val gets the rest (%(default)s)")
    add("--seed", type=int, default=1234, help="random seed of the split and the mixtures (%(default)s)")
    add(
        "--split_ids",
        nargs="+",
        type=_part,
        metavar="PART=FILE",
        help="use an existing split: train=FILE val=FILE test=FILE, each a .txt with one id per line, an "
        "index file, or a published .json",
    )
    add(
        "--num_mixtures",
        type=_count,
        default=256,
        help="maximum number of rows of val_mix2.csv and of val_mix3.csv (%(default)s)",
    )


def _add_check(add):
    add(
        "--check",
        nargs="*",
        metavar="FILE",
        help="only validate these index files and mixture lists, or those in --path_output",
    )
    add("--verbose", action="store_true", help=f"with --check: list all cases, not {MAX_NAMED} per kind")


@command
def main(argv=None):
    """Run the command; the exit status is 1 if --check finds errors."""
    args = _parse(argv)
    set_up_logging()
    return create(args) if args.check is None else check(args)


if __name__ == "__main__":
    sys.exit(main())
