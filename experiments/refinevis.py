"""RefineVIS (Abrantes et al., "RefineVIS: Video Instance Segmentation with Temporal Attention Refinement"): its tables.

    python experiments/reproduce_table.py refinevis T2 --scale tiny --seeds 3

The base is RefineVIS on MaskDINO, evaluated offline with windows of 10 frames. T1 compares with other methods, online
and offline; T2 ablates the kinds of denoising queries, before and after refinement; T3 varies the window, T4 the frames
of a training clip, T5 refinement (TAR) and large-scale jittering, T7 the frame-level model; T6 is what refinement takes
in time. T3, T6 and T1's two modes are one training. X1 is our own: objects that are damaged or gone for a few frames,
which refinement should know from others, and a control whose other frames are the frame itself. X2 counts what TAR
computes, X3 shows what pseudo-videos are worth.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ifr
import torch
from costs import million_parameters
from paper_numbers import PaperNumbers
from scales import CLEAN, COCO_IMAGES, STILLS, WEIGHTS, at_scale

from vislab.data import DatasetConfig
from vislab.engine.config import InitialWeights, RunConfig
from vislab.losses.frame_losses import MaskLossConfig
from vislab.losses.point_sampling import PointSamplingConfig
from vislab.losses.refinevis_criterion import RefineVISCriterionConfig
from vislab.models.counts import parameter_counts
from vislab.models.maskdino import MaskDINOConfig
from vislab.models.presets import Scale, refinevis, refinevis_condinst, refinevis_mask2former
from vislab.models.refinevis import RefineVISConfig, refinement_cost
from vislab.models.refinevis_presets import refinevis_swin_large
from vislab.stitching.video_stream import StreamConfig
from vislab.study.declare import AtScale, Dimension, Paper, Pretraining, Reading, Row, Sweeps, Table

CROWDS = "synthetic-ovis"
MORE = "synthetic-ytvis21"
DAMAGED = "synthetic-ytvis19+damage=0.5"  # in half of an object's frames parts of its border are missing
GONE = "synthetic-ytvis19+blackout=0.3"  # objects are not drawn for one to three frames at a time

_NUMBERS = PaperNumbers("refinevis")
_ALL = ("AP", "AP50", "AP75", "AR1", "AR10")
_PREFIXES = {"YTVIS-19 val": "YTVIS19_", "YTVIS-21 val": "YTVIS21_", "OVIS val": "OVIS_"}
_STANDS_FOR = {CLEAN: "YTVIS-19 val", MORE: "YTVIS-21 val", CROWDS: "OVIS val"}
_SMALL = ("smoke", "tiny", "small")
_POSITION = (
    "The frame number's encoding is added to queries and keys of TAR's attention alone; the paper's sentence adds it "
    "to the embeddings (model.tar.position)."
)


def _jitter(scale: str) -> tuple[float, float]:
    """Large-scale jittering's own range; less of it where an object has few pixels."""
    return (0.1, 2.0) if scale == "paper" else (0.5, 1.5)


def _criterion(scale: str) -> RefineVISCriterionConfig:
    if scale in ("smoke", "tiny"):  # a mask has 24 x 40 logits there
        return RefineVISCriterionConfig(masks=MaskLossConfig(points=PointSamplingConfig(num_points=256)))
    return RefineVISCriterionConfig()


def _run(scale: Scale, model: RefineVISConfig, criterion: RefineVISCriterionConfig) -> RunConfig:
    """Two frames up to ten apart, offline inference."""
    run = at_scale(scale, model, criterion, StreamConfig(mode="offline"))
    sampling = replace(run.sampling, clip_length=2, clip_stride=10, jitter=_jitter(scale))
    # the masks' losses take a logit for the centre of its cell
    top_k = 20 if scale in ("smoke", "tiny") else 100  # 100 is all that the published evaluator reads
    evaluation = replace(run.evaluation, mask_alignment="interpolate", top_k=top_k)
    return replace(run, train=replace(run.train, slow_multiplier=1.0), sampling=sampling, evaluation=evaluation)


