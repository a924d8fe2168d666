"""The sizes that every model comes in: wiring, laptop, one GPU, and the paper's own."""

from __future__ import annotations

from typing import Literal

Scale = Literal["smoke", "tiny", "small", "paper"]
