"""What evaluation leaves on disk: metrics.json, metrics.csv and the page."""

import csv
import os

import viz
from engine.evaluation.metrics import SCORES
from utils import replacing, save_json

FOLDER_PAGE = "visualization"  # in a run's folder


def summary_line(summary):
    """One line of scores: first what earlier implementations print, then the scores added here."""

    def value(key, digits=2):
        return "none" if summary.get(key) is None else f"{summary[key]:.{digits}f}"

    epoch = "unknown" if summary["epoch"] is None else summary["epoch"]
    line = (
        f"[Eval Summary] Epoch: {epoch}, Loss: {value('loss', 4)}, "
        f"SDR_mixture: {value('sdr_mixture', 4)}, SDR: {value('sdr', 4)}, "
        f"SIR: {value('sir', 4)}, SAR: {value('sar', 4)}"
    )
    line += f", SI-SDR: {value('si_sdr', 4)}, SDR_oracle: {value('sdr_oracle', 4)}"
    for key in ("sdr_swapped", "sdr_average"):
        line += f", {key.replace('sdr', 'SDR')}: {value(key, 4)}" if key in summary else ""
    counts = ", ".join(f"{summary[f'num_{name}']} {name}" for name in ("mixtures", "failed", "silent"))
    return f"{line} ({counts}, {summary['num_clips_unreadable']} clips unreadable)"


def write_metrics(folder, summary, results):
    """Write metrics.json, the summary, and metrics.csv, a row for each source of each mixture."""
    save_json(os.path.join(folder, "metrics.json"), summary)
    keys = list(dict.fromkeys([*SCORES, *(key for result in results for key in result.scores)]))
    with (
        replacing(os.path.join(folder, "metrics.csv")) as path,
        open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["mixture", "source", "clip", "category", "status", "loss", *keys])
        for result in sorted(results, key=lambda result: result.index):
            for n, (category, name) in enumerate(result.clips):
                values = [f"{result.scores[key][n]:.4f}" if result.scores else "" for key in keys]
                loss = "" if result.loss is None else f"{result.loss:.6f}"
                row = [result.index, n, name, category, result.status or "scored", loss]
                writer.writerow([*row, *values])


def write_page(folder, summary, results, options, history, title):
    """Write index.html in `folder` from the rows of the results."""
    rows = [result.row for result in sorted(results, key=lambda result: result.index) if result.row]
    viz.write_page(folder, rows, summary, options, history, title)
