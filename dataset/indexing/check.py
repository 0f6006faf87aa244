"""Find problems in index files and mixture lists, and in the audio and frames that they list."""

import os
from collections import Counter, defaultdict
from itertools import combinations
from typing import NamedTuple

from dataset.audio import sound_seconds
from dataset.index import NUM_COLUMNS, parse_clips, path_frame, read_rows, shared_ids
from dataset.indexing.tree import map_threads, pictures_of
from dataset.shards.read import is_file, list_frames
from utils import UserError

# Files with these words in their names must not share videos with mixtures for evaluation.
KEPT_APART = ("train", "duet")


class Problem(NamedTuple):
    """One kind of problem, an error or a warning, with one line per case."""

    is_error: bool
    kind: str
    cases: list


class Section(NamedTuple):
    """The report on a file or a pair of files: title, lines of a table, list of `Problem`."""

    title: str
    table: list
    problems: list


class _List(NamedTuple):
    """A file: [(file:line, tuple of N clips)], N, and the errors of the other rows."""

    path: str
    rows: list
    num_mix: int
    bad: list

    @property
    def clips(self):
        """{clip: the first file:line that has it}."""
        return {clip: where for where, mixture in reversed(self.rows) for clip in mixture}


def check_lists(paths, fps, max_difference):
    """Check files. Returns a list of `Section`: one per file, and one per pair that wrongly shares videos.

    fps: frames/s; max_difference: seconds by which a clip's audio may be shorter than its frames.
    """
    lists = [_read_list(path) for path in dict.fromkeys(paths)]
    clips = list({clip: None for each in lists for clip in each.clips})
    found = map_threads(lambda clip: media_problems(clip, fps, max_difference), clips, unit="clip")
    media = dict(zip(clips, found, strict=True))
    sections = [
        Section(each.path, _table(each, fps), [*_row_problems(each), *_media_of(each, media)])
        for each in lists
    ]
    for one, other in combinations(lists, 2):
        shared = [] if _may_share(one, other) else shared_ids(one.clips, other.clips)
        if shared:
            problem = Problem(True, "ids in both files", shared)
            sections.append(Section(f"{one.path} and {other.path}", [], [problem]))
    return sections


def _read_list(path):
    """Read a file. Rows with a different number of clips than most rows are bad."""
    try:
        rows = read_rows(path)
    except UserError as error:
        return _List(path, [], 1, [str(error)])
    widths = Counter(len(row) for _, row in rows if len(row) % NUM_COLUMNS == 0)
    num_mix = widths.most_common(1)[0][0] // NUM_COLUMNS if widths else 1
    good, bad = [], []
    for where, row in rows:
        try:
            good.append((where, parse_clips(where, row, num_mix)))
        except UserError as error:
            bad.append(str(error))
    return _List(path, good, num_mix, bad)


def _table(each, fps):
    """The number of clips and seconds per category, as lines of a table."""
    clips, seconds = Counter(), Counter()
    for clip in each.clips:
        clips[clip.category] += 1
        seconds[clip.category] += clip.num_frames / fps
    rows = [(name, clips[name], seconds[name]) for name in sorted(clips)]
    rows.append(("total", clips.total(), seconds.total()))
    width = max(len(name) for name, _, _ in [*rows, ("category", 0, 0)])
    what = f"mixtures of {each.num_mix}" if each.num_mix > 1 else "clips"
    return [
        f"rows: {len(each.rows)} {what}",
        f"{'category':{width}}  {'clips':>6}  {'seconds':>9}",
        *(f"{name:{width}}  {count:6}  {length:9.1f}" for name, count, length in rows),
    ]


