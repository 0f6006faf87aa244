"""`benchmark --presets`: what a training step of each preset costs, at the shapes of its recipe."""

import statistics

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark.clock import alone, in_turn, peak_memory, ratio
from benchmark.step import make_batches, make_step, set_up
from engine.build import build_sampling, build_separator
from engine.machine.memory import keep_memory
from engine.options import kept_views

# Image features are kept where a preset freezes its backbone, and computed in every step without views.
ROWS = {
    "published": "--preset published",
    "small": "--preset small",
    "small --num_views 0": "--preset small --num_views 0",
    "modern": "--preset modern",
    "modern --num_views 0": "--preset modern --num_views 0",
}
QUICK = "--ngf 4 --num_channels 4 --imgSize 64 --audLen 32767"  # to test this
FIRST = next(iter(ROWS))  # which the others are compared with


def measure_presets(amp, size, rounds, quick=False):
    """{row: figures} of a step of `size` mixtures; the rows alternate. On the GPU if there is one.

    Figures: kept (True if image features are), gflop_forward and gflop_step per mixture (Fourier transforms
    are not counted), parameters, trained, peak_bytes, s_per_mixture, speed: {value, low, high}, relative to
    `published`.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    figures, steps = {}, {}
    for name, flags in ROWS.items():
        flags = [*f"{flags} {QUICK if quick else ''} --pretrained none --amp {amp}".split()]
        figures[name] = _count(set_up(flags, device), size, device)
        figures[name]["peak_bytes"] = alone(memory_of_step, flags, size, device)
        steps[name] = _make(set_up(flags, device), size, device)
    seconds = in_turn(steps, rounds)
    for name, values in figures.items():
        values["s_per_mixture"] = statistics.median(seconds[name]) / size
        values["speed"] = ratio(seconds, FIRST, name)
    return figures


def _batch(args, separator, size, device):
    """A batch as training gives it: with features instead of frames if they are kept."""
    batch = {key: value.to(device) for key, value in make_batches(build_sampling(args), size)[1].items()}
    if kept_views(args):
        batch["frames"] = separator.eval().backbone_features(batch["frames"])
    return batch


def _make(args, size, device):
    return make_step("project", args, _batch(args, build_separator(args).to(device), size, device), device)


def _count(args, size, device):
    """{kept, gflop_forward, gflop_step, parameters, trained}."""
    separator = build_separator(args).to(device)
    batch = _batch(args, separator, size, device)
    gflop = {}
    with FlopCounterMode(display=False) as counter:
        loss = separator.train()(batch["mix"], batch["sources"], batch["frames"])["loss"].mean()
        gflop["gflop_forward"] = counter.get_total_flops() / size / 1e9
        loss.backward()
        gflop["gflop_step"] = counter.get_total_flops() / size / 1e9
    sizes = {parameter: parameter.numel() for parameter in separator.parameters()}
    trained = sum(number for parameter, number in sizes.items() if parameter.requires_grad)
    return {"kept": kept_views(args) > 0, **gflop, "parameters": sum(sizes.values()), "trained": trained}


def memory_of_step(flags, size, device):
    """Peak memory of two steps in bytes, the GPU's if on a GPU; to be called in a new process."""
    step = _make(set_up(flags, device), size, device)
    keep_memory()
    for _ in range(2):
        step()
    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory()


def preset_lines(result):
    """Lines of a Markdown table, a row per preset."""
    lines = [
        "| preset | image features | GFLOP a mixture, forward | and backward | parameters | trained | "
        "peak memory | s a mixture | speed |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in result.items():
        speed = "{value:.2f} ({low:.2f}–{high:.2f})".format(**row["speed"])
        cells = [name, "kept" if row["kept"] else "computed"]
        cells += [f"{row[key]:.3g}" for key in ("gflop_forward", "gflop_step")]
        cells += [f"{row[key] / 1e6:.1f} M" for key in ("parameters", "trained")]
        cells += [f"{row['peak_bytes'] / 2**20:,.0f} MiB", f"{row['s_per_mixture']:.3g}", speed]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
