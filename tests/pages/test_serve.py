"""The server of pages.serve: what it takes, whom it answers, what it gives away; separation is a stand-in."""

import io
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from pages.serve import __main__ as serve
from pages.serve.jobs import Jobs, check_seconds
from tests.helpers import PROJECT
from tests.videos import remux
from utils import UserError, progress

pytest.importorskip("flask", reason="Flask is not installed")
from pages.serve.app import HEADERS, make_app

SITE = "http://127.0.0.1:7860"
OWN = {"Origin": SITE}
MAX_MB = 1
SECONDS = 30  # to wait for a thread


class Separation:
    """Stands in for the networks: the upload's content says what happens to it."""

    def __init__(self):
        self.calls, self.go_on = [], threading.Event()

    def __call__(self, path, folder, name):
        self.calls.append((path, folder, name))
        os.makedirs(folder)
        with open(path, "rb") as file:
            content = file.read()
        for file_name in ("index.html", "source1.wav", "residual.wav"):
            with open(os.path.join(folder, file_name), "wb") as file:
                file.write(file_name.encode())
        if content == b"wrong":
            raise UserError(f"{path}: cannot be read as a video")
        if content == b"full":
            raise OSError(28, "No space left on device")
        if content == b"bug":
            raise ZeroDivisionError("a mistake in the code")
        if content == b"slow":
            with progress(total=3, desc="listening") as bar:
                bar.update(2)
                assert self.go_on.wait(SECONDS)
                bar.update()
        return "2.0 s"


