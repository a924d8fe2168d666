"""TeViT as a whole: shapes, boxes, who sees whom, where gradients go, masks on regions and on the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import clips, noise
from tiny_tevit import QUERYINST, TEVIT, TEVIT_RESNET, build

from vislab.errors import UserError
from vislab.models.region_masks import RegionMasks
from vislab.models.tevit import TeViTConfig, apply_deltas
from vislab.ops.boxes import box_cxcywh_to_xyxy
from vislab.structures import ModelOutput


def masks_of(output: ModelOutput) -> RegionMasks:
    assert isinstance(output.pred_masks, RegionMasks)
    return output.pred_masks


@pytest.mark.parametrize("config", [TEVIT, QUERYINST, TEVIT_RESNET])
@pytest.mark.parametrize("frames", [1, 3])
def test_output(config: TeViTConfig, frames: int) -> None:
    output = build(config)(*clips(frames))
    assert len(output.aux_outputs) == 2
    for layer in (*output.aux_outputs, output):
        assert layer.pred_logits.shape == (2, 5, frames, 3) and layer.pred_boxes.shape == (2, 5, frames, 4)
        assert layer.frame_queries is not None and layer.frame_queries.shape == (2, frames, 5, 16)
        masks = masks_of(layer)(1, torch.tensor([4, 0]))
        assert masks.shape == (2, frames, 64, 96) and masks.isfinite().all()
        assert masks_of(layer)(0, torch.zeros(0, dtype=torch.int64)).shape == (0, frames, 64, 96)
    assert build(config).clip_length is None


def test_deltas_are_those_of_region_based_detectors() -> None:
    """Against the formula on corners, in pixels (Girshick et al., appendix C, scaled by 0.5, 0.5, 1, 1)."""
    boxes, deltas, pixels = noise(6, 4).sigmoid(), noise(6, 4, seed=1) * 3, np.array([96.0, 64.0, 96.0, 64.0])
    deltas[0, 2:] = torch.tensor([50.0, -50.0])
    refined = box_cxcywh_to_xyxy(apply_deltas(boxes, deltas)).numpy() * pixels
    for corners, delta, got in zip(box_cxcywh_to_xyxy(boxes).numpy() * pixels, deltas.numpy(), refined, strict=True):
        side, middle = corners[2:] - corners[:2], (corners[2:] + corners[:2]) / 2
        middle = middle + side * delta[:2] * 0.5
        side = side * np.exp(np.clip(delta[2:], np.log(0.016), -np.log(0.016)))
        np.testing.assert_allclose(got, np.concatenate((middle - side / 2, middle + side / 2)), rtol=1e-12)


def test_boxes_are_relative_to_the_unpadded_image() -> None:
    """The regions of the first stage are the proposals times each clip's own size."""
    model, (images, padding) = build(replace(TEVIT, num_stages=1)), clips(2)
    torch.nn.init.zeros_(model.stages[0].box_branch[-1].weight)
    torch.nn.init.zeros_(model.stages[0].box_branch[-1].bias)
    output = model(images, padding)
    torch.testing.assert_close(output.pred_boxes, model.proposal_boxes[None, :, None].expand(2, -1, 2, -1))
    for clip, (height, width) in enumerate(((64, 96), (45, 70))):
        pixels = torch.tensor([width, height, width, height], dtype=torch.float64)
        expected = box_cxcywh_to_xyxy(model.proposal_boxes) * pixels
        torch.testing.assert_close(masks_of(output).boxes[clip, 1], expected)


def test_clips_do_not_meet() -> None:
    model, (images, padding) = build(TEVIT), clips(3)
    together, alone = model(images, padding), model(images[1:], padding[1:])
    torch.testing.assert_close(together.pred_logits[1:], alone.pred_logits)
    torch.testing.assert_close(together.pred_boxes[1:], alone.pred_boxes)
    chosen = torch.tensor([2, 3])
    torch.testing.assert_close(masks_of(together)(1, chosen), masks_of(alone)(0, chosen))


