"""Fixed mixtures: published lists as they are, media under roots, clips that are gone, protocols."""

import os

import pytest

from dataset.fixed import FILE_GONE, protocol_mixtures, read_fixed, read_protocol, write_gone
from dataset.index import Clip, read_mixtures, write_mixtures
from dataset.music import MUSICMixDataset, Sampling
from tests.helpers import make_clip, table
from utils import UserError, save_json

# Ids may begin with "-" and look like folders of preprocessing; later columns begin with a space.
MUSIC = """/flute/kbTy_5o6AB4.wav, /cello/-Gdh8N_KpLY.wav
/acoustic_guitar/S2IWw6z-cfc.wav, /flute/kbTy_5o6AB4.wav
/cello/-Gdh8N_KpLY.wav, /acoustic_guitar/S2IWw6z-cfc.wav
"""
MUSIC_21 = """/drum/NxcaesZGezI.wav, /electric_bass/qLfSgZThsDM.wav
/electric_bass/qLfSgZThsDM.wav, /ukulele/_E3NGUxRSo0.wav
"""
NAMES = "flute/kbTy_5o6AB4", "cello/-Gdh8N_KpLY", "acoustic_guitar/S2IWw6z-cfc"


@pytest.fixture
def media(tmp_path):
    """The clips of MUSIC: a wav with frames in `<id>.mp4`, an mp3 with frames in `<id>`, and both forms."""
    make_clip(tmp_path, NAMES[0], num_frames=24)
    make_clip(tmp_path, NAMES[1], num_frames=16, suffix=".mp3", folder_suffix="")
    make_clip(tmp_path, NAMES[2], num_frames=8)
    make_clip(tmp_path, NAMES[2], num_frames=7, suffix=".mp3", folder_suffix="")
    return tmp_path


def read(root, text):
    (root / "list.csv").write_text(text)
    return read_fixed(str(root / "list.csv"), str(root / "audio"), str(root / "frames"))


def test_a_published_list_is_read_as_it_is(media):
    mixtures = read(media, MUSIC)
    assert [[clip.name for clip in mixture] for mixture in mixtures] == [
        [NAMES[0], NAMES[1]],
        [NAMES[2], NAMES[0]],
        [NAMES[1], NAMES[2]],
    ]
    audio, frames = media / "audio", media / "frames"
    assert dict.fromkeys(clip for mixture in mixtures for clip in mixture) == dict.fromkeys(
        [
            Clip(f"{audio}/{NAMES[0]}.wav", f"{frames}/{NAMES[0]}.mp4", 24),
            Clip(f"{audio}/{NAMES[1]}.mp3", f"{frames}/{NAMES[1]}", 16),
            Clip(f"{audio}/{NAMES[2]}.wav", f"{frames}/{NAMES[2]}.mp4", 8),
        ]
    )


def test_the_list_for_music_21_and_lists_of_more_than_two_are_read(tmp_path):
    for name in ("drum/NxcaesZGezI", "electric_bass/qLfSgZThsDM", "ukulele/_E3NGUxRSo0"):
        make_clip(tmp_path, name, num_frames=8)
    assert [[clip.category for clip in mixture] for mixture in read(tmp_path, MUSIC_21)] == [
        ["drum", "electric_bass"],
        ["electric_bass", "ukulele"],
    ]
    three = "/drum/NxcaesZGezI.mp3,/ukulele/_E3NGUxRSo0.wav,/electric_bass/qLfSgZThsDM.wav\n"
    assert [clip.num_frames for clip in read(tmp_path, three)[0]] == [8, 8, 8]


def test_a_list_of_this_project_is_read_without_looking_for_media(tmp_path):
    clips = [Clip(f"audio/flute/{n}.wav", f"frames/flute/{n}", 9) for n in range(3)]
    path = tmp_path / "mix.csv"
    write_mixtures(path, [(clips[0], clips[1]), (clips[2], clips[0])])
    assert read_fixed(path, "nowhere", "nowhere") == read_mixtures(path)


@pytest.mark.parametrize(
    "row",
    [
        "/flute/a.wav",
        "/flute/a.wav, /tuba/b.wav, /erhu/c.wav",
        "/flute/a.wav, tuba.wav",
        "/flute/a.wav, /../b.wav",
        "/flute/a.wav, /x/tuba/b.wav",
        "/flute/a.wav, /tuba/b",
    ],
)
def test_a_row_that_is_not_a_published_pair_is_named(media, row):
    with pytest.raises(UserError, match=r"list\.csv:4: expected /CATEGORY/ID\.wav 2 times, found /flute/a"):
        read(media, MUSIC + row)


def dataset_of(mixtures):
    clips = list(dict.fromkeys(clip for mixture in mixtures for clip in mixture))
    numbers = [tuple(map(clips.index, mixture)) for mixture in mixtures]
    return MUSICMixDataset(clips, Sampling(), train=False, mixtures=numbers)


