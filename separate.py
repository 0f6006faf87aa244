"""Hear each place of a video by itself: `python separate.py VIDEO…` writes out/<video>/index.html."""

import argparse
import logging
import os
import sys

import environment  # noqa: F401

from arguments import AMPS, add_network_flags, network_options
from dataset.index import PICTURE_SUFFIXES, VIDEO_SUFFIXES, find_videos
from engine.options import AUTO, Refusal, check_precision
from engine.runs import find_named, newest_run
from utils import Parser, UserError, command, progress, set_up_logging

# Functions import what needs torch, so that --help and mistakes are answered at once.

EXAMPLES = """
python separate.py duet.mp4 --num_sources 2
python separate.py videos/ --ckpt ckpt/demo --out pages
"""

logger = logging.getLogger(__name__)


def separate(path, ckpt=None, out="out", num_gpus=None, amp="auto", **request):
    """Separate one video from Python: `separate("duet.mp4", "ckpt/demo")`. Writes what the command writes.

    path: a video, or a picture with `path_sound=FILE`; ckpt: a folder of trained networks, None: the newest
    run in ./ckpt; out: the page and the sounds go to out/<video>/; num_gpus: 1 or 0, None: 1 if there is one;
    amp: as --amp; request: fields of `engine.separation.outputs.Request`, e.g. num_sources, points, boxes.
    Returns a `Separated`. Raises UserError if the networks or the video cannot be used.
    """
    from engine.build import build_sampling
    from engine.card import card_summary
    from engine.separation.outputs import Request, read_outputs, separate_video
    from engine.separation.unpack import check_input

    path = os.fspath(path)
    try:
        check_input(path, request.get("path_sound"))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    args = argparse.Namespace(ckpt=ckpt, num_gpus=count_gpus(num_gpus), amp=amp)
    pixels, options, folder = load(args)
    target = os.path.join(out, os.path.splitext(os.path.basename(path))[0])
    request = Request(notes=(f"networks: {folder}",), trained_on=card_summary(folder), **request)
    separate_video(path, target, pixels, build_sampling(options), request)
    return read_outputs(target)


def load(args):
    """(networks as a PixelSeparator on their device, the options they were trained with, their folder)."""
    import torch

    from engine.build import build_separator
    from engine.categories import read_categories
    from engine.separation.pixels import PixelSeparator
    from engine.training.checkpoint import weight_files

    folder = find_networks(args.ckpt)
    options = network_options(args, folder)
    separator = build_separator(options, weight_files(folder))
    pixels = PixelSeparator(separator, options.num_mix, read_categories(folder))
    device = torch.device("cuda" if args.num_gpus else "cpu")
    logger.info("networks of %s on %s", folder, device)
    return pixels.to(device), options, folder


def find_networks(ckpt):
    """The folder of networks that --ckpt means: a folder, or the start of the only one that begins so.

    None is the newest run. Raises UserError, listing what there is, if none or several fit.
    """
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ckpt")
    root = "./ckpt" if os.path.isdir("./ckpt") else here
    if not ckpt:
        return newest_run(root)
    if os.path.isdir(ckpt):
        return ckpt
    folder, name = os.path.split(os.path.normpath(ckpt))
    return os.path.join(folder or root, find_named(folder or root, name))


def count_gpus(num_gpus):
    """GPUs to use, 0 or 1, for --num_gpus; None: 1 if there is one. Raises UserError if there is none."""
    import torch

    present = torch.cuda.device_count()
    if num_gpus and not present:
        raise UserError("--num_gpus: 1 asked for, 0 found; 0 uses the CPU")
    return min(1, present) if num_gpus is None else num_gpus


def place_videos(paths, out):
    """[(path, name of its folder in `out`)] of files and of all videos in folders, except videos in `out`."""
    found = []
    for path in paths:
        if os.path.isdir(path):
            found += _videos_in(path, out)
        else:
            found.append((path, os.path.splitext(os.path.basename(path))[0]))
    taken = {}
    for path, name in found:
        other = taken.setdefault(name, path)
        if os.path.realpath(other) != os.path.realpath(path):
            raise UserError(
                f"{path} and {other} would both be written to {name}: rename one, or use two --out"
            )
        if os.path.realpath(os.path.dirname(path)) == os.path.realpath(os.path.join(out, name)):
            raise UserError(f"{path} lies in the folder that its page would be written to: use another --out")
    return [(path, name) for name, path in taken.items()]


def _videos_in(root, out):
    """[(path, name of its folder in `out`)] of the videos under `root`, except those of pages in `out`."""
    out = os.path.realpath(out)
    videos = {name: os.path.join(root, name) for name in find_videos(root)}
    folders = {name: os.path.realpath(os.path.dirname(path)) for name, path in videos.items()}
    found = [
        (path, os.path.splitext(name)[0])
        for name, path in videos.items()
        if os.path.commonpath([out, folders[name]]) != out
    ]
    if not found:
        raise UserError(f"{root}: all its videos belong to pages in --out {out}")
    return found


def usable(videos, args):
    """Those of `videos`, see `place_videos`, that can be separated, as far as is known before; names others.

    Files in folders are not checked: there may be many.
    """
    from engine.separation.unpack import check_input

    found = []
    for path, name in videos:
        try:
            if path in args.videos:
                check_input(path, args.audio)
        except (UserError, OSError) as error:
            print(f"failed: {path}: {error}", file=sys.stderr)
            continue
        found.append((path, name))
    return found


