"""Groups, basis and colours of cells, from Gram matrices of known sounds."""

import warnings

import numpy as np
import pytest
import torch

from engine.separation.places import (
    LOUD,
    MAX_STREAMS,
    analyse,
    are_two,
    basis,
    colours,
    embed,
    group,
    loud_cells,
)

KINDS = 0, 0, 1, 2, 1, 0, 2, 2, 1, 0, 0, 1  # the kind of sound of each cell


def sounds_of(kinds, noise=0.05, seed=0):
    """[P, D] sounds: one direction per kind, at different loudness, with some noise."""
    rng = np.random.default_rng(seed)
    own = np.abs(rng.normal(size=(max(kinds) + 1, 400))) ** 3
    loud = rng.uniform(0.2, 2, (len(kinds), 1))
    return loud * (own[list(kinds)] + noise * rng.normal(size=(len(kinds), 400)))


def partition(labels):
    return {tuple(np.flatnonzero(np.asarray(labels) == label)) for label in set(labels)}


@pytest.mark.parametrize("seed", range(3))
def test_places_that_sound_alike_are_grouped(seed):
    sounds = sounds_of(KINDS, seed=seed)
    regions, labels = group(sounds @ sounds.T, 3)
    assert partition(labels) == partition(KINDS)
    for k, region in enumerate(regions):
        assert region.any()
        assert (labels[region] == k).all()


def test_quiet_places_do_not_draw_the_borders():
    """Two loud kinds are separated, whatever the many quiet cells sound like."""
    sounds = np.concatenate([sounds_of((0, 1) * 3), 1e-3 * sounds_of((2, 3, 4) * 10, seed=1)])
    labels = group(sounds @ sounds.T, 2)[1]
    assert partition(labels[:6]) == partition((0, 1) * 3)


def test_one_group_is_everything():
    sounds = sounds_of(KINDS)
    regions, labels = group(sounds @ sounds.T, 1)
    assert not labels.any()
    assert regions.any()


HALVES = np.tile([0, 0, 0, 1, 1, 1], (4, 1)).ravel()  # of 4 × 6 cells
CHESS = (np.indices((4, 6)).sum(axis=0) % 2).ravel()


@pytest.mark.parametrize(
    ("kinds", "alike", "count"),
    [(HALVES, 0, 2), (0 * HALVES, 0, 1), (CHESS, 0, 1), (HALVES, 2, 1)],
    ids=["side by side", "one", "everywhere", "nearly alike"],
)
@pytest.mark.parametrize("seed", range(3))
def test_two_sources_sound_different_in_different_places(kinds, alike, count, seed):
    sounds = sounds_of(kinds, seed=seed)
    sounds = sounds + alike * np.linalg.norm(sounds, axis=1, keepdims=True) * sounds_of((0,), 0, 9) / 100
    gram = sounds @ sounds.T
    assert are_two(gram, (4, 6), group(gram, 2)[1]) == (count == 2)


def test_silence_is_no_second_source():
    assert not are_two(np.zeros((24, 24)), (4, 6), HALVES)


def test_loud_cells_show_the_player():
    energy = np.array([[[8, 3, 0], [5, 1, 0]], [[2, 1, 0], [3, 0, 0]]], float)  # 10 4 0, 8 1 0
    labels = np.array([0, 1, 1, 0, 0, 1])
    regions = np.zeros((3, 2, 3), bool)
    regions[0, 0, 1] = regions[2, 0, 2] = True  # the third region owns no cell and is silent
    found = loud_cells(regions, labels, energy)
    wanted = [[[1, 0, 0], [1, 0, 0]], [[0, 1, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 0]]]
    np.testing.assert_array_equal(found, np.array(wanted, bool))


@pytest.mark.parametrize("count", range(1, 5))
@pytest.mark.parametrize("gram", [np.zeros((6, 6)), np.ones((6, 6)), np.diag([1.0, 0, 0, 0, 0, 0])])
def test_fewer_kinds_of_sound_than_groups(gram, count):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regions, labels = group(gram, count)
    assert set(labels) == set(range(count))
    assert regions.any(axis=1).all()
    assert np.isfinite(embed(gram)).all()


def test_the_basis_gives_every_loud_place():
    sounds = sounds_of(KINDS)
    parts, gains = basis(sounds @ sounds.T)
    assert parts.shape == gains.shape
    assert 3 <= parts.shape[1] <= 5
    rebuilt = gains @ (parts.T @ sounds)
    for sound, other in zip(sounds, rebuilt, strict=True):
        assert sound @ other / np.linalg.norm(sound) / np.linalg.norm(other) >= 0.99
        assert np.linalg.norm(sound - other) < 0.15 * np.linalg.norm(sound)


def test_quiet_places_ask_for_no_streams_of_their_own():
    quiet = 0.1 * np.sqrt(LOUD) * np.random.default_rng(1).normal(size=(20, 400))
    sounds = np.concatenate([sounds_of((0, 1, 0, 1), noise=0), quiet])
    assert basis(sounds @ sounds.T)[0].shape[1] == 2


def test_streams_are_never_louder_than_the_mixture():
    masks = np.random.default_rng(0).random((30, 500))  # one per cell, of a mixture of ones
    parts = basis(masks @ masks.T)[0]
    assert parts.shape[1] <= MAX_STREAMS
    assert np.abs(parts.T @ masks).max() <= 1


def test_equal_sounds_have_equal_colours():
    sounds = sounds_of(KINDS, noise=0)
    found = colours(sounds @ sounds.T).astype(int)
    kinds = np.array(KINDS)
    for kind in range(3):
        assert np.ptp(found[kinds == kind], axis=0).max() <= 1
    assert min(np.abs(found[0] - found[2]).max(), np.abs(found[0] - found[3]).max()) > 30
    same = colours(np.float32(sounds[:1] * np.ones((9, 1))) @ np.float32(sounds[:1] * np.ones((9, 1))).T)
    assert np.ptp(same.astype(int), axis=0).max() <= 4  # rounding errors do not show as colours


def test_silence_gives_numbers():
    parts, gains = basis(np.zeros((6, 6)))
    assert np.isfinite(parts).all()
    assert np.isfinite(gains).all()
    assert len(np.unique(colours(np.zeros((6, 6))), axis=0)) == 1


def test_energies_and_gram_are_of_the_masked_spectrograms():
    masks, magnitude = torch.rand(5, 6, 8, 10), torch.rand(5, 8, 10)
    maps = torch.rand(5, 4, 2, 3)
    batches = [(maps[:3], magnitude[:3], masks[:3]), (maps[3:], magnitude[3:], masks[3:])]
    analysis = analyse(batches)
    sounds = (masks * magnitude[:, None]).flatten(2).double().numpy()
    np.testing.assert_allclose(analysis.gram, np.einsum("wpx,wqx->pq", sounds, sounds), rtol=1e-5)
    np.testing.assert_allclose(analysis.energy.reshape(5, 6), np.square(sounds).sum(axis=2), rtol=1e-5)
    np.testing.assert_array_equal(analysis.maps, maps.numpy())
    assert analysis.shape == (2, 3)
