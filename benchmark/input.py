"""The input pipeline in `benchmark`: samples per second and core, and time by stage."""

import statistics

import torch

import dataset.frames
import dataset.music
from benchmark import reference
from benchmark.clock import in_turn, ratio, stopwatch
from dataset.music import MUSICMixDataset

STAGES = "sound", "decode", "resize", "rest"
# The timed functions. The project's `pictures` reads all frames of a clip and includes `decode`.
PROJECT = {
    "sound": (dataset.music, "read_window"),
    "decode": (dataset.frames, "read_pixels"),
    "pictures": (dataset.music, "read_clip"),
}
REFERENCE = {
    "sound": (reference, "load_sound"),
    "decode": (reference, "open_picture"),
    "resize": (reference, "resize"),
}


def measure_input(trees, sampling, rounds, items):
    """Both paths on the old tree, and the project on its own: {tables, ratios}.

    A sample is a training example, ready for a batch. The reference's `rest` includes STFTs and conversion to
    float, which the project does on the device, as part of the step.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    readers = {
        "reference": reference.ReferenceDataset(trees.old, sampling, train=True),
        "project_old": MUSICMixDataset(trees.old, sampling, train=True),
        "project_own": MUSICMixDataset(trees.own, sampling, train=True),
    }
    stages = {name: [] for name in readers}
    indices = list(range(items))

    def read(name):
        with stopwatch(REFERENCE if name == "reference" else PROJECT) as seconds:
            for index in indices:
                readers[name][index % len(readers[name])]
        stages[name].append(seconds)
        indices[:] = [index + 1 for index in indices]

    seconds = in_turn({name: lambda name=name: read(name) for name in readers}, rounds)
    torch.set_num_threads(threads)
    tables = {name: _table(seconds[name], stages[name][1:], items) for name in readers}
    ratios = {f"input_{tree}_tree": ratio(seconds, project=f"project_{tree}") for tree in ("old", "own")}
    return tables, ratios


def _table(totals, stages, items):
    """Samples/s, and milliseconds per sample and stage; medians over rounds."""
    rows = []
    for total, seconds in zip(totals, stages, strict=True):
        row = dict(seconds)
        if "pictures" in row:
            row["resize"] = row.pop("pictures") - row["decode"]
        rows.append(row | {"rest": total - sum(row.values())})
    table = {f"{stage}_ms": 1000 * statistics.median(row[stage] for row in rows) / items for stage in STAGES}
    return {"samples_per_s_and_core": items / statistics.median(totals)} | table
