"""A page of text about this installation, to paste into a bug report: `./scripts/doctor.sh`.

Needs nothing but Python, so that it works where packages are missing; asks no network.
"""

import csv
import glob
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import zipfile

PROJECT = os.path.dirname(os.path.abspath(__file__))
OPTIONAL = ("requirements-serve.txt", "requirements-remote.txt")
REQUIREMENTS = ("requirements.txt", "requirements-data.txt", *OPTIONAL)
SECONDS = 3  # that a program may take to answer; loading torch takes up to twice that
GIGABYTE = 1e9
LOW_DISK, LOW_SHM = 5 * GIGABYTE, 1 * GIGABYTE
FEW_FILES = 1024  # open files
ENCODERS = ("libx264", "aac", "libmp3lame")
DECODERS = ("h264", "hevc", "vp9", "av1", "aac", "opus", "mp3")
LISTS = ("train.csv", "val.csv", "test.csv", "duets.csv", "val_mix2.csv", "val_mix3.csv")
MAX_RUNS = 8  # named
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF"  # start of torch.save's files before version 1.6
TORCH = """
import torch
print("built for CUDA", torch.version.cuda, "; threads", torch.get_num_threads(), end="")
for number in range(torch.cuda.device_count()):
    each = torch.cuda.get_device_properties(number)
    print(f"; GPU {number}: {each.name}, {each.total_memory / 1e9:.0f} GB", end="")
"""


class Report:
    """Lines of text, and the problems among them."""

    def __init__(self):
        self.lines, self.num_problems = [], 0

    def say(self, name, text, problem=""):
        """Add a line; `problem`: what is wrong with it."""
        self.num_problems += bool(problem)
        line = f"{name:16} {text}" + (f"  <- {problem}" if problem else "")
        self.lines.append(line.replace(os.path.expanduser("~") + os.sep, "~" + os.sep).rstrip())


def examine(root=PROJECT):
    """The `Report` on this Python and on the data and runs in the folder `root`."""
    report = Report()
    for part in (_system, _packages, _torch, _ffmpeg, _sound, _places, _limits):
        part(report)
    _data(report, os.path.join(root, "data"))
    _runs(report, os.path.join(root, "ckpt"))
    return report


