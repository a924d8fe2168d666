"""The criterion of Mask2Former-VIS and IFR (Eq. 5-7)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from loss_cases import noise, random_output, random_targets, slow_focal
from mask_cases import every_pixel, kernel_output, pixel_centres, slow_cross_entropy, slow_dice
from torch import Tensor

from vislab.blocks.kernel_masks import KernelMasks
from vislab.errors import UserError
from vislab.losses import cross_frame, mask_criterion, mask_matching
from vislab.losses.mask_criterion import MaskCriterionConfig, class_loss
from vislab.losses.mask_matching import MaskMatcherConfig, match_masks
from vislab.losses.point_sampling import PointSamplingConfig
from vislab.structures import ModelOutput, Targets

CONFIG = MaskCriterionConfig(points=PointSamplingConfig(num_points=10), matcher=MaskMatcherConfig(num_points=200))
STRIDE, SIZE = 1, (4, 6)


class WithNoObject(ModelOutput):
    """The last logit stands for no object."""

    def class_scores(self) -> Tensor:
        return self.pred_logits.softmax(-1)[..., :-1]


def clips(frames: int = 3) -> list[Targets]:
    return [random_targets(instances, frames, 3, seed, size=SIZE) for instances, seed in ((2, 1), (0, 2), (1, 3))]


def run(config: MaskCriterionConfig, frames: int = 3, layers: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return config.build()(kernel_output(3, 4, frames, 3, layers, SIZE), clips(frames), STRIDE)


def test_names_and_auxiliary_layers() -> None:
    assert list(run(CONFIG)) == ["class", "mask", "dice", "class/aux0", "mask/aux0", "dice/aux0"]
    assert list(run(replace(CONFIG, auxiliary=False))) == ["class", "mask", "dice"]
    names = [name for name in run(replace(CONFIG, cross_frame_weight=0.3)) if not name.endswith("aux0")]
    assert names == ["class", "mask", "dice", "cross_mask", "cross_dice"]


def test_weights_of_the_paper() -> None:
    """IFR section 4.1; facebookresearch/Mask2Former configs/youtubevis_2019 for the rest."""
    config = MaskCriterionConfig()
    assert (config.class_weight, config.mask_weight, config.dice_weight, config.no_object_weight) == (2, 5, 5, 0.1)
    assert config.cross_frame_weight == 0 and config.mask_loss_norm == "instances"
    assert config.matcher.num_points == config.points.num_points == 12544


def test_equals_equation_5_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_frame, "uncertain_points", every_pixel)
    monkeypatch.setattr(mask_matching, "random_points", lambda *_: pixel_centres(*SIZE)[None])
    output, targets = kernel_output(3, 4, 3, 3, size=SIZE), clips()
    weight = 0.3
    losses = replace(CONFIG, cross_frame_weight=weight).build()(output, targets, STRIDE)
    matches = match_masks(output, targets, CONFIG.matcher, torch.Generator())
    expected = dict.fromkeys(("class", "mask", "dice", "cross_mask", "cross_dice"), 0.0)
    for b, (target, (queries, instances)) in enumerate(zip(targets, matches, strict=True)):
        pairs = list(zip(queries.tolist(), instances.tolist(), strict=True))
        for q in range(4):
            for k in range(3):
                positive = any(q == query and k == target.labels[n] for query, n in pairs)
                expected["class"] += 2 * slow_focal(output.pred_logits[b, q, k].item(), float(positive)) / 3
        for query, n in pairs:
            for t1 in range(3):
                for t2 in range(3):
                    kernel, features = output.pred_masks.kernels[b, t1, query], output.pred_masks.features[b, t2]
                    logits = (kernel[:, None, None] * features).sum(0)
                    cross, factor = ("", 5 / 3) if t1 == t2 else ("cross_", weight * 5 / 3)
                    expected[f"{cross}mask"] += factor * slow_cross_entropy(logits, target.masks[n, t2]).item()
                    expected[f"{cross}dice"] += factor * slow_dice(logits, target.masks[n, t2]).item()
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name], rel=1e-5), name


def plain_losses_and_gradients(config: MaskCriterionConfig) -> dict[str, Tensor]:
    """The losses but for the cross-frame ones, and the gradients of their sum."""
    torch.manual_seed(0)
    output = kernel_output(3, 4, 3, 3, 2, SIZE)
    losses = config.build()(output, clips(), STRIDE)
    plain = {name: loss for name, loss in losses.items() if not name.startswith("cross")}
    layers = {"": output, "/aux0": output.aux_outputs[0]}
    leaves = {
        f"{name}{suffix}": leaf
        for suffix, layer in layers.items()
        for name, leaf in (("logits", layer.pred_logits), *vars(layer.pred_masks).items())
    }
    gradients = torch.autograd.grad(sum(plain.values()), [*leaves.values()])
    return plain | {f"gradient of {name}": part for name, part in zip(leaves, gradients, strict=True)}


def test_lambda_e_of_zero_is_the_plain_loss_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With another lambda_e the plain terms stay the same bits, and with zero none of its code is called."""
    some = plain_losses_and_gradients(replace(CONFIG, cross_frame_weight=0.7))

    def called(*_: object) -> None:
        raise AssertionError("cross-frame losses are computed")

    monkeypatch.setattr(mask_criterion, "cross_frame_losses", called)
    with pytest.raises(AssertionError, match="cross-frame losses are computed"):
        run(replace(CONFIG, cross_frame_weight=0.7))
    zero = plain_losses_and_gradients(replace(CONFIG, cross_frame_weight=0.0))
    assert len(zero) == 12 and zero.keys() == some.keys()
    for name, value in zero.items():
        assert torch.equal(value, some[name]), name


