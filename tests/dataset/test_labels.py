"""`labels.csv`: read and written, and what index files and data sets make of it."""

import numpy as np
import pytest
import soundfile
from PIL import Image

import create_index_files
from arguments import parse_args
from dataset.index import Clip, read_index, read_mixtures, shared_ids, write_index
from dataset.indexing import table
from dataset.indexing.labels import Entry, add_labels, read_labels
from dataset.indexing.mixtures import draw_mixtures
from dataset.indexing.partners import label_sets
from dataset.indexing.split import held_out, read_split
from engine.loaders import build_train_loader, build_val_loader
from tests.helpers import FPS, RATE, SMALL, create, make_clip
from utils import UserError

TABLE = {"a": Entry(("dog", "cat"), "train"), "b": Entry((), "test"), "c, d": Entry(("x",), "")}


def names(*numbers):
    """Ids of segments: two of each video."""
    return [f"video{number // 2:06d}_{10 * number:06d}" for number in numbers]


def test_entries_come_back_and_are_added_to(tmp_path):
    path = str(tmp_path / "labels.csv")
    assert read_labels(path) == {}
    add_labels(path, {})
    assert not (tmp_path / "labels.csv").exists()
    add_labels(path, TABLE)
    assert read_labels(path) == TABLE
    assert read_labels(path, {"a", "other"}) == {"a": TABLE["a"]}
    add_labels(path, {"b": Entry(("y",), ""), "e": Entry(("z",), "val")})
    assert read_labels(path) == TABLE | {"b": Entry(("y",), ""), "e": Entry(("z",), "val")}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"labels.csv: expected the columns clip,labels,split, found ''"),
        ("a,b\n", r"labels.csv: expected the columns clip,labels,split, found 'a,b'"),
        ("clip,labels,split\na,b\n", r"labels.csv:2: expected 3 columns, found 2"),
    ],
)
def test_a_malformed_table_is_named(tmp_path, text, reason):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=reason):
        read_labels(str(tmp_path / "labels.csv"))


def test_a_long_index_has_the_label_sets_of_a_list(tmp_path):
    path = tmp_path / "list.csv"
    clips = [Clip(f"audio/c{n % 3}/{name}.wav", "frames", 9) for n, name in enumerate(names(*range(8)))]
    write_index(path, clips)
    assert table.ClipTable(str(path)).label_sets is None
    found = {clips[1].id: Entry(("c1", "c0"), ""), clips[4].id: Entry(("new", "new"), "")}
    add_labels(str(tmp_path / "labels.csv"), found)
    opened = table.ClipTable(str(path))
    for one, other in zip(opened.label_sets, label_sets(clips, found), strict=True):
        assert one.tolist() == other.tolist()
    assert opened.label_sets.starts.tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert opened.label_sets.values.tolist() == [0, 1, 0, 2, 0, 3, 2, 0, 1]
    assert opened.videos.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    (tmp_path / "labels.csv").unlink()
    assert table.ClipTable(str(path)).label_sets is None


def test_fixed_mixtures_share_no_label_and_no_video():
    clips = [Clip(f"audio/c{n % 2}/{name}.wav", "frames", 9) for n, name in enumerate(names(*range(8)))]
    found = {clip.id: Entry((clip.category, f"more{n // 4}"), "") for n, clip in enumerate(clips)}
    mixtures = draw_mixtures(clips, 2, 100, 1, found)
    pairs = {frozenset(clip.id for clip in mixture) for mixture in mixtures}
    wanted = {
        frozenset((clips[m].id, clips[n].id))
        for m in range(0, 8, 2)
        for n in range(1, 8, 2)
        if m // 4 != n // 4
    }
    assert pairs == wanted
    assert len(draw_mixtures(clips, 2, 100, 1)) == 12  # 16 but for those of one video


