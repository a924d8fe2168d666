"""Metrics of video instance segmentation, on numpy: video AP/AR, visibility, statistics."""

from vislab.metrics.evaluation import evaluate
from vislab.metrics.matches import STATISTICS, Matches
from vislab.metrics.statistics import Estimate, PairedDifference, bootstrap, holm, paired_difference
from vislab.metrics.video_ap import match
from vislab.metrics.visibility import VisibilityIoU, visibility_iou

__all__ = [
    "STATISTICS",
    "Estimate",
    "Matches",
    "PairedDifference",
    "VisibilityIoU",
    "bootstrap",
    "evaluate",
    "holm",
    "match",
    "paired_difference",
    "visibility_iou",
]
