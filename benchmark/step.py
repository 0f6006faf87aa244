"""The training step in `benchmark`: speed, share of the machine's peak, memory."""

import statistics
import time

import numpy as np
import torch
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode

from arguments import parse_args
from benchmark import reference
from benchmark.clock import alone, in_turn, peak_memory, ratio
from benchmark.data import make_sound
from engine.build import build_optimizer, build_sampling, build_separator
from engine.machine.memory import keep_memory
from engine.machine.precision import set_precision
from models.separator import choose_amp

MATMUL = {"cpu": 2048, "cuda": 8192}  # size of the matrix products that measure the machine's peak
MATMUL_ROUNDS = 5
KINDS = "reference", "project"
DEVICE_FLAGS = {"cpu": ["--num_gpus", "0"], "cuda": ["--num_gpus", "1", "--compile"]}


def make_batches(sampling, size):
    """The same examples for both paths: (batch of the reference, batch of the project)."""
    olds, news = [], []
    for number in range(size):
        rng = np.random.default_rng(number)
        seconds = sampling.aud_len // sampling.aud_rate + 1
        waves = [
            make_sound(seconds, sampling.aud_rate, number * sampling.num_mix + n)[: sampling.aud_len]
            for n in range(sampling.num_mix)
        ]
        shape = sampling.num_mix, 3, sampling.num_frames, sampling.img_size, sampling.img_size
        frames = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
        mean, std = (
            torch.tensor(values)[:, None, None, None] for values in (reference.MEAN_RGB, reference.STD_RGB)
        )
        waves = [wave.astype(np.float32) for wave in waves]
        olds.append(reference.join(waves, list((frames / 255 - mean) / std)))
        sources = olds[-1]["waves"]
        news.append({"mix": sources.sum(dim=0), "sources": sources, "frames": frames})
    return default_collate(olds), default_collate(news)


def make_step(kind, args, batch, device):
    """A callable that trains on `batch` once and returns the loss; kind: "reference" or "project"."""
    separator = build_separator(args)
    batch = {key: value.to(device) for key, value in batch.items()}
    if kind == "project":
        model, optimizer = separator.to(device).train(), build_optimizer(args, separator)
    else:
        model = reference.ReferenceNets(args.arch_sound, args.num_channels, args.ngf)
        model.load(separator).to(device).train()
        optimizer = torch.optim.SGD(model.parameters(), args.lr_sound, args.beta1, weight_decay=1e-4)

    def step():
        optimizer.zero_grad()
        if kind == "project":
            loss = model(batch["mix"], batch["sources"], batch["frames"])["loss"].mean()
        else:
            loss = model(batch)[0]
        loss.backward()
        optimizer.step()
        return loss.item()  # waits for a GPU

    return step


def measure_step(flags, size, rounds, device="cpu"):
    """({kind: figures}, ratio) of a step with a batch of `size` on a device.

    The reference computes in float32; the project as `flags`, main.py's, say.
    """
    args = set_up(flags, device)
    batches = dict(zip(KINDS, make_batches(build_sampling(args), size), strict=True))
    steps = {kind: make_step(kind, args, batches[kind], device) for kind in KINDS}
    with FlopCounterMode(display=False) as counter:
        steps["reference"]()
    gflop = counter.get_total_flops() / size / 1e9
    seconds = in_turn(steps, rounds)
    peaks = matmul_peaks(device)
    tables = {}
    for kind in KINDS:
        median = statistics.median(seconds[kind])
        tables[kind] = {"samples_per_s": size / median, "gflop_per_s": gflop * size / median}
        tables[kind]["share_of_float32_peak"] = tables[kind]["gflop_per_s"] / peaks["float32"]
        tables[kind]["share_of_bfloat16_peak"] = tables[kind]["gflop_per_s"] / peaks["bfloat16"]
    return tables | {"gflop_per_sample": gflop, "peak_gflop_per_s": peaks}, ratio(seconds)


def measure_fitting(flags, size, rounds, device="cuda"):
    """(figures of `measure_step` and peak memory, ratio), with `size` halved until the batch fits.

    Raises OutOfMemoryError if a batch of one mixture does not fit.
    """
    while True:
        try:
            peaks = measure_memory(flags, size, device)
            figures, found = measure_step(flags, size, rounds, device)
            return {"batch": size, "peak_bytes": peaks} | figures, found
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
        size //= 2
        torch.cuda.empty_cache()


def set_up(flags, device):
    """The options of main.py's `flags` on a device, `cuda` or `cpu`; sets the precision as main.py does."""
    args = parse_args([*flags, *DEVICE_FLAGS[device]], torch.cuda.device_count())
    set_precision(choose_amp(args.amp, device), fixed_shapes=True)
    return args


def matmul_peaks(device):
    """{dtype: GFLOP/s} of a large matrix product."""
    peaks, size = {}, MATMUL[device]
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(size, size, device=device).to(dtype)
        times = []
        for _ in range(MATMUL_ROUNDS):
            began = time.perf_counter()
            (a @ a)[0, 0].item()  # waits for a GPU
            times.append(time.perf_counter() - began)
        peaks[str(dtype).removeprefix("torch.")] = 2 * size**3 / statistics.median(times) / 1e9
    return peaks


def step_memory(kind, flags, size, device="cpu"):
    """Peak memory of two steps in bytes, the GPU's if on a GPU; to be called in a new process."""
    args = set_up(flags, device)
    batch = make_batches(build_sampling(args), size)[KINDS.index(kind)]
    step = make_step(kind, args, batch, device)
    keep_memory(kind == "project")
    for _ in range(2):
        step()
    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory()


def measure_memory(flags, size, device="cpu"):
    """{kind: peak bytes}, each measured in its own process."""
    return {kind: alone(step_memory, kind, flags, size, device) for kind in KINDS}