def test_cross_terms_are_linear_in_lambda_e() -> None:
    single, double = (run(replace(CONFIG, cross_frame_weight=weight)) for weight in (0.3, 0.6))
    for name in ("cross_mask", "cross_dice"):
        torch.testing.assert_close(double[name], 2 * single[name])
        assert single[name] > 0


@pytest.mark.parametrize(("field", "names"), [("class_weight", ["class"]), ("mask_weight", ["mask", "cross_mask"])])
def test_each_weight_scales_its_losses(field: str, names: list[str]) -> None:
    config = replace(CONFIG, cross_frame_weight=0.3)
    losses, doubled = run(config), run(replace(config, **{field: 2 * getattr(config, field)}))
    for name, loss in losses.items():
        torch.testing.assert_close(doubled[name], (2 if name.partition("/")[0] in names else 1) * loss)


def test_normalisers() -> None:
    by_instances, by_frames = run(CONFIG), run(replace(CONFIG, mask_loss_norm="instance_frames"))
    for name, loss in by_instances.items():
        torch.testing.assert_close(by_frames[name], loss if name.startswith("class") else loss / 3)


def test_the_same_seed_draws_the_same_points() -> None:
    first, second = run(CONFIG), run(CONFIG)
    assert all(torch.equal(first[name], second[name]) for name in first)
    torch.manual_seed(1)
    other = CONFIG.build()(kernel_output(3, 4, 3, 3, 2, SIZE), clips(), STRIDE)
    assert other["mask"] != first["mask"]


def test_cross_entropy_where_a_logit_stands_for_no_object() -> None:
    output = WithNoObject(noise(2, 4, 4, seed=1), torch.zeros(2, 4, 1, 4), None)
    targets = [random_targets(2, 1, 3, seed=1), random_targets(0, 1, 3, seed=2)]
    empty = torch.empty(0, dtype=torch.int64)
    matches = [(torch.tensor([1, 3]), torch.tensor([1, 0])), (empty, empty)]
    total = weights = 0.0
    for b in range(2):
        for q in range(4):
            label, weight = 3, 0.1
            if b == 0 and q in (1, 3):
                label, weight = int(targets[0].labels[1 if q == 1 else 0]), 1.0
            total -= weight * output.pred_logits[b, q].log_softmax(-1)[label].item()
            weights += weight
    found = class_loss(output, targets, matches, no_object_weight=0.1, num_instances=2.0)
    assert found.item() == pytest.approx(total / weights)


