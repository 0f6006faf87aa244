"""The page of pages.serve in a real browser: the real command in a process of its own, with tiny networks."""

import base64
import contextlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pytest
import soundfile

from tests.helpers import PROJECT, make_checkpoint
from tests.videos import make_video, tone

pytest.importorskip("flask", reason="Flask is not installed")

NAME = 'Größe #1 50% "<b>.mp4'
START_SECONDS = 300  # for imports and networks on a busy machine
SLOW = 120_000  # ms, for a separation on a busy machine
DROP = """([names, bytes]) => {
    const data = new DataTransfer();
    const content = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
    for (const name of names) data.items.add(new File([content], name));
    return data;
}"""


@contextlib.contextmanager
def run_server(folder, *flags):
    """Start the command; yields (URL, process). Ends it as Ctrl-C does."""
    command = [sys.executable, "-m", "pages.serve", "--port", "0", *flags]
    temporary = folder / "temporary"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with (
        open(folder / "log", "wb") as log,
        subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=log, env=environment
        ) as process,
    ):
        timer = threading.Timer(START_SECONDS, process.kill)
        timer.start()
        line = process.stdout.readline().decode()
        timer.cancel()
        assert "takes videos; Ctrl-C ends it" in line, (folder / "log").read_text()
        try:
            yield line.split()[0], process
        finally:
            process.send_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("ckpt") / "tiny")


@pytest.fixture(scope="module")
def url(checkpoint, tmp_path_factory):
    flags = ["--ckpt", checkpoint, "--max_mb", "2", "--max_seconds", "10"]
    with run_server(tmp_path_factory.mktemp("server"), *flags) as (url, _):
        yield url


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    wave = 0.3 * tone(2, 300) + 0.2 * tone(2, 2000) * [1, 0]
    return make_video(tmp_path_factory.mktemp("video") / NAME, np.arange(50) * 5, 25, wave, codec="aac")


def fetch(url):
    with urllib.request.urlopen(url) as answer:
        return answer.read()


def test_a_chosen_video_opens_as_the_page_to_listen(url, open_page, video):
    page = open_page(url)
    page.set_input_files("#pick", video)
    page.wait_for_url("**/results/*/", timeout=SLOW)
    assert page.title() == page.locator("h1").inner_text() == NAME
    page.wait_for_function("listen.state().chunks.length === 1 && drawnChunk === 0")
    page.locator("#play").click()
    page.wait_for_function("document.getElementById('video').currentTime > 0.2")
    page.go_back()
    row = page.locator(".job.done", has_text=NAME).first
    links = {link.inner_text(): link.get_attribute("href") for link in row.locator("a").all()}
    names = [f"source{n}.wav" for n in range(1, len(links) - 1)]
    assert list(links) == ["Listen", *names, "residual.wav"]
    waves = [soundfile.read(io.BytesIO(fetch(url + links[name])))[0] for name in [*names, "residual.wav"]]
    assert np.sum(waves, axis=0).std() == pytest.approx((0.3**2 / 2 + 0.1**2 / 2 + 0.1**2) ** 0.5, rel=0.2)
    with page.expect_download() as download:
        row.locator("a", has_text=names[0]).click()
    assert download.value.suggested_filename == names[0]


def test_dropped_files_are_done_one_after_another(url, open_page, video):
    page = open_page(url)
    content = base64.b64encode(video.read_bytes()).decode()
    good = page.evaluate_handle(DROP, [["one.mp4", "two.mp4"], content])
    bad = page.evaluate_handle(DROP, [["text.mp4"], base64.b64encode(b"no video").decode()])
    page.dispatch_event("#drop", "dragover")
    assert "over" in page.locator("#drop").get_attribute("class")
    page.dispatch_event("#drop", "drop", {"dataTransfer": good})
    page.dispatch_event("body", "drop", {"dataTransfer": bad})
    assert "over" not in page.locator("#drop").get_attribute("class")
    page.locator(".job.failed", has_text="text.mp4").wait_for(timeout=SLOW)
    assert "cannot be read as a video" in page.locator(".job.failed", has_text="text.mp4").inner_text()
    for name in ("one.mp4", "two.mp4"):
        page.locator(".job.done", has_text=name).wait_for(timeout=SLOW)
    times = [job["name"] for job in json.loads(fetch(url + "jobs"))][-3:]
    assert times == ["one.mp4", "two.mp4", "text.mp4"]
    assert page.url == url, "of several videos, none opens by itself"


def test_progress_is_shown(url, open_page):
    page = open_page(url)
    jobs = [
        {"id": "a", "name": "a.mp4", "state": "working", "step": "listening", "done": 3, "total": 12},
        {"id": "b", "name": "b.mp4", "state": "waiting", "step": "", "done": 0, "total": 0},
    ]
    page.route("**/jobs", lambda route: route.fulfill(json=jobs))
    page.locator(".job", has_text="listening: 3 of 12 windows").wait_for()
    assert page.locator(".job.working progress").evaluate("bar => bar.value") == 0.25
    assert "waiting for 1 before it" in page.locator(".job.waiting").inner_text()
    jobs[0] |= {"done": 12}
    page.locator(".job", has_text="listening: finishing").wait_for()
    assert page.locator(".job.working progress").evaluate("bar => bar.position") == -1


def test_files_over_the_limits_are_refused(url, open_page, tmp_path):
    page = open_page(url)
    (tmp_path / "large.mp4").write_bytes(bytes(2_000_001))
    page.set_input_files("#pick", tmp_path / "large.mp4")
    row = page.locator(".job.failed", has_text="large.mp4")
    assert "3 MB, more than the 2 MB that this server takes (--max_mb)" in row.inner_text()
    long = make_video(tmp_path / "long.mp4", np.full(12, 9), 1, tone(12), codec="aac")
    page.set_input_files("#pick", long)
    row = page.locator(".job.failed", has_text="long.mp4")
    row.wait_for(timeout=SLOW)
    assert "longer than 10 s, the most that this server takes (--max_seconds)" in row.inner_text()


def test_it_fits_the_screen(url, open_page):
    page = open_page(url)
    assert page.locator(".drop .note").inner_text().splitlines() == [
        "At most 2 MB and 10 s.",
        "Networks: tiny",
        "Videos stay on this computer.",
    ]
    for width, scheme in itertools.product((1400, 390), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(17, 19, 23)") == (scheme == "dark")


def test_ctrl_c_ends_it_and_results_are_kept_only_on_demand(checkpoint, browser, video, tmp_path):
    with run_server(tmp_path, "--ckpt", checkpoint, "--out", str(tmp_path / "kept")) as (url, process):
        page = browser.new_page()
        page.goto(url)
        page.set_input_files("#pick", video)
        page.wait_for_url("**/results/*/", timeout=SLOW)
        (folder,) = (tmp_path / "kept").iterdir()
        page.goto(url)
        long = make_video(tmp_path / "long.mp4", np.full(60, 9), 1, tone(60), codec="aac")
        page.set_input_files("#pick", [long, long])
        page.locator(".job.working").wait_for(timeout=SLOW)
        process.send_signal(signal.SIGINT)
        assert process.wait(START_SECONDS) == 0, (tmp_path / "log").read_text()
        page.locator("#silence", has_text="The server does not answer").wait_for()
        page.close()
    assert list((tmp_path / "kept").iterdir()) == [folder], "of the abandoned video nothing stays"
    assert json.loads((folder / "separated.json").read_text())["video"] == NAME
    assert not list((tmp_path / "temporary").iterdir())
    assert "Traceback" not in (tmp_path / "log").read_text()
