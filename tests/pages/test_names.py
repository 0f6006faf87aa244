"""Pages of files whose names are not UTF-8: they are written, and their links reach the files' own bytes."""

import html.parser
import json
import os
import urllib.parse

import numpy as np
import pytest
import soundfile
from PIL import Image

import viz
from media import run_ffmpeg
from pages import curves, listen, media, overlay
from pages.render import href
from tests.helpers import make_view, with_source
from tests.pages.test_listen import make_info, make_streams, write
from tests.videos import tone

LATIN = "t\udce4st"  # the bytes t \xe4 s t, as os.fsdecode gives them


@pytest.fixture
def folder(tmp_path):
    """A folder whose name is not UTF-8 and that a URL must escape besides."""
    path = tmp_path / f"{LATIN} #1 50%"
    path.mkdir()
    return path


class Links(html.parser.HTMLParser):
    """The files that a page links, and its text."""

    def __init__(self, folder):
        super().__init__()
        self.paths, self.text = [], ""
        # No `errors`: the page must be UTF-8, whatever the names are.
        self.feed((folder / "index.html").read_text(encoding="utf-8"))
        self.paths = [folder / os.fsdecode(urllib.parse.unquote_to_bytes(url)) for url in self.paths]

    def handle_starttag(self, tag, attrs):
        self.paths += [value for name, value in attrs if name in ("href", "src") and value != "data:,"]

    def handle_data(self, data):
        self.text += data


def test_links_are_the_bytes_of_the_name():
    assert href(f"a b/{LATIN}#1?%.jpg") == "a%20b/t%E4st%231%3F%25.jpg"
    assert href("Größe/index.html") == "Gr%C3%B6%C3%9Fe/index.html"
    assert href("a:b/index.html") == "a%3Ab/index.html"  # "a:" would be a URL scheme


def test_the_gallerys_links_reach_the_files(folder):
    (folder / LATIN).mkdir()
    for name in ("index.html", "thumbnail.jpg"):
        (folder / LATIN / name).touch()
    entry = (LATIN, f"{LATIN}/index.html", f"{LATIN}/thumbnail.jpg", f"a line on {LATIN}")
    listen.write_gallery(str(folder), [entry])
    links = Links(folder)
    assert links.paths == [folder / LATIN / "index.html", folder / LATIN / "thumbnail.jpg"]
    assert all(path.exists() for path in links.paths)
    assert "t\ufffdst" in links.text
    assert "a line on t\ufffdst" in links.text


def test_the_listening_pages_links_reach_the_files(folder):
    info = make_info(f"{LATIN}.mp4")._replace(
        title=LATIN,
        residual=f"{LATIN}.wav",
        downloads=[(LATIN, f"{LATIN}.mp4")],
        notes=[f"networks: {LATIN}"],
    )
    info.sources[0].update(name=LATIN, file=f"{LATIN} 1.wav")
    for name in (f"{LATIN}.mp4", f"{LATIN}.wav", f"{LATIN} 1.wav", "source 2.wav"):
        (folder / name).touch()
    write(folder, make_streams(seconds=2)).close(info)
    links = Links(folder)
    assert len(set(links.paths)) == 5  # with the overview
    assert all(path.exists() for path in links.paths)
    assert links.text.count("t\ufffdst") >= 5


def test_a_row_and_its_page_are_written(folder):
    view = with_source(make_view(), clip=f"{LATIN}/{LATIN}", category=LATIN)
    row = viz.write_row(str(folder), view)
    assert json.loads(json.dumps(row)) == row
    viz.write_page(str(folder), [row], {}, {"id": LATIN, LATIN: 1}, {}, LATIN)
    links = Links(folder)
    files = [path for path in links.paths if path.parent.name == view.name]
    assert len(files) > 15
    assert all(path.stat().st_size for path in files)
    assert "t\ufffdst/t\ufffdst" in links.text


def test_media_are_written(folder):
    wave, levels = tone(1, channels=1)[:, 0], np.zeros((25, 48, 64, 3), np.uint8)
    media.write_sound(str(folder / "a.mp3"), wave, 44100)
    media.write_video(str(folder / "a.mp4"), levels, 25, wave, 44100)
    media.write_picture(str(folder / "a.webp"), levels[0])
    with open(folder / "a.mp3", "rb") as file:
        assert soundfile.info(file).duration == pytest.approx(1, abs=0.1)
    assert run_ffmpeg(["-i", str(folder / "a.mp4"), "-f", "rawvideo", "-"])
    assert Image.open(folder / "a.webp").size == (64, 48)
    curves.plot_curves(str(folder / "loss.png"), {"training": ([1, 2], [3, 4])}, "loss")
    assert Image.open(folder / "loss.png").width > 500


def test_overlays_are_written(folder):
    for number in (1, 2):
        Image.new("RGB", (64, 48)).save(folder / f"{number:06d}.jpg")
    with open(folder / "a.wav", "wb") as file:
        soundfile.write(file, tone(1), 44100, format="WAV")
    maps = np.full((2, 3, 4, 4), 255, np.uint8)
    overlay.encode_sound(str(folder / "a.wav"), str(folder / "a.m4a"))
    overlay.write_overlay(str(folder / "a.mp4"), str(folder), 2, maps, str(folder / "a.m4a"))
    pixels = np.frombuffer(
        run_ffmpeg(["-i", str(folder / "a.mp4"), "-pix_fmt", "gray", "-f", "rawvideo", "-"]), np.uint8
    )
    assert pixels.size == 2 * 64 * 48
    assert pixels.min() > 200  # white maps over black frames


def test_a_browser_finds_the_files(folder, open_page):
    (folder / LATIN).mkdir()
    Image.new("RGB", (64, 48), "white").save(folder / LATIN / "thumbnail.jpg")
    listen.write_gallery(str(folder / LATIN), [])
    listen.write_gallery(str(folder), [(LATIN, f"{LATIN}/index.html", f"{LATIN}/thumbnail.jpg", "a line")])
    page = open_page(folder / "index.html")
    page.wait_for_function("document.images[0].naturalWidth === 64")
    page.get_by_text("t\ufffdst").click()
    page.get_by_text("No videos yet").wait_for()
