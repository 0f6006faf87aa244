"""Fills the Jinja templates that lie beside it."""

import os

import jinja2

from utils import replacing

PATH_TEMPLATES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")


def render(folder, template, filters, **values):
    """Fill a template, with Jinja `filters` by name, into folder/index.html, whole or not at all."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PATH_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    html = environment.get_template(template).render(**values)
    with (
        replacing(os.path.join(folder, "index.html")) as temporary,
        open(temporary, "w", encoding="utf-8") as file,
    ):
        file.write(html)
