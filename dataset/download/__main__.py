"""Download the videos of MUSIC, or of your own lists, with yt-dlp: `python -m dataset.download`.

    the lists' categories and ids  ->  <videos>/<category>/<id>.mp4          at most 480p, if available
    lists of segments              ->  <videos>/<label>/<id>_<start>.mp4     start in seconds, six digits
                                       <videos>/labels.csv                   all labels and the split
                                       <videos>/ledger.csv                   the state of each video

Videos are downloaded to <videos>/.partial, and moved once they are complete and checked. Videos that exist or
are gone are not requested again: an interrupted run resumes where it stopped.
"""

import argparse
import contextlib
import logging
import os
import queue
import random
import sys
import threading
import time

import environment  # noqa: F401

from tqdm.contrib.logging import logging_redirect_tqdm

from dataset.download import video_list
from dataset.download.client import (
    BROKEN,
    FULL,
    REFUSED,
    UNREACHABLE,
    Client,
    Options,
    Outcome,
    Sink,
    judge,
    reason,
)
from dataset.download.segments import read_segments
from dataset.download.video_list import FAILED, GONE, HAD, Collection
from dataset.indexing.labels import FILE_LABELS, add_labels
from utils import Parser, UserError, command, progress, set_up_logging

EXAMPLES = """
python -m dataset.download --lists solo --categories flute tuba --limit 20
python -m dataset.download --list my_list.json --videos my_videos
python -m dataset.download --list vggsound.csv --videos vggsound/videos
"""
MAX_PAUSE = 600  # seconds
MAX_SHUTDOWN = 2  # seconds for jobs to finish when the run stops

TEMPORARY = (REFUSED, UNREACHABLE, BROKEN)  # worth a retry
# The run stops after this many consecutive failures of a kind: the cause is not a single video.
STOPS = {
    REFUSED: (5, "the server refuses this machine: wait a few hours, pass --cookies, or update yt-dlp"),
    UNREACHABLE: (3, "the server cannot be reached: check the network"),
    BROKEN: (10, "all transfers break off: try later, or with a longer --timeout"),
    FAILED: (20, "yt-dlp may be too old for the site: pip install -U yt-dlp"),
    FULL: (1, "the disk is full: free some space"),
}

logger = logging.getLogger(__name__)


def _pause_before_next(attempt, backoff, asked):
    """Seconds to wait after attempt 1, 2, …: doubled each time, randomised, at least what the server asks."""
    return min(max(backoff * 2 ** (attempt - 1) * random.uniform(0.75, 1.25), asked), MAX_PAUSE)


class _Job(threading.Thread):
    """Takes videos from one queue and puts (video, Outcome or exception) into another, until told to stop."""

    def __init__(self, todo, done, collection, options, client, halt):
        super().__init__(daemon=True)  # a stalled server must not block the exit
        self._todo, self._done, self._halt = todo, done, halt
        self._collection, self._options, self._client = collection, options, client

    def run(self):
        """Download videos until there are none left, or `halt` is set."""
        with contextlib.closing(self._client), contextlib.suppress(queue.Empty):
            while not self._halt.is_set():
                video = self._todo.get_nowait()
                try:
                    self._done.put((video, self._fetch_with_retries(video)))
                except Exception as error:  # the main thread waits for a result
                    self._done.put((video, error))
                self._halt.wait(self._options.wait * random.uniform(0.5, 1.5))

    def _fetch_with_retries(self, video):
        for attempt in range(1, self._options.attempts + 1):
            outcome = self._fetch(video)
            if outcome.kind not in TEMPORARY or attempt == self._options.attempts or self._halt.is_set():
                break
            pause = _pause_before_next(attempt, self._options.backoff, outcome.pause)
            logger.info("%s/%s: %s; retrying in %.0f s", video.category, video.clip, outcome.reason, pause)
            if self._halt.wait(pause):
                break
        return outcome

    def _fetch(self, video):
        url = self._options.url_template.replace("{id}", video.id)
        try:
            path = self._client.fetch(url, self._collection.partial(video), video.start, video.end)
            self._collection.place(video, path)
        except UserError as error:
            self._collection.drop_partial(video)
            return Outcome(FAILED, reason([error]))
        except Exception as error:  # extractors may raise anything on pages that they do not understand
            outcome = judge(error)
            if outcome.kind == GONE:
                self._collection.drop_partial(video)
            return outcome
        return Outcome(HAD)


def download(videos, collection, jobs, options, retry=False):
    """Download the videos that are missing and not gone, `jobs` at a time; record each outcome in the ledger.

    retry: also try videos that are gone. Raises UserError after too many consecutive failures.
    """
    todo, done, halt, sink = queue.Queue(), queue.Queue(), threading.Event(), Sink()
    for video in videos:
        if not collection.is_settled(video, retry):
            todo.put(video)
    count = todo.qsize()
    clients = [Client(options, sink, halt) for _ in range(min(jobs, count))]
    threads = [_Job(todo, done, collection, options, client, halt) for client in clients]
    try:
        for thread in threads:
            thread.start()
        _take(done, count, collection)
    finally:
        halt.set()
        end = time.monotonic() + MAX_SHUTDOWN
        for thread in threads:
            thread.join(max(0, end - time.monotonic()))
    collection.tidy()


