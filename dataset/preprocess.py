"""Turn videos into the pictures and sounds that training reads: `python -m dataset.preprocess`.

    <videos>/<category>/<id>.mp4  ->  <out>/frames/<category>/<id>.mp4/000001.jpg ...   `fps` a second
                                      <out>/audio/<category>/<id>.wav                   mono, 16 bit

Picture k is what the video shows at (k - 0.5) / fps seconds. The outputs of a video appear whole or not at
all; what is there already is left alone, so that a second run makes only what is missing.
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed

import soundfile

from utils import UserError, command, progress, replacing, run_ffmpeg

FPS = 8  # pictures a second
RATE = 11025  # Hz
SHORT_SIDE = 256  # pixels
JPEG_QUALITY = 3  # ffmpeg's scale: 2 is best, 31 worst
MAX_CHANNELS = 8  # of a sound track, averaged
MAX_DAMAGED = 0.05  # share of a track's packets that may fail to decode
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v")
PICTURES, SOUND = "0:V:0", "0:a:0"  # ffmpeg's names of the tracks; capital V: cover art is no video


def find_videos(root):
    """The videos under `root`, at any depth, as sorted paths relative to it. Hidden files are passed over."""
    if not os.path.isdir(root):
        raise UserError(f"no folder {root}: expected videos in it, as in {root}/<category>/<id>.mp4")
    paths = [
        os.path.relpath(os.path.join(folder, name), root)
        for folder, _, names in os.walk(root, followlinks=True)
        for name in names
        if name.lower().endswith(VIDEO_SUFFIXES) and not name.startswith(".")
    ]
    if not paths:
        raise UserError(f"no videos under {root}: expected {', '.join(VIDEO_SUFFIXES)}")
    return sorted(paths)


def convert(path_video, path_frames, path_audio, fps=FPS, rate=RATE, short_side=SHORT_SIDE):
    """Make the folder `path_frames` and the file `path_audio` of a video where they are missing, in one pass.

    fps: pictures a second; rate: Hz; short_side: pixels that the shorter side may have at most, 0 for any.
    Returns whether there was anything to make. Raises UserError if pictures or sound cannot be read.
    """
    with contextlib.ExitStack() as stack:
        outputs, checks = [], []
        if not os.path.isdir(path_frames):
            folder = stack.enter_context(_replacing_folder(path_frames))
            outputs += _pictures_output(folder, fps, short_side)
            checks.append(lambda: _check(os.listdir(folder), "the video track holds no picture"))
        if not os.path.isfile(path_audio):
            temporary = stack.enter_context(replacing(path_audio))
            outputs += _sound_output(temporary, rate)
            checks.append(lambda: _check(_num_samples(temporary), "the sound track is empty"))
        if outputs:
            _run(path_video, outputs)
        for check in checks:
            check()
    return bool(outputs)


def _num_samples(path):
    try:
        return soundfile.info(path).frames
    except soundfile.SoundFileError:
        return 0


def _check(something, message):
    if not something:
        raise UserError(message)


@contextlib.contextmanager
def _replacing_folder(path):
    """Like `utils.replacing`, for a folder that is not there yet."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = tempfile.mkdtemp(dir=os.path.dirname(path) or ".", prefix=".writing-")
    try:
        os.chmod(temporary, 0o755)
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _file(path):
    """A path that ffmpeg takes for neither an option (`-x.mp4`) nor a protocol (`a:b.mp4`)."""
    return f"file:{os.path.abspath(path)}"


def _pictures_output(folder, fps, short_side):
    # Rounding to the nearest puts a source frame at t on picture round(t * fps) + 1, and each picture is the
    # last frame put on it or before it: the one on screen at (k - 0.5) / fps. start_time=0: a track that
    # begins late is filled with its first frame.
    filters = f"fps={fps}:start_time=0:round=near"
    if short_side:
        width = f"if(lt(iw,ih),min(iw,{short_side}),-1)"
        height = f"if(lt(iw,ih),-1,min(ih,{short_side}))"
        filters += f",scale=w='{width}':h='{height}'"
    pattern = os.path.join(_file(folder).replace("%", "%%"), "%06d.jpg")
    return ["-map", PICTURES, "-vf", filters, "-q:v", str(JPEG_QUALITY), "-threads", "1", pattern]


