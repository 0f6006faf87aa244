"""The videos of lists: published lists, paths on disk, and the state of each video.

A list is JSON: {"version": ..., "videos": {"<category>": ["<id>", ...]}}, or only the inner object.
Categories become folder names and ids become file names, so both are validated.
"""

import contextlib
import http.client
import json
import logging
import os
import re
import shutil
from collections import Counter
from datetime import datetime, timezone
from typing import NamedTuple

import limits
from dataset.indexing.labels import FILE_LABELS
from dataset.ledger import Ledger
from media import media_input, run_ffmpeg
from utils import UserError, replacing
from web import open_url

BASE_URL = "https://raw.githubusercontent.com/roudimit/MUSIC_dataset/HEAD"
PUBLISHED = {
    "solo": "MUSIC_solo_videos.json",
    "duet": "MUSIC_duet_videos.json",
    "solo21": "MUSIC21_solo_videos.json",
}
SHAPE = '{"videos": {"CATEGORY": ["ID", ...]}}'
HAD, GONE, FAILED = STATES = ("had", "gone", "failed")
COLUMNS = ("id", "category", "state", "reason", "bytes", "time")
ID = re.compile(r"[A-Za-z0-9_-]{11}")
MAX_CATEGORY = 60  # characters
TABLES = ("ledger.csv", FILE_LABELS)  # beside the folders of categories

log = logging.getLogger(__name__)


class Video(NamedTuple):
    """One entry: the category, which names its folder, the id at YouTube, and the seconds of a segment."""

    category: str
    id: str
    start: float | None = None  # None: the whole video
    end: float | None = None

    @property
    def clip(self):
        """The name of its file and of its row in the ledger, see `dataset.index.video_of`."""
        if self.start is None:
            return self.id
        seconds, thousandths = divmod(round(1000 * self.start), 1000)
        return f"{self.id}_{seconds:06d}" + (f"_{thousandths:03d}" if thousandths else "")


class Collection:
    """A folder of videos and the ledger of their states: `with Collection(root) as collection:`.

    Raises UserError as Ledger does.
    """

    def __init__(self, root):
        self.root = os.path.abspath(root)
        self._ledger = Ledger(os.path.join(root, "ledger.csv"), COLUMNS, num_keys=2)

    def __enter__(self):
        self._ledger.__enter__()
        return self

    def __exit__(self, *error):
        self._ledger.__exit__(*error)

    def path(self, video):
        """The path of the finished file."""
        return os.path.join(self.root, video.category, f"{video.clip}.mp4")

    def partial(self, video):
        """The folder of the unfinished download."""
        return os.path.join(self.root, ".partial", video.category, video.clip)

    def size(self, video):
        """Bytes of the finished file, 0 if there is none."""
        path = self.path(video)
        return os.path.getsize(path) if os.path.isfile(path) else 0

    def place(self, video, path):
        """Move a finished file to its final path. Raises UserError if it is not a video."""
        _check_video(path)
        os.makedirs(os.path.dirname(self.path(video)), exist_ok=True)
        os.replace(path, self.path(video))
        self.drop_partial(video)

    def drop_partial(self, video):
        """Delete the unfinished download."""
        shutil.rmtree(self.partial(video), ignore_errors=True)

    def tidy(self):
        """Remove empty folders of unfinished downloads."""
        for path, _, _ in os.walk(os.path.join(self.root, ".partial"), topdown=False):
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(path)

    def is_settled(self, video, retry=False):
        """Whether the video exists, or is gone and not to be retried."""
        row = self.row(video)
        had = self.size(video) > 0
        if had and row.get("state") != HAD:
            self.note(video, HAD)
        elif had and self.size(video) < int(row["bytes"] or 0):  # truncated on this disk
            return False
        return had or (self.row(video).get("state") == GONE and not retry)

    def note(self, video, state, reason=""):
        """Record a state in the ledger."""
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        size = self.size(video) if state == HAD else ""
        self._ledger.record(
            id=video.clip, category=video.category, state=state, reason=reason, bytes=size, time=now
        )

    def row(self, video):
        """The video's row in the ledger, or an empty one."""
        return self._ledger.rows.get((video.clip, video.category), {})

    def summary(self, videos):
        """A table of the states of `videos`, one line per category and one for all."""
        states = Counter((video.category, self.row(video)["state"]) for video in videos)
        names = sorted({video.category for video in videos})
        table = [[states[name, state] for state in STATES] for name in names]
        table.append([sum(column) for column in zip(*table, strict=True)] or [0, 0, 0])
        lines = [["category", *STATES, "total"]]
        lines += [[name, *row, sum(row)] for name, row in zip([*names, "all"], table, strict=True)]
        width = max(len(line[0]) for line in lines)
        return "\n".join(f"{name:{width}}" + "".join(f"{value:>8}" for value in row) for name, *row in lines)


