"""What `create_index_files.py --check` reports, and what it accepts."""

import pytest

import create_index_files
from dataset.index import Clip, read_index, shared_ids, write_index, write_mixtures
from dataset.indexing.check import check_lists, count_cases, report
from tests.helpers import create, make_clip


@pytest.fixture
def root(tmp_path):
    """A tree with its index files; clips of 1 s."""
    for category in ("flute", "tuba", "erhu"):
        for number in range(6):
            make_clip(tmp_path, f"{category}/{category[0]}{number}", num_frames=8)
    make_clip(tmp_path, "flute tuba/duet", num_frames=8)
    create(tmp_path, "--min_seconds=1", "--trainset_ratio=0.5", "--test_ratio=0.2")
    return tmp_path


def run(root, *flags):
    return create_index_files.main(["--check", *map(str, flags), f"--path_output={root}"])


def problems(*paths):
    """{(is_error, kind): cases} over all files."""
    sections = check_lists([str(path) for path in paths], 8, 0.5)
    return {(p.is_error, p.kind): p.cases for section in sections for p in section.problems}


def test_new_index_files_have_no_problems(root, capsys):
    capsys.readouterr()
    assert run(root) == 0
    printed = capsys.readouterr().out
    for name in ("train", "val", "test", "duets", "val_mix2", "val_mix3"):
        assert f"{root}/{name}.csv\n" in printed
    assert printed.splitlines()[:7] == [
        f"{root}/train.csv",
        "  rows: 9 clips",
        "  category   clips    seconds",
        "  erhu           3        3.0",
        "  flute          3        3.0",
        "  tuba           3        3.0",
        "  total          9        9.0",
    ]
    assert "mixtures of 3" in printed
    assert printed.endswith("6 files: 0 errors, 0 warnings\n")


def test_an_index_of_another_pipeline_has_no_problems(root, monkeypatch):
    make_clip(root, "flute/old", "frame", "", ".mp3", num_frames=8)
    monkeypatch.chdir(root)
    (root / "old.csv").write_text("audio/flute/old.mp3,./frame/flute/old,8\r\n")
    assert problems("old.csv") == {}
    assert run(root, "old.csv") == 0


def test_seconds_follow_the_rate(root):
    (section,) = check_lists([str(root / "train.csv")], 4, 2)
    assert section.table[-1].split() == ["total", "9", "18.0"]


def test_nothing_to_check_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run(tmp_path)
    assert stop.value.code == 2
    assert f"no index files in {tmp_path}" in capsys.readouterr().err


def test_all_bad_rows_are_named(root, capsys):
    path = root / "bad.csv"
    rows = read_index(root / "val.csv")
    write_index(path, rows)
    path.write_text("a.wav,b\n" + path.read_text() + "a.wav,b,none\na.wav,b,3,c.wav,d,4\n")
    assert run(root, path) == 1
    printed = capsys.readouterr().out
    for line in (1, len(rows) + 2, len(rows) + 3):
        assert f"{path}:{line}: expected" in printed
    assert "error: malformed rows: 3" in printed
    (root / "empty.csv").write_text("")
    cases = problems(root / "empty.csv", root / "gone.csv", root / "val.csv")
    assert list(cases) == [(True, "malformed rows")]
    assert run(root, root / "gone.csv") == 1


def test_missing_and_short_media_are_errors(root, capsys):
    clips = {
        clip.name: clip for name in ("train", "val", "test") for clip in read_index(root / f"{name}.csv")
    }
    (root / "audio/flute/f0.wav").unlink()
    (root / "audio/flute/f1.wav").write_bytes(b"RIFF")
    make_clip(root, "flute/f2", num_frames=None, seconds=0.4)
    make_clip(root, "flute/f3", num_frames=None, seconds=9)  # longer is fine
    (root / "frames/flute/f4.mp4/000008.jpg").unlink()
    (root / "frames/flute/f5.mp4").rename(root / "frames/flute/moved")
    (root / "frames/tuba/t0.mp4/000003.jpg").rename(root / "frames/tuba/t0.mp4/000009.jpg")
    (root / "frames/tuba/t1.mp4/000009.jpg").touch()  # more than the row says
    (root / "frames/tuba/t2.mp4/cover.jpg").touch()
    write_index(root / "all.csv", sorted(clips.values()))
    audio, frames = f"{root}/audio", f"{root}/frames"
    found = problems(root / "all.csv")
    (unreadable,) = found.pop((True, "sound cannot be read"))
    assert unreadable.startswith(f"{root}/all.csv:8: {audio}/flute/f1.wav: ")
    assert found == {
        (True, "no sound"): [f"{root}/all.csv:7: {audio}/flute/f0.wav"],
        (True, "sound shorter than the frames"): [
            f"{root}/all.csv:9: {audio}/flute/f2.wav: 0.4 s, the frames span 1.0 s"
        ],
        (True, "fewer frames than the row says"): [
            f"{root}/all.csv:11: {frames}/flute/f4.mp4: 7, the row says 8"
        ],
        (True, "no frames folder"): [f"{root}/all.csv:12: {frames}/flute/f5.mp4"],
        (True, "gap in the frame numbers"): [f"{root}/all.csv:13: {frames}/tuba/t0.mp4/000003.jpg"],
    }
    assert run(root, root / "all.csv") == 1
    capsys.readouterr()
    assert run(root, root / "all.csv", "--max_difference=0.7") == 1
    assert "shorter" not in capsys.readouterr().out


