"""A list such as VGGSound's, from download to evaluation: 300 segments of 150 videos."""

import csv
import os

import numpy as np

import create_index_files
import main
from arguments import parse_args
from dataset.index import read_index, shared_ids
from dataset.indexing.labels import read_labels
from dataset.preprocess import __main__ as preprocess
from dataset.shards import __main__ as shards
from engine.options import run_folder
from tests.dataset.conftest import server, video, videos  # noqa: F401
from tests.dataset.video_server import __main__ as download
from tests.dataset.video_server import arguments
from tests.engine.test_train import read
from tests.helpers import SMALL, Pool
from tests.videos import make_video, tone

LABELS = ("dog barking", "playing violin, fiddle", "train horning", "cat purring", "rain", "frog croaking")
NUM_ROWS = 300


def write_list(path):
    """Two segments of each video, of labels of their own; the last fifth is for test."""
    with open(path, "w", newline="") as file:
        for number in range(NUM_ROWS):
            split = "test" if number >= 0.8 * NUM_ROWS else "train"
            row = f"v{number // 2:09d}-", number % 2, LABELS[number % len(LABELS)], split
            csv.writer(file).writerow(row)


def test_a_list_of_segments_trains_and_evaluates(server, videos, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())
    path = make_video(tmp_path / "a.mp4", np.arange(11 * 8), 8, tone(11, channels=1), codec="aac")
    server.video = path.read_bytes()
    write_list(tmp_path / "list.csv")
    argv = [*arguments(server, videos, {}), "--list", tmp_path / "list.csv", "--jobs", "2"]
    assert download.main([str(argument) for argument in argv]) == 0
    data = tmp_path / "data"
    assert preprocess.main([f"--videos={videos}", f"--out={data}", "--jobs=2"]) == 0
    roots = [f"--root_audio={data}/audio", f"--root_frame={data}/frames", f"--path_output={data}"]
    create_index_files.main([*roots, "--min_seconds=8"])
    lists = {part: read_index(data / f"{part}.csv") for part in ("train", "val", "test")}
    assert sum(map(len, lists.values())) == NUM_ROWS
    assert len(lists["test"]) == NUM_ROWS // 5
    assert not shared_ids(lists["train"], lists["val"] + lists["test"])
    assert {clip.category for clip in lists["train"]} == {*LABELS}
    packing = ["--lists", *(str(data / f"{part}.csv") for part in lists), "--out", str(data / "shards")]
    assert shards.main(packing) == 0
    data /= "shards"
    assert read_labels(data / "labels.csv").keys() >= {clip.id for clip in lists["train"]}
    assert ".tar/" in read_index(data / "train.csv")[0].path_audio
    run = ["--id", "v", "--num_epoch", "2", "--samples_per_epoch", "16", "--num_val", "4", "--num_vis", "0"]
    flags = [*SMALL, f"--list_train={data}/train.csv", f"--ckpt={tmp_path}", *run]
    args = parse_args([*flags, f"--list_val={data}/val.csv"])
    main.train(args)
    assert len(read(run_folder(args), "history.json")["val"]["err"]) == 2
    evaluation = [f"--id={os.path.basename(run_folder(args))}", f"--ckpt={tmp_path}"]
    evaluation += [f"--list_val={data}/test.csv"]
    machine = "--workers 0 --num_gpus 0 --num_val 4 --num_vis 0".split()
    assert main.evaluate(parse_args(["--mode", "eval", *evaluation, *machine])) == 0
    assert read(run_folder(args), "metrics.json")["num_mixtures"] == 4
