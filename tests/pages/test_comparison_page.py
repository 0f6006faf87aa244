"""The page of a comparison in a real browser, opened from file://."""

import shutil

import pytest

from engine.evaluation.compare.__main__ import main
from engine.evaluation.report import FOLDER_PAGE
from tests.helpers import show_rows, write_run

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

# SDR of the sources of each mixture.
ONE = [[1.0, 3.0], [8.0, 9.0], [5.0, 5.0]]
OTHER = [[9.0, 9.0], [4.0, 4.0], [4.5, 4.5]]
CLIPS = [("flute/a", "drum/b"), ("flute/c", "drum/d"), ("harp/e", "harp/f")]
NAME = "a name that is far too long for the small picture that it is beside, & <odd>"
PLAYING = "[...document.querySelectorAll('audio')].filter(media => !media.paused)"


@pytest.fixture(scope="module")
def path_page(tmp_path_factory):
    """The page in a folder that was moved, away from the runs that it shows, which are deleted."""
    root = tmp_path_factory.mktemp("comparison")
    runs = root / "runs"
    folders = [write_run(runs / name, scores, clips=CLIPS) for name, scores in (("one", ONE), ("b", OTHER))]
    show_rows(f"{folders[0]}/{FOLDER_PAGE}", 3, seconds=4)
    shutil.copytree(f"{folders[0]}/{FOLDER_PAGE}", f"{folders[1]}/{FOLDER_PAGE}")
    main([folders[0], f"{NAME}={folders[1]}", "--page", str(root / "page")])
    shutil.rmtree(runs)
    return (root / "page").rename(root / "moved") / "index.html"


@pytest.fixture
def page(open_page, path_page):
    page = open_page(path_page, reduced_motion="reduce")
    page.evaluate("document.querySelectorAll('audio').forEach(media => { media.loop = true; })")
    return page


def order(page):
    """The names of the visible rows, from the top."""
    rows = page.locator(".row:visible").all()
    return [row.get_attribute("id").removeprefix("row-") for row in rows]


def test_every_picture_and_sound_loads(page):
    page.evaluate("document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 3 * (1 + 2 * (2 + 2))
    assert min(widths) > 0
    media = "[...document.querySelectorAll('audio')]"
    page.evaluate(f"{media}.forEach(one => {{ one.preload = 'auto'; }})")
    page.wait_for_function(f"{media}.every(one => one.readyState >= 2 || one.error)")
    durations = page.evaluate(f"{media}.map(one => one.duration)")
    assert len(durations) == 3 * (1 + 2 * 3)
    assert all(3.8 < seconds < 4.3 for seconds in durations)


def test_the_table_has_all_runs(page):
    cells = page.locator(".comparison tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in cells] == ["one", NAME]
    assert "+0.67" in cells[1]
    assert "−" in cells[1]


def test_the_page_opens_on_the_median_of_the_first_run(page):
    assert [row.get_attribute("id") for row in page.locator(".row[open]").all()] == ["row-0002"]
    expect(page.locator("#row-0002 .badge")).to_have_text("SDR 5.0 dB")
    shown = page.locator("#row-0001 figcaption b").all_text_contents()
    assert shown == ["8.0", "4.0", "9.0", "4.0"]


def test_one_sound_plays_at_a_time(page):
    buttons = page.locator("#row-0002 .listen")
    for number in (0, 2, 3):  # the mixture; what the first and the second run separated
        buttons.nth(number).click()
        page.wait_for_function(
            f"""number => {{
                const playing = {PLAYING};
                const media = document.querySelectorAll("#row-0002 audio")[number];
                return playing.length === 1 && playing[0] === media && media.currentTime > 0;
            }}""",
            arg=number,
        )
    expect(page.locator("#row-0002 .playhead").nth(3)).to_be_visible()
    page.keyboard.press("Escape")
    page.wait_for_function(f"{PLAYING}.length === 0")


def test_sorting_and_filtering(page):
    page.get_by_label("Sort by").select_option(label="SDR, one")
    assert order(page) == ["0001", "0002", "0000"]
    page.get_by_label("Sort by").select_option(label=f"SDR, {NAME}")
    assert order(page) == ["0000", "0002", "0001"]
    page.get_by_label("Sort by").select_option(label=f"difference, {NAME}")
    assert order(page) == ["0000", "0002", "0001"]
    page.get_by_role("button", name="best first").click()
    assert order(page) == ["0001", "0002", "0000"]
    page.get_by_label("Show").select_option(label="drum")
    assert order(page) == ["0001", "0000"]


@pytest.mark.parametrize("width", [390, 820, 1400])
def test_nothing_overflows(page, width):
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    inside = "[...document.querySelectorAll('.tile')].every(tile => tile.scrollWidth <= tile.clientWidth)"
    assert page.evaluate(inside)


def test_theme(page):
    ground = "getComputedStyle(document.querySelector('.comparison')).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#theme").click()
    assert page.evaluate(ground) != light
