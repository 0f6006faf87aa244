"""The page of a comparison of runs."""

from pages.filters import FILTERS
from pages.render import render


def write_page(folder, names, cells, notes, rows):
    """Write folder/index.html.

    names: of the runs; cells: a table of them, rows of texts, the header first; notes: sentences below it.
    rows: of each mixture a dictionary: name, seconds, scores (SDR of each run, dB), mixture, sources;
    of each source: category, clip, still, true, runs, scores. Sounds are {"sound": path, "picture": path}.
    Paths are relative to `folder`.
    """
    categories = sorted({source["category"] for row in rows for source in row["sources"]})
    values = {"names": names, "cells": cells, "notes": notes, "rows": rows, "categories": categories}
    render(folder, "comparison.html", FILTERS, **values)
