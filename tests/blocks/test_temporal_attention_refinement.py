"""TAR against one written out head by head, and what it may and may not depend on (RefineVIS Eq. 4)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vislab.blocks.position_encoding import sine_encoding
from vislab.blocks.temporal_attention_refinement import TARConfig, TemporalAttentionRefinement, refine_windows
from vislab.blocks.tracklet_memory import OnlineRefinement
from vislab.errors import UserError

CHANNELS = 8
CONFIG = TARConfig(window=4, num_heads=2, feed_forward_channels=12)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(config: TARConfig = CONFIG) -> TemporalAttentionRefinement:
    layer = config.build(CHANNELS).double()
    with torch.no_grad():
        for index, parameter in enumerate(layer.parameters()):
            parameter.copy_(noise(*parameter.shape, seed=50 + index) * 0.4)
    return layer


def normalised(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    deviation = (x.var(unbiased=False) + norm.eps).sqrt()
    return (x - x.mean()) / deviation * norm.weight + norm.bias


def slow_row(layer: TemporalAttentionRefinement, tokens: Tensor, frames: list[int], query: int) -> Tensor:
    """Eq. 4 for one query of one tracklet: tokens (T, C), one head and one key at a time."""
    attention, heads = layer.attention, layer.attention.num_heads
    width = CHANNELS // heads
    position = [sine_encoding(torch.tensor(frame), CHANNELS).double() for frame in frames]
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    parts = []
    for head in range(heads):
        rows = slice(head * width, (head + 1) * width)
        asked = weights[0][rows] @ (tokens[query] + position[query]) + biases[0][rows]
        places = zip(tokens, position, strict=True)
        keys = [weights[1][rows] @ (token + place) + biases[1][rows] for token, place in places]
        values = [weights[2][rows] @ token + biases[2][rows] for token in tokens]
        scores = torch.stack([torch.exp(asked @ key / math.sqrt(width)) for key in keys])
        parts.append(sum(score * value for score, value in zip(scores / scores.sum(), values, strict=True)))
    mixed = normalised(tokens[query] + attention.out_proj(torch.cat(parts)), attention.norm)
    network = layer.feed_forward
    hidden = (network.linear1.weight @ mixed + network.linear1.bias).clamp(min=0)
    return normalised(mixed + network.linear2.weight @ hidden + network.linear2.bias, network.norm)


def test_a_window_is_attention_within_each_tracklet() -> None:
    layer, embeddings, frames = build(), noise(3, 4, CHANNELS), torch.tensor([7, 8, 11, 12])
    refined = layer(embeddings, frames)
    for tracklet in range(3):
        for frame in range(4):
            expected = slow_row(layer, embeddings[tracklet], frames.tolist(), frame)
            torch.testing.assert_close(refined[tracklet, frame], expected)


def test_the_current_frame_attends_to_itself_and_the_refined_past() -> None:
    layer, current, memory = build(), noise(2, CHANNELS), noise(2, 3, CHANNELS, seed=1)
    memory_frames = torch.tensor([[4, 5, 6], [5, 6, 0]])
    empty = torch.tensor([[False, False, False], [False, False, True]])
    refined = layer.refine_current(current, 7, memory, memory_frames, empty)
    first = slow_row(layer, torch.cat((memory[0], current[:1])), [4, 5, 6, 7], 3)
    second = slow_row(layer, torch.cat((memory[1, :2], current[1:])), [5, 6, 7], 2)
    torch.testing.assert_close(refined, torch.stack((first, second)))


def test_a_window_of_one_frame_is_attention_to_itself_alone() -> None:
    layer, embeddings = build(), noise(2, 5, CHANNELS)
    online = OnlineRefinement(layer, window=1)
    for frame in range(5):
        alone = torch.stack([slow_row(layer, embeddings[row, frame : frame + 1], [frame], 0) for row in range(2)])
        torch.testing.assert_close(online.step(frame, [0, 1], embeddings[:, frame]), alone)
        assert online.num_embeddings == 0
        torch.testing.assert_close(OnlineRefinement(layer, 9).step(frame, [0, 1], embeddings[:, frame]), alone)
    offline = refine_windows(layer, embeddings, torch.arange(5), window=1)
    torch.testing.assert_close(offline[:, 4], alone)


def test_the_control_sees_copies_of_the_frame_itself() -> None:
    """Which is the same as attention to itself alone, in training, offline and online."""
    layer, control = build(), build(replace(CONFIG, neighbours="same-frame"))
    control.load_state_dict(layer.state_dict())
    embeddings, frames = noise(2, 5, CHANNELS), torch.arange(3, 8)
    alone = refine_windows(layer, embeddings, frames, window=1)
    torch.testing.assert_close(control(embeddings, frames), alone)
    torch.testing.assert_close(refine_windows(control, embeddings, frames, window=4), alone)
    online = OnlineRefinement(control, window=4)
    steps = [online.step(int(frame), [0, 1], embeddings[:, t]) for t, frame in enumerate(frames)]
    torch.testing.assert_close(torch.stack(steps, dim=1), alone)
    copies = embeddings[:, 2:3].expand(-1, 5, -1).contiguous()
    torch.testing.assert_close(layer(copies, frames)[:, 2], alone[:, 2])
    assert control(embeddings[:0], frames).shape == (0, 5, CHANNELS)


def test_without_a_window_nothing_changes() -> None:
    layer, embeddings = build(), noise(2, 5, CHANNELS)
    assert refine_windows(layer, embeddings, torch.arange(5), 0) is embeddings
    online = OnlineRefinement(layer, 0)
    assert online.step(0, [0, 1], embeddings[:, 0]) is not None
    torch.testing.assert_close(online.step(1, [0, 1], embeddings[:, 1]), embeddings[:, 1], rtol=0, atol=0)
    assert online.num_embeddings == 0


@pytest.mark.parametrize("position", ["attention", "embeddings"])
def test_tracklets_do_not_meet(position: str) -> None:
    layer = build(replace(CONFIG, position=position))
    embeddings = noise(3, 6, CHANNELS)
    changed = embeddings.clone()
    changed[1:] += 5
    frames = torch.arange(6)
    torch.testing.assert_close(layer(embeddings, frames)[0], layer(changed, frames)[0], rtol=0, atol=1e-12)
    outputs = []
    for tokens, ids in ((embeddings, [0, 1, 2]), (changed, [0, 1, 2]), (embeddings[:1], [0])):
        online = OnlineRefinement(layer, 3)
        outputs.append(torch.stack([online.step(frame, ids, tokens[:, frame])[0] for frame in range(6)]))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(outputs[0], outputs[2], rtol=0, atol=1e-12)


def run_online(layer: TemporalAttentionRefinement, embeddings: Tensor, window: int) -> Tensor:
    online, ids = OnlineRefinement(layer, window), list(range(len(embeddings)))
    return torch.stack([online.step(t, ids, embeddings[:, t]) for t in range(embeddings.shape[1])], dim=1)


def test_online_does_not_see_the_future_and_offline_does() -> None:
    layer, embeddings = build(), noise(2, 6, CHANNELS)
    changed = embeddings.clone()
    changed[:, 4:] += 3
    online, other = run_online(layer, embeddings, 100), run_online(layer, changed, 100)
    torch.testing.assert_close(online[:, :4], other[:, :4], rtol=0, atol=0)
    frames = torch.arange(6)
    assert not torch.allclose(layer(embeddings, frames)[:, 0], layer(changed, frames)[:, 0])


def test_online_and_offline_agree_given_the_same_past() -> None:
    """They differ in two things only: offline sees later frames, and online carries the refined past. So the last frame
    of an offline window is the online step whose memory holds what the window's other frames hold; and the first frame
    of a video, which has no past, is the offline window of that frame alone."""
    layer, embeddings = build(), noise(2, 6, CHANNELS)
    frames = torch.arange(6)
    online = run_online(layer, embeddings, 100)
    for last in range(6):
        seen = torch.cat((online[:, :last], embeddings[:, last : last + 1]), dim=1)
        torch.testing.assert_close(layer(seen, frames[: last + 1])[:, -1], online[:, last])
    torch.testing.assert_close(layer(embeddings[:, :1], frames[:1])[:, 0], online[:, 0])
    memory = embeddings[:, :5], frames[:5].expand(2, -1), torch.zeros(2, 5, dtype=torch.bool)
    current = layer.refine_current(embeddings[:, 5], 5, *memory)
    torch.testing.assert_close(layer(embeddings, frames)[:, 5], current)


def test_the_memory_is_a_window() -> None:
    layer, embeddings = build(), noise(1, 9, CHANNELS)
    online = OnlineRefinement(layer, 3)
    outputs = []
    for frame in range(9):
        outputs.append(online.step(frame, [7], embeddings[:, frame])[0])
        assert online.num_embeddings == min(frame + 1, 2)
    tokens = torch.stack((outputs[6], outputs[7], embeddings[0, 8]))
    torch.testing.assert_close(outputs[8], slow_row(layer, tokens, [6, 7, 8], 2))
    online.forget_all_but([1])
    assert online.num_embeddings == 0


def test_the_window_counts_frames_and_not_what_is_remembered() -> None:
    """Of a tracklet that was not asked for in some frames, what is older than the window is no part of it."""
    layer, embeddings = build(), noise(1, 4, CHANNELS)
    online, frames = OnlineRefinement(layer, 4), (0, 1, 5, 7)
    outputs = [online.step(frame, [7], embeddings[:, place])[0] for place, frame in enumerate(frames)]
    torch.testing.assert_close(outputs[2], slow_row(layer, embeddings[0, 2:3], [5], 0))
    tokens = torch.stack((outputs[2], embeddings[0, 3]))
    torch.testing.assert_close(outputs[3], slow_row(layer, tokens, [5, 7], 1))


def test_windows_of_a_long_tracklet_are_independent() -> None:
    layer, embeddings, frames = build(), noise(2, 7, CHANNELS), torch.arange(7) + 30
    parts = [layer(embeddings[:, start : start + 3], frames[start : start + 3]) for start in (0, 3, 6)]
    torch.testing.assert_close(refine_windows(layer, embeddings, frames, 3), torch.cat(parts, dim=1))


def test_a_missing_frame_is_a_zero_embedding_that_learns_from_its_neighbours() -> None:
    layer, embeddings = build(), noise(1, 4, CHANNELS)
    embeddings[:, 2] = 0
    embeddings.requires_grad_()
    refined = layer(embeddings, torch.arange(4))
    torch.testing.assert_close(refined[0, 2], slow_row(layer, embeddings[0], [0, 1, 2, 3], 2))
    refined[0, 2].square().sum().backward()
    assert embeddings.grad is not None
    assert (embeddings.grad[0, [0, 1, 3]].abs().sum(-1) > 1e-6).all()


@pytest.mark.parametrize("position", ["attention", "embeddings"])
def test_the_frame_number_counts(position: str) -> None:
    layer, embeddings = build(replace(CONFIG, position=position)), noise(1, 3, CHANNELS)
    near, far = (layer(embeddings, torch.tensor(frames)) for frames in ([0, 1, 2], [0, 1, 40]))
    assert (near - far).abs().max() > 1e-3


def test_positions_in_the_embeddings_are_added_before_everything() -> None:
    layer, embeddings, frames = build(replace(CONFIG, position="embeddings")), noise(2, 3, CHANNELS), torch.arange(3)
    tokens = embeddings + sine_encoding(frames, CHANNELS)
    expected = layer.feed_forward(layer.attention(tokens, torch.zeros_like(tokens), tokens, tokens))
    torch.testing.assert_close(layer(embeddings, frames), expected)


def test_gradients() -> None:
    layer = build()
    embeddings = noise(2, 3, CHANNELS).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x, torch.tensor([0, 2, 5])), (embeddings,))
    current, memory = noise(2, CHANNELS).requires_grad_(), noise(2, 2, CHANNELS).requires_grad_()
    frames, empty = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[False, False], [False, True]])
    assert torch.autograd.gradcheck(lambda x, m: layer.refine_current(x, 2, m, frames, empty), (current, memory))


def test_no_tracklets() -> None:
    layer = build()
    assert layer(noise(0, 3, CHANNELS), torch.arange(3)).shape == (0, 3, CHANNELS)
    assert refine_windows(layer, noise(0, 3, CHANNELS), torch.arange(3), 2).shape == (0, 3, CHANNELS)
    assert OnlineRefinement(layer, 3).step(0, [], noise(0, CHANNELS)).shape == (0, CHANNELS)


def test_counts() -> None:
    with torch.device("meta"):
        layer = TARConfig().build(256)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 789_760


def test_user_mistakes() -> None:
    for field, value in (("window", -1), ("num_heads", 0), ("feed_forward_channels", 0), ("dropout", 2)):
        with pytest.raises(UserError, match=f"tar.{field} is {value}, expected "):
            TARConfig(**{field: value})
    with pytest.raises(UserError, match="num_heads is 3"):
        TARConfig(num_heads=3).build(8)