def _sound_output(path, rate):
    # `-ac 1` makes tracks decoded to floats 1.41 times too loud; pan's `<` averages the channels that exist.
    # aresample fills gaps and a late beginning with silence, so that sound and pictures stay together.
    channels = "+".join(f"c{number}" for number in range(MAX_CHANNELS))
    filters = f"aresample=async=1:first_pts=0,pan=mono|c0<{channels},aresample={rate}"
    return ["-map", SOUND, "-af", filters, "-c:a", "pcm_s16le", "-f", "wav", _file(path)]


def _run(path_video, outputs):
    start = ["-max_error_rate", str(MAX_DAMAGED), "-threads", "1", "-i", _file(path_video)]
    try:
        run_ffmpeg(start + outputs)
    except UserError as error:
        raise UserError(_reason(path_video, error)) from None


def _reason(path_video, error):
    """What is wrong with a video, in words: ffmpeg's last line seldom says."""
    sees, hears = _can_read(path_video, PICTURES), _can_read(path_video, SOUND)
    if not (sees or hears):
        return "cannot be read as a video"
    if not sees:
        return "no picture that can be read"
    if not hears:
        return "no sound that can be read"
    return str(error)


def _can_read(path_video, track):
    try:
        run_ffmpeg(["-i", _file(path_video), "-map", track, "-t", "1", "-f", "null", "-"])
    except UserError:
        return False
    return True


def convert_all(root, out, jobs, **options):
    """Convert every video under `root` into `out`, `jobs` at a time; `options` go to `convert`.

    Returns (number made, number already there, failures as sorted lines of text).
    """
    targets, failures = _targets(find_videos(root), out)
    made = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = {
            pool.submit(convert, os.path.join(root, name), *paths, **options): name
            for name, paths in targets.items()
        }
        try:
            for future in progress(as_completed(futures), total=len(futures), unit="video"):
                try:
                    made.append(future.result())
                except (UserError, OSError) as error:
                    failures.append(f"{futures[future]}: {error}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return sum(made), made.count(False), sorted(failures)


def _targets(names, out):
    """{video: (frames folder, sound file)}, and a line for each video whose outputs would be another's."""
    targets, failures, owners = {}, [], {}
    for name in names:
        path_audio = os.path.join(out, "audio", os.path.splitext(name)[0] + ".wav")
        owner = owners.setdefault(path_audio, name)
        if owner == name:
            targets[name] = (os.path.join(out, "frames", name), path_audio)
        else:
            failures.append(f"{name}: {owner} has the same id: rename or remove one of them")
    return targets, failures


def _number(lowest):
    def parse(text):
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"expected a whole number from {lowest} on, found {text!r}")
        return int(text)

    return parse


def _parse(argv):
    parser = argparse.ArgumentParser(
        prog="python -m dataset.preprocess", description="Turn videos into frames and sounds for training."
    )
    parser.add_argument("--videos", default="data/videos", help="folder of <category>/<id>.mp4 (%(default)s)")
    parser.add_argument("--out", default="data", help="folder to make frames/ and audio/ in (%(default)s)")
    parser.add_argument("--fps", type=_number(1), default=FPS, help="pictures a second (%(default)s)")
    parser.add_argument("--rate", type=_number(1), default=RATE, help="samples a second (%(default)s)")
    parser.add_argument(
        "--short_side", type=_number(0), default=SHORT_SIDE, help="at most, pixels; 0: as it is (%(default)s)"
    )
    parser.add_argument(
        "--jobs", type=_number(1), default=os.cpu_count() or 1, help="videos at a time (%(default)s)"
    )
    return parser.parse_args(argv)


@command
def main(argv=None):
    """Convert the videos that the command line names; exit status 1 if any of them failed."""
    args = _parse(argv)
    made, kept, failures = convert_all(
        args.videos, args.out, args.jobs, fps=args.fps, rate=args.rate, short_side=args.short_side
    )
    for line in failures:
        print(f"failed: {line}", file=sys.stderr)
    print(f"{made + kept + len(failures)} videos: {made} made, {kept} already there, {len(failures)} failed")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
