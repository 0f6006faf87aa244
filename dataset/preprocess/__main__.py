"""Convert videos to the frames and audio that training reads: `python -m dataset.preprocess`.

    <videos>/<category>/<id>.mp4  ->  <out>/frames/<category>/<id>.mp4/000001.jpg ...   `fps` per second
                                      <out>/audio/<category>/<id>.wav                   mono, 16 bit
                                      <out>/preprocess.csv                              outcome per video
    <videos>/labels.csv           ->  <out>/labels.csv                                  see `dataset.download`

Frame k shows the video at (k - 0.5) / fps seconds, to half a frame. The outputs of a video appear complete
or not at all. Existing outputs made with the same settings are kept: an interrupted run resumes where it
stopped. --pack writes <out>/shards/000000.tar ... instead, see `dataset.shards`.
"""

import contextlib
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import environment  # noqa: F401

from dataset.index import find_videos, strip_suffixes
from dataset.indexing.labels import FILE_LABELS, add_labels, read_labels
from dataset.ledger import Ledger
from dataset.preprocess.benchmark import benchmark
from dataset.preprocess.convert import Settings, convert
from dataset.preprocess.merge import COLUMNS, DONE, FAILED, FOUND, MISSING, ledger_path, merge, part_of
from dataset.preprocess.pack import pack_videos
from media import run_ffmpeg
from utils import Parser, UserError, command, i_of_n, progress, set_up_logging, tag_of, whole

EXAMPLES = """
python -m dataset.preprocess
python -m dataset.preprocess --videos my_videos --out my_data --jobs 2
python -m dataset.preprocess --pack --shard 2/8
"""
SHARD_MB = 300
MAX_NAMED = 3  # missing videos printed per part


def convert_all(root, out, jobs, settings=None, shard=(1, 1)):
    """Convert the videos of a shard under `root` into `out`, `jobs` at a time, and write `preprocess.csv`.

    Returns ({video: Result}, {video: reason of its failure}). Raises UserError if there are no videos, or if
    the same command is already running.
    """
    part, count = shard
    names = [name for name in find_videos(root) if part_of(name, count) == part]
    targets, failures = _targets(names, out)
    results = {}
    add_labels(os.path.join(out, FILE_LABELS), read_labels(os.path.join(root, FILE_LABELS)))
    with Ledger(ledger_path(out, shard), COLUMNS) as ledger, _staging(out, tag_of(shard) or "all") as staging:
        for name, reason in failures.items():
            ledger.record(video=name, state=FAILED, reason=reason, frames="", seconds="")
        tasks = {
            name: (os.path.join(root, name), *paths, staging, settings) for name, paths in targets.items()
        }
        for name, outcome in _in_parallel(tasks, jobs):
            if isinstance(outcome, Exception):
                failures[name] = str(outcome)
            else:
                results[name] = outcome
            ledger.record(video=name, **_row(outcome))
    return results, failures


def _row(outcome):
    if isinstance(outcome, Exception):
        return {"state": FAILED, "reason": " ".join(str(outcome).split()), "frames": "", "seconds": ""}
    state = FOUND if outcome.found else DONE
    return {
        "state": state,
        "reason": outcome.note,
        "frames": outcome.num_frames,
        "seconds": f"{outcome.seconds:.2f}",
    }


def _in_parallel(tasks, jobs):
    """Yield (video, Result or exception) as they finish; large videos start first, to balance the load."""
    names = sorted(tasks, key=lambda name: -_size(tasks[name][0]))
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(convert, *tasks[name]): name for name in names}
        try:
            for future in progress(as_completed(futures), total=len(futures), desc="videos", unit="video"):
                try:
                    yield futures[future], future.result()
                except (UserError, OSError) as error:
                    yield futures[future], error
        finally:
            pool.shutdown(cancel_futures=True)


def _size(path):
    try:
        return os.path.getsize(path)
    except OSError:  # `convert` reports the error
        return 0


@contextlib.contextmanager
def _staging(out, tag):
    """A hidden folder for work in progress. Leftovers of killed runs of the same part are removed.

    tag: of the part, whose ledger is locked.
    """
    start = f".preprocess-{tag}-"
    # A killed run's ffmpeg may still be writing; it stops once its folder is gone.
    with tempfile.TemporaryDirectory(dir=out, prefix=start) as folder:
        for name in os.listdir(out):
            if name.startswith(start) and name != os.path.basename(folder):
                os.rename(os.path.join(out, name), os.path.join(folder, name))
        yield folder


def _targets(names, out):
    """{video: (frames folder, audio file)}, and {video: reason} if another video has the same outputs."""
    targets, failures, owners = {}, {}, {}
    for name in names:
        path_audio = os.path.join(out, "audio", strip_suffixes(name) + ".wav")
        owner = owners.setdefault(path_audio, name)
        if owner == name:
            targets[name] = (os.path.join(out, "frames", name), path_audio)
        else:
            failures[name] = f"{owner} has the same id: rename or remove one of them"
    return targets, failures


