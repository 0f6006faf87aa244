"""`benchmark --scaling`: how costs grow with batch, workers, clip length and index size."""

import multiprocessing
import os
import statistics
import tempfile
import time
import warnings

import numpy as np
import soundfile
from torch.utils.data import DataLoader, Dataset

from arguments import parse_args
from benchmark.clock import alone, in_turn, peak_memory
from benchmark.data import RATE, make_sound, make_trees
from benchmark.reference import load_sound
from benchmark.step import make_batches, make_step, step_memory
from dataset.audio import read_window
from dataset.index import Clip, write_index
from dataset.music import MUSICMixDataset, collate
from engine.build import build_sampling
from engine.loaders import build_train_loader, start_epoch

NUM_CATEGORIES = 20  # in an index
ROUNDS = 5
FULL = {
    "batch": (1, 2, 4, 8),
    "workers": (0, 1, 2),
    "minutes": (1, 10, 60),
    "rows": (10, 1000, 100_000, 1_000_000),
}
QUICK = {"batch": (1,), "workers": (0, 1), "minutes": (1, 2), "rows": (10,)}
WORKERS, DRAWN = 8, 4000  # processes that draw mixtures from an index, and how many
LOADED = {False: 96, True: 8}  # examples that workers load per round; True: quick


def measure_scaling(flags, quick):
    """{batch, workers, minutes, rows: {size: figures}}."""
    sizes, rounds = (QUICK, 1) if quick else (FULL, ROUNDS)
    args = parse_args([*flags, "--num_gpus", "0"])
    with tempfile.TemporaryDirectory() as folder:
        return {
            "batch": _measure_batches(args, flags, sizes["batch"], rounds),
            "workers": _measure_workers(folder, args, sizes["workers"], rounds, LOADED[quick]),
            "minutes": _measure_minutes(folder, args, sizes["minutes"], rounds),
            "rows": {rows: alone(start_up, folder, flags, rows) for rows in sizes["rows"]},
        }


def _measure_batches(args, flags, sizes, rounds):
    steps = {}
    for size in sizes:
        steps[size] = make_step("project", args, make_batches(build_sampling(args), size)[1], "cpu")
    seconds = in_turn(steps, rounds)
    return {
        size: {
            "samples_per_s": size / statistics.median(seconds[size]),
            "peak_bytes": alone(step_memory, "project", [*flags, "--num_gpus", "0"], size),
        }
        for size in sizes
    }


def _measure_workers(folder, args, counts, rounds, num_examples):
    data = MUSICMixDataset(make_trees(folder, 4, 30, 2).own, build_sampling(args), True, repeats=num_examples)

    def load_all(loader):
        for _ in loader:
            pass

    loaders = {}
    for count in counts:
        options = {"num_workers": count, "persistent_workers": count > 0, "collate_fn": collate}
        loaders[count] = DataLoader(data, 8, sampler=range(num_examples), **options)
    seconds = in_turn({count: lambda each=each: load_all(each) for count, each in loaders.items()}, rounds)
    return {
        count: {"samples_per_s": num_examples / statistics.median(values)}
        for count, values in seconds.items()
    }


def _measure_minutes(folder, args, sizes, rounds):
    sampling = build_sampling(args)
    minute, figures = make_sound(60, RATE, 0), {}
    path = os.path.join(folder, "long.wav")
    for minutes in sizes:
        soundfile.write(path, np.tile(minute, minutes), RATE, subtype="PCM_16")
        middle = 30 * minutes
        actions = {
            "reference_ms": lambda at=middle: load_sound(path, at, sampling, train=True),
            "project_ms": lambda at=middle: read_window(path, at, sampling.aud_len, sampling.aud_rate),
        }
        seconds = in_turn(actions, rounds)
        figures[minutes] = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    return figures


def start_up(folder, flags, rows):
    """Seconds and memory of an index of `rows`; to be called in a new process.

    Until the sampler yields, for the first time and again; of a draw of a mixture's clips; and the memory of
    WORKERS loaders in all, without media.
    """
    path = os.path.join(folder, f"{rows}.csv")
    names = [f"category{n % NUM_CATEGORIES:02d}/clip{n:07d}" for n in range(rows)]
    write_index(path, (Clip(f"data/audio/{name}.wav", f"data/frames/{name}.mp4", 1440) for name in names))
    args = parse_args([*flags, "--list_train", path, "--batch_size_per_gpu", "4", "--workers", "0"])
    began = time.perf_counter()
    build_train_loader(args)
    first = time.perf_counter() - began
    before, began = peak_memory(), time.perf_counter()
    loader = build_train_loader(args)
    start_epoch(loader, 1)
    next(iter(loader.sampler))
    again = time.perf_counter() - began
    return {
        "first_s": first,
        "again_s": again,
        "more_bytes": peak_memory() - before,
        "draw_us": _draw_time(loader.dataset),
        "workers_bytes": _workers_memory(loader.dataset),
    }


class _Draws(Dataset):
    """Draws mixtures of a `MUSICMixDataset` from all over its list, without loading them."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return DRAWN

    def __getitem__(self, number):
        index = number * len(self.dataset.clips) // DRAWN
        return len([self.dataset.clips[each].name for each in self.dataset.mixture(index)])


def _draw_time(dataset):
    """Microseconds to draw the clips of a mixture."""
    draws = _Draws(dataset)
    began = time.perf_counter()
    for number in range(DRAWN):
        draws[number]
    return 1e6 * (time.perf_counter() - began) / DRAWN


def _workers_memory(dataset):
    """Bytes of all loading processes that draw mixtures; what they share counts once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # more workers than cores
        loader = iter(DataLoader(_Draws(dataset), 100, num_workers=WORKERS))
    for _ in range(DRAWN // 100):
        next(loader)
    return sum(_proportional_memory(process.pid) for process in multiprocessing.active_children())


def _proportional_memory(pid):
    """Bytes of a process, of which pages that several use count in part."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(1024 * int(line.split()[1]) for line in file if line.startswith("Pss:"))


def scaling_lines(result):
    """Lines of Markdown, one table per quantity that grows."""
    titles = {
        "batch": "batch",
        "workers": "workers",
        "minutes": "minutes of a clip",
        "rows": "rows of an index",
    }
    lines = []
    for key, title in titles.items():
        figures = result[key]
        names = list(next(iter(figures.values())))
        lines += ["", f"| {title} | " + " | ".join(name.replace("_", " ") for name in names) + " |"]
        lines.append("|---:" * (len(names) + 1) + "|")
        for size, values in figures.items():
            lines.append(f"| {size:,} | " + " | ".join(_shown(name, values[name]) for name in names) + " |")
    return lines[1:]


def _shown(name, value):
    return f"{value / 2**20:,.0f} MiB" if name.endswith("bytes") else f"{value:.3g}"
