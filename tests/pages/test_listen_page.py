"""The click-and-listen page in a real browser, from file://."""

import base64
import itertools
import re

import numpy as np
import pytest

from tests.pages.test_listen import (
    HEIGHT,
    NAME,
    RATE,
    SECONDS,
    WIDTH,
    correlation,
    make_info,
    make_streams,
    write,
)
from tests.videos import make_video

# Records the page's output: the last 32768 samples, and the state at their end.
TAP = "window.tap = new AnalyserNode(context, { fftSize: 32768 }); master.connect(tap)"
TAPPED = """() => {
    const wav = new Float32Array(32768);
    tap.getFloatTimeDomainData(wav);
    return [Array.from(wav), listen.state()];
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / 'Größe #1 50% "'
    levels = np.arange(SECONDS * 5) % 200
    make_video(folder / "video ü#.mp4", levels, 5, np.zeros((44100 * SECONDS, 1)), codec="aac")
    write(folder, make_streams()).close(make_info("video ü#.mp4"))
    return folder


@pytest.fixture
def page(open_page, folder):
    """The page with its first chunk loaded and drawn."""
    page = open_page(folder / "index.html")
    page.wait_for_function("listen.state().chunks.length === 2 && drawnChunk === 0")
    return page


def click_cell(page, row, column):
    box = page.locator("#stage").bounding_box()
    across, down = (column + 0.3) / WIDTH * box["width"], (row + 0.6) / HEIGHT * box["height"]
    page.mouse.click(box["x"] + across, box["y"] + down)


def rendered(page, start, stop):
    data = page.evaluate(
        """async ([start, stop]) => {
            const bytes = new Uint8Array((await listen.render(start, stop)).buffer);
            let text = "";
            for (const byte of bytes) text += String.fromCharCode(byte);
            return btoa(text);
        }""",
        [start, stop],
    )
    return np.frombuffer(base64.b64decode(data), "<f4")


def sound_of(weights, start, stop):
    return (np.asarray(weights) @ make_streams())[round(start * RATE) : round(stop * RATE)]


def place_weights(row, column):
    return [*make_info().gains[row, column], 0, 0, 0]


def test_each_place_has_its_sound_even_across_chunks(page):
    heard = []
    for row, column in ((0, 1), (2, 3)):
        click_cell(page, row, column)
        assert page.locator("#status").inner_text().lower() == f"place column {column + 1}, row {row + 1}"
        for start, stop in ((0, 2), (18, 22), (23, 25)):
            wav, expected = rendered(page, start, stop), sound_of(place_weights(row, column), start, stop)
            assert correlation(wav, expected) > 0.99
            assert 0.99 < wav.std() / expected.std() < 1.01
            heard.append(wav)
            border = slice(int(1.9 * RATE), int(2.1 * RATE))  # no gap and no doubled sound
            assert correlation(wav[border], expected[border]) > 0.99 or stop != 22
    assert correlation(heard[1], heard[4]) < 0.9


def wait_until_in_step(page, picture=0.7):
    page.wait_for_function(
        """picture => {
            const state = listen.state();
            if (!state.sound || state.picture < picture) return false;
            return Math.abs(state.sound.time - state.sound.latency - state.picture) < 0.06;
        }""",
        arg=picture,
    )


@pytest.mark.parametrize("start", [0, 18.8])  # within a chunk; across two
@pytest.mark.live
def test_live_sound_is_that_of_the_place_and_in_sync(page, start):
    assert page.evaluate("listen.state().context") is None
    page.evaluate("start => seek(start)", start)
    page.wait_for_function("!video.seeking")
    click_cell(page, 1, 2)
    wait_until_in_step(page, start + 0.4)
    page.evaluate(TAP)
    page.wait_for_function("picture => video.currentTime > picture", arg=start + 2)
    wav, state = page.evaluate(TAPPED)
    assert state["context"] == "running"
    assert abs(state["sound"]["time"] - state["sound"]["latency"] - state["picture"]) < 0.15
    wav = np.array(wav)[-RATE:]
    expected = sound_of(place_weights(1, 2), 0, SECONDS)
    end = round(state["sound"]["time"] * RATE)
    shifts = range(end - RATE // 5, end + RATE // 10)
    assert max(correlation(wav, expected[shift - wav.size : shift]) for shift in shifts) > 0.99


@pytest.mark.live
def test_dragging_during_playback_leaves_no_gap(page):
    click_cell(page, 0, 0)
    wait_until_in_step(page)
    page.evaluate(TAP)
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    for step in range(1, 20):
        page.mouse.move(box["x"] + box["width"] * step / 20, box["y"] + 5)
        page.wait_for_timeout(60)
    page.mouse.up()
    wav = np.abs(page.evaluate(TAPPED)[0])[-RATE:]
    blocks = wav.reshape(-1, RATE // 50).max(axis=1)  # of 20 ms
    assert blocks.min() > 0.1 * np.median(blocks)
    assert page.evaluate("listen.state().column") == WIDTH - 1


def test_mixer(page):
    page.get_by_role("button", name="Solo source2").click()
    assert page.evaluate("listen.state().mode") == "sources"
    assert correlation(rendered(page, 1, 2), sound_of([0, 0, 0, 0, 1, 0], 1, 2)) > 0.99
    page.get_by_role("button", name="Solo source2").click()
    page.get_by_role("button", name="Mute residual").click()
    page.get_by_label("Volume of source1").fill("50")
    assert page.locator("#status").inner_text().lower() == "source1, source2"
    assert correlation(rendered(page, 1, 2), sound_of([0, 0, 0, 0.25, 1, 0], 1, 2)) > 0.99
    page.get_by_label("Original").check()
    assert correlation(rendered(page, 1, 2), sound_of([0, 0, 0, 1, 1, 1], 1, 2)) > 0.99


def test_overlays(page):
    pixels = "overlay.hidden ? '' : overlay.toDataURL()"
    seen = {page.evaluate(pixels)}
    for name in ("Energy", "Embeddings"):
        page.get_by_label(name).check()
        seen.add(page.evaluate(pixels))
    page.get_by_label("Energy").check()
    page.evaluate("seek(7)")
    page.wait_for_function("Math.abs(video.currentTime - 7) < 0.1 && !video.seeking")
    seen.add(page.evaluate(pixels))
    assert len(seen) == 4
    page.get_by_label("Opacity").fill("20")
    assert page.evaluate("getComputedStyle(overlay).opacity") == "0.2"
    page.get_by_label("None").check()
    assert page.evaluate(pixels) == ""


def test_keyboard(page):
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "stage"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    start = page.evaluate("[choice.row, choice.column]")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("[choice.row, choice.column]") == [start[0] - 1, start[1] - 1]
    page.wait_for_function("!video.paused && listen.state().sound")
    page.keyboard.press(" ")
    page.wait_for_function("video.paused && !listen.state().sound")
    for key, mode in (("o", "original"), ("p", "place"), ("1", "sources")):
        page.keyboard.press(key)
        assert page.evaluate("choice.mode") == mode
    page.keyboard.press("e")
    assert not page.evaluate("overlay.hidden")
    page.keyboard.press("l")
    page.wait_for_function("video.currentTime >= 5")


# Everything but playback: what Space must leave alone.
SETTINGS = """[
    choice.mode, choice.row, choice.column, chosenOverlay(), isDark(), scrollY, stage.className,
    ...[...document.querySelectorAll("[aria-pressed]:not(#play)")].map(isPressed),
    ...[...document.querySelectorAll("input:not(#seek)")].map((input) => input.value + input.checked),
]"""


def check_space_toggles(page, what):
    was_paused, before = page.evaluate("video.paused"), page.evaluate(SETTINGS)
    page.keyboard.press(" ")
    assert page.evaluate("video.paused") != was_paused, what
    assert page.evaluate(SETTINGS) == before, what


def use(control):
    """Use a control as with the mouse, which also gives it the focus."""
    if control.evaluate("control => control.matches('a, #stage')"):
        control.focus()  # a click would download
    elif control.get_attribute("type") == "radio":
        control.check()
    else:
        control.click()
    assert control.evaluate("control => control === document.activeElement")


def test_space_plays_and_pauses_after_every_control(page):
    page.emulate_media(reduced_motion="reduce")  # no smooth scrolling, which goes on for a while
    page.evaluate("video.loop = true")
    controls = page.locator("button, input, a[href], [tabindex='0']").all()
    assert len(controls) == 28
    check_space_toggles(page, "nothing")
    for control in controls:
        use(control)
        for _ in range(3):
            check_space_toggles(page, control.evaluate("control => control.outerHTML"))


def test_space_plays_and_pauses_after_clicks_elsewhere(page):
    page.emulate_media(reduced_motion="reduce")
    page.evaluate("video.loop = true")
    for selector in ("#stage", "#heard", "#mixer-name", ".lead"):
        page.locator(selector).click()
        check_space_toggles(page, selector)


def test_holding_space_is_one_press(page):
    page.locator("#play").focus()
    for _ in range(4):
        page.keyboard.down(" ")
    assert not page.evaluate("video.paused")
    page.keyboard.up(" ")
    assert not page.evaluate("video.paused")


def test_enter_presses_the_focused_button(page):
    page.get_by_role("button", name="Solo source1").focus()
    page.keyboard.press("Enter")
    assert page.locator("#status").inner_text().lower() == "source1"


def opacities(page):
    return page.evaluate("[...regions.children].map((group) => getComputedStyle(group).opacity)")


def test_sources_are_outlined_from_the_start(page):
    assert opacities(page) == ["1", "1"]
    stage = page.locator("#stage").bounding_box()
    for row in range(2):  # cells [row, 0] and [row, 1]
        border = page.locator(f"#regions > :nth-child({row + 1}) .fill").bounding_box()
        assert border["x"] == pytest.approx(stage["x"], abs=1)
        assert border["y"] == pytest.approx(stage["y"] + stage["height"] * row / HEIGHT, abs=1)
        assert border["width"] == pytest.approx(2 * stage["width"] / WIDTH, abs=1)
        tag = page.locator(".tag").nth(row)
        assert tag.inner_text() == str(row + 1)
        assert border["y"] < tag.bounding_box()["y"] < border["y"] + 10
    page.get_by_role("button", name="Outlines").click()
    assert opacities(page) == ["0", "0"]
    assert not page.locator(".tag").first.is_visible()
    page.get_by_role("button", name="Solo source2").click()
    assert opacities(page) == ["0", "1"]


def test_the_legend_plays_a_source_alone(page):
    one, two = (page.get_by_role("button", name=f"Hear only source{k}") for k in (1, 2))
    page.get_by_role("button", name="Mute source2").click()
    one.click()
    two.click()
    assert not page.evaluate("video.paused")
    assert page.evaluate("listen.levels()") == [0, 0, 0, 0, 1, 0]
    assert [key.get_attribute("aria-pressed") for key in (one, two)] == ["false", "true"]
    two.click()
    assert page.evaluate("listen.levels()") == [0, 0, 0, 1, 1, 1]
    assert two.get_attribute("aria-pressed") == "false"


def test_the_overlay_shown_is_explained(page):
    scale, alike = (
        page.get_by_text("0 dB is the loudest place"),
        page.get_by_text("alike have similar colours"),
    )
    assert not scale.is_visible()
    for name, shown in (("Energy", (True, False)), ("Embeddings", (False, True)), ("None", (False, False))):
        page.get_by_label(name).check()
        assert (scale.is_visible(), alike.is_visible()) == shown


def test_on_phones_the_controls_come_first(open_page, folder):
    page = open_page(folder / "index.html", viewport={"width": 390, "height": 844})
    bottom = {
        name: page.locator(name).evaluate("control => control.getBoundingClientRect().bottom")
        for name in ("#stage", ".outlined", "#play", "#modes", "#mixer", "#overlays")
    }
    assert list(bottom.values()) == sorted(bottom.values())
    assert bottom["#modes"] < 844
    assert bottom["#overlays"] < page.locator("#spectrograms").bounding_box()["y"]


def test_seeking_loads_the_needed_chunk(page):
    page.get_by_label("Time").fill("21")
    page.wait_for_function("drawnChunk === 1")
    assert page.evaluate("listen.state().chunks") == [1]
    ticks = page.locator("#spectrograms .axis-x").first.inner_text()
    assert ticks.split()[0] == "0:20"


def test_spectrograms_are_drawn_during_playback_however_slowly(page):
    slow = "(...all) => { const end = performance.now() + 1; while (performance.now() < end); old(...all); }"
    page.evaluate(f"const old = addColumn; addColumn = {slow}; video.playbackRate = 0.1; seek(21); play()")
    page.wait_for_function("drawnChunk === 1")


ROUNDING = 16  # of 255, where it is quiet: both spectrograms come from one transform
PIXELS = """window.pixels = (id) => {
    const canvas = byId(id);
    return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
};
window.differ = (one, other) => one.reduce((most, value, n) => Math.max(most, Math.abs(value - other[n])), 0);
window.before = pixels("mixture")"""


def test_spectrograms_show_the_place(page):
    page.evaluate(PIXELS)
    assert page.evaluate("differ(before, pixels('heard'))") <= ROUNDING  # the original
    page.keyboard.press("2")
    page.wait_for_function("() => differ(before, pixels('heard')) > 100")
    assert page.evaluate("differ(before, pixels('mixture'))") <= ROUNDING


def test_fits_the_screen_light_and_dark(page):
    for width, scheme in itertools.product((360, 390, 820, 1400), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(re.search(r"\d+", ground)[0]) < 128) == (scheme == "dark")
        assert len(page.screenshot()) > 10_000


def test_names_are_escaped(page):
    assert page.title() == NAME
    assert page.locator("h1").inner_text() == NAME
    assert page.get_by_role("link", name="Heat-map").get_attribute("href") == "heat%20%231.mp4"
    assert page.locator(".note").inner_text() == "A note <b>."
