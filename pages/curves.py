"""Learning curves: as PNG files, and as data for the evaluation page."""

import os

import numpy as np

from pages.media import nice_steps
from utils import replacing

LOSS_CURVES = {("train", "err"): "training", ("val", "err"): "validation"}
SCORE_CURVES = {
    ("val", "sdr"): "SDR",
    ("val", "sir"): "SIR",
    ("val", "sar"): "SAR",
    ("val", "si_sdr"): "SI-SDR",
    ("val", "sdr_mixture"): "SDR of the mixture",
    ("val", "sdr_oracle"): "SDR of the oracle",
}
MAX_POINTS = 300  # per curve; in longer curves, neighbours are averaged
MAX_MARKED = 60  # points, of a curve drawn with dots
PLOT_INCHES = (7.0, 4.0)
PLOT_DPI = 120  # dots/inch


def plot_history(folder, history):
    """Write folder/loss.png and folder/metrics.png; a plot without any point isn't written."""
    plot_curves(os.path.join(folder, "loss.png"), curves(history, LOSS_CURVES), "loss")
    plot_curves(os.path.join(folder, "metrics.png"), curves(history, SCORE_CURVES), "dB")


def plot_curves(path, lines, unit):
    """Draw lines, a dict name -> (epochs, values), as a PNG; nothing if there are none."""
    if not lines:
        return
    from matplotlib.figure import Figure  # here: it takes a second, and is needed after an epoch

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
    """The `wanted` curves of history that have points: {name: (epochs, values)}."""
    lines = {name: curve(history.get(part, {}), key) for (part, key), name in wanted.items()}
    return {name: line for name, line in lines.items() if len(line[0])}


def curve(part, key):
    """(epochs, values) of one key in a part of history: finite points, averaged down to MAX_POINTS."""
    pairs = zip(part.get("epoch", []), part.get(key, []), strict=False)
    points = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    blocks = np.array_split(points, min(len(points), MAX_POINTS) or 1)
    means = np.array([block.mean(axis=0) for block in blocks if len(block)]).reshape(-1, 2)
    return means[:, 0], means[:, 1]


def chart(title, unit, history, wanted):
    """The `wanted` curves of history as the template draws them, in percent; None if there are none."""
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
    """(low, high) of some arrays with a margin; never empty."""
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
