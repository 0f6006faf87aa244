"""A web server that sends videos, or something else, and the command that downloads from it."""

import csv
import json
import re
import threading
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dataset.download import __main__

# A server's answer. body: None for the video; cut: bytes after which it closes the connection, or stalls.
Answer = namedtuple("Answer", "status body kind cut stall", defaults=[200, None, "video/mp4", None, False])
WHOLE = Answer()  # yt-dlp sends two requests: one for the headers, one for the file
PAGE = Answer(body=b"<html><body>Sorry</body></html>", kind="text/html")


class Server(ThreadingHTTPServer):
    """Serves `video` at every URL, after the `answers` listed for the URL's last component."""

    daemon_threads = True

    def __init__(self, video):
        super().__init__(("127.0.0.1", 0), Handler)
        self.video, self.answers, self.asked, self.cookies = video, {}, [], []
        self.stalled, self.released = threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def names(self):
        return {name for name, _ in self.asked}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, re.split("[/=]", self.path)[-1]
        server.asked.append((name, self.headers["Range"]))
        server.cookies.append(self.headers["Cookie"])
        answer = server.answers[name].pop(0) if server.answers.get(name) else WHOLE
        if answer.status != 200:
            self.send_error(answer.status)
            return
        body = server.video if answer.body is None else answer.body
        first = int(self.headers["Range"][6:-1]) if self.headers["Range"] else 0
        self.send_response(206 if first else 200)
        self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        try:
            self.wfile.write(body[first:][: answer.cut])
        except ConnectionError:
            return  # yt-dlp closed the connection
        if answer.stall:
            server.stalled.set()
            server.released.wait()

    def log_message(self, *_):
        pass


def arguments(server, videos, categories, *more):
    """The arguments for a list: short pauses, one request at a time."""
    path = videos.parent / "list.json"
    path.write_text(json.dumps({"version": "1.0", "videos": categories}))
    flags = ["--videos", videos, "--url-template", f"{server.url}/watch?v={{id}}", "--jobs", 1, "--wait", 0]
    return [str(flag) for flag in [*flags, "--backoff", 0.01, "--list", path, *more]]


def run(server, videos, categories, *more):
    try:
        return __main__.main(arguments(server, videos, categories, *more))
    except SystemExit as error:
        return error.code


def rows(videos):
    with open(videos / "ledger.csv", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def states(videos):
    return {name: row["state"] for name, row in rows(videos).items()}


def files(folder):
    """All files under `folder`, except the lock."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.relative_to(folder).as_posix() for path in paths}
