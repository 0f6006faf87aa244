"""A table of runs: their scores on the mixtures that all have, and paired differences to the first."""

from typing import NamedTuple

import numpy as np

from engine.evaluation.compare.read import Shared, find_shared
from engine.evaluation.statistics import DESCRIBED, describe, with_gains

SHOWN = {"sdr": "SDR", "sir": "SIR", "sar": "SAR", "si_sdr": "SI-SDR", "sdr_gain": "gain"}  # dB
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {letter: f"\\{letter}" for letter in "&%$#_{}"}


class Line(NamedTuple):
    """One run of a comparison, or several seeds pooled: the scores of a mixture are averaged over them."""

    name: str
    num_scored: int  # mixtures that the run (the first of several) scored, whether others have them or not
    scores: dict  # {score: see `statistics.describe`}
    difference: dict | None  # the same of SDR minus that of the first line; None: this is the first
    seeds: list  # mean SDR of each of several runs


class Comparison(NamedTuple):
    """What a table shows."""

    lines: list  # of Line
    shared: Shared

    @property
    def notes(self):
        """Sentences for below the table."""
        count = len(self.shared.keys)
        left = [f"{line.num_scored - count} of {line.name}" for line in self.lines if line.num_scored > count]
        notes = [f"{count} mixture{'' if count == 1 else 's'} that all runs have, {self.shared.how}."]
        notes += [f"Left out: {', '.join(left)}."] if left else []
        if len(self.lines) > 1:
            notes.append(f"Difference: SDR minus that of {self.lines[0].name} on the same mixtures.")
        return [*notes, "Brackets: 95 % intervals of means over clips. All in dB."]


def compare(entries):
    """The Comparison of entries, see `read.find_entries`. Raises UserError if no mixtures are shared."""
    shared = find_shared(entries)
    first, lines = None, []
    for entry in entries:
        means = [_mixture_means(run, shared) for run in entry.runs]
        pooled = {key: np.mean([each[key] for each in means], axis=0) for key in _common(means)}
        own = shared.mixtures[entry.runs[0].folder]
        clips = [[name for _, name in own[key].clips] for key in shared.keys]
        difference = None
        if first is not None:
            difference = describe({"sdr": pooled["sdr"] - first}, clips).get("sdr")
        first = pooled["sdr"] if first is None else first
        seeds = [float(np.nanmean(each["sdr"])) for each in means] if len(means) > 1 else []
        lines.append(Line(entry.name, len(own), describe(pooled, clips), difference, seeds))
    return Comparison(lines, shared)


def _mixture_means(run, shared):
    """{score: [K] of the shared mixtures, means over their sources}."""
    scores = [with_gains(shared.mixtures[run.folder][key].scores) for key in shared.keys]
    return {key: np.array([each[key].mean() for each in scores]) for key in DESCRIBED if key in scores[0]}


def _common(means):
    return [key for key in means[0] if all(key in each for each in means)]


def table_cells(comparison):
    """The table as rows of texts, the header first."""
    lines = comparison.lines
    is_compared, is_pooled = len(lines) > 1, any(line.seeds for line in lines)
    header = ["run", "mixtures", *SHOWN.values(), *["difference"] * is_compared, *["seeds"] * is_pooled]
    rows = [header]
    for line in lines:
        row = [line.name, str(len(comparison.shared.keys))]
        row += [_number(line.scores.get(key), key == "sdr", key == "sdr_gain") for key in SHOWN]
        row += [_number(line.difference, True, True)] * is_compared
        if is_pooled:
            row.append(f"{len(line.seeds)}, SD {np.std(line.seeds, ddof=1):.2f}" if line.seeds else "1")
        rows.append(row)
    return rows


def _number(found, with_ends, signed):
    """A mean, with its interval if asked for."""
    if not found:
        return ""
    text = f"{found['mean']:{'+' if signed else ''}.2f}"
    ends = with_ends and found["low"] is not None
    return f"{text} [{found['low']:.2f}, {found['high']:.2f}]" if ends else text


def format_table(cells, notes, style):
    """A table of `table_cells` as "text", "markdown" or "latex", with sentences below it."""
    if style == "latex":
        return _format_latex(cells, notes)
    if style == "markdown":
        cells = [[cell.replace("|", "\\|") for cell in row] for row in _with_minus(cells, "−")]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for name, *rest in cells:
        numbers = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append([name.ljust(widths[0]), *numbers])
    if style == "text":
        return "\n".join([*("  ".join(line).rstrip() for line in lines), "", *notes]) + "\n"
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    rows = [f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:])]
    return "\n".join([*rows, "", *notes]) + "\n"


def _with_minus(cells, minus):
    """The cells with another minus sign in their numbers."""
    return [cells[0], *([row[0], *(cell.replace("-", minus) for cell in row[1:])] for row in cells[1:])]


def _format_latex(cells, notes):
    escaped = [[_escape(cell) for cell in row] for row in cells]
    header, *rows = [" & ".join(row) + r" \\" for row in _with_minus(escaped, "$-$")]
    lines = [f"% {note}" for note in notes]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(cells[0]) - 1)}}}", r"\hline", header, r"\hline"]
    return "\n".join([*lines, *rows, r"\hline", r"\end{tabular}"]) + "\n"


def _escape(text):
    return "".join(LATEX.get(letter, letter) for letter in text)
