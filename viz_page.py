"""The page of evaluation and its learning curves: plain data in, files out."""

import math
import os

import jinja2
import numpy as np
from matplotlib.figure import Figure

from utils import replacing
from viz_media import COLOURS_ENERGY, COLOURS_MASK, COLOURS_SOUND, FLOOR_DB, gradient, nice_steps

PATH_TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
LOSS_CURVES = {("train", "err"): "training", ("val", "err"): "validation"}
SCORE_CURVES = {
    ("val", "sdr"): "SDR",
    ("val", "sir"): "SIR",
    ("val", "sar"): "SAR",
    ("val", "si_sdr"): "SI-SDR",
    ("val", "sdr_mixture"): "SDR of the mixture",
    ("val", "sdr_oracle"): "SDR of the oracle",
}
MAX_POINTS = 300  # of a drawn curve; beyond it, neighbours are averaged
MAX_MARKED = 60  # points of a curve drawn with dots
SCALE_DB = (-5.0, 20.0)  # of the bars that compare SDRs
PLOT_INCHES = (7.0, 4.0)
PLOT_DPI = 120  # dots/inch


def write_page(folder, rows, summary, options, history, title):
    """Write folder/index.html, whole or not at all.

    rows: what `write_row` returned, in the order to show; their media lie in `folder`.
    summary: numbers by name: epoch, num_mixtures, num_failed, num_silent, loss and, in dB, sdr_mixture, sdr,
    sir, sar, si_sdr, sdr_oracle, sdr_swapped; any may be missing or None.
    options: the run's flags and their values.
    history: {"train": {"epoch": [...], "err": [...]}, "val": {"epoch", "err", "sdr", …}}, may be empty.
    """
    filters = {"decibels": decibels, "place": place, "gain": gain, "shown": shown, "sortable": sortable}
    charts = [chart("Loss", "", history, LOSS_CURVES), chart("Scores", "dB", history, SCORE_CURVES)]
    render(
        folder,
        "page.html",
        filters,
        title=title,
        rows=rows,
        categories=sorted({source["category"] for row in rows for source in row["sources"]}),
        summary=summary,
        options=options,
        charts=[drawn for drawn in charts if drawn],
        max_marked=MAX_MARKED,
        gradients={
            "sound": gradient(COLOURS_SOUND),
            "mask": gradient(COLOURS_MASK),
            "heat": gradient(COLOURS_ENERGY),
        },
        floor_db=FLOOR_DB,
    )


def render(folder, template, filters, **values):
    """Fill a template, with Jinja `filters` by name, into folder/index.html, whole or not at all."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PATH_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    html = environment.get_template(template).render(**values)
    with (
        replacing(os.path.join(folder, "index.html")) as temporary,
        open(temporary, "w", encoding="utf-8") as file,
    ):
        file.write(html)


def plot_history(folder, history):
    """Write folder/loss.png and folder/metrics.png; a plot without any point isn't written."""
    plot_curves(os.path.join(folder, "loss.png"), curves(history, LOSS_CURVES), "loss")
    plot_curves(os.path.join(folder, "metrics.png"), curves(history, SCORE_CURVES), "dB")


def plot_curves(path, lines, unit):
    """Draw lines, a dict name -> (epochs, values), as a PNG; nothing if there are none."""
    if not lines:
        return
    figure = Figure(figsize=PLOT_INCHES, dpi=PLOT_DPI, layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel=unit)
    for name, (epochs, values) in lines.items():
        axes.plot(epochs, values, label=name, marker="o" if len(epochs) <= MAX_MARKED else None, markersize=3)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(lines), frameon=False, fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary)


# ---- curves


def curves(history, wanted):
    """The wanted lines of history that hold a point: a dict name -> (epochs, values)."""
    lines = {name: curve(history.get(part, {}), key) for (part, key), name in wanted.items()}
    return {name: line for name, line in lines.items() if len(line[0])}


def curve(part, key):
    """(epochs, values) of one list in a part of history: finite ones, averaged down to MAX_POINTS."""
    pairs = zip(part.get("epoch", []), part.get(key, []), strict=False)
    points = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    blocks = np.array_split(points, min(len(points), MAX_POINTS) or 1)
    means = np.array([block.mean(axis=0) for block in blocks if len(block)]).reshape(-1, 2)
    return means[:, 0], means[:, 1]


def chart(title, unit, history, wanted):
    """The wanted curves of history on axes in percent: as the template draws them; None without any."""
    lines = curves(history, wanted)
    if not lines:
        return None
    x_low, x_high = span([epochs for epochs, _ in lines.values()])
    y_low, y_high = span([values for _, values in lines.values()])
    drawn = []
    for style, name in enumerate(wanted.values()):
        if name in lines:
            epochs, values = lines[name]
            x, y = percent(epochs, x_low, x_high), 100 - percent(values, y_low, y_high)
            points = [f"{left:.2f} {top:.2f}" for left, top in zip(x, y, strict=True)]
            drawn.append({"name": name, "style": style, "points": points, "last": float(values[-1])})
    return {
        "title": title,
        "unit": unit,
        "lines": drawn,
        "ticks_x": ticks(x_low, x_high, 6),
        "ticks_y": ticks(y_low, y_high, 5),
    }


def span(arrays):
    """(low, high) of some arrays with a little room; never empty."""
    low, high = min(map(np.min, arrays)), max(map(np.max, arrays))
    room = 0.04 * (high - low) or 0.5
    return float(low - room), float(high + room)


def percent(values, low, high):
    """Where values lie between low and high, 0..100."""
    return 100 * (values - low) / (high - low)


def ticks(low, high, count):
    """About `count` round ticks of an axis low..high: a list of {"at": percent, "label"}."""
    return [
        {"at": round(percent(value, low, high), 2), "label": f"{value:g}"}
        for value in nice_steps(low, high, count)
    ]


# ---- filters of the template


def decibels(value, signed=False):
    """A score with one decimal and a true minus; a dash where there is none."""
    if value is None:
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:{'+' if signed else ''}.1f}".replace("-", "−")


def gain(scores):
    """How much the SDR passes the mixture's, dB; None where either is not scored."""
    sdr, mixture = scores.get("sdr"), scores.get("sdr_mixture")
    return None if sdr is None or mixture is None else sdr - mixture


def sortable(value):
    """A score as JavaScript's Number reads it; empty where there is none."""
    return "" if value is None else repr(float(value)).replace("inf", "Infinity")


def place(value):
    """Where a score lies on the bars' scale, percent."""
    low, high = SCALE_DB
    return round(float(percent(min(max(value, low), high), low, high)), 1)


def shown(value):
    """An option's value as its user would type it."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return "''" if value == "" else str(value)