def _take(done, count, collection):
    """Record `count` outcomes as they come. Raises UserError after too many consecutive failures."""
    kind, in_a_row = None, 0
    with logging_redirect_tqdm(), progress(total=count, unit="video") as bar:
        for _ in range(count):
            video, outcome = done.get()
            if isinstance(outcome, Exception):
                raise outcome
            in_a_row = in_a_row + 1 if outcome.kind == kind else 1
            kind = outcome.kind
            if kind != FULL:
                collection.note(video, kind if kind in (HAD, GONE) else FAILED, outcome.reason)
            limit, advice = STOPS.get(kind, (count + 1, ""))
            if in_a_row >= limit:
                raise UserError(
                    f"stopped after {in_a_row} failures in a row: {advice}; then run the command again. "
                    f"The last was {video.category}/{video.clip}: {outcome.reason}"
                )
            bar.update()


def _number(kind, lowest):
    def parse(text):
        with contextlib.suppress(ValueError):
            if lowest <= kind(text) < float("inf"):
                return kind(text)
        raise argparse.ArgumentTypeError(f"expected a number of at least {lowest}, found {text!r}")

    return parse


def _text_of_file(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error}") from None


def _parse(argv):
    text = "Download the videos of MUSIC; run it again to resume."
    parser = Parser(EXAMPLES, prog="python -m dataset.download", description=text)
    add, seconds, count = parser.add_argument, _number(float, 0), _number(int, 1)
    add("--videos", default="data/videos", help="folder for <category>/<id>.mp4 and ledger.csv (%(default)s)")
    published = video_list.PUBLISHED
    add("--lists", nargs="+", choices=published, help="published lists (solo duet, unless --list is given)")
    add(
        "--list",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="your own lists, JSON or CSV",
    )
    add("--lists_url", "--lists-url", help="URL of the published lists (%(default)s)")
    add("--categories", nargs="+", metavar="NAME", help="only these categories")
    add("--limit", type=count, metavar="N", help="only the first N of each category")
    add("--url_template", "--url-template", help="URL of a video (%(default)s)")
    add("--jobs", type=count, default=2, help="parallel downloads (%(default)s)")
    add("--wait", type=seconds, help="seconds between videos, randomised (%(default)s)")
    add("--timeout", type=_number(float, 0.1), help="seconds without a response (%(default)s)")
    add("--attempts", type=count, help="attempts per video at temporary errors (%(default)s)")
    add(
        "--backoff",
        type=seconds,
        help="seconds before the first retry; doubled for each further one (%(default)s)",
    )
    add("--cookies", type=_text_of_file, metavar="FILE", help="cookies of a login, in Netscape format")
    add("--cookies_from_browser", "--cookies-from-browser", metavar="NAME[:PROFILE]", help="e.g. firefox")
    add("--retry", action="store_true", help="also try videos that are gone, e.g. with new cookies")
    parser.set_defaults(lists_url=video_list.BASE_URL, **Options()._asdict())
    args = parser.parse_args(argv)
    if "{id}" not in args.url_template or not args.url_template.startswith(("http://", "https://")):
        parser.error(f"argument --url_template: expected http…{{id}}…, found {args.url_template!r}")
    return args


def _read(paths):
    """The distinct videos of all lists, {clip: Entry} of segments, and the number of invalid entries."""
    videos, num_refused = video_list.read([path for path in paths if not path.lower().endswith(".csv")])
    table = {}
    for path in [path for path in paths if path.lower().endswith(".csv")]:
        segments, entries, refused = read_segments(path)
        videos += [video for video in segments if video.clip not in table]
        table |= {clip: entry for clip, entry in entries.items() if clip not in table}
        num_refused += refused
    return videos, table, num_refused


@command
def main(argv=None):
    """Download the requested videos; the exit status is 1 if any of them failed."""
    args = _parse(argv)
    set_up_logging()
    options = Options(**{name: getattr(args, name) for name in Options._fields})
    names = args.lists or ([] if args.list else ["solo", "duet"])
    try:
        paths = [video_list.fetch(name, args.videos, args.lists_url, args.timeout) for name in names]
        videos, table, num_refused = _read([*paths, *args.list])
        videos = video_list.select(videos, args.categories, args.limit)
        with Collection(args.videos) as collection:
            wanted = {video.clip: table[video.clip] for video in videos if video.start is not None}
            add_labels(os.path.join(args.videos, FILE_LABELS), wanted)
            download(videos, collection, args.jobs, options, args.retry)
    except OSError as error:  # the disk is full or not writable
        raise UserError(f"{args.videos}: {error}") from None
    rows = [collection.row(video) for video in videos]
    failures = ["failed: {category}/{id}: {reason}".format(**row) for row in rows if row["state"] == FAILED]
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    print(collection.summary(videos))
    if num_refused:
        print(f"{num_refused} entries of the lists were skipped: not valid ids or folder names")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
