"""Fill the Jinja templates in pages/templates."""

import base64
import hashlib
import os
import re
import urllib.parse

import jinja2

from utils import replacing

PATH_TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
# Python's stand-ins for the bytes of file names that are not UTF-8. UTF-8 cannot encode them.
SCRIPT = re.compile("<script>(.*?)</script>", re.DOTALL)
POLICY = "CONTENT-SECURITY-POLICY"  # what stands in templates/head.html for `policy`
SURROGATES = re.compile("[\ud800-\udfff]")


def render(folder, template, filters, **values):
    """Render a template to folder/index.html, atomically.

    filters: {name: function} for Jinja, in addition to `href`. Bytes of names that are not UTF-8 are shown as
    U+FFFD, the replacement character.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PATH_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(href=href, **filters)
    html = protect(environment.get_template(template).render(**values))
    with (
        replacing(os.path.join(folder, "index.html")) as temporary,
        open(temporary, "w", encoding="utf-8") as file,
    ):
        file.write(SURROGATES.sub("\ufffd", html))


def protect(html, connect="'none'"):
    """Allow a page, in which POLICY stands, its own scripts and what lies beside it, also from file://.

    Scripts are allowed by their hashes, and may load others (chunks of sound). Whatever else reaches the page
    cannot run code, nor load from or send to the network. connect: where scripts may ask for data.
    """
    digests = [hashlib.sha256(text.encode()).digest() for text in SCRIPT.findall(html)]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    parts = {
        "default-src": "'none'",
        "script-src": f"{hashes} 'strict-dynamic'" if hashes else "'none'",
        "style-src": "'unsafe-inline'",  # colours and places are in attributes
        "img-src": "'self' file: data:",
        "media-src": "'self' file: data: blob:",
        "connect-src": connect,
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return html.replace(POLICY, "; ".join(f"{name} {value}" for name, value in parts.items()), 1)


def href(path):
    """The URL of a file, by its path relative to the page: the name's bytes, percent-encoded."""
    return urllib.parse.quote(os.fsencode(path))
