"""Fixed mixtures for evaluation: from a mixture list, a published list of pairs, or a protocol.

A published list has rows such as `/flute/kbTy_5o6AB4.wav, /cello/-Gdh8N_KpLY.wav`. A protocol is the file
protocol.json of an earlier evaluation. Of both, the media are looked for under roots. A clip whose sound or
frames are gone has `num_frames` 0; it keeps its place, so that mixtures keep their numbers.
"""

import json
import os
from collections import Counter

from dataset.index import (
    AUDIO_SUFFIXES,
    VIDEO_SUFFIXES,
    Clip,
    parse_mixtures,
    read_rows,
    strip_suffixes,
    write_rows,
)
from dataset.indexing.table import has_many_rows
from dataset.shards.read import is_file, is_folder, list_frames
from utils import UserError

VERSION = 1  # of protocols
FILE_PROTOCOL = "protocol.json"
FILE_GONE = "gone.csv"
SECTIONS = {"list": str, "window": dict, "metric": dict, "mixtures": list, "clips": dict, "networks": dict}
SECTIONS_CLIP = {"clip": str, "audio": str, "frames": str, "num_frames": int}


def is_long(path):
    """Whether a file is a mixture list of this project with many rows, for `MixtureTable`."""
    return has_many_rows(path) and not _is_published(read_rows(path, "mixture list", 1)[0][1])


def read_fixed(path, root_audio, root_frame, most=None):
    """Read a mixture list, this project's or a published one, into a list of tuples of N `Clip`.

    root_audio, root_frame: folders with the media of a published list; most: rows to read, None: all. Raises
    UserError, naming file and line, if the file is missing or empty or if a row is malformed, and if all
    clips are gone.
    """
    rows = read_rows(path, "mixture list", most)
    if not _is_published(rows[0][1]):
        return parse_mixtures(rows)
    names = [_published_names(where, row, len(rows[0][1])) for where, row in rows]
    found = {name: _find(name, root_audio, root_frame) for mixture in names for name in mixture}
    return _require_some(path, [tuple(found[name] for name in mixture) for mixture in names])


def _is_published(row):
    return all(column.strip().lower().endswith(AUDIO_SUFFIXES) for column in row)


def _published_names(where, row, num_mix):
    """["category/id", …] of a row."""
    names = [strip_suffixes(column.strip().removeprefix("/")) for column in row]
    if len(row) != num_mix or not (_is_published(row) and all(_is_name(name) for name in names)):
        raise UserError(f"{where}: expected /CATEGORY/ID.wav {num_mix} times, found {','.join(row)}")
    return names


def _is_name(name):
    return name.count("/") == 1 and all(part.strip(".") for part in name.split("/"))


def _find(name, root_audio, root_frame):
    """The `Clip` named "category/id" under the roots; it has as many frames as its folder."""
    path_audio = _first(root_audio, name, AUDIO_SUFFIXES)
    path_frames = _first(root_frame, name, (*VIDEO_SUFFIXES, ""))
    return _if_there(Clip(path_audio, path_frames, _count_frames(path_frames)))


def _first(root, name, suffixes):
    return _first_there([os.path.join(root, name + suffix) for suffix in suffixes])


def _first_there(paths):
    """The first of `paths` that exists, else the first."""
    return next((path for path in paths if is_file(path) or is_folder(path)), paths[0])


def _count_frames(folder):
    names = list_frames(folder) if is_folder(folder) else ()
    return sum(name.endswith(".jpg") and not name.startswith(".") for name in names)


def _if_there(clip):
    """The clip, with `num_frames` 0 if its sound or frames are gone."""
    return clip if not what_is_gone(clip) else clip._replace(num_frames=0)


def what_is_gone(clip):
    """Which files of a clip do not exist: "sound", "frames", "sound and frames", or ""."""
    gone = [] if is_file(clip.path_audio) else ["sound"]
    gone += [] if _count_frames(clip.path_frames) else ["frames"]
    return " and ".join(gone)


def write_gone(folder, dataset):
    """Write gone.csv: each clip of a data set of fixed mixtures that is gone, and the number of its mixtures.

    If none is gone, delete it.
    """
    path = os.path.join(folder, FILE_GONE)
    counts = Counter(number for index in dataset.gone for number in set(dataset.mixtures[index]))
    clips = [(dataset.clips[number], count) for number, count in counts.items()]
    rows = [(clip.name, what_is_gone(clip), count) for clip, count in clips if not clip.num_frames]
    if rows:
        write_rows(path, [("clip", "gone", "mixtures"), *sorted(rows)])
    elif os.path.exists(path):
        os.remove(path)


def _require_some(path, mixtures):
    """The mixtures. Raises UserError if every mixture has a clip that is gone."""
    if all(any(not clip.num_frames for clip in mixture) for mixture in mixtures):
        clip = next(clip for clip in mixtures[0] if not clip.num_frames)
        raise UserError(
            f"{path}: none of its {len(mixtures)} mixtures is there: no {clip.path_audio} or no frames in "
            f"{clip.path_frames}; --root_audio and --root_frame say where the clips are"
        )
    return mixtures


# ---- protocols


def read_protocol(path):
    """Read a protocol as `engine.evaluation.protocol` writes it. Raises UserError unless it is one."""
    try:
        with open(path, encoding="utf-8") as file:
            protocol = json.load(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read as a protocol: {reason}") from None
    if not isinstance(protocol, dict) or protocol.get("version") != VERSION:
        raise UserError(f"{path}: not a protocol of version {VERSION}: expected a {FILE_PROTOCOL}")
    _check_parts(path, protocol, SECTIONS)
    for number, mixture in enumerate(protocol["mixtures"]):
        where = f"{path}: mixture {number}"
        _check_parts(where, mixture, {"clips": list, "scores": dict})
        for clip in mixture["clips"]:
            _check_parts(where, clip, SECTIONS_CLIP)
    if not any(mixture["clips"] for mixture in protocol["mixtures"]):
        raise UserError(f"{path}: no mixtures")
    return protocol


def _check_parts(where, values, kinds):
    for key, kind in kinds.items():
        found = values.get(key) if isinstance(values, dict) else values
        if not isinstance(found, kind):
            raise UserError(f"{where}: {key}: expected {kind.__name__}, found {found!r}")


def protocol_mixtures(path, root_audio, root_frame):
    """The mixtures of the protocol in a file, as `read_fixed` returns them.

    A path that does not exist here is looked for under the roots, as `<category>/<id>`.
    """
    found = {}

    def locate(entry):
        clip = Clip(entry["audio"], entry["frames"], entry["num_frames"])
        if clip.num_frames and clip not in found:
            near = _find(clip.name, root_audio, root_frame)
            audio = _first_there([clip.path_audio, near.path_audio])
            frames = _first_there([clip.path_frames, near.path_frames])
            found[clip] = _if_there(Clip(audio, frames, clip.num_frames))
        return found.get(clip, clip)

    mixtures = read_protocol(path)["mixtures"]
    return _require_some(path, [tuple(map(locate, mixture["clips"])) for mixture in mixtures])
