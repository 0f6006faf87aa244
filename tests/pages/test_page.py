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


# ---- rows: which is open, and the way to the others


def open_rows(page):
    """The names of the unfolded rows, from the top."""
    return [row.get_attribute("id").removeprefix("row-") for row in page.locator(".row[open]").all()]


def test_the_page_opens_on_the_median_mixture(page):
    assert order(page) == ["0000", "0001", "0003", "0002"]  # SDR 3; then 8 and -2; then not scored
    assert open_rows(page) == ["0000"]
    expect(page.locator("#row-0000 .scores")).to_be_visible()
    expect(page.locator("#row-0003 .scores")).to_be_hidden()
    expect(page.locator("#row-0003 .badge")).to_have_text("SDR −2.0 dB")


def test_buttons_lead_to_the_median_the_best_and_the_worst(page):
    for name, row in {"Best 8.0": "0001", "Worst −2.0": "0003", "Median 3.0": "0000"}.items():
        page.get_by_role("button", name=name).click()
        assert page.evaluate("document.activeElement.closest('.row').id") == f"row-{row}"
        expect(page.locator(f"#row-{row} .scores")).to_be_in_viewport()


def test_the_buttons_follow_the_filter(page):
    page.get_by_label("Show").select_option(label="a tuba")
    for name in ("Best 8.0", "Worst 8.0", "Median 8.0"):
        expect(page.get_by_role("button", name=name)).to_be_enabled()


