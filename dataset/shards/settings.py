"""The settings with which the shards of a folder were packed, so that a folder never mixes two."""

import json
import os

from utils import UserError, save_json

FILE_SETTINGS = "packing.json"  # beside the shards


def check_settings(folder, encoding, video=None, is_empty=False):
    """Record the settings in a folder of shards. Raises UserError if its record says other ones.

    encoding: an `Encoding`; video: {name: value} of how clips are made from videos, if they are; is_empty:
    whether there are no shards. Shards without a record are of unknown origin: they are kept, without one.
    """
    path = os.path.join(folder, FILE_SETTINGS)
    settings = encoding._asdict() | (video or {})
    if encoding.frames == "keep":
        del settings["quality"]
    if not os.path.exists(path):
        if is_empty:
            save_json(path, settings)
        return
    known = _read(path)
    for name in sorted(settings.keys() & known.keys()):
        if known[name] != settings[name]:
            values = f"--{name} {known[name]}, found --{name} {settings[name]}"
            hint = "choose another --out, or delete the shards and this file"
            raise UserError(f"{path}: shards here are packed with {values}: {hint}")
    if settings.keys() - known.keys():
        save_json(path, known | settings)


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(known, dict):
        raise UserError(f"{path}: expected the settings of packing, found {str(known)[:50]}")
    return known