def _check_video(path):
    """Raise UserError unless a frame can be decoded in the first second of `path`."""
    if not os.path.getsize(path):
        raise UserError("the file is empty")
    try:
        run_ffmpeg([*media_input(path), "-map", "0:V:0", "-t", "1", "-f", "null", "-"])
    except UserError as error:
        raise UserError(f"cannot be read as a video: {error}") from None


def fetch(name, folder, base_url=BASE_URL, timeout=30):
    """The path of a published list in `folder`, downloaded if it does not exist. timeout: seconds.

    name: a key of PUBLISHED. Raises UserError, with advice, if it cannot be downloaded.
    """
    path = os.path.join(folder, PUBLISHED[name])
    if os.path.exists(path):
        return path
    url = f"{base_url.rstrip('/')}/{PUBLISHED[name]}"
    try:
        with open_url(url, timeout) as response:
            data = response.read(limits.MAX_LIST_BYTES + 1)
        if len(data) > limits.MAX_LIST_BYTES:
            raise UserError(f"larger than {limits.MAX_LIST_BYTES} bytes (SOP_MAX_LIST_BYTES)")
        _parse(data, url)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a UserError or no URL
        advice = "download the file yourself and pass it with --list"
        raise UserError(f"{url}: cannot be downloaded: {error}; {advice}") from None
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(data)
    return path


def read(paths):
    """The distinct videos of all lists, in the order of the lists, and the number of invalid entries.

    Each invalid id or category is logged as a warning. Raises UserError for a file that is not a list.
    """
    videos, num_refused = {}, 0
    for path in paths:
        for category, ids in _load(path).items():
            if not is_folder_name(category):
                log.warning("%s: not a valid folder name: %r: skipped %d videos", path, category, len(ids))
                num_refused += len(ids)
                continue
            refused = [entry for entry in ids if not (isinstance(entry, str) and ID.fullmatch(entry))]
            for entry in refused:
                log.warning("%s: not a video id: %r in %r: skipped", path, entry, category)
            num_refused += len(refused)
            videos.update(dict.fromkeys(Video(category, entry) for entry in ids if entry not in refused))
    return list(videos), num_refused


def select(videos, categories=None, limit=None):
    """The videos of `categories` (default: all), and of each category the first `limit` (default: all)."""
    known = {video.category for video in videos}
    for name in categories or ():
        if name not in known:
            raise UserError(
                f"--categories: {name!r} is not in the lists, which hold: {', '.join(sorted(known))}"
            )
    by_category = {}
    for video in videos:
        if not categories or video.category in categories:
            by_category.setdefault(video.category, []).append(video)
    return [video for group in by_category.values() for video in group[:limit]]


def _load(path):
    try:
        with open(path, "rb") as file:
            return _parse(file.read(), path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _parse(data, name):
    """Parse the bytes of a list: {category: list of ids}. The entries are not checked yet."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: expected JSON, {SHAPE}: {error}") from None
    categories = value.get("videos", value) if isinstance(value, dict) else None
    if not isinstance(categories, dict) or not all(isinstance(ids, list) for ids in categories.values()):
        raise UserError(f"{name}: expected {SHAPE}, found {data[:60].decode(errors='replace')!r}")
    return categories


def is_folder_name(name):
    """Whether a category of a list may name a folder."""
    fits = 0 < len(name) <= MAX_CATEGORY and name.isprintable()
    return fits and name[0] != "." and not set(name) & set("/\\") and name not in TABLES
