"""Split videos into parts: by ratio (seeded, stratified by category) or by published lists."""

import hashlib
import json
from collections import Counter, defaultdict

from dataset.index import ERRORS, read_index, video_of
from utils import UserError

PARTS = ("train", "val", "test")
NUM_NAMED = 5  # ids listed in an error


def draw(name, seed):
    """A pseudo-random sort key that depends only on the name and the seed."""
    return hashlib.sha256(f"{seed}/{name}".encode(errors=ERRORS)).digest()


def videos_of(clips):
    """{id of a video: set of its categories}."""
    videos = defaultdict(set)
    for clip in clips:
        videos[clip.video].add(clip.category)
    return dict(videos)


def held_out(clips, table):
    """{video: "val" or "test"} of the clips' videos that a published split keeps from training.

    table: as `dataset.indexing.labels.read_labels` returns it. All segments of a video go with the first of
    them that is for test, or else for validation.
    """
    parts = {}
    for part in ("val", "test"):
        parts |= {clip.video: part for clip in clips if clip.id in table and table[clip.id].split == part}
    return parts


def split(videos, ratio, seed, test_ratio=0.0):
    """{id: "train", "val" or "test"} of {id: categories}; the order of `videos` does not matter.

    A video belongs to one part, even if it occurs in several categories. In every category `ratio` of the
    videos, rounded, are for training, `test_ratio` for test, the rest for validation. Of two videos, one is
    for training. If only one is left for test and validation, some categories give it to test, others to
    validation. The training part does not depend on `test_ratio`. Adding or removing a video moves at most
    one other, if it is in a single category.
    """
    counts = _count(videos)
    train = _choose(videos, {name: _num_train(count, ratio) for name, count in counts.items()}, seed)
    rest = {video: names for video, names in videos.items() if video not in train}
    test = set()
    if test_ratio:
        rooms = _count(rest)
        wanted = {
            name: _num_test(room, test_ratio * counts[name], (1 - ratio - test_ratio) * counts[name])
            for name, room in rooms.items()
        }
        either = [name for name in rooms if rooms[name] == 1 and _is_odd(counts[name], ratio, test_ratio)]
        wanted |= _share_out(either, test_ratio / (1 - ratio), seed)
        test = _choose(rest, wanted, seed)
    return {video: "train" if video in train else "test" if video in test else "val" for video in videos}


def _count(videos):
    return Counter(name for names in videos.values() for name in names)


def _num_train(count, ratio):
    """A category's number of training videos before rounding: of several videos at least one, but not all."""
    return min(max(ratio * count, 1), count - 1) if count > 1 else ratio * count


def _num_test(room, test, val):
    """How many of `room` videos are for test, if `test` and `val` videos (floats) are wanted.

    Both parts are within one video of that; if possible, neither is empty.
    """

    def badness(number):
        far = max(abs(number - test), abs(room - number - val)) > 1 + 1e-9
        return far, number in (0, room), abs(number - test)

    return min(range(room + 1), key=badness)


def _is_odd(count, ratio, test_ratio):
    """Whether a category's one remaining video may go to either part, within one video of both ratios."""
    return max(test_ratio, 1 - ratio - test_ratio) * count <= 1 + 1e-9


def _share_out(names, share, seed):
    """{category: 1 or 0} for categories with one video left: a random `share` of them gives it to test."""
    number = min(max(round(share * len(names)), 1), len(names) - 1) if len(names) > 1 else round(share)
    order = sorted(names, key=lambda name: draw(name, seed))
    return {name: int(rank < number) for rank, name in enumerate(order)}


def _choose(videos, wanted, seed):
    """Choose a set of videos as close as possible to the `wanted` number (float) in each category."""
    # Videos in several categories come first; the others then fill up each category.
    order = sorted(videos, key=lambda video: (-len(videos[video]), draw(video, seed)))
    room = {name: round(number) for name, number in wanted.items()}
    chosen = set()
    for video in order:
        if all(room[name] > 0 for name in videos[video]):
            chosen.add(video)
            room.update((name, room[name] - 1) for name in videos[video])
    _mend(chosen, order, videos, wanted)
    return chosen


def _mend(chosen, order, videos, wanted):
    """Add or remove videos while that reduces the squared distance of `chosen` from `wanted`.

    Nothing changes if every category has its rounded number, as it has if no video is in several of them.
    """
    counts = _count({video: videos[video] for video in chosen})
    missing = {name: number - counts[name] for name, number in wanted.items()}
    moved = True
    while moved:
        moved = False
        for video in order:
            step = -1 if video in chosen else 1
            if sum(2 * step * missing[name] - 1 for name in videos[video]) > 1e-9:
                chosen ^= {video}
                missing.update((name, missing[name] - step) for name in videos[video])
                moved = True


def read_split(paths):
    """Read {part: file of ids} as {id: part}; see `read_ids`. Raises UserError if two files share an id."""
    parts = {}
    for part, path in paths.items():
        ids = read_ids(path)
        shared = sorted(ids & parts.keys())
        if shared:
            others = sorted({paths[parts[video]] for video in shared})
            raise UserError(
                f"{path} and {', '.join(others)} share {len(shared)} ids: {', '.join(shared[:NUM_NAMED])}"
            )
        parts.update(dict.fromkeys(ids, part))
    return parts


def read_ids(path):
    """The videos' ids in a file: .txt, one per line; .json, a published list; otherwise an index file.

    Raises UserError if it contains none.
    """
    if not path.lower().endswith((".txt", ".json")):
        return {clip.video for clip in read_index(path)}
    try:
        with open(path, encoding="utf-8-sig", errors=ERRORS) as file:
            text = file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a list of ids: {error}") from None
    is_json = path.lower().endswith(".json")
    ids = _ids_of_json(path, text) if is_json else {line.strip() for line in text.split("\n")} - {""}
    if not ids:
        raise UserError(f"{path}: contains no ids")
    return set(map(video_of, ids))


def _ids_of_json(path, text):
    try:
        ids = {video for videos in json.loads(text)["videos"].values() for video in videos}
    except (ValueError, KeyError, TypeError, AttributeError):
        ids = {None}
    if not all(isinstance(video, str) for video in ids):
        raise UserError(f'{path}: expected {{"videos": {{category: [id, …]}}}}')
    return ids
