"""Train and evaluate The Sound of Pixels; `python main.py --help` lists all flags."""

import logging
import os
import sys
from contextlib import nullcontext

import environment  # noqa: F401

from arguments import changed_options, parse_args
from utils import command, set_up_logging

if __name__ == "__main__" and "TORCHELASTIC_RUN_ID" not in os.environ:
    # Answers --help and mistakes before the imports below, which take seconds. Processes of torchrun first
    # agree on the one that prints.
    command(parse_args)(gpus_present=None)

from tqdm.contrib.logging import logging_redirect_tqdm

from dataset.fixed import read_protocol, write_gone
from dataset.index import shared_ids
from dataset.indexing.table import fingerprint, tally
from engine.build import build_optimizer, build_sampling, build_separator, parallelize
from engine.card import Card, code_version, update_scores
from engine.evaluation.evaluate import Evaluator
from engine.evaluation.localisation import find_truths, localisation_line, localise
from engine.evaluation.protocol import check_window, compare, make_protocol, write_protocol
from engine.evaluation.report import FOLDER_PAGE, summary_line, write_metrics, write_page
from engine.evaluation.results import make_pool
from engine.loaders import build_train_loader, build_val_loader, left_out
from engine.machine import distributed
from engine.machine.faults import one_line
from engine.machine.memory import keep_memory
from engine.machine.precision import set_precision
from engine.options import path_val, results_folder, run_folder, training_options
from engine.processes.lock import Lock
from engine.runs import title
from engine.separation.pixels import PixelSeparator
from engine.training.checkpoint import (
    NETS,
    best_epoch,
    find_run,
    read_history,
    restore,
    start_run,
    weight_files,
)
from engine.training.train import Trainer
from models.separator import choose_amp

NUM_NAMED = 5  # videos listed in a warning

logger = logging.getLogger(__name__)


def train(args):
    """Train a new run, or resume the one in its folder."""
    logger.info("reading %s and %s, building the networks", args.list_train, path_val(args))
    train_loader, val_loader = build_train_loader(args), build_val_loader(args)
    warn_of_shared_ids(args, train_loader.dataset.clips, val_loader.dataset.clips)
    folder = run_folder(args)
    with Lock(folder, distributed.is_restart()) if distributed.is_main() else nullcontext() as lock:
        train_in(folder, lock, args, train_loader, val_loader)


def train_in(folder, lock, args, train_loader, val_loader):
    """Train the run in `folder`; lock: of this folder, in rank 0."""
    state = find_run(folder, args, distributed.has_begun())
    check_processes(args, state, train_loader.dataset.clips, val_loader.dataset.clips)
    if state:  # it replaces all weights
        separator = build_separator(args)
    else:
        weights = {name: getattr(args, f"weights_{name}") for name in NETS}
        separator = build_separator(args, weights, args.pretrained)
    model, device = parallelize(separator, args.num_gpus)
    optimizer = build_optimizer(args, separator)
    start_run(folder, args, state)
    if not state:
        distributed.mark_begun()
    logger.info("run %s on %s, %d clips to train on", folder, device, len(train_loader.dataset.clips))
    with make_pool(args.workers) as pool:
        evaluator = Evaluator(model, separator, device, val_loader, pool, path_val(args), args.bss)
        shared = distributed.share_gradients(model, device, args.sync_bn)
        card = make_card(args, folder, train_loader.dataset.clips, val_loader.dataset.clips)
        parts = shared, separator, device, optimizer, train_loader, evaluator, card, lock
        trainer = Trainer(args, folder, *parts)
        if state:
            restore(state, trainer)
            within = f", step {state['within']['step']} of the next" if trainer.within else ""
            logger.info("resuming after epoch %d of %d%s", trainer.epoch, args.num_epoch, within)
        trainer.run()
    if distributed.is_main():
        print(f"done: {folder}; look at {os.path.join(folder, FOLDER_PAGE, 'index.html')}")


