"""Names and folders of runs: short ones, published ones, and finding them by the start of the name."""

import os

import pytest

from arguments import parse_args
from engine.options import FILE_OPTIONS, model_id, run_folder, training_options
from engine.runs import find_named, list_runs, newest_run, title
from utils import UserError, save_json

SMALL = ("--preset", "small", "--id", "demo")
RELEASED = (
    "MUSIC-2mix-LogFreq-resnet18dilated-unet7-linear-frames3stride24-maxpool-binary-weightedLoss"
    "-channels32-epoch100-step40_80"
)


def folder_of(tmp_path, *flags):
    """The name of the folder of a run with these flags."""
    folder = run_folder(parse_args([*flags, "--ckpt", str(tmp_path)]))
    assert os.path.dirname(folder) == str(tmp_path)
    return os.path.basename(folder)


def start(tmp_path, *flags):
    """Leave the options that a run with these flags leaves; returns the name of its folder."""
    name = folder_of(tmp_path, *flags)
    save_json(tmp_path / name / FILE_OPTIONS, training_options(parse_args(list(flags))))
    return name


def test_the_published_recipe_has_the_published_name(tmp_path):
    assert folder_of(tmp_path, "--preset", "published") == RELEASED
    assert folder_of(tmp_path).startswith("2mix-LogFreq-resnet18dilated-unet7-")
    assert folder_of(tmp_path, "--id", "mine").startswith("mine-2mix-LogFreq-resnet18dilated-")


def test_other_presets_have_short_names(tmp_path):
    assert folder_of(tmp_path, *SMALL) == "demo"
    assert folder_of(tmp_path, "--preset", "modern") == "MUSIC-modern"
    assert folder_of(tmp_path, "--preset", "small", "--id", "") == "small"


def test_a_run_with_other_options_gets_a_number_and_each_command_finds_its_own(tmp_path):
    assert start(tmp_path, *SMALL) == "demo"
    assert start(tmp_path, *SMALL, "--seed", "5") == "demo-2"
    assert start(tmp_path, *SMALL, "--seed", "6") == "demo-3"
    for seed, name in ((5, "demo-2"), (6, "demo-3"), (7, "demo-4"), (1234, "demo")):
        assert folder_of(tmp_path, *SMALL, "--seed", str(seed)) == name
    assert folder_of(tmp_path, *SMALL, "--seed", "7", "--overwrite") == "demo"
    assert folder_of(tmp_path, *SMALL, "--seed", "6", "--overwrite") == "demo-3"


def test_more_epochs_are_the_same_run_and_fewer_another(tmp_path):
    start(tmp_path, *SMALL, "--num_epoch", "4")
    assert folder_of(tmp_path, *SMALL, "--num_epoch", "8") == "demo"
    assert folder_of(tmp_path, *SMALL, "--num_epoch", "3") == "demo-2"


def test_downloaded_networks_keep_their_folder_and_notes_do_not(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "notes.txt").touch()
    assert folder_of(tmp_path, *SMALL) == "demo"
    (tmp_path / "demo" / "sound_best.pth").touch()
    assert folder_of(tmp_path, *SMALL) == "demo-2"


def test_titles_are_short():
    assert title(f"ckpt/{RELEASED}") == "MUSIC"
    assert title(f"ckpt/{RELEASED.removeprefix('MUSIC-')}/") == "unnamed run"
    assert title("./ckpt/demo-2") == "demo-2"
    assert title("a-2mix-or-two") == "a-2mix-or-two"


def test_the_start_of_a_name_is_enough_if_one_run_has_it(tmp_path):
    for name in (RELEASED, "MUSIC-modern", "demo", "demo-2", "[a]"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sound_best.pth").touch()
    (tmp_path / "no run").mkdir()
    root = str(tmp_path)
    assert list_runs(root) == sorted([RELEASED, "MUSIC-modern", "demo", "demo-2", "[a]"])
    assert [find_named(root, name) for name in ("MUSIC-2", "demo", "[")] == [RELEASED, "demo", "[a]"]
    with pytest.raises(UserError, match=f"several runs in {root} begin with MUSIC: {RELEASED}, MUSIC-modern"):
        find_named(root, "MUSIC")
    with pytest.raises(UserError, match=f"no run x in {root}: found MUSIC-2mix.*, MUSIC-modern, .*, demo-2"):
        find_named(root, "x")
    with pytest.raises(UserError, match=r"no run x in .*/gone: there are none"):
        find_named(f"{root}/gone", "x")


def test_long_lists_are_cut(tmp_path):
    for number in range(12):
        (tmp_path / f"run{number:02d}").mkdir()
        (tmp_path / f"run{number:02d}" / FILE_OPTIONS).touch()
    with pytest.raises(UserError, match=r"found run00, .*, run09 and 2 more$"):
        find_named(str(tmp_path), "x")


def test_evaluation_takes_the_start_of_a_name_and_its_options(tmp_path):
    start(tmp_path, *SMALL, "--ngf", "8")
    args = parse_args(["--mode", "eval", "--id", "de", "--ckpt", str(tmp_path)])
    assert (args.id, args.ngf, model_id(args)) == ("demo", 8, "demo")
    assert run_folder(args) == str(tmp_path / "demo")


def test_the_newest_run(tmp_path):
    with pytest.raises(UserError, match=r"train some \(\./scripts/demo\.sh\), or name a folder"):
        newest_run(str(tmp_path))
    for seconds, name in enumerate(("b", "c", "a"), 1):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sound_best.pth").touch()
        os.utime(tmp_path / name / "sound_best.pth", (seconds, seconds))
    assert newest_run(str(tmp_path)) == str(tmp_path / "a")


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_folder_with_damaged_options_is_not_taken(tmp_path, text):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / FILE_OPTIONS).write_text(text)
    with pytest.raises(UserError, match=r"demo/options\.json: not the options of a run"):
        folder_of(tmp_path, *SMALL)