def test_the_same_clip_twice_is_an_error_and_a_video_in_two_categories_a_warning(root, capsys):
    train = read_index(root / "train.csv")
    write_index(root / "twice.csv", [*train, train[0]])
    assert problems(root / "twice.csv") == {
        (True, "duplicate clips or mixtures"): [f"{train[0].name}: 2 rows"]
    }
    make_clip(root, "cello/f0", num_frames=8)
    make_clip(root, "banjo/f0", num_frames=8)
    both = [
        Clip(f"{root}/audio/{name}.wav", f"{root}/frames/{name}.mp4", 8) for name in ("cello/f0", "banjo/f0")
    ]
    write_index(root / "spread.csv", both)
    assert problems(root / "spread.csv") == {(False, "videos in several categories"): ["cello/f0, banjo/f0"]}
    capsys.readouterr()
    assert run(root, root / "spread.csv") == 0
    assert "1 files: 0 errors, 1 warnings" in capsys.readouterr().out


def test_mixtures_are_checked_as_such(root):
    clips = sorted(read_index(root / "train.csv"))
    e0, e1, f0 = clips[0], clips[1], clips[3]
    write_mixtures(root / "mix.csv", [(e0, f0), (f0, e0), (e0, e1), (e0, e0)])
    assert problems(root / "mix.csv") == {
        (True, "duplicate clips or mixtures"): [f"{e0.name}; {f0.name}: 2 rows"],
        (True, "mixtures of a video with itself"): [f"{root}/mix.csv:4: {e0.name}; {e0.name}"],
        (False, "mixtures of one category"): [f"{root}/mix.csv:3: {e0.name}; {e1.name}"],
    }


def test_every_shared_id_is_an_error(root, capsys):
    train, val = read_index(root / "train.csv"), read_index(root / "val.csv")
    write_index(root / "val.csv", [*val, *train[:2]])
    capsys.readouterr()
    assert run(root) == 1
    printed = capsys.readouterr().out
    first = f"{root}/train.csv and {root}/val.csv\n  error: ids in both files: 2\n"
    assert first + "".join(f"    {video}\n" for video in sorted(clip.id for clip in train[:2])) in printed
    assert "6 files: 2 errors, 0 warnings" in printed


@pytest.mark.parametrize(
    ("name", "mixtures", "fine"),
    [
        ("val.csv", "val_mix2.csv", True),
        ("other.csv", "val_mix3.csv", True),
        ("train_11.csv", "val_mix2.csv", False),
        ("duets.csv", "val_mix2.csv", False),
        ("val.csv", "train_mix.csv", False),
    ],
)
def test_mixtures_may_be_of_the_clips_for_evaluation(root, name, mixtures, fine):
    clips = sorted(read_index(root / "val.csv"))
    write_index(root / name, clips)
    write_mixtures(root / mixtures, [(clips[0], clips[-1])])
    found = problems(root / name, root / mixtures)
    assert found == ({} if fine else {(True, "ids in both files"): sorted([clips[0].id, clips[-1].id])})


def test_mixture_lists_may_share_and_index_files_may_not(root):
    val = read_index(root / "val.csv")
    assert problems(root / "val_mix2.csv", root / "val_mix3.csv") == {}
    write_index(root / "copy.csv", val)
    assert list(problems(root / "val.csv", root / "copy.csv")) == [(True, "ids in both files")]
    assert problems(root / "val.csv", root / "val.csv") == {}


def test_videos_are_identified_by_id_alone(root):
    clips = read_index(root / "train.csv")
    elsewhere = [clip._replace(path_audio=f"/x/cello/{clip.id}.mp3") for clip in clips[:3]]
    assert shared_ids(clips, elsewhere) == sorted(clip.id for clip in clips[:3])
    assert shared_ids(clips[:3], clips[3:]) == []


def test_few_cases_are_listed_without_verbose(root, capsys):
    write_index(
        root / "gone.csv", [Clip(f"x/a/{n:02d}.wav", f"{root}/frames/flute/f0.mp4", 8) for n in range(14)]
    )
    assert run(root, root / "gone.csv") == 1
    printed = capsys.readouterr().out
    assert "error: no sound: 14" in printed
    assert "x/a/09.wav" in printed
    assert "x/a/10.wav" not in printed
    assert "4 more" in printed
    assert run(root, root / "gone.csv", "--verbose") == 1
    printed = capsys.readouterr().out
    assert "x/a/13.wav" in printed
    assert "more" not in printed
    sections = check_lists([str(root / "gone.csv")], 8, 0.5)
    assert count_cases(sections) == (14, 0)
    assert "x/a/13.wav" in report(sections, None)
