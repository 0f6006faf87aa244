"""The pages' content-security policy, in a real browser, from file://: what is smuggled in does nothing."""

import base64
import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import viz
from pages import listen
from pages.render import SCRIPT
from tests.helpers import make_view
from tests.pages.test_listen import SECONDS, make_info, make_streams, write
from tests.videos import make_video

HANDLER = re.compile(r"<[^>]*\son[a-z]+\s*=", re.IGNORECASE)
# What a name on a page could say, if it were not escaped.
HOSTILE = """
<script>window.ran = 1</script><img src="x" onerror="window.ran = 2"><svg onload="window.ran = 3"></svg>
<script src="{url}/a.js"></script><img src="{url}/a.png"><video src="{url}/a.mp4"></video>
<iframe src="{url}/a.html"></iframe><link rel="stylesheet" href="{url}/a.css"><base href="{url}/">
<style>body {{ background: url({url}/b.png) }}</style>
"""


@pytest.fixture
def server():
    """A server that notes what it is asked for: (URL, list of paths)."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Each kind of page: {name: its file}."""
    root = tmp_path_factory.mktemp("pages")
    folder = root / "listen"
    levels = np.arange(SECONDS * 5) % 200
    folder.mkdir()
    make_video(folder / "a.mp4", levels, 5, np.zeros((44100 * SECONDS, 1)), codec="aac")
    write(folder, make_streams()).close(make_info("a.mp4"))
    listen.write_gallery(str(root), [("a", "listen/index.html", None, "a line")])
    write_results(root / "results")
    return {
        "listen": folder / "index.html",
        "gallery": root / "index.html",
        "results": root / "results/index.html",
    }


def write_results(folder):
    """A page of one evaluated mixture."""
    rows = [viz.write_row(str(folder), make_view())]
    viz.write_page(str(folder), rows, {}, {}, {}, "a run")


@pytest.mark.parametrize("name", ["listen", "gallery", "results"])
def test_scripts_are_allowed_by_hash_and_there_are_no_inline_handlers(pages, name):
    html = pages[name].read_text(encoding="utf-8")
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1]
    scripts = SCRIPT.findall(html)
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts}
    assert set(re.findall("'sha256-([^']*)'", policy)) == hashes
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert html.index("Content-Security-Policy") < html.index("<title>")
    assert not HANDLER.search(html)


@pytest.mark.parametrize("name", ["listen", "gallery", "results"])
def test_what_is_smuggled_into_a_page_runs_and_fetches_nothing(pages, name, browser, server):
    url, asked = server
    html = pages[name].read_text(encoding="utf-8")
    hostile = pages[name].with_name("hostile.html")
    hostile.write_text(html.replace("<main", HOSTILE.format(url=url) + "<main", 1), encoding="utf-8")
    page = browser.new_page()
    page.goto(hostile.as_uri())
    page.wait_for_timeout(500)
    assert page.evaluate("window.ran") is None
    assert asked == []
    page.close()


def test_without_the_policy_it_would_run(pages, browser, server):
    url, asked = server
    html = pages["gallery"].read_text(encoding="utf-8")
    html = re.sub('<meta http-equiv="Content-Security-Policy".*?>', "", html)
    hostile = pages["gallery"].with_name("open.html")
    hostile.write_text(html.replace("<main", HOSTILE.format(url=url) + "<main", 1), encoding="utf-8")
    page = browser.new_page()
    page.goto(hostile.as_uri())
    page.wait_for_timeout(500)
    assert page.evaluate("window.ran")
    assert asked
    page.close()
