"""Clips of tests in shards."""

import json

import main
from arguments import parse_args
from dataset.index import write_index
from dataset.shards.encode import Encoding
from dataset.shards.read import open_media
from dataset.shards.write import pack, packed_clips
from engine.options import run_folder
from tests.helpers import SMALL, Pool

KEEP = Encoding("keep")


def read_all(path):
    with open_media(path) as file:
        return file.read()


def pack_all(clips, folder, megabytes=0.5, encoding=KEEP, tag=""):
    folder.mkdir(exist_ok=True)
    assert not pack(clips, str(folder), megabytes * 1e6, encoding, tag)
    return packed_clips(str(folder))


def history(clips, folder, monkeypatch, *more):
    """The history, with all losses and scores, of a run of two epochs on `clips`."""
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())
    folder.mkdir()
    write_index(folder / "list.csv", clips)
    flags = (
        f"--list_train {folder}/list.csv --list_val {folder}/list.csv --ckpt {folder} --id t --num_epoch 2"
    )
    flags += " --dup_trainset 2 --num_vis 0 --disp_iter 1 --num_val 2 --mask_thres 0.4"
    argv = [*SMALL, *flags.split(), *more]
    main.main(argv)
    with open(f"{run_folder(parse_args(argv))}/history.json", encoding="utf-8") as file:
        return json.load(file)
