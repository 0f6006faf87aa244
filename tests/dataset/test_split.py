"""Splits: by ratio and category, by seed, and by published lists."""

import json
import random
from collections import Counter

import pytest

import create_index_files
from dataset.index import Clip, read_index, write_index
from dataset.indexing.split import read_ids, read_split, split, videos_of
from tests.helpers import create, make_clip, table
from utils import UserError


def make_videos(**counts):
    return {
        f"{category}{number:09d}": {category} for category in counts for number in range(counts[category])
    }


def count(videos, parts, part, category):
    return sum(category in names and parts[video] == part for video, names in videos.items())


def sizes(videos):
    return Counter(name for names in videos.values() for name in names)


def test_videos_of_clips():
    clips = [Clip(f"audio/{name}.wav", "", 1) for name in ("flute/a", "tuba/a", "tuba/b")]
    assert videos_of(clips) == {"a": {"flute", "tuba"}, "b": {"tuba"}}


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ratio_holds_in_every_category(ratio, seed):
    videos = make_videos(flute=50, tuba=7, erhu=2, cello=1)
    parts = split(videos, ratio, seed)
    assert set(parts.values()) == {"train", "val"}
    for category, total in sizes(videos).items():
        train = count(videos, parts, "train", category)
        assert abs(train - ratio * total) <= 1
        assert total == 1 or 0 < train < total


@pytest.mark.parametrize(
    ("ratio", "test_ratio"), [(0.8, 0.1), (0.6, 0.3), (0.1, 0.8), (0.7, 0.05), (0.01, 0.01)]
)
def test_three_parts_hold_their_ratios_and_training_stays(ratio, test_ratio):
    videos = make_videos(flute=100, tuba=31, erhu=10, cello=3, banjo=2, pipa=1)
    for seed in range(5):
        parts = split(videos, ratio, seed, test_ratio)
        two = split(videos, ratio, seed)
        assert all((parts[video] == "train") == (two[video] == "train") for video in videos)
        for category, total in sizes(videos).items():
            numbers = [count(videos, parts, part, category) for part in ("train", "val", "test")]
            shares = ratio, 1 - ratio - test_ratio, test_ratio
            assert all(
                abs(number - share * total) <= 1 for number, share in zip(numbers, shares, strict=True)
            )
            assert total < 10 or ratio == 0.01 or min(numbers) >= 1


@pytest.mark.parametrize("size", [2, 3, 5, 6, 7])
def test_small_categories_leave_no_part_empty(size):
    videos = make_videos(flute=size, tuba=size, erhu=size, cello=size)
    parts = split(videos, 0.8, 1234, 0.1)
    assert {part: list(parts.values()).count(part) > 0 for part in ("train", "val", "test")} == dict.fromkeys(
        ("train", "val", "test"), True
    )


def test_video_in_several_categories_counts_in_all_of_them():
    videos = make_videos(flute=20, tuba=10) | {f"shared{n}": {"flute", "tuba", "erhu"} for n in range(5)}
    parts = split(videos, 0.8, seed=3)
    for category, total in (("flute", 25), ("tuba", 15), ("erhu", 5)):
        assert count(videos, parts, "train", category) == 0.8 * total


@pytest.mark.parametrize("ratio", [0.4, 0.5, 0.8])
def test_videos_that_are_all_shared_are_split_too(ratio):
    draws = random.Random(5)
    many = {f"v{n}": set(draws.sample("abcdefgh", 2)) for n in range(100)}
    star = {f"v{n}": {"hub", f"category{n}"} for n in range(10)}
    for videos in (many, star):
        for seed in range(5):
            parts = split(videos, ratio, seed)
            for category, total in sizes(videos).items():
                assert abs(count(videos, parts, "train", category) - ratio * total) <= 1


def test_split_depends_on_the_seed_and_not_on_the_order():
    videos = make_videos(flute=30, tuba=9) | {"shared": {"flute", "tuba"}}
    parts = split(videos, 0.6, 1, 0.2)
    assert split(dict(reversed(videos.items())), 0.6, 1, 0.2) == parts
    assert split(videos, 0.6, 2, 0.2) != parts


def test_removing_a_video_moves_at_most_one_other():
    videos = make_videos(flute=100)
    before = split(videos, 0.8, seed=1)
    for gone in list(videos)[:20]:
        after = split({video: names for video, names in videos.items() if video != gone}, 0.8, seed=1)
        assert sum(before[video] != after[video] for video in after) <= 1