class Site:
    """A server without a socket: its client, the stand-in for separation, its folders."""

    def __init__(self, root):
        self.uploads, self.results = root / "uploads", root / "results"
        self.uploads.mkdir(parents=True)
        self.results.mkdir()
        self.separation = Separation()
        self.jobs = Jobs(str(self.uploads), str(self.results), self.separation)
        self.client = make_app(self.jobs, MAX_MB, ["a note"]).test_client()

    def get(self, path, **options):
        return self.client.get(path, base_url=SITE, **options)

    def send(self, content, name="a.mp4", headers=OWN, **options):
        query = {"name": name}
        return self.client.post(
            "/jobs", base_url=SITE, query_string=query, data=content, headers=headers, **options
        )

    def wait(self, key, *states):
        """The job once it is in one of these states."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            (job,) = [job for job in self.get("/jobs").json if job["id"] == key]
            if job["state"] in states:
                return job
            time.sleep(0.01)
        raise AssertionError(f"{job} is not {states}")

    def finish(self, content, **options):
        return self.wait(self.send(content, **options).json["id"], "done", "failed")


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    with site.jobs:
        yield site
        site.separation.go_on.set()


# ---- jobs


def test_a_video_becomes_a_page_and_wavs(site):
    answer = site.send(b"a video")
    assert answer.status_code == 201
    job = site.wait(answer.json["id"], "done")
    assert (job["name"], job["text"], job["files"]) == ("a.mp4", "2.0 s", ["source1.wav", "residual.wav"])
    assert site.get(f"/results/{job['id']}/").data == b"index.html"
    assert site.get(f"/results/{job['id']}").status_code == 308  # to the folder, so that links are relative
    part = site.get(f"/results/{job['id']}/source1.wav", headers={"Range": "bytes=1-2"})
    assert (part.status_code, part.data) == (206, b"ou"), "browsers seek in videos by ranges"
    assert not list(site.uploads.iterdir())


@pytest.mark.parametrize("name", ["../../outside.mp4", "/etc/x", "a\n\x1b[2Jb", "..", "", "é" * 999, "\0"])
def test_names_are_never_paths(site, name, tmp_path):
    job = site.finish(b"a video", name=name)
    path, folder, told = site.separation.calls[0]
    assert os.path.dirname(path) == str(site.uploads)
    assert os.path.dirname(folder) == str(site.results)
    assert os.path.basename(path) == os.path.basename(folder) == job["id"]
    assert told == job["name"]
    assert told.isprintable()
    assert 0 < len(told) <= 200
    assert sorted(os.listdir(tmp_path)) == ["results", "uploads"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"wrong", "a.mp4: cannot be read as a video"),
        (b"full", "[Errno 28] No space left on device"),
        (b"bug", "an error in the program: its terminal says which"),
    ],
)
def test_videos_that_fail_leave_nothing_and_others_go_on(site, content, text, caplog):
    job = site.finish(content)
    assert (job["state"], job["text"], job["files"]) == ("failed", text, [])
    assert site.get(f"/results/{job['id']}/").status_code == 404
    assert not [*site.uploads.iterdir(), *site.results.iterdir()]
    assert ("ZeroDivisionError" in caplog.text) == (content == b"bug")
    assert site.finish(b"a video")["state"] == "done"


def test_one_at_a_time_and_in_order(site):
    first, second = (site.send(content).json["id"] for content in (b"slow", b"a video"))
    end = time.monotonic() + SECONDS
    while not (job := site.wait(first, "working"))["done"]:
        assert time.monotonic() < end
    assert (job["step"], job["done"], job["total"]) == ("listening", 2, 3)
    assert site.wait(second, "waiting")
    assert site.get(f"/results/{first}/").status_code == 404, "nothing of unfinished work"
    assert len(site.separation.calls) == 1
    site.separation.go_on.set()
    assert site.wait(second, "done")
    assert [job["id"] for job in site.get("/jobs").json] == [first, second]


def test_at_the_end_the_video_in_work_is_abandoned(tmp_path):
    site = Site(tmp_path)
    with site.jobs:
        keys = [site.send(content).json["id"] for content in (b"slow", b"a video")]
        site.wait(keys[0], "working")
        threading.Timer(0.2, site.separation.go_on.set).start()
    assert site.wait(keys[0], "failed")["text"] == "the server was stopped"
    assert site.wait(keys[1], "waiting")
    assert len(site.separation.calls) == 1
    assert not list(site.results.iterdir())


# ---- limits


def test_files_over_the_limit_are_refused(site):
    whole = site.send(bytes(MAX_MB * 10**6))
    assert whole.status_code == 201
    complaint = "a.mp4: larger than 1 MB, the most that this server takes (--max_mb)"
    larger = bytes(MAX_MB * 10**6 + 1)
    assert (site.send(larger).status_code, site.send(larger).json) == (413, {"error": complaint})
    site.wait(whole.json["id"], "done")
    # Without Content-Length, as chunks, so that the size is not known before.
    stream = {"input_stream": io.BytesIO(larger), "environ_overrides": {"wsgi.input_terminated": True}}
    assert site.send(None, **stream).json == {"error": complaint}
    assert len(site.separation.calls) == 1
    assert not list(site.uploads.iterdir())


def test_empty_and_broken_uploads_are_refused(site):
    empty = site.send(b"")
    assert (empty.status_code, empty.json) == (400, {"error": "a.mp4: the file is empty"})
    broken = {"input_stream": io.BytesIO(b"only"), "environ_overrides": {"CONTENT_LENGTH": "10"}}
    assert site.send(None, **broken).status_code == 400
    assert not list(site.uploads.iterdir())
    site.uploads.rmdir()
    lost = site.send(b"a video")
    assert (lost.status_code, lost.json["error"]) == (
        507,
        "a.mp4: cannot be saved: No such file or directory",
    )
    assert not site.separation.calls


def test_long_videos_are_refused_even_without_a_length_in_the_header(good_video, tmp_path):
    stream = remux(good_video, tmp_path / "live.mkv", "-live", "1", "-f", "matroska")
    for path in (good_video, stream):
        check_seconds(str(path), 4)
        with pytest.raises(UserError, match=r"longer than 2 s, the most that this server takes \(--max_s"):
            check_seconds(str(path), 2)
    (tmp_path / "no video").write_text("text")
    check_seconds(str(tmp_path / "no video"), 1)


# ---- who may ask, and for what


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "sound/../../secret.txt",
        "link.txt",
        "linked/secret.txt",
        "%00",
        "sound",
        "gone.wav",
        "{root}/secret.txt",
        "%2f{root}/secret.txt",
    ],
)
def test_nothing_outside_of_a_result_is_served(site, path, tmp_path):
    (tmp_path / "results" / "secret.txt").write_text("secret")
    (tmp_path / "secret.txt").write_text("secret")
    job = site.finish(b"a video")
    folder = site.results / job["id"]
    (folder / "sound").mkdir()
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "linked").symlink_to(tmp_path)
    answer = site.get(f"/results/{job['id']}/{path.format(root=tmp_path)}", follow_redirects=True)
    assert answer.status_code == 404
    assert b"secret" not in answer.data


def test_results_of_others_are_not_served(site):
    (site.results / "other").mkdir()
    (site.results / "other" / "index.html").write_text("from an earlier server with the same --out")
    assert site.get("/results/other/").status_code == 404
    assert site.get("/results/..%2fuploads/x").status_code == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:7860", "", "0.0.0.0"]
)
def test_other_names_of_this_machine_are_refused(site, host):
    assert site.get("/", headers={"Host": host}).status_code == 400
    assert site.get("/jobs", headers={"Host": host}).status_code == 400
    answer = site.send(b"a video", headers={"Host": host, "Origin": f"http://{host}"})
    assert answer.status_code == 400
    assert not site.jobs.all()


def test_this_machine_may_be_called_localhost_on_any_port(site):
    assert site.get("/", headers={"Host": "localhost:9000"}).status_code == 200, "as with ssh -L 9000:…"
    headers = {"Host": "localhost:9000", "Origin": "http://localhost:9000"}
    assert site.send(b"a video", headers=headers).status_code == 201


@pytest.mark.parametrize(
    "headers", [{}, *({"Origin": name} for name in ("http://evil.example", "null", "http://127.0.0.1:80"))]
)
def test_other_sites_cannot_send_videos(site, headers):
    answer = site.send(b"a video", headers=headers)
    assert answer.status_code == 403
    assert answer.json == {"error": "videos are accepted from this server's own page only"}
    assert not site.jobs.all()


def test_every_answer_is_protected(site):
    for path in ("/", "/jobs", "/results/x/", "/nothing"):
        answer = site.get(path)
        assert HEADERS.items() <= dict(answer.headers).items()
        assert "Access-Control-Allow-Origin" not in answer.headers


# ---- the command


def test_help_needs_neither_networks_nor_flask():
    code = (
        "import runpy, sys; sys.argv = ['serve', '--help']\n"
        "try: runpy.run_module('pages.serve', run_name='__main__')\n"
        "finally: print({'torch', 'flask'} & set(sys.modules), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "set()\n")
    assert "examples:\n  python -m pages.serve\n" in result.stdout


@pytest.fixture
def refused(monkeypatch, capsys):
    """Return a function: arguments -> the error that the command prints."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests keep theirs
    level = logging.getLogger("werkzeug").level

    def refused(*argv):
        with pytest.raises(SystemExit) as stop:
            serve.main(list(map(str, argv)))
        assert stop.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    yield refused
    logging.getLogger("werkzeug").setLevel(level)


def test_without_flask_it_is_said_how_to_get_it(monkeypatch, refused):
    monkeypatch.setitem(sys.modules, "flask", None)
    monkeypatch.delitem(sys.modules, "pages.serve.app", raising=False)
    assert refused() == "error: no flask: pip install -r requirements-serve.txt"


def test_mistakes_are_one_line(monkeypatch, refused, tmp_path):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert refused("--port", port) == f"error: --port {port}: Address already in use"
    os.mkdir("ckpt")
    assert "no trained networks in ./ckpt: train some" in refused("--port", 0)
    assert "no run gone in ./ckpt" in refused("--port", 0, "--ckpt", "gone")
    assert "expected auto or a number from 1 to 8, found '9'" in refused("--num_sources", "9")
    assert "expected a whole number from 0 to 65535, found '-1'" in refused("--port=-1")
