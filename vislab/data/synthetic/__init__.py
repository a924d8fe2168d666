"""The synthetic VIS benchmark: moving, textured shapes with perfect labels, and dials for the difficulties."""

from __future__ import annotations

from vislab.data.synthetic.config import GENERATOR_VERSION, PRESETS, RANGES, Dials, Preset, SyntheticConfig, parse_name
from vislab.data.synthetic.export import export, export_images
from vislab.data.synthetic.videos import SyntheticVideos

__all__ = [
    "GENERATOR_VERSION",
    "PRESETS",
    "RANGES",
    "Dials",
    "Preset",
    "SyntheticConfig",
    "SyntheticVideos",
    "export",
    "export_images",
    "parse_name",
]
