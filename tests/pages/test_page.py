"""The evaluation page in a real browser, opened from file://, as users open it."""

import pytest

import viz
from tests.helpers import SCORES, make_view

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

# name -> sdr, sdr_mixture, sir of each row; None: silent
ROWS = {"0000": (3.0, 0.0, 9.0), "0001": (8.0, 7.0, 5.0), "0002": None, "0003": (-2.0, -9.0, 20.0)}
PLAYING = "[...document.querySelectorAll('audio, video')].filter(media => !media.paused)"


def scores_of(row):
    if row is None:
        return dict.fromkeys(SCORES)
    sdr, sdr_mixture, sir = row
    return SCORES | {"sdr": sdr, "sdr_mixture": sdr_mixture, "sir": sir}


@pytest.fixture(scope="module")
def path_page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("visualization")
    rows = []
    for number, (name, row) in enumerate(ROWS.items()):
        view = make_view(name=name, seconds=4, scores=scores_of(row))
        if number == 1:
            view = view._replace(sources=[view.sources[0]._replace(category="a tuba"), view.sources[1]])
        rows.append(viz.write_row(folder, view))
    history = {
        "train": {"epoch": [0.5, 1], "err": [0.5, 0.4]},
        "val": {"epoch": [1], "err": [0.4], "sdr": [7.0]},
    }
    viz.write_page(folder, rows, {"num_mixtures": 4, **SCORES}, {"id": "MUSIC"}, history, "MUSIC-2mix")
    return folder / "index.html"


@pytest.fixture
def page(open_page, path_page):
    """The page with its sounds looped, so that none ends before a slow machine looks at it."""
    page = open_page(path_page, reduced_motion="reduce")
    page.evaluate("document.querySelectorAll('audio, video').forEach(media => { media.loop = true; })")
    return page


def order(page):
    """The names of the visible rows, from the top."""
    rows = page.locator(".row:visible").all()
    return [row.get_attribute("id").removeprefix("row-") for row in rows]


def sound(page, number, row="0000"):
    """The play button of the row's sound or video `number`."""
    return page.locator(f"#row-{row} .listen").nth(number)


def wait_for_playing(page, number, row="0000"):
    """Wait until only the row's sound `number` plays, and has advanced."""
    page.wait_for_function(
        f"""([row, number]) => {{
            const playing = {PLAYING};
            const player = document.querySelectorAll(`#row-${{row}} .player`)[number];
            const media = player.querySelector("audio, video");
            return playing.length === 1 && playing[0] === media && media.currentTime > 0;
        }}""",
        arg=[row, number],
    )


def wait_for_silence(page):
    page.wait_for_function(f"{PLAYING}.length === 0")


