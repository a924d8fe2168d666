"""vislab: a laboratory for temporal modelling in video instance segmentation.

`build_model`, `load_official`, `evaluate`, `stream_video` and `ops` are loaded on first use, so that `import vislab`
stays instant and the rooms that need no torch never load it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vislab import ops
    from vislab.engine.stream_inference import stream_video
    from vislab.metrics import evaluate
    from vislab.models.official import load_official
    from vislab.models.presets import build_model

__version__ = "0.1.0"
__all__ = ["build_model", "evaluate", "load_official", "ops", "stream_video"]

_HOME = {
    "build_model": "vislab.models.presets",
    "load_official": "vislab.models.official",
    "evaluate": "vislab.metrics",
    "stream_video": "vislab.engine.stream_inference",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name == "ops":
        return import_module("vislab.ops")
    raise AttributeError(f"module 'vislab' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
