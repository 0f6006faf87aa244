"""Evaluation and separation in `benchmark`."""

import os
import statistics
import tempfile
import time

import torch
from torch.utils.data import DataLoader, default_collate

from arguments import parse_args
from benchmark import reference
from benchmark.clock import in_turn, ratio
from benchmark.data import write_video
from benchmark.step import KINDS
from dataset.index import write_index
from dataset.music import collate
from engine.build import build_sampling, build_separator
from engine.evaluation.evaluate import Evaluator
from engine.evaluation.metrics import score_batch
from engine.evaluation.results import make_pool
from engine.loaders import build_val_loader
from engine.machine.memory import keep_memory
from engine.separation.outputs import Request, separate_video
from engine.separation.pixels import PixelSeparator

PAGES = 4  # mixtures on the page
# Large initial weights, so that no mask is all 0 or all 1, and no estimate silent.
WEIGHTS = ["--init_sound", "kaiming"]


def measure_evaluation(clips, flags, rounds, size, count):
    """({figure: seconds per mixture}, {evaluation, metric: ratio}) of evaluating `count` mixtures of `clips`.

    Both read the same clips with the same number of workers, in batches of `size`. Times include everything
    but the page, and nothing is cached from an earlier evaluation; only `metric` is the metric's time in
    later epochs of training, with its cache. `page` is the additional time for each mixture on the page.
    """
    pages = min(PAGES, count)
    with tempfile.TemporaryDirectory() as folder:
        clips = [_under_other_name(clips[k % len(clips)], folder, f"clip {k}") for k in range(count)]
        path = os.path.join(folder, "val.csv")
        write_index(path, clips)
        args = parse_args([*flags, *WEIGHTS, "--list_val", path, "--batch_size_per_gpu", str(size)])
        separator = build_separator(args).eval()
        loader, device = build_val_loader(args), torch.device("cpu")
        nets = _reference_nets(args, separator)
        old_data = reference.ReferenceDataset(clips, build_sampling(args), train=False)
        keep = args.workers > 0
        old_loader = DataLoader(old_data, size, num_workers=args.workers, persistent_workers=keep)
        with make_pool(args.workers) as pool:

            def evaluate(num_vis):
                summary, _ = Evaluator(separator, separator, device, loader, pool, path).run(folder, num_vis)
                assert summary["num_mixtures"] == len(clips), summary
                assert not summary["num_silent"], summary

            actions = {
                "reference": lambda: reference.evaluate(nets, old_loader),
                "project": lambda: evaluate(0),
                "with_page": lambda: evaluate(pages),
            }
            seconds = in_turn(actions, rounds)
        parts, metric = _measure_parts(separator, nets, loader.dataset, old_data, rounds, size)
    whole = {name: statistics.median(values) for name, values in seconds.items()}
    parts |= {f"{kind}_evaluation": whole[kind] / count for kind in KINDS}
    parts["project_page"] = (whole["with_page"] - whole["project"]) / pages
    return parts, {"evaluation": ratio(seconds), "metric": metric}


def _under_other_name(clip, folder, name):
    """The same clip under other paths in `folder`: a different clip to code that identifies clips by path."""
    paths = os.path.join(folder, "audio", clip.category, f"{name}.wav"), os.path.join(folder, "frames", name)
    for path, old in zip(paths, (clip.path_audio, clip.path_frames), strict=True):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(os.path.abspath(old), path)
    return clip._replace(path_audio=paths[0], path_frames=paths[1])


def _reference_nets(args, separator):
    nets = reference.ReferenceNets(args.arch_sound, args.num_channels, args.ngf)
    return nets.load(separator).eval()


@torch.no_grad()
def _measure_parts(separator, nets, data, old_data, rounds, size):
    """({forward and metric of both: seconds per mixture}, the metric's ratio)."""
    size = min(size, len(data))
    old, new = (
        default_collate([old_data[n] for n in range(size)]),
        collate([data[n] for n in range(size)]),
    )
    tensors = [new[key] for key in ("mix", "sources", "frames")]

    def forward_old():
        return reference.separate(nets(old)[1], old)

    def forward():
        return separator(*tensors, True)

    out, estimates = forward(), forward_old()
    length = out["estimates"].shape[-1]
    sounds = (
        new["sources"][..., :length],
        out["estimates"].float(),
        new["mix"][:, :length],
        out["oracle"].float(),
    )
    waves = old["waves"][..., :length].numpy()

    def score_old():
        for sources, estimate in zip(waves, estimates, strict=True):
            reference.score(sources, estimate, sources.sum(axis=0))

    actions = {
        "reference_forward": forward_old,
        "project_forward": forward,
        "reference_metric": score_old,
        "project_metric": lambda: score_batch(*sounds, fixed=False),
        "project_metric_first_epoch": lambda: score_batch(*sounds),
    }
    seconds = in_turn(actions, rounds)
    parts = {name: statistics.median(values) / size for name, values in seconds.items()}
    return parts, ratio(seconds, "reference_metric", "project_metric")


def measure_separation(flags, rounds, video_seconds):
    """{x_real_time, seconds, video_seconds} of separating a video: separate.py without loading networks."""
    args = parse_args([*flags, *WEIGHTS])
    pixels = PixelSeparator(build_separator(args), args.num_mix)
    times = []
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        video = os.path.join(folder, "video.mp4")
        write_video(video, video_seconds, seed=0)
        for _ in range(rounds):
            began = time.perf_counter()
            separate_video(video, os.path.join(folder, "out"), pixels, build_sampling(args), Request())
            times.append(time.perf_counter() - began)
    seconds = statistics.median(times)
    return {"x_real_time": video_seconds / seconds, "seconds": seconds, "video_seconds": video_seconds}
