"""Quantities of encoder tokens: plain definitions, a constant model, sizes with padding."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import taformer
import torch
from encoder_maps import channel_mean, distance_from_mean, finest_features, on_frames, separation

from vislab.data.collate import video_batch
from vislab.models.seqformer import SeqFormer


@pytest.fixture(scope="module")
def model() -> SeqFormer:
    config = taformer.base("smoke").model
    torch.manual_seed(0)
    encoder = replace(config.encoder, num_layers=1, feed_forward_channels=32)
    return replace(config, hidden_dim=32, encoder=encoder).build().eval()


def frames(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)


def test_both_quantities_by_their_definition() -> None:
    features = np.random.default_rng(0).normal(size=(2, 5, 3, 4))
    mean = np.mean([features[t, :, y, x] for t in range(2) for y in range(3) for x in range(4)], axis=0)
    for t, y, x in ((0, 0, 0), (1, 2, 3)):
        token = features[t, :, y, x]
        assert channel_mean(features)[t, y, x] == pytest.approx(sum(token) / 5)
        cosine = np.dot(token, mean) / np.sqrt(np.dot(token, token) * np.dot(mean, mean))
        assert distance_from_mean(features)[t, y, x] == pytest.approx(1 - cosine)
    assert distance_from_mean(features).shape == channel_mean(features).shape == (2, 3, 4)


def test_tokens_that_say_nothing() -> None:
    assert (distance_from_mean(np.zeros((1, 4, 2, 2))) == 0).all()
    assert distance_from_mean(np.ones((1, 4, 2, 2))) == pytest.approx(np.zeros((1, 2, 2)))


def test_a_constant_encoder_gives_flat_maps(model: SeqFormer) -> None:
    features, stride = finest_features(model, video_batch(frames(64, 96)))
    assert features.shape == (2, 32, 8, 12) and stride == 8
    assert np.ptp(channel_mean(features)) < 1e-5, "layer normalisation with gains of one leaves no mean"
    assert np.ptp(distance_from_mean(features)) > 0.01
    constant = deepcopy(model)
    norm = constant.encoder.layers[-1].feed_forward.norm
    norm.weight.data.zero_()
    norm.bias.data = torch.arange(32.0)
    features, _ = finest_features(constant, video_batch(frames(64, 96)))
    assert (channel_mean(features) == 15.5).all()
    assert distance_from_mean(features) == pytest.approx(np.zeros((2, 8, 12)), abs=1e-6)


def test_padding_is_left_out(model: SeqFormer) -> None:
    batch = video_batch(frames(60, 70))
    assert batch.images.shape[-2:] == (64, 96)
    assert finest_features(model, batch)[0].shape == (2, 32, 8, 9)


@pytest.mark.parametrize(("size", "input_size"), [((16, 24), (16, 24)), ((45, 70), (90, 140)), ((33, 50), (30, 45))])
def test_every_pixel_has_the_value_of_the_token_over_it(size: tuple[int, int], input_size: tuple[int, int]) -> None:
    stride = 8
    cells = [-(-side // stride) for side in input_size]
    maps = np.random.default_rng(0).normal(size=(2, *cells))
    drawn = on_frames(maps, stride, input_size, size)
    assert drawn.shape == (2, *size)
    for y in range(size[0]):
        for x in range(size[1]):
            row, column = (y + 0.5) * input_size[0] / size[0] // stride, (x + 0.5) * input_size[1] / size[1] // stride
            np.testing.assert_array_equal(drawn[:, y, x], maps[:, int(row), int(column)])


def test_separation_counts_pairs_of_pixels() -> None:
    rng = np.random.default_rng(0)
    values, inside = rng.integers(0, 5, (3, 4, 5)).astype(float), rng.random((3, 4, 5)) < 0.3
    wins = [(a > b) + 0.5 * (a == b) for a in values[inside] for b in values[~inside]]
    assert separation(values, inside) == pytest.approx(np.mean(wins))
    assert separation(inside.astype(float), inside) == 1 and separation(-1.0 * inside, inside) == 0
    assert np.isnan(separation(values, np.zeros_like(inside))) and np.isnan(separation(values, np.ones_like(inside)))
