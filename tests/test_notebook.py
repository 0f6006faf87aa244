"""docs/demo.ipynb: it runs from its first cell to its last, and is stored without outputs."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from tests.helpers import PROJECT
from tests.test_separate import make_checkpoint
from tests.videos import SOUND_RATE, make_video, tone

NOTEBOOK = PROJECT / "docs" / "demo.ipynb"
FILES = "arguments.py environment.py limits.py media.py separate.py utils.py viz.py web.py"
NEEDED = [*FILES.split(), "dataset", "engine", "models", "pages"]
TIMEOUT = 600  # s for a cell, generous for slow machines


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(folder, {cell's id: its outputs}) after a run on tiny networks and a duet of tones of two seconds."""
    preprocessors = pytest.importorskip("nbconvert.preprocessors", reason="nbconvert is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbconvert is not installed")
    folder = tmp_path_factory.mktemp("project")
    for name in NEEDED:
        (folder / name).symlink_to(PROJECT / name)
    (folder / "docs").mkdir()
    shutil.copyfile(NOTEBOOK, folder / "docs" / "demo.ipynb")
    make_checkpoint(folder / "ckpt" / "tiny")
    duet = folder / "data" / "demo" / "duets" / "flute tuba" / "AbCdEfGhIjK.mp4"
    tracks = [0.3 * tone(2, 300), 0.2 * tone(2, 2000)]
    make_video(duet, np.arange(50) * 5, 25, sum(tracks), codec="aac")
    for name, track in zip("ab", tracks, strict=True):
        soundfile.write(duet.with_suffix(f".{name}.wav"), track, SOUND_RATE)
    notebook = nbformat.read(folder / "docs" / "demo.ipynb", as_version=4)
    execute = preprocessors.ExecutePreprocessor(timeout=TIMEOUT)
    execute.preprocess(notebook, {"metadata": {"path": str(folder / "docs")}})
    return folder, {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def printed(outputs):
    """What a cell printed."""
    return "".join(each.text for each in outputs if each.get("name") == "stdout")


def shown(outputs, kind):
    """What a cell showed as this MIME type."""
    return "".join(each.data.get(kind, "") for each in outputs if "data" in each)


def test_it_separates_the_duet(ran):
    folder, outputs = ran
    page = folder / "out" / "AbCdEfGhIjK" / "index.html"
    assert page.is_file()
    assert printed(outputs["separate"]).startswith("2 sources at 44100 samples/s")
    assert printed(outputs["page"]).strip() == page.as_uri()


def test_it_plays_the_sources_and_shows_the_maps(ran):
    outputs = ran[1]
    assert shown(outputs["sounds"], "text/html").count("data:audio/") == 3  # with the residual
    assert shown(outputs["true"], "text/html").count("data:audio/") == 2
    for name in ("video", "moving"):
        assert shown(outputs[name], "text/html").count("data:video/mp4") == 1
    assert shown(outputs["maps"], "image/png")


def test_it_is_stored_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
