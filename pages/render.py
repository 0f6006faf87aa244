"""Fill the Jinja templates in pages/templates."""

import os
import re
import urllib.parse

import jinja2

from utils import replacing

PATH_TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
# Python's stand-ins for the bytes of file names that are not UTF-8. UTF-8 cannot encode them.
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
    html = environment.get_template(template).render(**values)
    with (
        replacing(os.path.join(folder, "index.html")) as temporary,
        open(temporary, "w", encoding="utf-8") as file,
    ):
        file.write(SURROGATES.sub("\ufffd", html))


def href(path):
    """The URL of a file, by its path relative to the page: the name's bytes, percent-encoded."""
    return urllib.parse.quote(os.fsencode(path))
