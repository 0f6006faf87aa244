"""The web application: takes videos, says how far they are, and serves their results."""

import os

from flask import Flask, abort, render_template, request, send_from_directory
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from pages.render import PATH_TEMPLATES, protect
from utils import UserError

MAX_NAME = 200  # characters of a video's name
# Names of this machine. A site whose own name leads here (DNS rebinding) is refused.
HOSTS = ["127.0.0.1", "localhost"]
HEADERS = {  # the pages themselves allow less, see `pages.render.protect`
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' data: blob:; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",  # other sites may not embed results
    "X-Content-Type-Options": "nosniff",
}


def make_app(jobs, max_mb, notes=()):
    """The Flask application. jobs: a `Jobs`; max_mb: of a video; notes: lines of text for the page."""
    app = Flask("pages.serve", template_folder=PATH_TEMPLATES, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=max_mb * 10**6, TRUSTED_HOSTS=HOSTS)
    app.before_request(_refuse_other_sites)
    app.after_request(_add_headers)
    app.register_error_handler(HTTPException, _explain)

    @app.get("/")
    def index():
        return protect(render_template("serve.html", max_mb=max_mb, notes=notes), connect="'self'")

    @app.get("/jobs")
    def progress():
        return jobs.all()

    @app.post("/jobs")
    def upload():
        name = request.args.get("name", "")[:MAX_NAME] or "video"
        try:
            return jobs.add(name, request.stream).shown(), 201
        except RequestEntityTooLarge:
            abort(413, f"{name}: larger than {max_mb} MB, the most that this server takes (--max_mb)")
        except UserError as error:
            abort(400, str(error))
        except OSError as error:  # e.g. the disk is full
            return {"error": f"{name}: cannot be saved: {error.strerror}"}, 507

    @app.get("/results/<key>/", defaults={"name": "index.html"})
    @app.get("/results/<key>/<path:name>")
    def result(key, name):
        folder = jobs.folder(key)
        if folder is None or not _lies_in(folder, name):
            abort(404)
        return send_from_directory(os.path.abspath(folder), name)

    return app


def _refuse_other_sites():
    """Browsers say which site a POST comes from: only this one's page may send videos."""
    if request.method not in ("GET", "HEAD") and request.headers.get("Origin") != f"http://{request.host}":
        abort(403, "videos are accepted from this server's own page only")


def _add_headers(response):
    response.headers.update(HEADERS)
    return response


def _explain(error):
    return {"error": error.description}, error.code


def _lies_in(folder, name):
    """Whether a file in `folder` really lies there: no `..`, no link that leads out."""
    root = os.path.realpath(folder)
    try:
        return os.path.commonpath([root, os.path.realpath(os.path.join(root, name))]) == root
    except ValueError:  # a null character
        return False