def base(scale: Scale) -> RunConfig:
    """RefineVIS as section 4.1 has it.

    paper: 13,000 steps of 16 clips, a drop after 10,000; up to 1024 pixels, read as the longer side, in training and
    480 at inference.
    """
    run = _run(scale, refinevis(scale), _criterion(scale))
    data, train, sampling, evaluation = run.data, run.train, run.sampling, run.evaluation
    if scale == "smoke":
        data = replace(data, length=8)
        evaluation = replace(evaluation, data=data)
    elif scale == "tiny":
        data, train = replace(data, length=20), replace(train, steps=160, learning_rate=3e-4)
        evaluation = replace(evaluation, data=replace(evaluation.data, length=20, num_videos=80))
    elif scale == "paper":
        train = replace(train, steps=13_000, milestones=(10 / 13,))
        sampling = replace(sampling, short_sides=(576,), max_side=1024)
        evaluation = replace(evaluation, short_side=480, max_side=None)
    return replace(run, data=data, train=train, sampling=sampling, evaluation=evaluation)


def images(scale: Scale) -> RunConfig | None:
    """MaskDINO on still images; None: rows start afresh.

    tiny: single frames of crowded video; backbone, encoder and decoder layers start from the weights of TAFormer's
    tables. paper: 50 epochs of COCO with drops near the end, as Mask2Former is trained, which MaskDINO follows. Losses
    are RefineVIS' own (one-to-many matching, positive and negative denoising queries), not MaskDINO's.
    """
    return _on_stills(scale, refinevis(scale), steps=1800)


def dynamic_images(scale: Scale) -> RunConfig | None:
    """Deformable DETR with dynamic-convolution masks on still images, likewise; all of it has a start at scale tiny."""
    return _on_stills(scale, refinevis_condinst(scale), steps=700)


def _stills(scale: str, data: DatasetConfig) -> DatasetConfig:
    """The scale's images."""
    if scale == "tiny":
        return replace(data, name=CROWDS, length=1, num_videos=20_000)
    return replace(data, name=STILLS, length=None, num_videos=None)