def test_without_scores_the_first_row_is_open_and_there_is_no_best(open_page, tmp_path):
    rows = [
        viz.write_row(tmp_path, make_view(name=name, scores=scores_of(None))) for name in ("0000", "0001")
    ]
    viz.write_page(tmp_path, rows, {}, {}, {}, "silent")
    page = open_page(tmp_path / "index.html")
    assert open_rows(page) == ["0000"]
    for name in ("Median", "Best", "Worst"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_disabled()


def test_an_address_with_a_row_opens_that_row(open_page, path_page):
    page = open_page(path_page)
    page.goto(f"{path_page.as_uri()}#row-0003")
    expect(page.locator("#row-0003 .scores")).to_be_in_viewport()
    page.reload()
    assert open_rows(page) == ["0003"]
    expect(page.locator("#row-0003 .scores")).to_be_in_viewport()


def test_folding_a_row_stops_its_sound(page):
    sound(page, 0).click()
    wait_for_playing(page, 0)
    page.locator("#row-0000 h2").click()
    assert open_rows(page) == []
    wait_for_silence(page)
    page.locator("#row-0001 h2").click()
    assert open_rows(page) == ["0001"]


def test_all_rows_fold_and_unfold(page):
    page.get_by_role("button", name="Unfold all").click()
    assert len(open_rows(page)) == len(ROWS)
    page.get_by_role("button", name="Fold all", exact=True).click()
    assert open_rows(page) == []


def test_masks_and_the_loss_weighting_are_folded(page):
    pictures = page.locator("#row-0000 .masks img")
    assert pictures.count() == 2 * 2 + 1
    expect(pictures.first).to_be_hidden()
    page.locator("#row-0000").get_by_text("Masks and loss weighting").click()
    for picture in pictures.all():
        expect(picture).to_be_visible()
    assert open_rows(page) == ["0000"]


def test_rows_are_short_on_a_phone_until_they_are_opened(page):
    page.set_viewport_size({"width": 390, "height": 844})
    heights = page.evaluate("[...document.querySelectorAll('.row:not([open])')].map(row => row.offsetHeight)")
    assert len(heights) == 3
    assert max(heights) < 100  # pixels
    page.locator("#row-0003 h2").click()
    assert page.locator("#row-0003").bounding_box()["height"] > 844


# ---- sounds


def test_starting_one_sound_pauses_the_other(page):
    sound(page, 0).click()
    wait_for_playing(page, 0)
    assert sound(page, 0).get_attribute("aria-pressed") == "true"
    sound(page, 1).click()  # a video
    wait_for_playing(page, 1)
    page.locator("#row-0001 h2").click()
    sound(page, 2, row="0001").click()
    wait_for_playing(page, 2, row="0001")
    expect(sound(page, 0)).to_have_attribute("aria-pressed", "false")
    sound(page, 2, row="0001").click()
    wait_for_silence(page)


def test_video_and_predicted_play_one_after_another_with_each_click(page):
    for number in [1, 2] * 3:  # at once: neither has loaded
        sound(page, number).click()
        expect(sound(page, number)).to_have_attribute("aria-pressed", "true")
        assert page.evaluate(f"{PLAYING}.length") == 1
    wait_for_playing(page, 2)
    for number in (1, 2, 1):
        sound(page, number).click()
        wait_for_playing(page, number)


def test_a_sound_that_another_one_interrupts_starts_anew(page):
    times = "document.querySelectorAll('#row-0000 audio, #row-0000 video')[1].currentTime"
    sound(page, 1).click()
    page.wait_for_function(f"{times} > 0.5")
    sound(page, 2).click()
    wait_for_playing(page, 2)
    assert page.evaluate(times) == 0
    page.evaluate(f"{times} = 2")
    sound(page, 1).click()
    wait_for_playing(page, 1)
    sound(page, 1).click()  # its own button: it will go on from here
    wait_for_silence(page)
    assert page.evaluate(times) >= 2


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
    assert order(page) == ["0000", "0001", "0003", "0002"]
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
    page.get_by_label("Sort by").select_option("nearest to the median")
    assert order(page) == ["0000", "0001", "0003", "0002"]


def test_filtering(page):
    page.get_by_label("Show").select_option(label="a tuba")
    assert order(page) == ["0001"]
    assert page.locator("#count").inner_text() == "1 of 4 mixtures"
    page.get_by_label("Show").select_option(label="instrument0")
    assert order(page) == ["0003", "0000", "0002"]  # the median of an even number: the lower of the two
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


def focused(page):
    return page.evaluate("document.activeElement.closest('.row')?.id")


def test_keyboard(page):
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert focused(page) == "row-0001"
    assert open_rows(page) == ["0000", "0001"]
    page.keyboard.press("k")
    assert focused(page) == "row-0000"
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


def test_space_and_enter_on_the_head_of_a_row(page):
    page.locator("#row-0001 > summary").focus()
    page.keyboard.press("Space")  # a folded row unfolds
    assert open_rows(page) == ["0000", "0001"]
    page.keyboard.press("Space")
    wait_for_playing(page, 0, row="0001")
    page.keyboard.press("Enter")
    assert open_rows(page) == ["0000"]
    wait_for_silence(page)


def test_space_on_other_controls_does_what_they_are_for(page):
    page.keyboard.press("j")
    page.locator("#help > summary").focus()
    page.keyboard.press("Space")
    assert not page.evaluate("document.getElementById('help').open")
    page.locator("#row-0000 .masks > summary").focus()
    page.keyboard.press("Space")
    assert page.evaluate("document.querySelector('#row-0000 .masks').open")
    wait_for_silence(page)


def test_keyboard_skips_hidden_rows(page):
    page.get_by_label("Show").select_option(label="instrument0")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert focused(page) == "row-0000"  # after 0003; 0001 is hidden


@pytest.mark.parametrize("width", [390, 820, 1400])
def test_nothing_overflows_horizontally(page, width):
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_nothing_overflows_when_all_is_open(page):
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    for width in (390, 820, 1400):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_options_unfold(page):
    page.get_by_text("Options of this run").click()
    expect(page.get_by_text("MUSIC", exact=True)).to_be_visible()


# ---- the explanation


def test_the_explanation_is_open_until_it_has_been_closed_once(page):
    text = page.get_by_text("Each row", exact=True)
    for _ in range(2):
        expect(text).to_be_visible()
        page.reload()
    page.get_by_text("How to read and use this page").click()
    expect(text).to_be_hidden()
    for _ in range(2):
        page.reload()
        expect(text).to_be_hidden()
    page.get_by_text("How to read and use this page").click()
    expect(text).to_be_visible()


REFUSALS = {
    "access": "Object.defineProperty(window, 'localStorage', { get() { throw new Error('refused'); } })",
    "writing": "Storage.prototype.setItem = () => { throw new Error('refused'); }",
}


@pytest.mark.parametrize("refused", REFUSALS)
def test_the_explanation_works_where_storage_is_refused(page, refused):
    page.add_init_script(REFUSALS[refused])
    page.reload()
    text = page.get_by_text("Each row", exact=True)
    expect(text).to_be_visible()
    page.get_by_text("How to read and use this page").click()
    expect(text).to_be_hidden()
    assert open_rows(page) == ["0000"]
    page.reload()
    expect(text).to_be_visible()


def test_no_keys_are_explained_where_there_is_no_mouse(open_page, path_page):
    page = open_page(path_page, is_mobile=True, has_touch=True, viewport={"width": 390, "height": 844})
    expect(page.get_by_text("Each row", exact=True)).to_be_visible()
    expect(page.get_by_text("stop all sound")).to_be_hidden()
