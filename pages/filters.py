"""How scores are written on the pages: filters of the templates."""

import math

from pages.curves import percent

SCALE_DB = (-5.0, 20.0)  # range of the bars and colours that compare SDRs


def decibels(value, signed=False):
    """A score with one decimal and a true minus sign; a dash for None."""
    if value is None:
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:{'+' if signed else ''}.1f}".replace("-", "−")


def gain(scores):
    """SDR improvement over the mixture, dB; None if either is not scored."""
    sdr, mixture = scores.get("sdr"), scores.get("sdr_mixture")
    return None if sdr is None or mixture is None else sdr - mixture


def sortable(value):
    """A score as JavaScript's Number reads it; empty for None."""
    return "" if value is None else repr(float(value)).replace("inf", "Infinity")


def share(value):
    """A share 0..1 in percent; a dash for None."""
    return "–" if value is None else f"{100 * value:.0f} %"


def place(value):
    """Position of a score on the bars' scale, percent."""
    low, high = SCALE_DB
    return round(float(percent(min(max(value, low), high), low, high)), 1)


FILTERS = {"decibels": decibels, "gain": gain, "place": place, "share": share, "sortable": sortable}
