"""Mask2Former-VIS and IFR as models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from mask_models import IFR, MASK2FORMER, build
from tiny_models import clips, noise

from vislab.blocks.inter_frame_recurrent import InterFrameRecurrentConfig
from vislab.blocks.temporal_msda import TemporalMSDAConfig
from vislab.config import from_dict, replace_path, to_dict
from vislab.errors import UserError
from vislab.losses.mask_criterion import MaskCriterionConfig
from vislab.losses.mask_matching import MaskMatcherConfig
from vislab.losses.point_sampling import PointSamplingConfig
from vislab.models.mask2former_vis import Mask2FormerVISConfig, parameter_parts
from vislab.structures import Targets

BOTH = pytest.mark.parametrize("config", [MASK2FORMER, IFR], ids=["mask2former-vis", "ifr"])
EVERY = torch.arange(5)


@BOTH
@pytest.mark.parametrize(("frames", "height", "width"), [(3, 64, 96), (1, 32, 64)])
def test_shapes(config: Mask2FormerVISConfig, frames: int, height: int, width: int) -> None:
    model = build(config)
    output = model(noise(2, frames, 3, height, width), torch.zeros(2, height, width, dtype=torch.bool))
    logits = 4 if config.classification == "softmax" else 3
    assert len(output.aux_outputs) == 3 and model.mask_stride == 4 and model.clip_length is None
    for layer in (output, *output.aux_outputs):
        assert layer.pred_logits.shape == (2, 5, logits) and layer.class_scores().shape == (2, 5, 3)
        assert layer.pred_boxes.shape == (2, 5, frames, 4) and layer.pred_boxes.isnan().all()
        assert layer.frame_queries is not None and layer.frame_queries.shape == (2, frames, 5, 16)
        assert layer.pred_masks is not None
        assert layer.pred_masks(1, torch.tensor([4, 0])).shape == (2, frames, height // 4, width // 4)
        assert layer.pred_masks(0, torch.empty(0, dtype=torch.int64)).shape[0] == 0


def test_class_scores_of_both_kinds() -> None:
    images, padding = clips()
    softmax, sigmoid = build(MASK2FORMER)(images, padding), build(IFR)(images, padding)
    expected = softmax.pred_logits.exp() / softmax.pred_logits.exp().sum(-1, keepdim=True)
    torch.testing.assert_close(softmax.class_scores(), expected[..., :3].float())
    torch.testing.assert_close(sigmoid.class_scores(), sigmoid.pred_logits.sigmoid().float())


@BOTH
def test_clips_of_a_batch_do_not_meet(config: Mask2FormerVISConfig) -> None:
    model, (images, padding) = build(config), clips()
    both, alone = model(images, padding), model(images[1:], padding[1:])
    torch.testing.assert_close(both.pred_logits[1:], alone.pred_logits)
    assert both.pred_masks is not None and alone.pred_masks is not None
    torch.testing.assert_close(both.pred_masks(1, EVERY), alone.pred_masks(0, EVERY))


def test_later_frames_do_not_change_the_first_layers_queries_of_earlier_ones() -> None:
    model, (images, padding) = build(IFR), clips(frames=4)
    before = model(images, padding).aux_outputs[1].frame_queries
    after = model(images[:, [0, 1, 3, 2]], padding).aux_outputs[1].frame_queries
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert not torch.isclose(after[:, 2:], before[:, 2:]).all(-1).any()


def test_gradient_reaches_the_first_frame_from_the_last() -> None:
    model, (images, padding) = build(IFR), clips(frames=4)
    images.requires_grad_()
    frames = model(images, padding).aux_outputs[1].frame_queries
    frames[:, -1].square().sum().backward()
    assert (images.grad[:, 0].abs().flatten(1).amax(1) > 0).all()


def test_slots_are_one_line() -> None:
    layer = InterFrameRecurrentConfig(feed_forward_channels=24)
    assert replace_path(replace(MASK2FORMER, classification="sigmoid"), "decoder.layer", layer) == IFR
    model = build(replace_path(IFR, "encoder.temporal", TemporalMSDAConfig(window=1)))
    assert model(*clips()).pred_logits.isfinite().all()
    for config in (MASK2FORMER, IFR):
        assert from_dict(Mask2FormerVISConfig, to_dict(config)) == config


def test_user_errors() -> None:
    with pytest.raises(UserError, match="hidden_dim is 18, expected a multiple of 4 and of num_heads, 2"):
        replace(MASK2FORMER, hidden_dim=18).build()
    model = build(replace(IFR, clip_length=2))
    with pytest.raises(UserError, match="clip of 3 frames, expected the model's clip_length of 2"):
        model(*clips())


def test_parts_add_up_to_the_model() -> None:
    base, recurrent = (parameter_parts(config.build()) for config in (MASK2FORMER, IFR))
    for config, parts in ((MASK2FORMER, base), (IFR, recurrent)):
        assert sum(parts.values()) == sum(parameter.numel() for parameter in config.build().parameters())
    assert recurrent.keys() - base.keys() == {"temporal_attention", "clip_attention"}
    assert all(recurrent[name] == base[name] for name in base if name != "queries_and_heads")


@BOTH
def test_a_few_steps_of_training_lower_the_loss(config: Mask2FormerVISConfig) -> None:
    torch.manual_seed(0)
    model = config.build()
    points = PointSamplingConfig(num_points=64)
    weight = 0.3 if config is IFR else 0.0
    criterion = MaskCriterionConfig(cross_frame_weight=weight, points=points, matcher=MaskMatcherConfig(num_points=64))
    mask = torch.zeros(1, 2, 64, 96, dtype=torch.bool)
    mask[..., 16:48, 24:72] = True
    target = Targets(torch.tensor([1]), torch.zeros(1, 2, 4), mask, torch.ones(1, 2, dtype=torch.bool), torch.arange(1))
    images = noise(1, 2, 3, 64, 96).float() + mask[:, :, None]
    padding = torch.zeros(1, 64, 96, dtype=torch.bool)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    for _ in range(12):
        losses = criterion.build()(model(images, padding), [target], model.mask_stride)
        optimizer.zero_grad()
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.8 * totals[0], totals
