"""The page's HTML and the learning curves, without a browser."""

import html.parser
import os
import re

import numpy as np
import pytest
from PIL import Image

import viz
from pages import curves
from tests.helpers import SCORES, make_view, with_source

NASTY = '<b>"x"&'


def write_page(folder, rows, summary=None, options=None, history=None, title="a run"):
    """Write a page and return its HTML."""
    viz.write_page(folder, rows, summary or {}, options or {}, history or {}, title)
    return (folder / "index.html").read_text(encoding="utf-8")


class Tags(html.parser.HTMLParser):
    """All tags' names and attributes, and all text."""

    def __init__(self, text):
        super().__init__()
        self.names, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("num_mix", [1, 3])
def test_any_number_of_sources(tmp_path, num_mix):
    row = viz.write_row(tmp_path, make_view(num_mix=num_mix))
    tags = Tags(write_page(tmp_path, [row]))
    assert tags.names.count("video") == num_mix
    assert tags.names.count("audio") == 1 + 3 * num_mix


def test_page_shows_the_scores_with_signs(tmp_path):
    text = Tags(write_page(tmp_path, [viz.write_row(tmp_path, make_view())])).text
    for shown in ("7.2", "+7.0", "12.5", "−1.5", "6.0", "14.0", "dB"):
        assert shown in text


@pytest.mark.parametrize("scores", [dict.fromkeys(SCORES), {}, dict.fromkeys(SCORES, float("nan"))])
def test_silent_mixtures_say_so(tmp_path, scores):
    page = write_page(tmp_path, [viz.write_row(tmp_path, make_view(scores=scores))])
    assert "silent: not scored" in Tags(page).text
    assert ("data-sdr", "") in Tags(page).attributes


def test_infinite_scores_are_shown_and_sortable(tmp_path):
    page = write_page(tmp_path, [viz.write_row(tmp_path, make_view(scores=SCORES | {"sir": float("inf")}))])
    assert "∞" in Tags(page).text
    assert ("data-sir", "Infinity") in Tags(page).attributes


def test_users_strings_are_escaped(tmp_path):
    view = with_source(make_view(), clip=NASTY, category=NASTY + "cat")
    row = viz.write_row(tmp_path, view)
    page = write_page(tmp_path, [row], options={"id": NASTY + "opt", NASTY: 1}, title=NASTY + "title")
    tags = Tags(page)
    assert NASTY not in page
    for shown in (NASTY, NASTY + "cat", NASTY + "opt", NASTY + "title"):
        assert shown in tags.text
    assert any(name == "alt" and NASTY in value for name, value in tags.attributes)
    assert sorted(os.listdir(tmp_path)) == ["0007", "index.html"]


def test_page_needs_nothing_but_its_folder(tmp_path):
    page = write_page(tmp_path, [viz.write_row(tmp_path, make_view())])
    tags = Tags(page)
    wanted = [value for name, value in tags.attributes if name in ("src", "poster")]
    assert wanted
    assert all((tmp_path / path).is_file() for path in wanted)
    assert "http:" not in page
    assert "https:" not in page
    assert "link" not in tags.names or ("href", "data:,") in tags.attributes


def test_page_of_nothing(tmp_path):
    text = Tags(write_page(tmp_path, [])).text
    assert "Nothing was scored" in text
    assert "No mixtures" in text


def test_page_shows_summary_and_options(tmp_path):
    summary = {
        "epoch": 12,
        "num_mixtures": 256,
        "num_silent": 3,
        "loss": 0.27034,
        **SCORES,
        "sdr_swapped": None,
        "sdr_average": -3.25,
    }
    options = {"lr_steps": [40, 80], "id": "", "loss": "bce"}
    text = Tags(write_page(tmp_path, [], summary, options, title="MUSIC-2mix")).text
    for shown in ("MUSIC-2mix", "epoch 12", "256", "0.2703", "7.2", "14.0", "40 80", "bce"):
        assert shown in text
    assert "swapped" not in text
    assert "SDR, average picture" in text


DUETS = {
    "count": 12,
    "failed": 1,
    "pointing": 0.958,
    "pointing_chance": 0.324,
    "energy_in_box": 0.626,
    "iou": 0.41,
    "ciou": 0.541,
    "ciou_chance": 0.083,
    "auc": 0.42,
    "auc_chance": 0.33,
    "sdr_boxes": 12.24,
    "sdr_automatic": None,
    "sdr_mixture": -0.75,
    "intervals": {"pointing": [0.875, 1.0], "sdr_boxes": [-10.94, 13.51]},
}


