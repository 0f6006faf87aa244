"""What evaluation leaves on disk: metrics.json, metrics.csv, statistics.csv and the page."""

import contextlib
import csv
import os

import viz
from engine.evaluation.metrics import SCORES
from utils import replacing, save_json

FOLDER_PAGE = "visualization"  # in a run's folder
STATISTICS = ("mean", "median", "low", "high")  # columns of statistics.csv, dB


def summary_line(summary):
    """One line of scores: first what earlier implementations print, then the scores added here."""

    def value(key, digits=2):
        return "none" if summary.get(key) is None else f"{summary[key]:.{digits}f}"

    sdr = summary.get("statistics", {}).get("sdr", {})
    ends = "" if sdr.get("low") is None else f" [{sdr['low']:.2f}, {sdr['high']:.2f}]"
    epoch = "unknown" if summary["epoch"] is None else summary["epoch"]
    line = (
        f"[Eval Summary] Epoch: {epoch}, Loss: {value('loss', 4)}, "
        f"SDR_mixture: {value('sdr_mixture', 4)}, SDR: {value('sdr', 4)}{ends}, "
        f"SIR: {value('sir', 4)}, SAR: {value('sar', 4)}"
    )
    line += f", SI-SDR: {value('si_sdr', 4)}, SDR_oracle: {value('sdr_oracle', 4)}"
    for key in ("sdr_swapped", "sdr_average"):
        line += f", {key.replace('sdr', 'SDR')}: {value(key, 4)}" if key in summary else ""
    num_gone = summary.get("num_gone")
    total = f" of {summary['num_mixtures'] + num_gone}" if num_gone else ""
    counts = f"{summary['num_mixtures']}{total} mixtures, {f'{num_gone} gone, ' if num_gone else ''}"
    counts += ", ".join(f"{summary[f'num_{name}']} {name}" for name in ("failed", "silent"))
    return f"{line} ({counts}, {summary['num_clips_unreadable']} clips unreadable)"


def write_metrics(folder, summary, results):
    """Write what is known of an evaluation.

    metrics.json: the summary; metrics.csv: a row for each source of each mixture; statistics.csv: a row for
    each score of all mixtures, of each category, and of each category with another.
    """
    save_json(os.path.join(folder, "metrics.json"), summary)
    _write_statistics(folder, summary)
    keys = list(dict.fromkeys([*SCORES, *(key for result in results for key in result.scores)]))
    with _writing(os.path.join(folder, "metrics.csv")) as writer:
        writer.writerow(["mixture", "source", "clip", "category", "status", "loss", *keys])
        for result in sorted(results, key=lambda result: result.index):
            for n, (category, name) in enumerate(result.clips):
                values = [f"{result.scores[key][n]:.4f}" if result.scores else "" for key in keys]
                loss = "" if result.loss is None else f"{result.loss:.6f}"
                row = [result.index, n, name, category, result.status or "scored", loss]
                writer.writerow([*row, *values])


@contextlib.contextmanager
def _writing(path):
    """Yield a CSV writer of a file that appears when the block succeeds."""
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        yield csv.writer(file)


def _write_statistics(folder, summary):
    groups = {"all": summary.get("statistics", {}), **summary.get("by_category", {})}
    for category, others in summary.get("by_pair", {}).items():
        groups |= {f"{category} with {other}": found for other, found in others.items()}
    with _writing(os.path.join(folder, "statistics.csv")) as writer:
        writer.writerow(["score", "group", *STATISTICS, "mixtures"])
        for group, scores in groups.items():
            for key, found in scores.items():
                values = ["" if found[name] is None else f"{found[name]:.4f}" for name in STATISTICS]
                writer.writerow([key, group, *values, found["num_mixtures"]])


def write_page(folder, summary, results, options, history, title):
    """Write index.html in `folder` from the rows of the results."""
    rows = [result.row for result in sorted(results, key=lambda result: result.index) if result.row]
    viz.write_page(folder, rows, summary, options, history, title)
