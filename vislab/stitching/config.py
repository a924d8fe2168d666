"""How a video is cut into clips, and how the instances of neighbouring clips become one (DeVIS section 3.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vislab.errors import require


@dataclass(frozen=True)
class StitchingConfig:
    """Cues, births and votes of clip stitching; defaults are DeVIS' (acaelles97/DeVIS src/config.py:263-290).

    TeViT's near-online linking is mask_weight=1, box_weight=1 and the other weights 0 (its paper, section 4.3).
    """

    mask_weight: float = 1.0  # sigma_mask, of the masks' IoU
    class_weight: float = 1.0  # sigma_class, of equal categories
    score_weight: float = 1.0  # sigma_score, of the difference of scores
    centre_weight: float = 0.0  # of the distance of box centres, in image widths and heights
    box_weight: float = 0.0  # of the boxes' IoU
    mask_cue: Literal["soft_volume", "binary_frame_mean"] = "soft_volume"
    # "soft_volume": of probabilities, over all shared frames at once; "binary_frame_mean": of the masks as they will be
    # written, frame by frame (the cost that the first rows of DeVIS Table 1 take over from VisTR)
    cue_frames: Literal["stride", "shared"] = "stride"
    # "stride": cues look at clip_length - clip_stride frames, also where the last clip shares more with the one before
    # (src/datasets/vis.py:194-209); "shared": at all shared frames
    birth: Literal["paper", "none", "per_class"] = "paper"
    # "paper": what finds no track starts one, and only what is present in the frames compared competes for a track;
    # "none": no track starts after the first clip (released default, src/models/tracker.py:367-376); "per_class":
    # assignment within each category, what finds no track starts one, a track that finds nothing ends (:377-425)
    max_cost: float | None = None  # a match must cost less; None: as many matches as can be (released)
    class_policy: Literal["most_common", "score_weighted"] = "most_common"  # vote of a track's frames on its category
    min_frame_score: float = 0.001  # frames that score less are no part of their track
    min_track_score: float = 0.002  # tracks must score more, on average over their frames

    def __post_init__(self) -> None:
        for name in ("mask_weight", "class_weight", "score_weight", "centre_weight", "box_weight"):
            require(getattr(self, name) >= 0, f"evaluation.clips.stitching.{name}", getattr(self, name), "0 or more")
        for name in ("min_frame_score", "min_track_score"):
            value = getattr(self, name)
            require(0 <= value < 1, f"evaluation.clips.stitching.{name}", value, "a probability in [0, 1)")


@dataclass(frozen=True)
class ClipTrackingConfig:
    """Clip-level instance tracking (IFC section 3.3; sukjunhwang/IFC projects/IFC/ifc/structures/clip_output.py).

    In place of stitching: an instance is a query with all its classes. The soft IoU of masks links instances; the
    clips that see one are averaged, its mask logits frame by frame and its class scores.
    """

    min_iou: float = 0.05  # instances are linked if their masks have more soft IoU, on average over the earlier clips

    def __post_init__(self) -> None:
        require(0 <= self.min_iou < 1, "evaluation.clips.stitching.min_iou", self.min_iou, "an IoU in [0, 1)")


@dataclass(frozen=True)
class ClipInferenceConfig:
    """Near-online inference: overlapping clips of a video of any length, one after the other.

    Defaults are DeVIS' T = 6 and S = 4. With clip_stride = clip_length neighbours share no frame: cues then compare the
    last frame of one clip with the first of the next. Clip tracking has no such rule, and needs clips that overlap.
    """

    clip_length: int = 6  # frames the model sees at once
    clip_stride: int = 4  # frames from the start of one clip to that of the next
    stitching: StitchingConfig | ClipTrackingConfig = StitchingConfig()  # how their instances become those of the video

    def __post_init__(self) -> None:
        require(self.clip_length >= 1, "evaluation.clips.clip_length", self.clip_length, "1 or more")
        fits = 1 <= self.clip_stride <= self.clip_length
        bound = f"1 to clip_length, {self.clip_length}, so that no frame lies between two clips"
        require(fits, "evaluation.clips.clip_stride", self.clip_stride, bound)
        if isinstance(self.stitching, ClipTrackingConfig):
            overlapping = "less than clip_length: ClipTrackingConfig links clips by the frames that they share"
            require(self.clip_stride < self.clip_length, "evaluation.clips.clip_stride", self.clip_stride, overlapping)