def test_lists_of_ids_in_three_formats(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffSTKXyBGSGyE\r\n\n  -x y_z \n", encoding="utf-8")
    assert read_ids(str(tmp_path / "a.txt")) == {"STKXyBGSGyE", "-x y_z"}
    (tmp_path / "b.JSON").write_text(json.dumps({"version": 1, "videos": {"flute": ["a"], "tuba": ["b"]}}))
    assert read_ids(str(tmp_path / "b.JSON")) == {"a", "b"}
    (tmp_path / "c.csv").write_text("./data/audio/tuba/q.mp3,./data/frames/tuba/q.mp4,493\n")
    assert read_ids(str(tmp_path / "c.csv")) == {"q"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "\n", "a.txt: contains no ids"),
        ("a.json", "[", "a.json: expected"),
        ("a.json", '{"videos": ["a"]}', "a.json: expected"),
        ("a.json", '{"videos": {"flute": [1]}}', "a.json: expected"),
        ("a.json", '{"videos": {}}', "contains no ids"),
        ("a.csv", "a\n", "a.csv:1: .*1 column"),
    ],
)
def test_invalid_lists_are_rejected(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_ids(str(tmp_path / name))
    with pytest.raises(UserError, match=r"gone\.txt"):
        read_ids(str(tmp_path / "gone.txt"))


def test_an_id_in_two_lists_is_an_error(tmp_path):
    for name, text in (("a", "x\ny\nz\n"), ("b", "y\nz\nq\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    with pytest.raises(UserError, match=r"b\.txt and .*a\.txt share 2 ids: y, z"):
        read_split({"train": str(tmp_path / "a.txt"), "val": str(tmp_path / "b.txt")})


def test_a_published_split_is_reproduced(tmp_path, capsys):
    for key in ("flute/a", "flute/b", "tuba/c", "tuba/d", "tuba/a", "tuba/e"):
        make_clip(tmp_path, key, num_frames=8)
    clips = [Clip(f"/elsewhere/audio/{name}.mp3", f"/elsewhere/{name}", 5) for name in ("flute/a", "erhu/x")]
    write_index(tmp_path / "old.csv", clips)
    (tmp_path / "val.txt").write_text("c\nd\n")
    lists = [f"train={tmp_path}/old.csv", f"val={tmp_path}/val.txt"]
    train, val = create(tmp_path, "--min_seconds=1", "--split_ids", *lists)
    assert {clip.name for clip in train} == {"flute/a", "tuba/a"}
    assert {clip.name for clip in val} == {"tuba/c", "tuba/d"}
    printed = capsys.readouterr().out
    assert f"{tmp_path}/old.csv: 1 of 2 ids not found" in printed
    assert "in none of the lists: 2" in printed
    assert ["tuba/e", "in none of the lists"] in table(tmp_path / "left_out.csv")
    (tmp_path / "b.json").write_text(json.dumps({"videos": {"flute": ["b"]}}))
    create(tmp_path, "--min_seconds=1", "--split_ids", *lists, f"test={tmp_path}/b.json")
    assert [clip.name for clip in read_index(tmp_path / "test.csv")] == ["flute/b"]


def test_a_single_part_can_be_written(tmp_path, capsys):
    make_clip(tmp_path, "flute/a", num_frames=8)
    (tmp_path / "a.txt").write_text("a\n")
    roots = [f"--root_audio={tmp_path}/audio", f"--root_frame={tmp_path}/frames"]
    flags = [*roots, f"--path_output={tmp_path}", "--min_seconds=1"]
    create_index_files.main([*flags, "--split_ids", f"test={tmp_path}/a.txt"])
    assert len(read_index(tmp_path / "test.csv")) == 1
    assert not (tmp_path / "train.csv").exists()
    assert "no val_mix2.csv" in capsys.readouterr().out


def test_a_part_without_clips_is_an_error(tmp_path, capsys):
    make_clip(tmp_path, "flute/a", num_frames=8)
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / "b.txt").write_text("b\n")
    with pytest.raises(SystemExit):
        create(tmp_path, "--min_seconds=1", "--split_ids", f"train={tmp_path}/a.txt", f"val={tmp_path}/b.txt")
    assert "no clip for val: none of its ids were found" in capsys.readouterr().err
    assert not (tmp_path / "train.csv").exists()