def test_every_picture_loads(page):
    page.evaluate("document.querySelectorAll('img').forEach(image => { image.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == len(ROWS) * (2 + 2 * 7)
    assert min(widths) > 0


def test_every_sound_and_video_loads_when_asked(page):
    media = "[...document.querySelectorAll('audio, video')]"
    assert page.evaluate(f"{media}.every(one => one.preload === 'none')")
    page.evaluate(f"{media}.forEach(one => {{ one.preload = 'auto'; }})")
    page.wait_for_function(f"{media}.every(one => one.readyState >= 2 || one.error)")
    assert page.evaluate(f"{media}.filter(one => one.error).map(one => one.currentSrc)") == []
    durations = page.evaluate(f"{media}.map(one => one.duration)")
    assert len(durations) == len(ROWS) * 9
    assert all(3.8 < seconds < 4.3 for seconds in durations)
    assert page.evaluate("[...document.querySelectorAll('video')].every(one => one.videoWidth === 64)")


def test_starting_one_sound_pauses_the_other(page):
    sound(page, 0).click()
    wait_for_playing(page, 0)
    assert sound(page, 0).get_attribute("aria-pressed") == "true"
    sound(page, 1).click()  # a video
    wait_for_playing(page, 1)
    sound(page, 2, row="0001").click()
    wait_for_playing(page, 2, row="0001")
    expect(sound(page, 0)).to_have_attribute("aria-pressed", "false")
    sound(page, 2, row="0001").click()
    wait_for_silence(page)


def test_playhead_follows_and_a_click_on_a_spectrogram_jumps(page):
    area = page.locator("#row-0000 .main .area").first
    expect(area.locator(".playhead")).to_be_hidden()
    box = area.bounding_box()
    area.click(position={"x": 0.5 * box["width"], "y": 5})
    wait_for_playing(page, 2)
    page.wait_for_function(
        "Number(getComputedStyle(document.querySelector('#row-0000')).getPropertyValue('--at')) > 0.4"
    )
    expect(area.locator(".playhead")).to_be_visible()


def test_heat_map_can_be_hidden(page):
    toggle, heat = page.locator("#row-0000 .heat-toggle").first, page.locator("#row-0000 .heat").first
    expect(heat).to_be_visible()
    toggle.click()
    expect(heat).to_be_hidden()
    assert toggle.get_attribute("aria-pressed") == "false"


def test_sorting(page):
    assert order(page) == ["0000", "0001", "0002", "0003"]
    page.get_by_label("Sort by").select_option("sdr")
    assert order(page) == ["0001", "0000", "0003", "0002"]  # not scored: last
    page.get_by_role("button", name="best first").click()
    assert order(page) == ["0003", "0000", "0001", "0002"]
    page.get_by_role("button", name="worst first").click()
    page.get_by_label("Sort by").select_option("gain")
    assert order(page) == ["0003", "0000", "0001", "0002"]
    page.get_by_label("Sort by").select_option("sir")
    assert order(page) == ["0003", "0000", "0001", "0002"]
    page.get_by_label("Sort by").select_option("")
    assert order(page) == ["0000", "0001", "0002", "0003"]


def test_filtering(page):
    page.get_by_label("Show").select_option(label="a tuba")
    assert order(page) == ["0001"]
    assert page.locator("#count").inner_text() == "1 of 4 mixtures"
    page.get_by_label("Show").select_option(label="instrument0")
    assert order(page) == ["0000", "0002", "0003"]
    page.get_by_label("Show").select_option(label="all instruments")
    assert len(order(page)) == 4


def test_theme(page):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#theme").click()
    dark = page.evaluate(ground)
    assert light != dark
    page.keyboard.press("d")
    assert page.evaluate(ground) == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) == light  # an explicit choice stays
    page.reload()
    assert page.evaluate(ground) == dark


def test_keyboard(page):
    def focused():
        return page.evaluate("document.activeElement.closest('.row')?.id")

    page.keyboard.press("j")
    page.keyboard.press("j")
    assert focused() == "row-0001"
    page.keyboard.press("k")
    assert focused() == "row-0000"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    page.keyboard.press("Space")
    wait_for_playing(page, 0)
    page.keyboard.press("Space")
    wait_for_silence(page)
    page.keyboard.press("2")
    wait_for_playing(page, 5)  # the second source's video
    page.keyboard.press("Escape")
    wait_for_silence(page)
    for _ in range(4):  # mixture, video, heat map, predicted
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    wait_for_playing(page, 2)


def test_keyboard_skips_hidden_rows(page):
    page.get_by_label("Show").select_option(label="instrument0")
    page.locator("#row-0000 h2").click()
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.id") == "row-0002"


@pytest.mark.parametrize("width", [390, 820, 1400])
def test_nothing_overflows_horizontally(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_help_and_options_unfold(page):
    page.get_by_text("How to read and use this page").click()
    expect(page.get_by_text("next, previous row")).to_be_visible()
    page.get_by_text("Options of this run").click()
    expect(page.get_by_text("MUSIC", exact=True)).to_be_visible()