def test_page_shows_localisation(tmp_path):
    solos = {"count": 42, "failed": 0, "pointing": 0.976, "pointing_chance": 0.393, "energy_in_box": None}
    page = write_page(tmp_path, [], {"localisation": {"duets": DUETS, "solos": solos}})
    shown = " ".join(re.sub("<[^>]+>", " ", page).split())
    for part in ("Duets 12 videos, 1 failed", "In its box 96 % 88 % to 100 %; by chance 32 %"):
        assert part in shown
    for part in ("Energy in its box 63 % by chance 32 %", "IoU at least 0.5 54 % by chance 8 %"):
        assert part in shown
    assert "AUC of IoU 42 % by chance 33 %" in shown
    for part in (
        "SDR at boxes 12.2 dB −10.9 to 13.5",
        "SDR of mixture −0.8 dB",
        "Solos 42 videos In its box 98 %",
    ):
        assert part in shown
    assert "boxes unknown" not in shown.split("Solos")[0]
    assert "failed" not in shown.split("Solos")[1].split("How to read")[0]


def test_no_localisation_no_words_about_it(tmp_path):
    assert "Localisation" not in write_page(tmp_path, [])


def test_of_an_unknown_epoch_the_page_says_nothing(tmp_path):
    assert "epoch" not in Tags(write_page(tmp_path, [], {"epoch": None})).text


# ---- learning curves

HISTORY = {
    "train": {"epoch": [k / 50 for k in range(1, 2001)], "err": [1 / k for k in range(1, 2001)]},
    "val": {"epoch": [20, 40], "err": [0.3, 0.2], "sdr": [4.0, None], "sir": [float("nan"), 9.0], "sar": []},
}


def test_curves_are_drawn_as_files(tmp_path):
    curves.plot_history(tmp_path, HISTORY)
    for name in ("loss.png", "metrics.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 500
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize(
    "history", [{}, {"train": {"epoch": [], "err": []}, "val": {"epoch": [], "err": []}}]
)
def test_no_history_no_curves(tmp_path, history):
    curves.plot_history(tmp_path, history)
    assert not os.listdir(tmp_path)
    assert "svg" in Tags(write_page(tmp_path, [], history=HISTORY)).names
    assert "Learning curves" not in write_page(tmp_path, [], history=history)


def test_curves_keep_finite_points_and_are_thinned():
    assert curves.curve(HISTORY["val"], "sdr")[1].tolist() == [4]
    assert curves.curve(HISTORY["val"], "sir")[0].tolist() == [40]
    epochs, values = curves.curve(HISTORY["train"], "err")
    assert len(epochs) == curves.MAX_POINTS
    assert np.isclose(values[0], np.mean(HISTORY["train"]["err"][:7]))


def test_page_names_the_last_value_of_each_curve(tmp_path):
    text = Tags(write_page(tmp_path, [], history=HISTORY)).text
    for shown in ("validation 0.2", "SDR 4", "SIR 9"):
        assert shown in text
    assert "SAR 0" not in text


# ---- statistics


def found_sdr(mean, low=None, high=None):
    """Statistics of a part of the mixtures."""
    return {
        "sdr": {"mean": mean, "median": mean, "low": low, "high": high, "num_mixtures": 3, "num_clips": 6}
    }


def test_page_shows_the_interval_and_the_pairs(tmp_path):
    parts = {
        "statistics": found_sdr(7.25, -0.5, 15.0),
        "by_category": {NASTY: found_sdr(6.0, 5.0, 7.0), "flute": found_sdr(11.0)},
        "by_pair": {NASTY: {"flute": found_sdr(-1.5)}},
    }
    page = write_page(tmp_path, [], SCORES | parts)
    tags = Tags(page)
    assert " ".join(tags.text.split()).count("7.2 dB −0.5 to 15.0") == 1
    table = re.search(r'<section class="pairs".*?</section>', page, re.DOTALL)[0]
    rows = re.findall("<tr>.*?</tr>", table.replace("</t", " </t"), re.DOTALL)
    rows = [" ".join(Tags(row).text.split()) for row in rows]
    assert rows == [f"any {NASTY} flute", f"{NASTY} 6.0 – −1.5", "flute 11.0 – –"]
    assert ("title", f"{NASTY}: 6.0 dB (5.0 to 7.0), 3 mixtures") in tags.attributes


def test_without_categories_there_are_no_pairs(tmp_path):
    page = write_page(
        tmp_path, [], SCORES | {"statistics": found_sdr(7.25), "by_category": {}, "by_pair": {}}
    )
    assert "SDR by pair" not in page
    assert "95 % interval of the mean" not in page