def _ask(*command, seconds=SECONDS):
    """(what a program prints, "" or why it did not)."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds)
    except subprocess.TimeoutExpired:
        return "", f"no answer in {seconds} s"
    except OSError as error:
        return "", error.strerror
    lines = done.stderr.strip().splitlines()
    return done.stdout.strip(), (lines or ["failed"])[-1] if done.returncode else ""


def _system(report):
    version, _ = _ask("git", "-C", PROJECT, "describe", "--always", "--dirty")
    report.say("project", version or "not a git clone")
    text = f"{platform.python_version()}, {sys.executable}"
    report.say("Python", text, "3.10 or later is needed" if sys.version_info < (3, 10) else "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGABYTE
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    report.say("system", f"{platform.platform()}, {cores} of {os.cpu_count()} cores, {memory:.0f} GB")


def _packages(report):
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        report.say("packages", "versions cannot be compared", "no packaging: run ./scripts/install.sh")
        return
    found = []
    for name in REQUIREMENTS:
        with open(os.path.join(PROJECT, name), encoding="utf-8") as file:
            lines = [line.partition("#")[0].strip() for line in file]
        for wanted in (Requirement(line) for line in lines if line and not line.startswith("-")):
            try:
                version = importlib.metadata.version(wanted.name)
            except importlib.metadata.PackageNotFoundError:
                problem = "" if name in OPTIONAL else f"{name} needs {wanted}"
                report.say("package", f"{wanted.name} is missing" + " (optional)" * (not problem), problem)
                continue
            found.append(f"{wanted.name} {version}")
            if not wanted.specifier.contains(version, prereleases=True):
                report.say("package", found[-1], f"{name} needs {wanted.specifier}")
    for start in range(0, len(found), 5):
        report.say("" if start else "packages", ", ".join(found[start : start + 5]))


def _torch(report):
    text, problem = _ask(sys.executable, "-c", TORCH, seconds=2 * SECONDS)
    report.say("torch", text, problem)


def _ffmpeg(report):
    try:
        import imageio_ffmpeg

        path = imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        report.say("ffmpeg", "not found", str(error).splitlines()[0])
        return
    version, problem = _ask(path, "-version")
    report.say("ffmpeg", f"{version.partition(' Copyright')[0]}, {path}", problem)
    for kind, names in (("encoders", ENCODERS), ("decoders", DECODERS)):
        text, problem = _ask(path, "-hide_banner", f"-{kind}")
        known = {words[1] for words in map(str.split, text.splitlines()) if len(words) > 1}
        missing = [name for name in names if not {name, f"lib{name}", f"lib{name}-vp9"} & known]
        report.say(f"  {kind}", ", ".join(names), problem or (missing and f"no {', '.join(missing)}") or "")


def _sound(report):
    try:
        import soundfile
    except (ImportError, OSError) as error:
        report.say("libsndfile", "not found", str(error).splitlines()[0])
        return
    problem = "" if "MP3" in soundfile.available_formats() else "cannot write MP3, which the pages need"
    report.say("libsndfile", soundfile.__libsndfile_version__, problem)


def _places(report):
    places = {name: os.path.join(PROJECT, name) for name in ("data", "ckpt")} | {"tmp": tempfile.gettempdir()}
    for name, path in places.items():
        if not os.path.isdir(path):
            report.say(f"disk, {name}", "no such folder")
            continue
        free = shutil.disk_usage(path).free
        problem = "nearly full" if free < LOW_DISK else ""
        problem = problem if os.access(path, os.W_OK) else "not writable"
        report.say(f"disk, {name}", f"{free / GIGABYTE:.1f} GB free at {os.path.realpath(path)}", problem)
    if os.path.isdir("/dev/shm"):
        free = shutil.disk_usage("/dev/shm").free
        small = "small: use --workers 0, or mount it larger (Docker: --shm-size)" if free < LOW_SHM else ""
        report.say("shared memory", f"{free / GIGABYTE:.1f} GB free at /dev/shm", small)


def _limits(report):
    kinds = {"open files": "NOFILE", "processes": "NPROC", "memory": "AS", "size of a file": "FSIZE"}
    values = {
        name: resource.getrlimit(getattr(resource, f"RLIMIT_{kind}"))[0] for name, kind in kinds.items()
    }
    text = ", ".join(f"{name} {'unlimited' if value < 0 else value}" for name, value in values.items())
    few = 0 <= values["open files"] < FEW_FILES
    report.say("limits", text, f"few open files: ulimit -n {FEW_FILES}" if few else "")
    own = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("SOP_")]
    report.say("SOP_ variables", ", ".join(own) or "none")


def _data(report, folder):
    paths = [path for path in (os.path.join(folder, name) for name in LISTS) if os.path.isfile(path)]
    if not paths:
        report.say("data", f"no index files in {folder}")
    for path in paths:
        try:
            with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
                rows = [row for row in csv.reader(file) if row]
            missing = [name for name in (rows[0][:2] if rows else ()) if not os.path.exists(name)]
            problem = "empty" if not rows else f"no {missing[0]}" if missing else ""
            report.say("data", f"{path}: {len(rows)} rows", problem)
        except (OSError, csv.Error) as error:
            report.say("data", path, str(error))


def _runs(report, root):
    folders = {
        os.path.dirname(path) for name in ("options.json", "*.pth") for path in glob.glob(f"{root}/*/{name}")
    }
    if not folders:
        report.say("runs", f"none in {root}")
    for folder in sorted(folders, key=os.path.getmtime, reverse=True)[:MAX_RUNS]:
        weights = sorted(glob.glob(os.path.join(glob.escape(folder), "*.pth")))
        problems = [f"{os.path.basename(path)}: damaged" for path in weights if not _is_checkpoint(path)]
        try:
            with open(os.path.join(folder, "options.json"), encoding="utf-8") as file:
                problems += [] if isinstance(json.load(file), dict) else ["options.json: not options"]
        except FileNotFoundError:
            pass  # downloaded networks have none
        except (OSError, ValueError, RecursionError):
            problems.append("options.json: damaged")
        report.say("run", f"{folder}: {len(weights)} files of weights", ", ".join(problems))
    if len(folders) > MAX_RUNS:
        report.say("runs", f"{len(folders) - MAX_RUNS} older ones in {root}")


def _is_checkpoint(path):
    """Whether a file begins and ends like one of torch.save; its content is verified when it is loaded."""
    try:
        with open(path, "rb") as file:
            return file.read(len(LEGACY)) == LEGACY or zipfile.is_zipfile(path)
    except OSError:
        return False


def main():
    """Print the page; the exit status is 1 if there are problems."""
    report = examine()
    print(*report.lines, sep="\n")
    print(f"{report.num_problems} problems, marked <-" if report.num_problems else "no problems found")
    return int(report.num_problems > 0)


if __name__ == "__main__":
    sys.exit(main())
