"""Comparing runs: which mixtures, paired differences, pooled seeds, tables, the page's files."""

import filecmp

import numpy as np
import pytest

from engine.evaluation.compare.__main__ import main
from engine.evaluation.compare.read import find_entries
from engine.evaluation.compare.table import compare, format_table, table_cells
from engine.evaluation.report import FOLDER_PAGE
from tests.helpers import show_rows, write_run
from utils import UserError


def compared(*texts):
    return compare(find_entries(texts, "."))


def values(count, seed):
    return np.random.default_rng(seed).normal(8, 3, (count, 2)).round(4)


def test_the_difference_is_paired_and_its_interval_is_narrow(tmp_path):
    one = values(12, 0)
    other = one + 1.5 + values(12, 1) / 100 - 0.08
    folders = [write_run(tmp_path / "one", one), write_run(tmp_path / "other", other)]
    first, second = compared(*folders).lines
    assert (first.name, second.name, first.difference) == ("one", "other", None)
    assert second.difference["mean"] == pytest.approx((other - one).mean())
    assert second.difference["low"] < 1.5 < second.difference["high"]
    width = second.difference["high"] - second.difference["low"]
    assert width < 0.05 * (first.scores["sdr"]["high"] - first.scores["sdr"]["low"])
    assert first.scores["sdr"]["mean"] == pytest.approx(one.mean())
    assert first.scores["sdr_gain"]["mean"] == pytest.approx(one.mean() - 1)


def test_only_mixtures_that_all_runs_scored_count(tmp_path):
    one, other = values(6, 0), values(4, 1)
    folders = [
        write_run(tmp_path / "one", one),
        write_run(tmp_path / "other", other, status={2: "silent estimate"}),
    ]
    found = compared(*folders)
    kept = [0, 1, 3]
    assert [line.scores["sdr"]["mean"] for line in found.lines] == pytest.approx(
        [one[kept].mean(), other[kept].mean()]
    )
    assert "3 mixtures that all runs have" in found.notes[0]
    assert "Left out: 3 of one." in found.notes


def test_mixtures_are_recognised_by_their_checksums(tmp_path):
    one, other = values(3, 0), values(3, 1)
    folders = [
        write_run(tmp_path / "one", one, ids=["x", "y", None]),
        write_run(tmp_path / "other", other, ids=["z", "x", None]),
    ]
    found = compared(*folders)
    assert found.lines[1].difference["mean"] == pytest.approx(other[1].mean() - one[0].mean())
    assert found.lines[1].difference["num_mixtures"] == 1
    assert "with the same sounds" in found.notes[0]


def test_without_a_protocol_by_their_clips(tmp_path):
    one, other = values(2, 0), values(2, 1)
    folders = [
        write_run(tmp_path / "one", one, ids=["x", "y"], clips=[("a/1", "b/2"), ("a/1", "c/3")]),
        write_run(tmp_path / "other", other, clips=[("a/1", "c/3"), ("d/4", "b/2")]),
    ]
    found = compared(*folders)
    assert found.lines[1].difference["mean"] == pytest.approx(other[0].mean() - one[1].mean())
    assert f"{folders[1]} has no protocol.json" in found.notes[0]


def test_a_mixture_that_is_listed_twice_counts_twice(tmp_path):
    one = values(3, 0)
    ids = ["x", "y", "x"]
    folders = [write_run(tmp_path / name, one + shift, ids) for name, shift in (("one", 0), ("other", 2))]
    assert compared(*folders).lines[1].difference["num_mixtures"] == 3


def test_seeds_are_averaged_before_anything_else(tmp_path):
    runs = [values(8, seed) for seed in range(3)]
    folders = [write_run(tmp_path / f"seed{k}", each) for k, each in enumerate(runs)]
    first, pooled = compared(folders[0], "ours=" + ",".join(folders)).lines
    assert (first.name, pooled.name, first.seeds) == ("seed0", "ours", [])
    assert pooled.seeds == pytest.approx([each.mean() for each in runs])
    assert pooled.scores["sdr"]["mean"] == pytest.approx(np.mean(runs))
    assert pooled.scores["sdr"]["median"] == pytest.approx(np.median(np.mean(runs, axis=(0, 2))))
    assert pooled.scores["sdr"]["num_mixtures"] == 8
    spread = np.std([each.mean() for each in runs], ddof=1)
    cells = table_cells(compared(folders[0], "ours=" + ",".join(folders)))
    assert [row[-1] for row in cells] == ["seeds", "1", f"3, SD {spread:.2f}"]


def test_runs_are_found_by_the_start_of_their_names(tmp_path):
    write_run(tmp_path / "demo-small", values(2, 0))
    (tmp_path / "demo-small" / "options.json").write_text("{}")
    write_run(tmp_path / "x=1,2", values(2, 0))
    assert [entry.name for entry in find_entries(["demo"], tmp_path)] == ["demo-small"]
    assert [entry.name for entry in find_entries(["mine=demo"], tmp_path)] == ["mine"]
    assert len(find_entries([str(tmp_path / "x=1,2")], tmp_path)[0].runs) == 1


def test_runs_of_one_name_are_told_apart(tmp_path):
    folders = [write_run(tmp_path / root / "nmf", values(2, 0)) for root in "ab"]
    assert [entry.name for entry in find_entries(folders, ".")] == folders


def test_scores_that_are_not_finite_are_left_out_of_their_mean_only(tmp_path):
    scores = values(4, 0)
    scores[1, 0] = np.inf
    line = compared(write_run(tmp_path / "one", scores)).lines[0]
    assert line.scores["sdr"]["mean"] == pytest.approx(np.delete(scores, 1, axis=0).mean())


# ---- tables