def test_no_video_is_in_two_lists_and_the_published_split_is_kept(tmp_path):
    for number, name in enumerate(names(*range(24))):
        make_clip(tmp_path, f"c{number % 3}/{name}")
    published = {
        name: Entry(("c",), "test" if n % 3 else "train") for n, name in enumerate(names(0, 1, 2, 3))
    }
    add_labels(str(tmp_path / "labels.csv"), published)  # of both videos, one segment is for test
    train, val = create(tmp_path)
    test = read_index(tmp_path / "test.csv")
    assert {clip.id for clip in test} == {*names(0, 1, 2, 3)}
    assert len(train) + len(val) + len(test) == 24
    assert not shared_ids(train, val)
    assert len({clip.video for clip in val}) * 2 == len(val)
    for mixture in read_mixtures(tmp_path / "val_mix2.csv"):
        assert len({clip.video for clip in mixture}) == 2


def test_with_published_validation_all_other_clips_are_for_training(tmp_path):
    for number, name in enumerate(names(*range(0, 12, 2))):
        make_clip(tmp_path, f"c{number % 2}/{name}")
    add_labels(str(tmp_path / "labels.csv"), {name: Entry((), "val") for name in names(0, 2)})
    train, val = create(tmp_path)
    assert {clip.id for clip in val} == {*names(0, 2)}
    assert {clip.id for clip in train} == {*names(4, 6, 8, 10)}


def test_a_video_is_held_out_if_any_segment_is():
    clips = [Clip(f"audio/c/{name}.wav", "frames", 9) for name in names(0, 1, 2, 3)]
    splits = dict(zip(names(0, 1, 2, 3), ("test", "val", "val", "train"), strict=True))
    found = held_out(clips, {name: Entry((), split) for name, split in splits.items()})
    assert found == {"video000000": "test", "video000001": "val"}


def test_lists_of_ids_may_name_videos_or_segments(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join([names(0)[0], "video000001"]))
    assert read_split({"train": str(tmp_path / "a.txt")}) == {"video000000": "train", "video000001": "train"}


def test_tables_of_labels_go_where_index_files_are(tmp_path):
    for number, name in enumerate(names(0, 2, 4, 6)):
        make_clip(tmp_path / "tree", f"c{number % 2}/{name}")
    add_labels(str(tmp_path / "tree/labels.csv"), TABLE)
    roots = [f"--root_audio={tmp_path}/tree/audio/", f"--root_frame={tmp_path}/tree/frames"]
    create_index_files.main([*roots, f"--path_output={tmp_path}/lists"])
    assert read_labels(str(tmp_path / "lists/labels.csv")) == TABLE


@pytest.fixture
def short_tree(tmp_path):
    """Clips of 10 seconds with two labels each, one of which half of the clips share."""
    clips = []
    for number, name in enumerate(names(*range(0, 16, 2))):
        path = tmp_path / f"audio/c{number}/{name}.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.full(10 * RATE, 0.1), RATE)
        folder = tmp_path / f"frames/c{number}/{name}.mp4"
        folder.mkdir(parents=True)
        for frame in range(1, 10 * FPS + 1):
            Image.new("L", (40, 40), 100).convert("RGB").save(folder / f"{frame:06d}.jpg")
        clips.append(Clip(str(path), str(folder), 10 * FPS))
    add_labels(
        str(tmp_path / "labels.csv"),
        {clip.id: Entry((clip.category, f"half{n % 2}"), "") for n, clip in enumerate(clips)},
    )
    write_index(tmp_path / "list.csv", clips)
    return tmp_path


def test_short_clips_train_with_windows_that_fit_them_and_labels_that_differ(short_tree, monkeypatch):
    lists = [f"--list_{part}={short_tree / 'list.csv'}" for part in ("train", "val")]
    args = parse_args([*SMALL, *lists, "--dup_trainset", "4", "--audLen", "65535"])
    for size in (1, 100_000):  # as a table, and as a list
        monkeypatch.setattr(table, "MANY", size)
        for loader in (build_train_loader(args), build_val_loader(args)):
            for batch in loader:
                assert not batch["dropped"]
                for info in batch["info"]:
                    assert len({number % 2 for number in info["clips"]}) == 2
                    assert all(24 < centre <= 56 for centre in info["centres"])
                assert (batch["mix"] != 0).all()  # no window reaches beyond its clip