def _on_stills(scale: Scale, model: RefineVISConfig, steps: int) -> RunConfig | None:
    """The frame-level model alone. steps: at scale tiny."""
    if scale == "smoke":
        return None
    run = _run(scale, replace(model, tar=None), replace(_criterion(scale), association=None))
    count = None if scale == "paper" else 300
    run = replace(
        run,
        data=_stills(scale, run.data),
        sampling=replace(run.sampling, clip_length=1, clip_stride=1),
        evaluation=replace(run.evaluation, data=replace(_stills(scale, run.evaluation.data), num_videos=count)),
    )
    if scale == "tiny":
        init = InitialWeights.of(WEIGHTS / "seqformer-tiny.safetensors")
        return replace(run, train=replace(run.train, steps=steps, batch_size=4), init=init)
    if scale == "small":
        return replace(run, train=replace(run.train, steps=10_000, batch_size=16))
    train = replace(run.train, steps=50 * COCO_IMAGES // 16, milestones=(0.889, 0.963))
    sampling = replace(run.sampling, short_sides=(1024,), max_side=1024)
    evaluation = replace(run.evaluation, short_side=800, max_side=1333)
    return replace(run, train=train, sampling=sampling, evaluation=evaluation)


def pseudo_videos(scale: Scale) -> RunConfig | None:
    """All of RefineVIS on pairs of copies of a still image, jittered independently (section 4.1).

    paper: 30,000 steps with drops after 15,000 and 25,000.
    """
    if scale == "smoke":
        return None
    run = base(scale)
    if scale == "tiny":
        train = replace(run.train, steps=300, batch_size=4)
    elif scale == "small":
        train = run.train
    else:
        train = replace(run.train, steps=30_000, milestones=(15 / 30, 25 / 30))
    return replace(run, data=_stills(scale, run.data), train=train)


IMAGES = Pretraining(images, lambda scale: WEIGHTS / f"maskdino-{scale}.safetensors")
DYNAMIC_IMAGES = Pretraining(dynamic_images, lambda scale: WEIGHTS / f"condinst-{scale}.safetensors")
PSEUDO_VIDEOS = Pretraining(pseudo_videos, lambda scale: WEIGHTS / f"refinevis-{scale}.safetensors", after=IMAGES)


def static_values(run: RunConfig) -> dict[str, float]:
    """Millions of distinct parameters, frozen ones included."""
    return {"params_unique_M": million_parameters(run.model)}


def _refinement(row: Row, run: RunConfig) -> dict[str, float]:
    """Millions of multiply-adds of TAR for one tracklet and one window, all of them and those of attention, and of
    parameters."""
    model, stream = run.model, run.evaluation.stream
    assert isinstance(model, RefineVISConfig) and isinstance(model.frame_model, MaskDINOConfig)
    assert model.tar is not None and stream is not None
    window, channels = model.tar.window if stream.window is None else stream.window, model.frame_model.hidden_dim
    cost = refinement_cost(replace(model.tar, window=window), channels, stream.mode == "online")
    with torch.device("meta"):
        parameters = parameter_counts(model.tar.build(channels))["unique"]
    return {
        "TAR_attention_MFLOPs": cost.attention / 1e6,
        "TAR_MFLOPs": cost.total / 1e6,
        "TAR_params_M": parameters / 1e6,
    }


# What a row changes of the base.
WITHOUT_TAR = {"model.tar": None}
ONLINE = {"evaluation.stream.mode": "online"}
SAME_FRAME = {"model.tar.neighbours": "same-frame"}
WITHOUT_JITTER = {"sampling.jitter": None}
ON_MASK2FORMER: dict[str, Any] = {
    "model": AtScale(refinevis_mask2former),  # type: ignore[arg-type]
    "criterion.box_weight": 0.0,
    "criterion.giou_weight": 0.0,
}
ON_CONDINST = {"model": AtScale(refinevis_condinst)}  # type: ignore[arg-type]


WINDOW = 10  # W of the base, which is TAR's own (section 4.1)


def window(frames: int) -> dict[str, Any]:
    """W at inference; 0 leaves refinement out."""
    return {"evaluation.stream.window": frames}


_SWIN = {"model": AtScale.of(paper=refinevis_swin_large())}
_NO_SWIN = dict.fromkeys(_SMALL, "Swin-L is too large for this scale, whose backbone is a small ResNet") | {
    "paper": "needs pre-trained Swin-L weights, which vislab cannot load yet"
}

T1 = _NUMBERS.table(
    "T1",
    "Comparison on YouTube-VIS 2019, 2021 and OVIS, online and offline",
    _ALL,
    (CLEAN, MORE, CROWDS),
    label=lambda r: ", ".join(filter(None, (r["method"], r["backbone"], r["mode"]))),
    changes={4: ONLINE, 5: {}, 10: _SWIN | ONLINE, 11: _SWIN},
    baselines={5: 4, 11: 10},
    unavailable={10: _NO_SWIN, 11: _NO_SWIN},
    prefixes=_PREFIXES,
    stands_for=_STANDS_FOR,
    added=("IDF1", "IDs"),
    notes=(
        "Online and offline are one training. IDF1 and identity switches (IDs) are not in the paper's table.",
        "AR1 54.7 of the online row on YTVIS-21 repeats AR10 and is most likely a misprint; SeqFormer's OVIS numbers "
        "are the same for both backbones.",
        "The text has 3.9 points over VITA with Swin-L offline on YTVIS-21; the table gives 3.7.",
    ),
)

_CDN = {
    0: {"criterion.association_denoising": False, "criterion.temporal_denoising": False},
    1: {"criterion.temporal_denoising": False},
    2: {},
}

T2 = _NUMBERS.table(
    "T2",
    "Contrastive denoising queries (CDN), before and after refinement",
    tuple(f"{kind}_{name}" for kind in ("frame", "refined") for name in ("AP", "AP50", "AP75")),
    (CROWDS, CLEAN),
    label=lambda r: r["training_mode"],
    changes=_CDN,
    baselines={1: 0, 2: 1},
    pretraining=dict.fromkeys(range(3), IMAGES),
    readings={
        f"{kind}_{name}": Reading(name, changes)
        for kind, changes in (("frame", window(0)), ("refined", {}))
        for name in ("AP", "AP50", "AP75")
    },
    notes=(
        "Frame level and refined are one training, evaluated with W = 0 and W = 10. All rows have denoising queries "
        "for the frame-level losses, start from the image model, and have seen no pseudo-videos.",
        "The paper prints no frame-level results for its last row, since temporal CDN does not change them; here the "
        "whole model is trained by it, so they are measured. AP75 falls with refinement in its first row.",
    ),
)

WINDOWS = tuple(record["W"] for record in _NUMBERS.tables["T3"]["rows"])

T3 = _NUMBERS.table(
    "T3",
    "Window W of refinement at inference",
    ("AP",),
    (CROWDS, CLEAN),
    label=lambda r: f"W = {r['W']}" + ("" if r["W"] else ", no refinement"),
    changes={row: {} if frames == WINDOW else window(frames) for row, frames in enumerate(WINDOWS)},
    baselines=dict.fromkeys(range(1, 7), 0),
    notes=(
        "The rows of one data set are one training, on clips of two frames. W = 10 is T1's offline row.",
        "The text calls refinement consistently better; the paper's W = 2 is 0.6 AP worse than none.",
    ),
)

T4 = _NUMBERS.table(
    "T4",
    "Frames of a training clip",
    _ALL,
    (MORE,),
    label=lambda r: f"{r['num_frames']} frames",
    changes={row: {"sampling.clip_length": frames} for row, frames in enumerate((2, 3, 5))},
    baselines={1: 0, 2: 0},
    notes=("Equal numbers of training steps. Row 0 is T1's offline row; the paper reports higher memory for more.",),
)

_T5 = {(False, False): WITHOUT_TAR | WITHOUT_JITTER, (False, True): WITHOUT_TAR, (True, False): WITHOUT_JITTER}


def _yes(value: bool) -> str:
    return "yes" if value else "no"


T5 = _NUMBERS.table(
    "T5",
    "Temporal attention refinement (TAR) and large-scale jittering (LSJ)",
    _ALL,
    (MORE, CLEAN),
    label=lambda r: f"TAR {_yes(r['TAR'])}, LSJ {_yes(r['LSJ'])}",
    changes={
        row: _T5.get((record["TAR"], record["LSJ"]), {}) for row, record in enumerate(_NUMBERS.tables["T5"]["rows"])
    },
    baselines={1: 0, 2: 0, 3: 0},
    notes=(
        "Rows without TAR are trained without it; the paper does not say whether its are. All rows start from weights "
        "that have seen jittered pseudo-videos.",
        "Jittering resizes by a factor of 0.1 to 2 at scale paper, as its inventors do, and of 0.5 to 1.5 at the small "
        "scales.",
        "Of the paper's rows the one with LSJ alone has the highest AP50.",
    ),
)

T6 = _NUMBERS.table(
    "T6",
    "What refinement costs",
    ("fps_ResNet50", "fps_SwinL"),
    (MORE,),
    label=lambda r: f"TAR {_yes(r['TAR'])}",
    changes={0: window(0), 1: {}},
    baselines={},
    readings={"fps_ResNet50": Reading("FPS")},
    static=("fps_SwinL", "TAR_MFLOPs"),
    added=("TAR_MFLOPs",),
    measure=_refinement,
    notes=(
        "The rows are one training. Reported are means over YouTube-VIS 2021 on a V100. Measured is the scale's own "
        "backbone, a small ResNet at the small scales; Swin-L is not.",
        "TAR: multiply-adds of one tracklet in one window, attention and feed-forward network, without norms.",
    ),
)  # fmt: skip

_T7_MODELS: dict[str, dict[str, Any]] = {"Mask2Former": ON_MASK2FORMER, "CondInst": ON_CONDINST}
_T7_START = {"Mask2Former": ifr.IMAGES, "CondInst": DYNAMIC_IMAGES}
_T7_ROWS = tuple(enumerate(_NUMBERS.tables["T7"]["rows"]))

T7 = _NUMBERS.table(
    "T7",
    "Other frame-level models",
    _ALL,
    (MORE,),
    label=lambda r: f"{r['segm_model']}, TAR {_yes(r['TAR'])}",
    changes={
        row: _T7_MODELS[record["segm_model"]] | ({} if record["TAR"] else WITHOUT_TAR) for row, record in _T7_ROWS
    },
    baselines={1: 0, 3: 2},
    pretraining={row: _T7_START[record["segm_model"]] for row, record in _T7_ROWS},
    notes=(
        "CondInst is Deformable DETR with dynamic-convolution masks, as in IDOL: without TAR it is IDOL, on RefineVIS' "
        "terms. Neither model has denoising queries. Both start from image weights, as in the paper.",
        "Rows 4 and 5 are T5's rows with LSJ; they start from pseudo-videos and are not in the paper's table.",
    ),
)
T7 = replace(
    T7,
    rows=(*T7.rows, Row(4, "MaskDINO, TAR no", WITHOUT_TAR), Row(5, "MaskDINO, TAR yes", {}, baseline=4)),
)

X1 = Table(
    "X1",
    "What refinement is for: borders that are damaged, and objects that are gone, for a few frames",
    ("AP", "IoU_evident", "IoU_faint_near", "IDF1"),
    (
        Row(0, "Without TAR", WITHOUT_TAR),
        Row(1, "TAR, not used at inference (W = 0)", window(0), baseline=0),
        Row(2, "TAR, other frames replaced by the frame itself", SAME_FRAME, baseline=0),
        Row(3, "TAR, online", ONLINE, baseline=0),
        Row(4, "TAR, offline", {}, baseline=0),
    ),
    (DAMAGED, GONE, CLEAN),
    notes=(
        "Rows 1, 3 and 4 of one data set are one training. Row 2 is trained and evaluated as its label says: the same "
        "parameters and steps, no temporal information.",
        "Evident are the frames in which all of an object is drawn, faint those in which it is damaged or gone; seen "
        "nearby means evident within two frames.",
    ),
)

_COSTS = ("TAR_MFLOPs", "TAR_params_M")
_READINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Attention alone, projections and products, all 10 frames", {}),
    ("With the feed-forward network of width 1024, as built here", {}),
    ("Online: the current frame, which attends to all 10", ONLINE),
    ("Online, width 2048", ONLINE | {"model.tar.feed_forward_channels": 2048}),
)