CELLS = [["run", "SDR", "difference"], ["a_b|c", "-1.50 [-2.00, -1.00]", ""], ["naïve", "12.00", "+13.50"]]
NOTES = ["All in dB."]


def test_text_is_aligned():
    assert format_table(CELLS, NOTES, "text").splitlines() == [
        "run                     SDR  difference",
        "a_b|c  -1.50 [-2.00, -1.00]",
        "naïve                 12.00      +13.50",
        "",
        "All in dB.",
    ]


def test_markdown_escapes_names():
    lines = format_table(CELLS, NOTES, "markdown").splitlines()
    assert lines[1] == "| ------ | -------------------: | ---------: |"
    assert lines[2] == r"| a_b\|c | −1.50 [−2.00, −1.00] |            |"
    assert lines[-1] == "All in dB."


def test_latex_escapes_names():
    lines = format_table([*CELLS, ["100 % #1 \\ ~", "", ""]], NOTES, "latex").splitlines()
    assert lines[:2] == ["% All in dB.", r"\begin{tabular}{lrr}"]
    assert r"a\_b|c & $-$1.50 [$-$2.00, $-$1.00] &  \\" in lines
    assert r"100 \% \#1 \textbackslash{} \textasciitilde{} &  &  \\" in lines


def test_the_command_prints_or_writes_the_table(tmp_path, capsys):
    folders = [write_run(tmp_path / name, values(5, seed)) for seed, name in enumerate(("one", "other"))]
    main(folders)
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["run", "one", "other"]
    main([*folders, "--format", "markdown", "--out", str(tmp_path / "table.md")])
    assert capsys.readouterr().out == ""
    assert (tmp_path / "table.md").read_text(encoding="utf-8").startswith("| run ")


def test_of_one_run_there_is_no_difference(tmp_path, capsys):
    main([write_run(tmp_path / "one", values(5, 0))])
    assert "ifference" not in capsys.readouterr().out


# ---- mistakes


def test_without_shared_mixtures_it_says_so_in_one_line(tmp_path, capsys):
    folders = [
        write_run(tmp_path / "one", values(2, 0), ids=["x", "y"]),
        write_run(tmp_path / "other", values(2, 0), ids=["z", None]),
    ]
    with pytest.raises(SystemExit):
        main(folders)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "one, other: no scored mixtures in common" in err


def test_a_folder_without_scores(tmp_path):
    with pytest.raises(UserError, match=r"no metrics.csv: evaluate it first"):
        find_entries([str(tmp_path)], ".")


def test_an_unknown_run(tmp_path):
    with pytest.raises(UserError, match="no run nobody in"):
        find_entries(["nobody"], str(tmp_path))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("mixture,clip\n0,a\n", "no column category, status, sdr"),
        ("", "no column mixture"),
        (
            "mixture,clip,category,status,sdr\n0,a,b,scored,high\n",
            r"csv, line 2: expected what evaluation writes",
        ),
        ("mixture,clip,category,status,sdr\n0,a\n", r"line 2: expected what evaluation writes"),
    ],
)
def test_files_of_something_else(tmp_path, text, match):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(UserError, match=match):
        find_entries([str(tmp_path)], ".")


@pytest.mark.parametrize("text", ["{", "[]", '{"mixtures": [{}]}'])
def test_a_protocol_of_something_else(tmp_path, text):
    folder = write_run(tmp_path / "one", values(2, 0))
    (tmp_path / "one" / "protocol.json").write_text(text)
    with pytest.raises(UserError, match=r"protocol.json: expected the protocol of an evaluation"):
        find_entries([folder], ".")


# ---- the page's files


@pytest.fixture
def shown(tmp_path):
    """Two runs of three mixtures; the second has only the first two on its page."""
    folders = [write_run(tmp_path / name, values(3, seed)) for seed, name in enumerate(("one", "other"))]
    for folder, count in zip(folders, (3, 2), strict=True):
        show_rows(f"{folder}/{FOLDER_PAGE}", count)
    return folders


def test_the_page_has_its_own_copies_of_what_all_runs_show(shown, tmp_path, capsys):
    main([*shown, "--page", str(tmp_path / "page")])
    assert capsys.readouterr().out.endswith(f"page: {tmp_path}/page/index.html\n")
    assert sorted(path.name for path in (tmp_path / "page").iterdir()) == ["0000", "0001", "index.html"]
    for n in (1, 2):
        sounds = [tmp_path / f"page/0001/source{n}-run{k}.mp3" for k in (1, 2)]
        true = tmp_path / f"page/0001/source{n}-true.mp3"
        for folder, sound in zip(shown, sounds, strict=True):
            assert filecmp.cmp(sound, f"{folder}/{FOLDER_PAGE}/0001/source{n}-predicted.mp3", shallow=False)
        assert filecmp.cmp(true, f"{shown[0]}/{FOLDER_PAGE}/0001/source{n}-true.mp3", shallow=False)


def test_without_common_rows_the_page_is_a_table(tmp_path, capsys):
    folders = [write_run(tmp_path / name, values(3, 0)) for name in ("one", "other")]
    main([*folders, "--page", str(tmp_path / "page")])
    assert "no mixture is on the evaluation pages of all runs" in capsys.readouterr().err
    page = (tmp_path / "page/index.html").read_text(encoding="utf-8")
    assert "No mixture is on the evaluation pages of all runs" in page


@pytest.mark.parametrize("inner", ["", FOLDER_PAGE])
def test_a_page_never_replaces_that_of_a_run(shown, inner, capsys):
    with pytest.raises(SystemExit):
        main([*shown, "--page", f"{shown[1]}/{inner}"])
    assert "a folder of the run other" in capsys.readouterr().err