def separate_all(args):
    """Separate all videos; returns 1 if one of them could not be, else 0."""
    asked = place_videos(args.videos, args.out)
    if args.audio and len(asked) > 1:
        raise UserError(f"--audio goes with one picture, found {len(asked)} files")
    folder = find_networks(args.ckpt)
    videos = usable(asked, args)
    if not videos:
        return 1
    args = argparse.Namespace(**vars(args) | {"num_gpus": count_gpus(args.num_gpus), "ckpt": folder})
    check_precision(Refusal, args)
    failed = _separate_all(args, videos)
    return int(failed or len(videos) < len(asked))


def _separate_all(args, videos):
    """Separate the videos that `place_videos` found; True if one of them could not be."""
    from engine.build import build_sampling
    from engine.card import card_summary
    from engine.machine.memory import keep_memory
    from engine.machine.precision import set_precision
    from engine.separation.outputs import Request, separate_video
    from pages import listen

    if not args.num_gpus:
        keep_memory()
    pixels, options, folder = load(args)
    set_precision(pixels.separator.settings.amp)
    request = Request(
        num_sources=args.num_sources,
        points=args.points,
        boxes=args.boxes,
        consistent=args.consistent,
        own_rate=None if args.rate == "video" else options.audRate,
        path_sound=args.audio,
        notes=(f"networks: {folder}",),
        trained_on=card_summary(folder),
    )
    entries, num_failed = [], 0
    for path, name in (bar := progress(videos, desc="videos", unit="video")):
        logger.info("separating %s", path)
        target = os.path.join(args.out, name)
        try:
            line = separate_video(path, target, pixels, build_sampling(options), request)
        except (UserError, OSError) as error:
            num_failed += 1
            bar.write(f"failed: {path}: {error}", file=sys.stderr)
            continue
        entries.append((name, f"{name}/index.html", f"{name}/thumbnail.jpg", line))
        bar.write(f"{os.path.join(target, 'index.html')}: {line}")
    if len(videos) > 1 and entries:
        listen.write_gallery(args.out, entries)
        print(f"all of them: {os.path.join(args.out, 'index.html')}")
    return num_failed > 0


def _numbers(count):
    def parse(text):
        try:
            values = tuple(float(value) for value in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count or not all(0 <= value < float("inf") for value in values):
            raise argparse.ArgumentTypeError(f"expected {count} numbers with commas between, found {text!r}")
        return values

    return parse


def source_count(text):
    """The value of --num_sources: "auto", or a number from 1 to 8."""
    if text == AUTO:
        return text
    if not text.isdecimal() or not 1 <= int(text) <= 8:
        raise argparse.ArgumentTypeError(f"expected auto or a number from 1 to 8, found {text!r}")
    return int(text)


class _HelpAll(argparse.Action):
    def __call__(self, parser, *others):
        """Print the help with the flags of add_network_flags."""
        _make_parser(in_help=True).print_help()
        parser.exit()


def _make_parser(in_help=False):
    suffixes = ", ".join(VIDEO_SUFFIXES + PICTURE_SUFFIXES)
    flag = argparse.BooleanOptionalAction
    parser = Parser(EXAMPLES, description="Hear each place of a video by itself.")
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO", help=f"file ({suffixes}), or a folder of videos")
    add("--ckpt", metavar="FOLDER", help="folder of trained networks, or the start of ID in ckpt/ID (newest)")
    add("--out", default="out", help="folder to write <video>/index.html in (%(default)s)")
    add("--audio", metavar="FILE", help="the sound for a picture instead of a video")
    text = "number of sources to find, 1 to 8, or auto: one or two (%(default)s)"
    add("--num_sources", type=source_count, default=AUTO, help=text)
    text = "separate the sound at these points, in pixels of the video"
    add("--points", type=_numbers(2), nargs="+", metavar="X,Y", help=text)
    text = "separate the sound of these rectangles, in pixels of the video"
    add("--boxes", type=_numbers(4), nargs="+", metavar="X,Y,W,H", help=text)
    text = "where sources overlap they share the sound, so that the residual is small"
    add("--consistent", default=True, action=flag, help=text)
    text = "samples/s of the outputs: the video's own (default) or the networks'"
    add("--rate", default="video", choices=("video", "network"), help=text)
    add("--num_gpus", type=int, choices=(0, 1), help="1: GPU, 0: CPU (1 if there is one)")
    text = "precision; auto: bf16 where the hardware supports it (%(default)s)"
    add("--amp", default="auto", choices=AMPS, help=text)
    text = "also show the flags for checkpoints of older code, without options.json"
    add("--help_all", "--help-all", action=_HelpAll, nargs=0, help=text)
    add_network_flags(parser, in_help)
    return parser


def _parse(argv):
    parser = _make_parser()
    args = parser.parse_args(argv)
    if args.points and args.boxes:
        parser.error("--points and --boxes: one of them")
    check_precision(parser, args)
    return args


@command
def main(argv=None):
    """The command; exit status 1 if a video could not be separated."""
    args = _parse(argv)
    set_up_logging()

    from tqdm.contrib.logging import logging_redirect_tqdm

    from engine.machine.faults import one_line

    with logging_redirect_tqdm(), one_line(args.out):
        return separate_all(args)


if __name__ == "__main__":
    sys.exit(main())
