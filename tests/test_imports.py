"""Rules that readers rely on: imports point one way; functions, files and folders are small."""

import ast
from graphlib import TopologicalSorter

import pytest

from tests.helpers import PROJECT

MAX_FUNCTION = 45  # lines
MAX_FILE = 400  # lines
MAX_FOLDER = 10  # files of code
PACKAGES = ("dataset", "models", "engine", "pages", "benchmark")
# What each room may import of the others; commands may import everything.
ALLOWED = {
    "environment": {"environment"},
    "limits": set(),
    "utils": {"utils"},
    "media": {"utils"},
    "web": {"utils"},
    "models": {"models", "utils", "web"},
    "dataset": {"dataset", "media", "utils", "web"},
    "pages": {"media", "pages", "utils"},
    "viz": {"viz", "pages", "utils"},
    "engine": {"engine", "models", "dataset", "media", "viz", "pages", "utils"},
    "arguments": {"arguments", "engine", "utils"},
    "benchmark": {"benchmark", "arguments", "engine", "models", "dataset", "media", "viz", "pages", "utils"},
}
SERVER = "pages/serve/__main__.py"  # may import what a command at the top may, and separate.py
INNER_COMMANDS = SERVER, "engine/baselines/__main__.py"  # may import what a command at the top may
# Rooms of engine/: each may import from those after it, and from the files directly in engine/; these may
# import from the last two only.
ENGINE = ("tables", "training", "baselines", "evaluation", "separation", "processes", "machine")


def source_files():
    """Every Python file of the project that is not a test."""
    packages = (path for name in PACKAGES for path in (PROJECT / name).rglob("*.py"))
    return sorted([*PROJECT.glob("*.py"), *packages])


SOURCES = {path.relative_to(PROJECT).as_posix(): ast.parse(path.read_text()) for path in source_files()}
TESTS = {
    path.relative_to(PROJECT).as_posix(): ast.parse(path.read_text())
    for path in (PROJECT / "tests").rglob("*.py")
}
EVERYTHING = SOURCES | TESTS


def module_of(name):
    """`dataset.index` of `dataset/index.py`, `models` of `models/__init__.py`."""
    return name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


MODULES = {module_of(name): name for name in SOURCES}


def imports_of(name):
    """Full names of all modules that a file imports, anywhere in it."""
    package = module_of(name) if name.endswith("__init__.py") else module_of(name).rpartition(".")[0]
    for node in ast.walk(SOURCES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, node.module] if node.module else parts)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES else base


def room_of(module):
    """`dataset` of `dataset.index`; a command is its own room."""
    return module.partition(".")[0]


def is_command(name):
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in SOURCES[name].body)


def own_imports(name):
    return {module for module in imports_of(name) if module in MODULES}


@pytest.mark.parametrize("name", SOURCES)
def test_imports_point_one_way(name):
    allowed = None if name in INNER_COMMANDS else ALLOWED.get(room_of(module_of(name)))
    rooms = {room_of(module) for module in own_imports(name)}
    assert allowed is None or rooms <= allowed | {"environment", "limits"}
    if allowed is None:
        assert is_command(name), "a file at the top is a command, or is named in ALLOWED"


def test_nobody_imports_a_top_level_command():
    commands = {module_of(name) for name in SOURCES if room_of(module_of(name)) not in ALLOWED}
    found = {(name, module) for name in SOURCES for module in own_imports(name) if module in commands}
    assert found == {(SERVER, "separate")}


def test_there_are_no_import_cycles():
    graph = {module_of(name): own_imports(name) - {module_of(name)} for name in SOURCES}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("engine/")])
def test_the_rooms_of_the_engine_are_in_order(name):
    inner = name.split("/")[1]
    below = ENGINE[ENGINE.index(inner) :] if inner in ENGINE else ENGINE[-2:]
    rooms = {module.split(".")[1] for module in own_imports(name) if module.startswith("engine.")}
    assert rooms & set(ENGINE) <= set(below)


@pytest.mark.parametrize("name", [name for name in SOURCES if "/" in name])
def test_only_commands_parse_arguments(name):
    may = name.endswith("/__main__.py") or name == "models/download_weights.py"
    assert may or "argparse" not in set(imports_of(name))


def test_folders_are_small_and_say_what_belongs_there():
    folders = {path.parent for path in source_files()} - {PROJECT}
    assert not [folder for folder in folders if len(list(folder.glob("*.py"))) > MAX_FOLDER]
    assert not [
        folder for folder in folders if not ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    ]


@pytest.mark.parametrize("name", EVERYTHING)
def test_functions_and_files_are_short(name):
    assert len((PROJECT / name).read_text().splitlines()) <= MAX_FILE
    functions = [
        n for n in ast.walk(EVERYTHING[name]) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    assert not [n.name for n in functions if n.end_lineno - n.lineno + 1 > MAX_FUNCTION]


@pytest.mark.parametrize("name", SOURCES)
def test_public_things_are_explained(name):
    tree = SOURCES[name]
    kinds = (ast.FunctionDef, ast.ClassDef)
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    assert ast.get_docstring(tree) or not tree.body
    assert not [node.name for node in public if not ast.get_docstring(node)]
