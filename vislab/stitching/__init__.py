"""From clips to videos: which frames a clip holds, which of its instances are old acquaintances, what a track becomes.

`clip_windows` cuts a video, `ClipStitcher` (DeVIS, TeViT) or `ClipTracker` (IFC) links the instances of its clips and
gives finished frames one by one, `VideoTracks` makes the instances of the video from them.
"""

from __future__ import annotations

from vislab.stitching.clip import ClipDetections, ClipInstances, ImageMasks, TrackedFrame, TrackedInstance
from vislab.stitching.clip_tracker import ClipTracker
from vislab.stitching.config import ClipInferenceConfig, ClipTrackingConfig, StitchingConfig
from vislab.stitching.schedule import ClipWindow, clip_windows
from vislab.stitching.stitcher import ClipStitcher
from vislab.stitching.tracks import VideoInstance, VideoTracks

__all__ = [
    "ClipDetections",
    "ClipInferenceConfig",
    "ClipInstances",
    "ClipStitcher",
    "ClipTracker",
    "ClipTrackingConfig",
    "ClipWindow",
    "ImageMasks",
    "StitchingConfig",
    "TrackedFrame",
    "TrackedInstance",
    "VideoInstance",
    "VideoTracks",
    "clip_windows",
]
