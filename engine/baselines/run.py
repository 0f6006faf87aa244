"""Evaluate baselines on a list, each once: later calls find its scores."""

import hashlib
import json
import logging
import os

import torch

from dataset.shards.read import open_media
from engine.baselines.baseline import Baseline, BlindEvaluator
from engine.baselines.bases import find_bases
from engine.baselines.methods import TITLES
from engine.evaluation.protocol import make_protocol, write_protocol
from engine.evaluation.report import FOLDER_PAGE, write_metrics, write_page
from engine.evaluation.results import make_pool
from engine.loaders import build_val_loader
from engine.options import path_val
from utils import save_json

VERSION = 1  # of the methods: raise it when one gives other scores
FOLDER = "baselines"  # in --ckpt
FILE_BASELINE = "baseline.json"  # what the scores are of; written last
OPTIONS = (
    "num_mix num_frames stride_frames frameRate imgSize audLen audRate seed num_val val_pairs num_vis bss"
).split()

logger = logging.getLogger(__name__)


def evaluate_baselines(names, args):
    """Evaluate the baselines `names` on the mixtures that `args` describe.

    Yields (name, folder of its files, its summary, whether it was computed now).
    """
    loader = build_val_loader(args)
    root = os.path.join(args.ckpt, FOLDER, args.id or _stem(path_val(args)))
    content = _content(args, loader.dataset)
    with make_pool(args.workers) as pool:
        evaluator = BlindEvaluator(None, None, torch.device("cpu"), loader, pool, path_val(args), args.bss)
        for name in names:
            bases, of_bases = None, ""
            if name == "nmf-supervised":
                categories = [clip.category for clip in loader.dataset.clips]
                bases, of_bases = find_bases(args, categories, root, pool)
            key = _digest({**content, "name": name, "bases": of_bases})
            folder = os.path.join(root, name)
            kept = _read_kept(folder, key)
            if not kept:
                evaluator.use(Baseline(name, args.audRate, pool, bases))
                _evaluate(evaluator, name, folder, args, key)
            yield name, folder, kept or _read_kept(folder, key), not kept


def _evaluate(evaluator, name, folder, args, key):
    logger.info("%s: %s", name, TITLES[name])
    page = os.path.join(folder, FOLDER_PAGE)
    _forget(folder)
    summary, results = evaluator.run(page, args.num_vis)
    summary = {"epoch": None, "baseline": name, **summary}
    lists = {"list_val": args.list_val, "list_val_mix": args.list_val_mix}
    options = {"baseline": name, **lists, **{option: getattr(args, option) for option in OPTIONS}}
    write_metrics(folder, summary, results)
    write_protocol(folder, make_protocol(args, evaluator, results, {}, evaluator.device))
    write_page(page, summary, results, options, {}, f"{name}: {TITLES[name]}")
    save_json(os.path.join(folder, FILE_BASELINE), {"key": key, **options})


def _content(args, dataset):
    """All that an evaluation depends on, except for the method: options, clips and their sounds, mixtures."""
    return {
        "version": VERSION,
        "options": {option: getattr(args, option) for option in OPTIONS},
        "clips": list(dataset.clips),
        "sounds": [_checksum(clip.path_audio) for clip in dataset.clips],
        "mixtures": dataset.mixtures and list(dataset.mixtures),
    }


def _checksum(path):
    """SHA-256 of a file; None if it cannot be read, which evaluation reports."""
    try:
        with open_media(path) as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None


def _digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _read_kept(folder, key):
    """The summary in a baseline's folder; None if there is none, or if it is of something else."""
    try:
        with open(os.path.join(folder, FILE_BASELINE), encoding="utf-8") as file:
            if json.load(file)["key"] != key:
                return None
    except FileNotFoundError:
        return None
    with open(os.path.join(folder, "metrics.json"), encoding="utf-8") as file:
        return json.load(file)


def _forget(folder):
    """Remove the record of earlier scores, so that an evaluation that is interrupted is repeated."""
    path = os.path.join(folder, FILE_BASELINE)
    if os.path.isfile(path):
        logger.info("%s: of other clips or options, replaced", folder)
        os.remove(path)


def _stem(path):
    return os.path.splitext(os.path.basename(path))[0]