def _row_problems(each):
    """Problems of the rows themselves; no media are read."""
    mixtures, videos = Counter(), defaultdict(dict)
    within, alike = [], []
    for where, mixture in each.rows:
        names = "; ".join(sorted(clip.name for clip in mixture))
        mixtures[names] += 1
        for clip in mixture:
            videos[clip.id][clip.name] = where
        if len({clip.video for clip in mixture}) < each.num_mix:
            within.append(f"{where}: {names}")
        elif len({clip.category for clip in mixture}) < each.num_mix:
            alike.append(f"{where}: {names}")
    twice = [f"{names}: {count} rows" for names, count in mixtures.items() if count > 1]
    spread = [", ".join(names) for names in videos.values() if len(names) > 1]
    problems = [
        Problem(True, "malformed rows", each.bad),
        Problem(True, "duplicate clips or mixtures", twice),
        Problem(True, "mixtures of a video with itself", within),
        Problem(False, "mixtures of one category", alike),
        Problem(False, "videos in several categories", spread),
    ]
    return [problem for problem in problems if problem.cases]


def _media_of(each, media):
    cases = defaultdict(list)
    for clip, where in sorted(each.clips.items(), key=lambda item: int(item[1].rpartition(":")[2])):
        for kind, text in media[clip]:
            cases[kind].append(f"{where}: {text}")
    return [Problem(True, kind, cases[kind]) for kind in sorted(cases)]


def media_problems(clip, fps, max_difference):
    """Problems of a clip's audio and frames on disk: [(kind, text)]."""
    try:
        return [*_sound_problems(clip, clip.num_frames / fps, max_difference), *_frames_problems(clip)]
    except UserError as error:
        return [("shard cannot be used", str(error))]


def _sound_problems(clip, seconds, max_difference):
    if not is_file(clip.path_audio):
        return [("no sound", clip.path_audio)]
    try:
        length = sound_seconds(clip.path_audio)
    except UserError as error:
        return [("sound cannot be read", str(error))]
    if length < seconds - max_difference:
        text = f"{clip.path_audio}: {length:.1f} s, the frames span {seconds:.1f} s"
        return [("sound shorter than the frames", text)]
    return []


def _frames_problems(clip):
    try:
        pictures = pictures_of(list_frames(clip.path_frames))
    except OSError:
        return [("no frames folder", clip.path_frames)]
    problems = []
    if len(pictures) < clip.num_frames:
        text = f"{clip.path_frames}: {len(pictures)}, the row says {clip.num_frames}"
        problems.append(("fewer frames than the row says", text))
    numbers = range(1, clip.num_frames + 1)
    missing = next((number for number in numbers if path_frame("", number) not in pictures), None)
    if missing and missing <= len(pictures):  # later ones exist
        problems.append(("gap in the frame numbers", path_frame(clip.path_frames, missing)))
    return problems


def _may_share(one, other):
    """Whether two files may share videos: two mixture lists, or an index file and mixtures of its clips."""
    names = [os.path.basename(each.path).lower() for each in (one, other)]
    if any(word in name for word in KEPT_APART for name in names):
        return False
    ids = [{clip.id for clip in each.clips} for each in (one, other)]
    if one.num_mix > 1 and other.num_mix > 1:
        return True
    return (one.num_mix > 1 and ids[0] <= ids[1]) or (other.num_mix > 1 and ids[1] <= ids[0])


def count_cases(sections):
    """(errors, warnings) of all sections."""
    problems = [problem for section in sections for problem in section.problems]
    errors = sum(len(problem.cases) for problem in problems if problem.is_error)
    return errors, sum(len(problem.cases) for problem in problems) - errors


def report(sections, max_cases):
    """All sections as text, with at most `max_cases` cases of each problem; None: all."""
    lines = []
    for title, table, problems in sections:
        lines += [title, *(f"  {line}" for line in table)]
        for problem in problems:
            lines.append(
                f"  {'error' if problem.is_error else 'warning'}: {problem.kind}: {len(problem.cases)}"
            )
            lines += [f"    {case}" for case in problem.cases[:max_cases]]
            more = len(problem.cases[max_cases:]) if max_cases else 0
            lines += [f"    … and {more} more (--verbose lists them)"] if more else []
        lines.append("")
    return "\n".join(lines)
