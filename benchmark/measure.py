"""All figures of the benchmark, and the table of them."""

import os
import platform
import sys
import tempfile
from typing import NamedTuple

import environment  # noqa: F401

import librosa
import numpy as np
import PIL
import scipy
import simplejpeg
import torch
import torchvision

from arguments import parse_args
from benchmark.data import FPS, HEIGHT, RATE, WIDTH, make_trees, measure_input
from benchmark.evaluation import measure_evaluation, measure_separation
from benchmark.step import measure_fitting, measure_memory, measure_step
from engine.build import build_sampling

RECIPE = "--loss bce --weighted_loss 1 --num_frames 3 --stride_frames 24 --pretrained none".split()
SMALL = "--arch_sound unet5 --ngf 8 --num_channels 8 --imgSize 64 --audLen 16383 --workers 0".split()
GPU_BATCH = 80  # of the recipe's 4 GPUs together; halved until it fits


class Scale(NamedTuple):
    """The size of the measurements."""

    flags: tuple  # of main.py
    rounds: int = 5
    num_clips: int = 8
    seconds: int = 180  # of a clip
    items: int = 16  # examples that the input pipeline produces per round
    batch: int = 8  # mixtures per batch
    mixtures: int = 24  # to evaluate
    separation_rounds: int = 3
    separation_seconds: int = 12
    preset_batch: int = 4  # mixtures per batch of each preset


FULL = Scale(tuple(RECIPE))
QUICK = Scale((*RECIPE, *SMALL), 1, 2, 20, 2, 2, 2, 1, 3, 2)


def measure(scale, amp, save):
    """All figures of a `Scale`: {ratios, input, step, evaluation_s_per_mixture, separation, …}.

    save: a function that is called with the figures so far after each part, since a later one may fail.
    """
    result = {"ratios": {}}
    for key, figures, ratios in _parts(scale, [*scale.flags, "--num_gpus", "0", "--amp", amp]):
        result[key] = figures
        result["ratios"] |= ratios
        save(result)
    return result


def _parts(scale, flags):
    """Measure one part after another; yields (key in the result, figures, {name: ratio})."""
    peaks = _told("memory of a step", measure_memory, flags, scale.batch)
    with tempfile.TemporaryDirectory() as folder:
        trees = _told("making data", make_trees, folder, scale.num_clips, scale.seconds)
        sampling = build_sampling(parse_args(flags))
        yield "input", *_told("input pipeline", measure_input, trees, sampling, scale.rounds, scale.items)
        figures, found = _told("training step", measure_step, flags, scale.batch, scale.rounds)
        yield "step", {"peak_bytes": peaks} | figures, {"step_cpu": found}
        sizes = scale.rounds, scale.batch, scale.mixtures
        figures, found = _told("evaluation", measure_evaluation, trees.old, flags, *sizes)
        yield "evaluation_s_per_mixture", figures, found
    sizes = scale.separation_rounds, scale.separation_seconds
    yield "separation", _told("separation", measure_separation, flags, *sizes), {}
    if torch.cuda.is_available():
        size = GPU_BATCH if scale == FULL else scale.batch
        figures, found = _told("training step on the GPU", measure_fitting, flags, size, scale.rounds)
        yield "step_gpu", figures, {"step_gpu": found}


def _told(what, function, *args):
    print(f"{what} …", file=sys.stderr)
    return function(*args)


def describe(scale, amp):
    """{machine, versions, settings}, to save with the figures."""
    cpu = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), cpu)
    modules = torch, torchvision, np, scipy, librosa, simplejpeg
    return {
        "machine": {
            "cpu": cpu,
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": torch.get_num_threads(),
            "system": platform.platform(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": {"python": platform.python_version(), "PIL": PIL.__version__}
        | {module.__name__: module.__version__ for module in modules},
        "settings": scale._asdict()
        | {
            "amp": amp,
            "tree_old": f"{WIDTH} x {HEIGHT} JPEG at {FPS}/s, wav of {RATE} Hz",
            "tree_own": f"dataset.preprocess of the same videos, wav of {RATE} Hz",
        },
    }


def table(result):
    """Lines of a Markdown table: each figure for the reference and the project, and their ratio."""
    ratios, tables = result["ratios"], result["input"]
    rows = [("", "reference", "project", "ratio")]
    speed = "samples_per_s_and_core"
    for tree in ("old", "own"):
        old, new = tables["reference"], tables[f"project_{tree}"]
        rows.append(
            _row(
                f"input, {tree} tree, samples/s a core", old[speed], new[speed], ratios[f"input_{tree}_tree"]
            )
        )
        for stage in ("sound", "decode", "resize", "rest"):
            key = f"{stage}_ms"
            rows.append(_row(f"— {stage}, ms a sample", old[key], new[key]))
    for key, name in (("step", "step_cpu"), ("step_gpu", "step_gpu")):
        if key in result:
            rows += _step_rows(result[key], key.replace("_", " "), ratios[name])
    each = result["evaluation_s_per_mixture"]
    for name, found in (
        ("evaluation", ratios["evaluation"]),
        ("forward", None),
        ("metric", ratios["metric"]),
    ):
        old, new = each[f"reference_{name}"], each[f"project_{name}"]
        rows.append(_row(f"evaluation: {name}, s a mixture".replace(": evaluation", ""), old, new, found))
    rows.append(_row("evaluation: page, s a mixture", None, each["project_page"]))
    rows.append(_row("separation, x real time", None, result["separation"]["x_real_time"]))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|---|---:|---:|---:|", *lines[1:]]


def _step_rows(step, name, found):
    old, new = step["reference"], step["project"]
    rows = [_row(f"{name}, samples/s", old["samples_per_s"], new["samples_per_s"], found)]
    rows.append(
        _row(
            f"— GFLOP/s, {step['gflop_per_sample']:.0f} GFLOP a sample",
            old["gflop_per_s"],
            new["gflop_per_s"],
        )
    )
    for dtype in ("float32", "bfloat16"):
        key, peak = f"share_of_{dtype}_peak", step["peak_gflop_per_s"][dtype]
        rows.append(_row(f"— share of the {dtype} peak, {peak:.0f} GFLOP/s", old[key], new[key]))
    peaks = {kind: value / 2**30 for kind, value in step["peak_bytes"].items()}
    rows.append(_row("— peak memory, GiB", peaks["reference"], peaks["project"]))
    return rows


def _row(name, old, new, found=None):
    cells = ["" if value is None else f"{value:.3g}" for value in (old, new)]
    return name, *cells, f"{found['value']:.2f} ({found['low']:.2f}–{found['high']:.2f})" if found else ""