def _parse(argv):
    text = "Convert videos to frames and audio for training."
    parser = Parser(EXAMPLES, prog="python -m dataset.preprocess", description=text)
    add, default = parser.add_argument, Settings()
    add("--videos", default="data/videos", help="folder of <category>/<id>.mp4 (%(default)s)")
    add("--out", default="data", help="folder for frames/ and audio/ (%(default)s)")
    add("--fps", type=whole(1, 240), default=default.fps, help="frames per second (%(default)s)")
    add(
        "--rate",
        type=whole(1000, 192_000),
        default=default.rate,
        help="audio samples per second (%(default)s)",
    )
    add(
        "--short_side",
        type=whole(0, 10**6),
        default=default.short_side,
        help="maximum length of a frame's shorter side in pixels; 0: unlimited (%(default)s)",
    )
    add(
        "--jobs",
        type=whole(1, 10**6),
        default=os.cpu_count() or 1,
        help="videos converted in parallel (%(default)s)",
    )
    add("--shard", type=i_of_n, default=(1, 1), metavar="I/N", help="convert only the I-th of N parts (all)")
    add(
        "--merge",
        type=whole(1, 10**6),
        metavar="N",
        help="only merge the outcomes of N parts into preprocess.csv, and name the videos that are missing",
    )
    add("--pack", action="store_true", help="write tar files in <out>/shards instead of frames and audio")
    add("--shard_mb", type=whole(1, 10**6), help=f"with --pack: MB of a tar file ({SHARD_MB})")
    add("--ffmpeg", metavar="PATH", help="ffmpeg binary (the one bundled with imageio-ffmpeg)")
    add("--benchmark", action="store_true", help="only measure the speed on some of the videos")
    return _check(parser, parser.parse_args(argv))


def _check(parser, args):
    if args.merge and args.pack:
        parser.error(
            "--merge: not for --pack: run --pack without --shard, which packs what is missing, then `python "
            f"create_index_files.py --shards {os.path.join(args.out, 'shards')}`"
        )
    if args.merge and args.shard != (1, 1):
        parser.error("--merge: it merges all parts; use it without --shard")
    if args.shard_mb and not args.pack:
        parser.error("--shard_mb: expected --pack with it")
    args.shard_mb = args.shard_mb or SHARD_MB
    return args


@command
def main(argv=None):
    """Convert the videos, or merge parts; the exit status is 1 if any video failed or is missing."""
    args = _parse(argv)
    set_up_logging()
    if args.merge:
        return _report_parts(*merge(args.videos, args.out, args.merge), args.merge)
    settings = Settings(args.fps, args.rate, args.short_side, args.ffmpeg)
    run_ffmpeg(["-version"], ffmpeg=args.ffmpeg)  # fail once if there is none, not once per video
    if args.benchmark:
        print(
            benchmark(
                [os.path.join(args.videos, name) for name in find_videos(args.videos)], args.jobs, settings
            )
        )
        return 0
    if args.pack:
        return _pack(args, settings)
    start = time.monotonic()
    results, failures = convert_all(args.videos, args.out, args.jobs, settings, args.shard)
    _report(results, failures, args, time.monotonic() - start)
    return int(bool(failures))


def _pack(args, settings):
    """Convert videos straight into shards; the exit status is 1 if any of them failed."""
    part, count = args.shard
    names = [name for name in find_videos(args.videos) if part_of(name, count) == part]
    targets, failures = _targets(names, "")
    tag = tag_of(args.shard)
    staging = _staging(args.out, f"pack-{tag or 'all'}")
    shards = os.path.join(args.out, "shards")
    add_labels(os.path.join(shards, FILE_LABELS), read_labels(os.path.join(args.videos, FILE_LABELS)))
    where = args.videos, targets | failures, staging, shards
    failures, there = pack_videos(*where, args.jobs, settings, args.shard_mb * 10**6, tag)
    for name in sorted(failures):
        print(f"failed: {name}: {failures[name]}", file=sys.stderr)
    made = len(names) - len(failures) - there
    print(f"{len(names)} videos: {made} packed, {there} already there, {len(failures)} failed")
    return int(bool(failures))


def _report(results, failures, args, elapsed):
    for name, result in sorted(results.items()):
        if result.note:
            print(f"note: {name}: {result.note}", file=sys.stderr)
    for name in sorted(failures):
        print(f"failed: {name}: {failures[name]}", file=sys.stderr)
    made = [result.seconds for result in results.values() if result.made]
    found = sum(result.found for result in results.values())
    line = (
        f"{len(results) + len(failures)} videos: {len(made)} made, {len(results) - len(made)} already there, "
        f"{len(failures)} failed"
    )
    if made:
        line += f"; {sum(made) / elapsed / args.jobs:.0f} seconds of video per second and job"
    print(line)
    if found:
        print(f"{found} of them are of unknown origin and were kept: delete them to have them regenerated")


def _report_parts(states, missing, count):
    for part, names in missing.items():
        more = ", …" if len(names) > MAX_NAMED else ""
        print(
            f"part {part}/{count}: {len(names)} missing: {', '.join(names[:MAX_NAMED])}{more}",
            file=sys.stderr,
        )
    print(f"{states.total()} videos: " + ", ".join(f"{number} {state}" for state, number in states.items()))
    if missing:
        print(f"parts to run again: {','.join(map(str, missing))}")
    return int(bool(states[FAILED] or states[MISSING]))


if __name__ == "__main__":
    sys.exit(main())
