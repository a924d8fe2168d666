"""The synthetic VIS benchmark: moving, textured shapes with perfect labels, and dials for the difficulties."""

from __future__ import annotations

from vislab.data.synthetic.config import GENERATOR_VERSION, PRESETS, RANGES, Dials, Preset, SyntheticConfig, parse_name
from vislab.data.synthetic.export import export
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
    "parse_name",
]
