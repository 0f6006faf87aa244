"""Mistakes that users make with each command: one line that says what and where, and no traceback."""

import json
import os
import re

import pytest
import torch

import create_index_files
import main
import separate
from dataset.demo import __main__ as demo
from dataset.download import __main__ as download
from dataset.preprocess import __main__ as preprocess
from media import run_ffmpeg
from models import download_weights
from tests.helpers import SMALL
from tests.videos import make_video, tone
from utils import save_json

LOG_LINE = re.compile(r"\d\d:\d\d:\d\d ")  # what a command does, before it finds the mistake
COMMANDS = {
    "main": main,
    "separate": separate,
    "index": create_index_files,
    "preprocess": preprocess,
    "download": download,
    "demo": demo,
    "weights": download_weights,
}
HEADER = "AUDIO_PATH,FRAMES_PATH,NUMBER_FRAMES"
ONE_ROW = "audio/flute/a.wav,frames/flute/a.mp4,160\n"
TRAIN = "main --list_train {f}/good.csv --list_val {f}/val.csv --ckpt {f}/ckpt"
EVAL = "main --mode eval --list_val {f}/good.csv --ckpt {f}/ckpt"
SEPARATE = "separate --num_gpus 0 --ckpt {f}/ckpt/whole --out {f}/out"
MISTAKES = {
    # main.py: lists
    "main --list_train {f}/gone.csv": "no index file {f}/gone.csv: make one",
    "main --list_train {f}/empty": "{f}/empty: the index file is empty",
    "main --list_train {f}": "{f}: cannot be read as a table: ",
    "main --list_train {f}/header.csv": f"{{f}}/header.csv:1: expected {HEADER}",
    "main --list_train {f}/words.csv": "{f}/words.csv:1: expected a number of frames above 0, found 'many'",
    "main --list_train {f}/mixtures.csv": f"{{f}}/mixtures.csv:1: expected {HEADER}",
    "main --list_train {f}/silent.mp4": "{f}/silent.mp4",
    f"{TRAIN} --list_val_mix {{f}}/good.csv": f"{{f}}/good.csv:1: expected {HEADER} 2",
    f"{TRAIN} --dup_trainset 1": "{f}/good.csv: ",
    f"{TRAIN} --list_val_mix {{f}}/pairs.csv": "{f}/pairs.csv: none of its 1 mixtures is there: no ",
    f"{TRAIN} --list_val_mix {{f}}/half.csv": "{f}/half.csv:2: expected /CATEGORY/ID.wav 2 times, found x",
    # main.py: runs and weights
    f"{EVAL} --id gone": "no run gone in {f}/ckpt: found choice, damaged, list, text, types, who",
    f"{EVAL} --id t": "several runs in {f}/ckpt begin with t: text, types",
    f"{EVAL} --id empty": "no trained networks in {f}/ckpt/empty: missing {f}/ckpt/empty/sound_",
    f"{EVAL} --id damaged": "{f}/ckpt/damaged/options.json: not the options of a run: ",
    f"{EVAL} --id list": "{f}/ckpt/list/options.json: not the options of a run: expected {{name: value}}",
    f"{EVAL} --id types": "{f}/ckpt/types/options.json: ngf: expected int, found None",
    f"{EVAL} --id choice": "choice/options.json: loss: expected one of bce, l1, l2, found 'x'",
    f"{EVAL} --id text": "{f}/ckpt/text/sound_best.pth: not a file of weights",
    f"{EVAL} --id whole --protocol {{f}}/gone.json": "{f}/gone.json: cannot be read as a protocol: No such",
    f"{EVAL} --id whole --protocol {{f}}/list.json": "{f}/list.json: not a protocol of version 1: expected",
    f"{EVAL} --id whole --val_pairs same": "{f}/good.csv: --val_pairs same needs 2 videos of a category",
    f"{EVAL} --id whole --list_duets {{f}}/gone": "{f}/gone: no such folder, and no such list of videos",
    "main --mode eval --id x --ckpt {f}/gone": "no run x in {f}/gone: there are none",
    "main --mode eval --id a/b --ckpt {f}/ckpt": "no run a/b in {f}/ckpt",
    f"{TRAIN} --weights_sound {{f}}": "{f}: not a file of weights",
    f"{TRAIN} --pretrained {{f}}/gone.pth": "{f}/gone.pth",
    f"{TRAIN} --ckpt {{f}}/empty --pretrained none": "{f}/empty",
    f"{TRAIN} --num_epoch many": "argument --num_epoch: invalid int value: 'many'",
    f"{TRAIN} --num_epohc 3": "unrecognized arguments: --num_epohc 3; did you mean --num_epoch?",
    # separate.py
    "separate": "the following arguments are required: VIDEO",
    f"{SEPARATE} {{f}}/gone.mp4": "failed: {f}/gone.mp4: no such file",
    f"{SEPARATE} {{f}}/words.csv": "failed: {f}/words.csv: cannot be read as a video",
    f"{SEPARATE} {{f}}/empty": "failed: {f}/empty: the file is empty",
    f"{SEPARATE} {{f}}/silent.mp4": "failed: {f}/silent.mp4: no readable audio track",
    f"{SEPARATE} {{f}}/a.jpg": "failed: {f}/a.jpg: a picture needs a sound to go with it: --audio FILE",
    f"{SEPARATE} {{f}}/a.jpg --audio {{f}}/gone.wav": "failed: {f}/a.jpg: {f}/gone.wav: no such file",
    f"{SEPARATE} {{f}}/ckpt": "no videos under {f}/ckpt: expected .mp4",
    f"{SEPARATE} {{f}}/video.mp4 --ckpt {{f}}/ckpt/gone": "no run gone in {f}/ckpt: found ",
    f"{SEPARATE} {{f}}/video.mp4 --ckpt {{f}}/ckpt/types": "options.json: ngf: expected int, found None",
    f"{SEPARATE} {{f}}/video.mp4 --ckpt {{f}}/words.csv": "no run words.csv in {f}: ",
    f"{SEPARATE} --num_source 3 {{f}}/video.mp4 --boxs 1,2,3,4": "did you mean --boxes?",
    # the commands that make data
    "index --root_audio {f}/gone --path_output {f}": "{f}/gone",
    "index --root_audio {f}/words.csv --root_frame {f} --path_output {f}": "{f}/words.csv",
    "index --root_audio {f}/ckpt --root_frame {f}/ckpt --path_output {f}": "no solo clip with both",
    "index --check --path_output {f}/ckpt": "no index files in {f}/ckpt",
    "index --root_audio {f}/ckpt --root_frame {f}/ckpt --split_ids train={f}/gone.txt": "{f}/gone.txt",
    "index --trainset_ratio 80": "expected a number above 0 and below 1, found 80",
    "preprocess --videos {f}/gone": "no folder {f}/gone",
    "preprocess --videos {f}/video.mp4": "no folder {f}/video.mp4",
    "preprocess --videos {f} --out {f}/empty": "{f}/empty",
    "preprocess --videos {f} --ffmpeg {f}/gone": "{f}/gone: cannot be run as ffmpeg",
    "preprocess --jbos 2": "did you mean --jobs?",
    "download --list {f}/gone.json --videos {f}/new": "{f}/gone.json",
    "download --list {f}/words.csv --videos {f}/new": "{f}/words.csv",
    "download --list {f}/list.json --videos {f}/empty": "{f}/empty",
    "demo --out {f}/empty": "{f}/empty: cannot be written",
    "demo --seconds 1": "expected a whole number from 8 to 600, found '1'",
    "weights --ckpt {f}/empty --url http://127.0.0.1:9": "{f}/empty",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files that are something else than a command expects."""
    folder = tmp_path_factory.mktemp("a place")
    (folder / "empty").touch()
    for name, text in {
        "good.csv": ONE_ROW + ONE_ROW.replace("flute/a", "tuba/b"),
        "val.csv": ONE_ROW.replace("flute/a", "tuba/c") + ONE_ROW.replace("flute/a", "flute/d"),
        "header.csv": "audio,frames\n" + ONE_ROW,
        "words.csv": "a.wav,a.mp4,many\n",
        "pairs.csv": "/flute/a.wav, /tuba/b.wav\n",
        "half.csv": "/flute/a.wav, /tuba/b.wav\nx\n",
        "mixtures.csv": f"{ONE_ROW.strip()},{ONE_ROW}",
    }.items():
        (folder / name).write_text(text)
    video = make_video(folder / "video.mp4", [100] * 25, 25, tone(1), codec="aac")
    run_ffmpeg(["-i", str(video), "-an", "-c", "copy", str(folder / "silent.mp4")])
    run_ffmpeg(["-i", str(video), "-frames:v", "1", str(folder / "a.jpg")])
    save_json(folder / "list.json", {"videos": {"flute": ["STKXyBGSGyE"]}})
    options = {"types": {"ngf": None}, "choice": {"loss": "x"}, "whole": {}, "text": {}, "list": [1]}
    runs = {name: json.dumps(values) for name, values in options.items()} | {"damaged": "{"}
    for name, text in runs.items():
        (folder / "ckpt" / name).mkdir(parents=True)
        (folder / "ckpt" / name / "options.json").write_text(text)
        for net in ("sound", "frame", "synthesizer"):
            torch.save({}, folder / "ckpt" / name / f"{net}_best.pth")
    (folder / "ckpt/text/sound_best.pth").write_text("no weights")
    (folder / "ckpt/empty").mkdir()
    return folder


@pytest.mark.parametrize(("argv", "words"), MISTAKES.items(), ids=list(MISTAKES))
def test_a_mistake_is_one_line_that_says_what_and_where(folder, tmp_path, monkeypatch, capfd, argv, words):
    monkeypatch.chdir(tmp_path)
    name, *flags = [word.format(f=folder) for word in argv.split()]
    if name == "main":
        flags = [*SMALL, "--num_gpus", "0", *flags]
    try:
        status = COMMANDS[name].main(flags)
    except SystemExit as stop:
        status = stop.code
    told = [line for line in capfd.readouterr().err.splitlines() if not LOG_LINE.match(line)]
    assert status
    assert len(told) == 1
    assert words.format(f=folder) in told[0]
    assert os.listdir(tmp_path) == []
