"""The model card says what the networks were trained on, how, and how well they separate."""

import os
import re
import shutil
import subprocess

import pytest

import main
from arguments import changed_options, parse_args
from dataset.index import Clip
from dataset.indexing.table import tally
from engine import card
from engine.card import Card, card_summary, code_version, update_scores, write_card
from engine.options import run_folder, training_options
from tests.engine.test_train import flags
from tests.helpers import Pool, small_args

SUMMARY = {"num_mixtures": 7, "num_failed": 1, "num_silent": 2, "sdr": 5.0, "sdr_mixture": 0.25, "sir": None}


def make_card(folder, categories=("flute", "flute", "tuba"), minutes=2, more=(), version="abc"):
    """A card of a run with clips of these categories, the last of which is for validation too."""
    args = small_args(*more)
    clips = [Clip(f"a/{name}/{n}.wav", "f", minutes * 60 * 8) for n, name in enumerate(categories)]
    changed = changed_options(args)
    options, train, val = training_options(args), tally(clips), tally(clips[-1:])
    return Card(str(folder), options, args.preset, changed, train, val, version)


def text_of(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def test_a_card_says_what_the_networks_heard_and_how_they_were_trained(tmp_path):
    write_card(make_card(tmp_path / "my run", more=["--num_epoch", "9"]), 4, SUMMARY, "val.csv")
    text = text_of(tmp_path / "my run")
    assert text.startswith(
        "# my run\n\nTrained on 3 clips (6.0 minutes): flute, tuba. The networks have heard "
    )
    assert f"./scripts/separate.sh VIDEO --ckpt '{tmp_path}/my run'" in text
    for row in (
        "| flute | 2 | 0 |",
        "| tuba | 1 | 1 |",
        "| total | 3 | 1 |",
        "| length | 6.0 minutes | 2.0 minutes |",
    ):
        assert row in text
    assert "are those of epoch 4 of 9, with 4 mixtures per step" in text
    assert "Code: commit abc; Python 3." in text
    assert re.search(r", torch \d+\.\d", text)
    assert "Options that differ from the defaults of `main.py`" in text
    assert {"* `--num_epoch`: 9", "* `--ngf`: 4", "* `--arch_sound`: unet5"} <= set(text.splitlines())
    assert "--seed" not in text


def test_long_data_is_in_hours_and_many_categories_are_counted(tmp_path):
    names = [f"kind{n:02d}" for n in range(card.NUM_NAMED + 2)]
    write_card(make_card(tmp_path, names, minutes=5, version=""), 1, SUMMARY, "val.csv")
    summary = card_summary(tmp_path)
    assert summary.startswith("Trained on 32 clips (2.7 hours): kind00, ")
    assert "kind29 and 2 more categories. " in summary
    assert "kind30" not in summary
    assert "| kind31 | 1 | 1 |" in text_of(tmp_path)
    assert "Code: not a git clone;" in text_of(tmp_path)


def test_only_options_that_differ_from_the_preset_are_listed():
    small = ["--preset", "small", "--list_train", "x.csv", "--workers", "3"]
    assert changed_options(parse_args(small)) == {}
    assert changed_options(parse_args([*small, "--ngf", "8"])) == {"ngf": 8}


def test_a_card_without_changes_says_so(tmp_path):
    whole = make_card(tmp_path)._replace(preset="small", changed={})
    write_card(whole, 1, SUMMARY, "val.csv")
    assert "All options are those of `--preset small`." in text_of(tmp_path)


def test_evaluation_replaces_the_scores_and_nothing_else(tmp_path):
    write_card(make_card(tmp_path), 1, SUMMARY, "val.csv")
    before = text_of(tmp_path)
    assert re.search(r"Mixtures of clips in `val.csv`, evaluated on 20\d\d-\d\d-\d\d: 4 scored", before)
    assert "| **SDR** | 5.00 |" in before
    assert "SIR" not in before
    update_scores(tmp_path, SUMMARY | {"sdr": 6.5, "sdr_swapped": -1.0, "sdr_average": 0.5}, "other.csv")
    after = text_of(tmp_path)
    assert "| **SDR** | 6.50 |" in after
    assert "frames swapped | -1.00 |" in after
    assert "average picture for every source | 0.50 |" in after
    assert "other.csv" in after
    assert before.split("## Scores")[0] == after.split("## Scores")[0]
    assert before.split("## Data")[1] == after.split("## Data")[1]
    update_scores(tmp_path, {"num_mixtures": 1, "num_failed": 0, "num_silent": 1}, "silent.csv")
    assert ": 0 scored." in text_of(tmp_path)
    update_scores(tmp_path, {"num_mixtures": 5, "num_failed": 0, "num_silent": 1, "num_gone": 3}, "gone.csv")
    assert ": 4 scored of 8, 3 of them with clips that are gone." in text_of(tmp_path)
    assert "SDR" not in text_of(tmp_path)


def test_folders_without_a_card_stay_without(tmp_path):
    assert card_summary(tmp_path) == ""
    update_scores(tmp_path, SUMMARY, "val.csv")
    assert os.listdir(tmp_path) == []
    (tmp_path / "README.md").write_text("# Notes\n\nMine,\nnot a card.\n")
    update_scores(tmp_path, SUMMARY, "val.csv")
    assert text_of(tmp_path) == "# Notes\n\nMine,\nnot a card.\n"
    assert card_summary(tmp_path) == "Mine, not a card."


def test_names_of_categories_may_be_anything(tmp_path):
    write_card(make_card(tmp_path, ["a|b", "t\udce4st"]), 1, SUMMARY, "val.csv")
    assert "| a\\|b | 1 | 0 |" in text_of(tmp_path)
    assert "t\\udce4st" in card_summary(tmp_path)


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_the_version_is_the_commit_of_the_project_itself(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

    (tmp_path / "inner").mkdir()
    (tmp_path / "a").write_text("1")
    git("init")
    git("add", "a")
    git("commit", "-m", "a")
    monkeypatch.setattr(card, "PROJECT", str(tmp_path))
    assert re.fullmatch("[0-9a-f]{7,}", code_version())
    (tmp_path / "a").write_text("2")
    assert code_version().endswith("-dirty")
    monkeypatch.setattr(card, "PROJECT", str(tmp_path / "inner"))
    assert code_version() == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_version() == ""


def test_training_writes_the_card_of_its_best_networks(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(main, "make_pool", lambda workers: Pool())
    losses = iter([0.5, 0.4, 0.6])

    def evaluate(self, folder, *options, **more):
        scores = dict.fromkeys(("sdr", "sir", "sar", "si_sdr", "sdr_mixture", "sdr_oracle"), 1.0)
        counts = {"num_mixtures": 2, "num_failed": 0, "num_silent": 0, "num_clips_unreadable": 0}
        return {"loss": next(losses), **scores, **counts}, []

    monkeypatch.setattr(main.Evaluator, "run", evaluate)
    argv = flags(tree, tmp_path, "--num_epoch", "3")
    main.main(argv)
    text = text_of(tmp_path / os.path.basename(run_folder(parse_args(argv))))
    assert "are those of epoch 2 of 3" in text
    assert "Trained on 9 clips (3.0 minutes): flute, tuba, violin." in text
    assert f"Mixtures of clips in `{tree[0]}/val.csv`" in text