def test_clips_that_are_gone_keep_their_place_and_are_written_down(media):
    for path in (f"audio/{NAMES[1]}.mp3", f"audio/{NAMES[2]}.wav", f"audio/{NAMES[2]}.mp3"):
        os.remove(media / path)
    for folder in (f"{NAMES[2]}.mp4", NAMES[2]):
        for name in os.listdir(media / "frames" / folder):
            os.remove(media / "frames" / folder / name)
    mixtures = read(media, MUSIC + "/flute/kbTy_5o6AB4.wav, /flute/kbTy_5o6AB4.wav")
    assert [[clip.num_frames for clip in mixture] for mixture in mixtures] == [
        [24, 0],
        [0, 24],
        [0, 0],
        [24, 24],
    ]
    dataset = dataset_of(mixtures)
    assert dataset.gone == {0, 1, 2}
    write_gone(media, dataset)
    assert table(media / FILE_GONE) == [
        ["clip", "gone", "mixtures"],
        [NAMES[2], "sound and frames", "2"],
        [NAMES[1], "sound", "2"],
    ]
    write_gone(media, dataset_of(mixtures[3:]))
    assert not (media / FILE_GONE).exists()
    write_gone(media, dataset_of(mixtures[3:]))


def test_a_list_of_which_nothing_is_left_is_an_error(tmp_path):
    with pytest.raises(
        UserError, match=r"none of its 3 mixtures is there: no .*kbTy_5o6AB4\.wav.*--root_audio"
    ):
        read(tmp_path, MUSIC)


# ---- protocols


def protocol_of(*mixtures):
    """A protocol with as little as a reader needs."""
    keys = ("audio", "frames", "num_frames")
    listed = [
        {
            "clips": [{"clip": clip.name, **dict(zip(keys, clip, strict=True))} for clip in mixture],
            "scores": {},
        }
        for mixture in mixtures
    ]
    empty = {key: {} for key in ("window", "metric", "clips", "networks")}
    return {"version": 1, "list": "val.csv", **empty, "mixtures": listed}


def test_a_protocol_finds_its_clips_where_they_were_or_under_the_roots(media):
    there = Clip(f"{media}/audio/{NAMES[0]}.wav", f"{media}/frames/{NAMES[0]}.mp4", 20)
    moved = Clip(f"/gone/audio/{NAMES[1]}.wav", f"/gone/frames/{NAMES[1]}.mp4", 15)
    gone = Clip("/gone/audio/tuba/x.wav", "/gone/frames/tuba/x", 9)
    before = there._replace(num_frames=0)  # gone when the protocol was written
    save_json(media / "protocol.json", protocol_of((there, moved), (gone, there), (before, moved)))
    mixtures = protocol_mixtures(str(media / "protocol.json"), f"{media}/audio", f"{media}/frames")
    found = Clip(f"{media}/audio/{NAMES[1]}.mp3", f"{media}/frames/{NAMES[1]}", 15)
    assert mixtures[0] == (there, found)
    assert [[clip.num_frames for clip in mixture] for mixture in mixtures[1:]] == [[0, 20], [0, 15]]
    assert mixtures[1][0].name == "tuba/x"
    os.rename(media / "audio", media / "elsewhere")
    with pytest.raises(
        UserError, match=r"none of its 3 mixtures is there: .*; --root_audio and --root_frame"
    ):
        protocol_mixtures(str(media / "protocol.json"), f"{media}/audio", f"{media}/frames")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: [], "not a protocol of version 1"),
        (lambda p: p | {"version": 2}, "not a protocol of version 1"),
        (lambda p: p | {"window": 3}, "window: expected dict, found 3"),
        (lambda p: p | {"mixtures": [1]}, "mixture 0: clips: expected list, found 1"),
        (lambda p: p | {"mixtures": []}, "no mixtures"),
        (
            lambda p: p | {"mixtures": [{"clips": [{"clip": "a"}], "scores": {}}]},
            "mixture 0: audio: expected str",
        ),
        (lambda p: p | {"mixtures": [{"clips": [], "scores": {}}]}, "no mixtures"),
    ],
)
def test_a_file_that_is_no_protocol_is_named(tmp_path, change, words):
    path = tmp_path / "other.json"
    save_json(path, change(protocol_of((Clip("a/b.wav", "b", 3),) * 2)))
    with pytest.raises(UserError, match=words) as stop:
        read_protocol(str(path))
    assert str(stop.value).startswith(f"{path}: ")


def test_a_protocol_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "half.json").write_text("{")
    for name in ("half.json", "none.json"):
        with pytest.raises(UserError, match=rf"{name}: cannot be read as a protocol: "):
            read_protocol(str(tmp_path / name))