def test_clips_without_instances_and_of_one_frame() -> None:
    targets = [random_targets(0, 1, 3, seed=1, size=SIZE)]
    output = kernel_output(1, 4, 1, 3, size=SIZE)
    losses = replace(CONFIG, cross_frame_weight=0.3).build()(output, targets, STRIDE)
    assert {name: loss.item() for name, loss in losses.items() if name != "class"} == dict.fromkeys(
        ("mask", "dice", "cross_mask", "cross_dice"), 0.0
    )
    sum(losses.values()).backward()
    assert output.pred_logits.grad is not None and output.pred_logits.grad.isfinite().all()
    one = replace(CONFIG, cross_frame_weight=0.3).build()(
        kernel_output(1, 4, 1, 3, size=SIZE), [random_targets(2, 1, 3, seed=1, size=SIZE)], STRIDE
    )
    assert one["mask"] > 0 and one["cross_mask"] == 0


def test_all_layers_get_gradients() -> None:
    torch.manual_seed(0)
    output = kernel_output(3, 4, 3, 3, 2, SIZE)
    sum(replace(CONFIG, cross_frame_weight=0.3).build()(output, clips(), STRIDE).values()).backward()
    for layer in (output, *output.aux_outputs):
        for leaf in (layer.pred_logits, layer.pred_masks.kernels, layer.pred_masks.features):
            assert leaf.grad is not None and leaf.grad.abs().sum() > 0


def test_a_model_without_frame_level_queries_has_no_cross_frame_loss() -> None:
    output, targets = random_output(1, 4, 3, 3), [random_targets(1, 3, 3, seed=1)]
    with pytest.raises(UserError, match="criterion.cross_frame_weight is 0.3, expected 0"):
        replace(CONFIG, cross_frame_weight=0.3).build()(output, targets, 4)
    assert CONFIG.build()(output, targets, 4)["mask"] > 0


def kernel_masks(kernels: Tensor, frames: int = 3) -> ModelOutput:
    """A layer with the masks that vislab's models have. kernels: (1, T or 1, 4, 3)."""
    boxes, features = torch.full((1, 4, frames, 4), torch.nan), noise(1, frames, 3, *SIZE, seed=2).unbind()
    return ModelOutput(noise(1, 4, 3, seed=1), boxes, KernelMasks(kernels, features))


def test_nor_has_one_whose_queries_serve_all_frames() -> None:
    """Mask2Former-VIS; of a clip of one frame there are no other frames to predict."""
    config, shared = replace(CONFIG, cross_frame_weight=0.3), noise(1, 1, 4, 3)
    with pytest.raises(UserError, match="^criterion.cross_frame_weight is 0.3, expected 0 for a model without frame"):
        config.build()(kernel_masks(shared), [random_targets(2, 3, 3, seed=1, size=SIZE)], STRIDE)
    losses = config.build()(kernel_masks(shared, 1), [random_targets(2, 1, 3, seed=1, size=SIZE)], STRIDE)
    assert losses["cross_mask"] == 0


def test_learned_queries_before_the_first_layer_get_cross_terms_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the same for all frames, so that at every pixel the terms are the plain ones, T - 1 times."""
    monkeypatch.setattr(cross_frame, "uncertain_points", every_pixel)
    output, weight = kernel_masks(noise(1, 3, 4, 3)), 0.3
    output.aux_outputs = [kernel_masks(noise(1, 1, 4, 3, seed=5))]
    targets = [random_targets(2, 3, 3, seed=1, size=SIZE)]
    losses = replace(CONFIG, cross_frame_weight=weight).build()(output, targets, STRIDE)
    for name in ("mask", "dice"):
        torch.testing.assert_close(losses[f"cross_{name}/aux0"], weight * 2 * losses[f"{name}/aux0"])


@pytest.mark.parametrize(
    "field", ["class_weight", "mask_weight", "dice_weight", "cross_frame_weight", "no_object_weight"]
)
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_weights_that_cannot_be(field: str, value: float) -> None:
    with pytest.raises(UserError, match=f"^criterion.{field} is {value}, expected 0 or more$"):
        replace(CONFIG, **{field: value})


def test_matching_needs_points() -> None:
    with pytest.raises(UserError, match="^criterion.matcher.num_points is 0, expected 1 or more$"):
        replace(CONFIG, matcher=MaskMatcherConfig(num_points=0))