def test_queryinst_treats_every_frame_alone() -> None:
    model, (images, padding) = build(QUERYINST), clips(3)
    clip = model(images, padding)
    for frame in range(3):
        still = model(images[:, frame : frame + 1], padding)
        torch.testing.assert_close(clip.pred_logits[:, :, frame], still.pred_logits[:, :, 0])
        torch.testing.assert_close(clip.pred_boxes[:, :, frame], still.pred_boxes[:, :, 0])


def test_weights_of_queryinst_fit_every_variant() -> None:
    """Only the messenger tokens are new: shift and STQI have no parameters of their own."""
    released = {name: tensor.shape for name, tensor in build(QUERYINST).state_dict().items()}
    assert released.pop("backbone.messengers") == (1, 0, 3)
    for mode in ("spatial", "fused", "spatiotemporal"):
        own = {n: t.shape for n, t in build(replace(TEVIT, query_interaction=mode)).state_dict().items()}
        assert own.pop("backbone.messengers") == (1, 8, 3)
        assert own == released


def test_boxes_pass_gradient_to_their_own_stage_only() -> None:
    model, (images, padding) = build(TEVIT), clips(2)
    output = model(images, padding)
    output.pred_boxes.square().sum().backward()
    first, last = model.stages[0], model.stages[2]
    assert model.proposal_boxes.grad is None
    assert all(p.grad is None for p in first.box_branch.parameters())
    assert all(p.grad is not None for p in last.box_branch.parameters())
    assert first.interaction.attention.in_proj_weight.grad is not None, "queries carry gradient through all stages"
    output = model(images, padding)
    output.aux_outputs[0].pred_boxes.square().sum().backward()
    assert model.proposal_boxes.grad is not None and model.proposal_boxes.grad.any()


def test_every_parameter_is_trained() -> None:
    model, (images, padding) = build(replace(TEVIT, finest_scale=4.0)), clips(2)
    # one region at least on every level
    model.proposal_boxes.data[:, 2:] = torch.tensor([0.05, 0.15, 0.3, 0.6, 1.0], dtype=torch.float64)[:, None]
    output = model.train()(images, padding)
    index = torch.tensor([0, 1, 1])
    loss = torch.zeros((), dtype=torch.float64)
    for layer in (*output.aux_outputs, output):
        logits, boxes = masks_of(layer).on_regions(index, torch.tensor([4, 0, 0]), 1 - index, torch.tensor([0, 1, 2]))
        assert not boxes.requires_grad
        loss = loss + layer.pred_logits.square().sum() + layer.pred_boxes.square().sum() + logits.square().sum()
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_single_precision_and_autocast(dtype: torch.dtype) -> None:
    model, (images, padding) = build(TEVIT), clips(2)
    exact = model(images, padding)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        output = model.float()(images.float(), padding)
        masks = masks_of(output)(0, torch.tensor([1]))
    assert output.pred_boxes.dtype == torch.float32 and masks.dtype == torch.float32
    tolerance = 0.3 if dtype == torch.bfloat16 else 1e-3
    torch.testing.assert_close(output.pred_boxes.double(), exact.pred_boxes, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "hidden_dim is 16, expected a multiple of num_heads, 3"),
        ({"num_stages": 0}, "num_stages is 0 and mask_stride 1, expected at least 1"),
        ({"mask_stride": 0}, "num_stages is 3 and mask_stride 0, expected at least 1"),
        ({"query_interaction": "both"}, "query_interaction is 'both', expected one of"),
    ],
)
def test_configurations_that_cannot_be(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(TEVIT, **changes).build()


def test_proposals_start_from_the_image_or_from_a_grid() -> None:
    image, grid = (replace(TEVIT, proposal_init=kind).build().proposal_boxes for kind in ("image", "grid"))
    assert image.tolist() == [[0.5, 0.5, 1.0, 1.0]] * 5
    assert len({tuple(box[:2]) for box in grid.tolist()}) == 5 and grid[:, 2:].unique().tolist() == [0.5]
