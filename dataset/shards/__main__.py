"""Pack the clips of index files into tar files of some hundred MB: `python -m dataset.shards`.

    data/train.csv, data/val.csv, ...  ->  data/shards/000000.tar ...         the clips' sound and frames
                                           data/shards/000000.tar.index.npy   where each file is in it
                                           data/shards/train.csv, ...         the same lists, of clips there
                                           data/shards/shards.csv             outcome per clip
                                           data/shards/packing.json           settings of all shards

Shards appear complete or not at all; an interrupted run resumes after the last complete one. `main.py
--list_train data/shards/train.csv` trains from them.
"""

import os
import sys

import environment  # noqa: F401

from dataset.indexing.labels import FILE_LABELS, add_labels, beside, read_labels
from dataset.shards.encode import FRAMES, SOUNDS, Encoding
from dataset.shards.members import write_members
from dataset.shards.write import ClipList, pack, packed_clips
from utils import Parser, UserError, command, i_of_n, set_up_logging, tag_of, whole

EXAMPLES = """
python -m dataset.shards
python -m dataset.shards --lists my_data/train.csv my_data/val.csv --out my_data/shards
python -m dataset.shards --index others/000000.tar others/000001.tar
"""
USUAL = [f"data/{name}.csv" for name in ("train", "val", "test", "duets", "val_mix2", "val_mix3")]


def _parse(argv):
    text = "Pack clips into tar files (shards), for data sets of many files."
    parser = Parser(EXAMPLES, prog="python -m dataset.shards", description=text)
    add, default = parser.add_argument, Encoding()
    add(
        "--lists",
        nargs="+",
        metavar="FILE",
        help="index files and mixture lists whose clips are packed (those of create_index_files.py in data/)",
    )
    add("--out", default="data/shards", help="folder of the shards (%(default)s)")
    add("--shard_mb", type=whole(1, 10**6), default=300, help="MB of a shard (%(default)s)")
    add(
        "--sound",
        choices=SOUNDS,
        default=default.sound,
        help="how wav files are stored; flac loses nothing, opus a little (%(default)s)",
    )
    add(
        "--frames",
        choices=FRAMES,
        default=default.frames,
        help="how frames are stored: as they are, or encoded again (%(default)s)",
    )
    add(
        "--quality",
        type=whole(1, 100),
        help=f"of frames that are encoded again ({default.quality})",
    )
    add("--shard", type=i_of_n, metavar="I/N", help="pack only the I-th of N parts (all)")
    add("--index", nargs="+", metavar="TAR", help="only write the indexes of existing tar files")
    return _check(parser, parser.parse_args(argv))


def _check(parser, args):
    if args.index and (args.lists or args.shard):
        parser.error("--index: not together with --lists or --shard")
    if args.quality and args.frames == "keep":
        parser.error("--quality: expected --frames jpeg or --frames webp with it")
    args.quality, args.shard = args.quality or Encoding().quality, args.shard or (1, 1)
    return args


@command
def main(argv=None):
    """Pack the clips; the exit status is 1 if any of them failed."""
    args = _parse(argv)
    set_up_logging()
    if args.index:
        for path in args.index:
            write_members(path)
        print(f"{len(args.index)} {'shard' if len(args.index) == 1 else 'shards'} indexed")
        return 0
    lists = _read_lists(args)
    clips = list(dict.fromkeys(clip for each in lists for row in each.rows for clip in row))
    number, count = args.shard
    tag = tag_of(args.shard)
    mine = clips[number - 1 :: count]
    encoding = Encoding(args.sound, args.frames, args.quality)
    failures = pack(mine, args.out, args.shard_mb * 10**6, encoding, tag, total=len(mine))
    for name, reason in sorted(failures.items()):
        print(f"failed: {name}: {reason}", file=sys.stderr)
    print(f"{len(mine)} clips: {len(mine) - len(failures)} in shards, {len(failures)} failed")
    if tag:
        print("once all parts are done, the same command without --shard writes the lists")
    else:
        _write_lists(lists, args.out)
    return int(bool(failures))


def _read_lists(args):
    paths = args.lists or [path for path in USUAL if os.path.exists(path)]
    if not paths:
        raise UserError(f"no index files: expected {', '.join(USUAL[:2])}, or --lists")
    names = [os.path.basename(path) for path in paths]
    for path, name in zip(paths, names, strict=True):
        if names.count(name) > 1:
            raise UserError(f"{path}: expected lists of different names, found {name} twice")
        if os.path.realpath(path) == os.path.realpath(os.path.join(args.out, name)):
            raise UserError(f"{path}: lies in --out, where it would be replaced: choose another folder")
    return [ClipList(path) for path in paths]


def _write_lists(lists, folder):
    packed = packed_clips(folder)
    for table in {beside(each.path) for each in lists}:
        add_labels(os.path.join(folder, FILE_LABELS), read_labels(table))
    for each in lists:
        path = os.path.join(folder, os.path.basename(each.path))
        left_out = each.write(path, packed)
        remark = f", {left_out} left out" if left_out else ""
        print(f"wrote {path}: {len(each.rows) - left_out} rows{remark}")


if __name__ == "__main__":
    sys.exit(main())
