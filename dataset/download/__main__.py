"""Fetch the videos of MUSIC with yt-dlp: `python -m dataset.download`.

    the lists' categories and ids  ->  <videos>/<category>/<id>.mp4    at most 480p, if there is such
                                       <videos>/ledger.csv             what became of each

A video lies under <videos>/.partial until it is whole and has been looked at. What was had or is gone is not
asked for again: a run that was interrupted, in any way, goes on where it stopped.
"""

import argparse
import contextlib
import logging
import queue
import random
import sys
import threading
import time

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
from dataset.download.video_list import FAILED, GONE, HAD, Collection
from utils import UserError, command, progress, set_up_logging

MAX_PAUSE = 600  # seconds
LAST_WORDS = 2  # seconds that jobs have to end when the run is stopped

PASSING = (REFUSED, UNREACHABLE, BROKEN)  # worth another attempt
# After so many videos in a row that ended in this way the run stops: it is no matter of a single video.
STOPS = {
    REFUSED: (5, "the server turns this machine away: wait some hours, pass --cookies, or update yt-dlp"),
    UNREACHABLE: (3, "the server cannot be reached: see to the network"),
    BROKEN: (10, "no transfer succeeds: try later, or with a longer --timeout"),
    FAILED: (20, "yt-dlp may be too old for the site: pip install -U yt-dlp"),
    FULL: (1, "no room on the disk: make some"),
}

logger = logging.getLogger(__name__)


def _pause_before_next(attempt, backoff, asked):
    """Seconds to wait after attempt 1, 2, …: doubling, never two jobs at once, and as the server asks."""
    return min(max(backoff * 2 ** (attempt - 1) * random.uniform(0.75, 1.25), asked), MAX_PAUSE)


class _Job(threading.Thread):
    """Takes videos from one queue and puts (video, Outcome or exception) into another, until told to stop."""

    def __init__(self, todo, done, collection, options, client, halt):
        super().__init__(daemon=True)  # a server that stalls does not hold up the end
        self._todo, self._done, self._halt = todo, done, halt
        self._collection, self._options, self._client = collection, options, client

    def run(self):
        """Fetch videos until there are none left, or `halt` is set."""
        with contextlib.closing(self._client), contextlib.suppress(queue.Empty):
            while not self._halt.is_set():
                video = self._todo.get_nowait()
                try:
                    self._done.put((video, self._ask_patiently(video)))
                except Exception as error:  # the main thread waits for something
                    self._done.put((video, error))
                self._halt.wait(self._options.wait * random.uniform(0.5, 1.5))

    def _ask_patiently(self, video):
        for attempt in range(1, self._options.attempts + 1):
            outcome = self._ask(video)
            if outcome.kind not in PASSING or attempt == self._options.attempts or self._halt.is_set():
                break
            pause = _pause_before_next(attempt, self._options.backoff, outcome.pause)
            logger.info("%s/%s: %s; again in %.0f s", *video, outcome.reason, pause)
            if self._halt.wait(pause):
                break
        return outcome

    def _ask(self, video):
        url = self._options.url_template.replace("{id}", video.id)
        try:
            path = self._client.fetch(url, self._collection.partial(video))
            self._collection.place(video, path)
        except UserError as error:
            self._collection.drop_partial(video)
            return Outcome(FAILED, reason([error]))
        except Exception as error:  # an extractor that does not understand a page may raise anything
            outcome = judge(error)
            if outcome.kind == GONE:
                self._collection.drop_partial(video)
            return outcome
        return Outcome(HAD)


def download(videos, collection, jobs, options, retry=False):
    """Fetch the videos that are neither had nor gone, `jobs` at a time, each noted in the ledger as it ends.

    retry: ask again for what is gone. Raises UserError if there is no use in going on.
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
        end = time.monotonic() + LAST_WORDS
        for thread in threads:
            thread.join(max(0, end - time.monotonic()))
    collection.tidy()


def _take(done, count, collection):
    """Note `count` outcomes as they come. Raises UserError after too many failures in a row."""
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
                    f"stopped after {in_a_row} failures in a row: {advice}; then run this again to go on. "
                    f"The last was {video.category}/{video.id}: {outcome.reason}"
                )
            bar.update()


def _number(kind, lowest):
    def parse(text):
        with contextlib.suppress(ValueError):
            if lowest <= kind(text) < float("inf"):
                return kind(text)
        raise argparse.ArgumentTypeError(f"expected a number from {lowest} on, found {text!r}")

    return parse


def _text_of_file(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error}") from None


def _parse(argv):
    parser = argparse.ArgumentParser(
        prog="python -m dataset.download", description="Fetch the videos of MUSIC; run it again to go on."
    )
    add, seconds, count = parser.add_argument, _number(float, 0), _number(int, 1)
    add("--videos", default="data/videos", help="folder for <category>/<id>.mp4 and ledger.csv (%(default)s)")
    published = video_list.PUBLISHED
    add("--lists", nargs="+", choices=published, help="published lists (solo duet, if there is no --list)")
    add("--list", nargs="+", action="extend", default=[], metavar="FILE", help="lists of your own, JSON")
    add("--lists_url", "--lists-url", help="folder of the published lists (%(default)s)")
    add("--categories", nargs="+", metavar="NAME", help="only these")
    add("--limit", type=count, metavar="N", help="only the first N of each category")
    add("--url_template", "--url-template", help="address of a video (%(default)s)")
    add("--jobs", type=count, default=2, help="videos at a time (%(default)s)")
    add("--wait", type=seconds, help="seconds between two videos, about (%(default)s)")
    add("--timeout", type=_number(float, 0.1), help="seconds without an answer (%(default)s)")
    add("--attempts", type=count, help="at a video, where waiting may help (%(default)s)")
    add("--backoff", type=seconds, help="seconds before the second; doubled for each after it (%(default)s)")
    add("--cookies", type=_text_of_file, metavar="FILE", help="of a login, as browsers' add-ons save them")
    add("--cookies_from_browser", "--cookies-from-browser", metavar="NAME[:PROFILE]", help="such as firefox")
    add("--retry", action="store_true", help="ask again for what is gone, as when there are cookies now")
    parser.set_defaults(lists_url=video_list.BASE_URL, **Options()._asdict())
    args = parser.parse_args(argv)
    if "{id}" not in args.url_template or not args.url_template.startswith(("http://", "https://")):
        parser.error(f"argument --url_template: expected http…{{id}}…, found {args.url_template!r}")
    return args


@command
def main(argv=None):
    """Fetch the videos that the command line names; exit status 1 if any of them failed."""
    args = _parse(argv)
    set_up_logging()
    options = Options(**{name: getattr(args, name) for name in Options._fields})
    names = args.lists or ([] if args.list else ["solo", "duet"])
    try:
        paths = [video_list.fetch(name, args.videos, args.lists_url, args.timeout) for name in names]
        videos, num_refused = video_list.read([*paths, *args.list])
        videos = video_list.select(videos, args.categories, args.limit)
        with Collection(args.videos) as collection:
            download(videos, collection, args.jobs, options, args.retry)
    except OSError as error:  # the disk is full, or not ours to write
        raise UserError(f"{args.videos}: {error}") from None
    rows = [collection.row(video) for video in videos]
    failures = ["failed: {category}/{id}: {reason}".format(**row) for row in rows if row["state"] == FAILED]
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    print(collection.summary(videos))
    if num_refused:
        print(f"{num_refused} entries of the lists were left out: no ids, or no names of folders")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
