"""Comparing two protocols: what agrees, and what is said where data, mixtures or scores differ."""

import copy

import pytest

from engine.evaluation.protocol import compare

CLIPS = [f"{category}/{number}" for number in range(3) for category in ("flute", "tuba", "erhu")]


@pytest.fixture
def protocol():
    """Nine mixtures of a clip with the next one."""
    pairs = zip(CLIPS, CLIPS[1:] + CLIPS[:1], strict=True)
    mixtures = [
        {
            "id": f"id{number}",
            "status": "scored",
            "clips": [{"clip": name, "audio": f"{name}.wav", "frames": name} for name in pair],
            "scores": {key: [number + 0.5, -1.25] for key in ("sdr", "si_sdr", "sdr_oracle")},
        }
        for number, pair in enumerate(pairs)
    ]
    return {
        "networks": {"checksums": {"sound": "s"}, "options": {"ngf": 4}},
        "metric": {"bss": "fast"},
        "code": "c",
        "packages": {"torch": "2"},
        "machine": {"device": "d"},
        "clips": {name: {"sound": "1", "file": "2", "pictures": "3"} for name in CLIPS},
        "mixtures": mixtures,
    }


def test_scores_that_differ_for_the_same_networks_are_a_disagreement(protocol):
    here = copy.deepcopy(protocol)
    here["mixtures"][5]["scores"]["si_sdr"][1] += 0.02
    here["mixtures"][7]["scores"]["sdr"][0] -= 3
    here["packages"]["torch"] = "0"
    agrees, text = compare("p.json", protocol, here)
    assert not agrees
    lines = text.splitlines()
    assert lines[0] == "differs from p.json: 2 of 9 mixtures (2 in scores)"
    assert lines[1].startswith("  first: mixture 5 (")
    assert lines[1].endswith("scores: by up to 0.0200 dB")
    assert lines[2].endswith("apart from scores, packages differs")
    here["mixtures"][5]["scores"]["si_sdr"][1] -= 0.011
    here["mixtures"][7]["scores"]["sdr"][0] += 3
    agrees, text = compare("p.json", protocol, here)
    assert agrees
    assert text.endswith("9 mixtures, largest difference 0.0090 dB")


@pytest.mark.parametrize("change", [{"options": {}}, {"checksums": {}}])
def test_other_options_of_the_networks_count_as_other_networks(protocol, change):
    here = copy.deepcopy(protocol)
    here["networks"] |= change
    here["mixtures"][5]["scores"]["sdr"][1] += 2
    agrees, text = compare("p.json", protocol, here)
    assert agrees
    assert text.endswith("9 mixtures; other networks, scores differ by up to 2.0000 dB")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "0" * 16}, "mixture: id 0000000000000000, expected "),
        ({"status": "silent estimate", "scores": {}}, "scores: silent estimate, expected scored"),
    ],
)
def test_other_mixtures_and_silence_are_told(protocol, change, words):
    here = copy.deepcopy(protocol)
    here["mixtures"][2] |= change
    agrees, text = compare("p.json", protocol, here)
    assert not agrees
    assert "first: mixture 2 (" in text
    assert words in text


def test_a_score_that_is_finite_in_one_alone_differs(protocol):
    here = copy.deepcopy(protocol)
    for each in (protocol, here):
        each["mixtures"][0]["scores"]["sdr_oracle"][0] = None
    assert compare("p.json", protocol, here)[0]
    here["mixtures"][0]["scores"]["sdr_oracle"][0] = 3.0
    assert "mixture 0" in compare("p.json", protocol, here)[1]


def test_the_causes_in_a_clip_are_told_apart(protocol):
    name = protocol["mixtures"][0]["clips"][0]["clip"]
    for change, words in (
        ({"sound": "0"}, "is the same file but decodes to other samples"),
        ({"sound": "0", "pictures": "0"}, "other samples, other pictures in "),
        ({"missing": "x"}, "missing: x"),
    ):
        here = copy.deepcopy(protocol)
        here["clips"][name] |= change
        assert words in compare("p.json", protocol, here)[1]
    there = copy.deepcopy(here)
    assert compare("p.json", there, here)[0]
    assert "was missing there" in compare("p.json", there, protocol)[1]


def test_many_clips_are_listed_in_part(protocol):
    here = copy.deepcopy(protocol)
    for name in here["clips"]:
        here["clips"][name]["pictures"] = "0"
    lines = compare("p.json", protocol, here)[1].splitlines()
    assert "  9 clips differ:" in lines
    for each in (protocol, here):
        for number in range(4):
            each["mixtures"][0]["clips"].append({"clip": f"a/{number}", "audio": "a", "frames": "f"})
            each["clips"][f"a/{number}"] = {"sound": "1", "file": "1", "pictures": str(each is here)}
    lines = compare("p.json", protocol, here)[1].splitlines()
    assert "  13 clips differ:" in lines
    assert lines[-1] == "    and 3 more"