def make_card(args, folder, train, val):
    """What the run's model card says besides scores; train, val: lists of clips."""
    options, changed = training_options(args), changed_options(args)
    return Card(folder, options, args.preset, changed, tally(train), tally(val), code_version())


def check_processes(args, state, *clips):
    """Raise UserError unless all processes have the same flags, files and checkpoints."""
    reached = state and (state["epoch"], state["finished"], (state.get("within") or {}).get("step"))
    values = training_options(args) | {"num_gpus": args.num_gpus, "epoch reached": reached}
    values["clips"] = [fingerprint(each) for each in clips]
    # On machines of different kinds `--amp auto` may give different precisions and memory layouts.
    values["precision of --amp"] = choose_amp(args.amp, "cuda" if args.num_gpus else "cpu")
    distributed.check_same(values)


def warn_of_shared_ids(args, train, val):
    """Warn if clips to train on and clips to evaluate are of the same videos."""
    shared = shared_ids(train, val)
    if shared:
        logger.warning(
            "%s and %s share %d videos, e.g. %s: scores will be too good; see create_index_files.py --check",
            args.list_train,
            path_val(args),
            len(shared),
            ", ".join(shared[:NUM_NAMED]),
        )


def evaluate(args):
    """Evaluate the networks ckpt/ID/{sound,frame,synthesizer}_best.pth; write scores and page.

    Returns the exit status: 1 if the evaluation repeats a protocol and does not agree with it, else 0.
    """
    run, folder = run_folder(args), results_folder(args)
    earlier = read_protocol(args.protocol) if args.protocol else None  # before its file may be replaced
    if earlier:
        check_window(earlier, args)
    loader = build_val_loader(args)
    check_processes(args, None, loader.dataset.clips)
    truths = find_truths(args.list_duets, args.list_solos, args.list_val)
    weights = weight_files(run)
    separator = build_separator(args, weights)
    model, device = parallelize(separator, args.num_gpus)
    page = os.path.join(folder, FOLDER_PAGE)
    with make_pool(args.workers) as pool:
        evaluator = Evaluator(model, separator, device, loader, pool, path_val(args), args.bss)
        summary, results = evaluator.run(page, args.num_vis, floors=True)
        if not distributed.is_main():
            return 0
        history = read_history(run)
        summary = {"epoch": best_epoch(history), **summary, **left_out(args, loader.dataset)}
        if truths:
            pixels = PixelSeparator(separator, args.num_mix)
            summary["localisation"] = localise(pixels, device, build_sampling(args), truths, folder)
    protocol = make_protocol(args, evaluator, results, weights, device, earlier)
    write_protocol(folder, protocol)
    write_gone(folder, loader.dataset)
    write_metrics(folder, summary, results)
    if folder == run:
        update_scores(folder, summary, path_val(args))
    write_page(page, summary, results, vars(args), history, title(run))
    print(summary_line(summary))
    if truths:
        print(localisation_line(summary["localisation"]))
    print(f"scores: {os.path.join(folder, 'metrics.json')}, page: {os.path.join(page, 'index.html')}")
    return tell_of_agreement(args.protocol, earlier, protocol) if earlier else 0


def tell_of_agreement(path, earlier, protocol):
    """Print whether a repeated evaluation agrees with the protocol at `path`; returns the exit status."""
    agrees, text = compare(path, earlier, protocol)
    print(text)
    return int(not agrees)


@command
def main(argv=None):
    """The command; returns the exit status."""
    with distributed.session():
        set_up_logging(logging.INFO if distributed.is_main() else logging.ERROR)
        with distributed.one_voice():
            args = parse_args(argv, distributed.gpus_present(), distributed.processes())
        device = distributed.choose_device(args.num_gpus)  # precision depends on this process's own GPU
        set_precision(choose_amp(args.amp, device.type), fixed_shapes=args.mode == "train")
        if not args.num_gpus:
            keep_memory()
        with logging_redirect_tqdm(), one_line(args.ckpt):  # log lines go above a progress bar
            return evaluate(args) if args.mode == "eval" else train(args)


if __name__ == "__main__":
    sys.exit(main())