def _reading(row: Row, run: RunConfig) -> Mapping[str, float]:
    found = _refinement(row, run)
    return found | {"TAR_MFLOPs": found["TAR_attention_MFLOPs"]} if row.index == 0 else found


X2 = Table(
    "X2",
    "Multiply-adds of TAR for one tracklet and a window of 10 frames, by what is counted",
    _COSTS,
    tuple(
        Row(index, label, changes, {} if index else {"TAR_MFLOPs": 2.8}, own=False)
        for index, (label, changes) in enumerate(_READINGS)
    ),
    (),
    static=_COSTS,
    measure=_reading,
    notes=(
        "At scale paper, 256 channels. Section 4.3 prints 2.8 MFLOPs per window of 10 frames and neither heads, nor "
        "width, nor what is counted; a FLOP is a multiplication with its addition here. The paper's number stands "
        "beside the nearest plain reading, which does not depend on the number of heads.",
    ),
)
X2 = replace(
    X2,
    rows=(replace(X2.rows[0], disputed={"TAR_MFLOPs": "5 % below the printed 2.8 M, of which no part is stated"}),)
    + X2.rows[1:],
)

X3 = Table(
    "X3",
    "Pre-training on pseudo-videos, from still images",
    ("AP", "AP50", "AP75", "IDF1", "IDs"),
    (
        Row(0, "Image model alone", {}, pretraining=IMAGES),
        Row(1, "and pseudo-videos with independent jitter", {}, baseline=0),
    ),
    (CROWDS, CLEAN),
    notes=("Row 0 is T2's last row, row 1 T1's offline row.",),
)

_DIMENSIONS = {
    "window": Dimension("evaluation.stream.window", "0,2,4,8,10,16,20"),
    "mode": Dimension("evaluation.stream.mode", ""),
    "frames": Dimension("sampling.clip_length", "2,3,5"),
    "num_queries": Dimension("model.frame_model.num_queries", "10,20,40"),
    "match_score": Dimension("evaluation.stream.association.match_score", "0.3,0.4,0.5,0.6"),
    "recovery_score": Dimension("evaluation.stream.association.recovery_score", "0.05,0.1,0.2,0.4"),
}

PAPER = Paper(
    key="refinevis",
    title=_NUMBERS.title,
    base=base,
    tables=(T1, T2, T3, T4, T5, T6, T7, X1, X2, X3),
    static=functools.cache(static_values),
    minutes={"smoke": 0.3, "tiny": 2.5, "small": 25.0, "paper": 1500.0},
    pretraining=PSEUDO_VIDEOS,
    sweeps=Sweeps(_DIMENSIONS, dataset=CROWDS),
    scale_notes={
        "smoke": (
            "Scale smoke: a few training steps on four videos. It shows that all of it runs; its numbers mean nothing.",
        ),
        "tiny": (
            "Scale tiny: a model of 2.1 M parameters with a small ResNet in place of the paper's backbone, three "
            "decoder layers and 20 queries, trained and measured on video of 96 x 160 pixels. Of a video the 20 best "
            "pairs of track and category count, which most videos reach.",
            _POSITION,
        ),
        "small": (
            "Scale small: a ResNet-18 in place of the paper's backbone, four decoder layers and 50 queries, trained "
            "and measured on video of 192 x 320 pixels.",
        ),
    },
)
