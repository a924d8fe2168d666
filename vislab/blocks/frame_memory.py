"""What a masked-attention decoder layer looks at.

Shape letters: B batch, T frames, K tokens of one frame and level, C channels.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class FrameMemory(NamedTuple):
    """One feature level of a clip.

    tokens: (B, T, K, C). position: (T, K, C), of tokens in the clip. frame_position: (T, C), of frames in the clip.
    """

    tokens: Tensor
    position: Tensor
    frame_position: Tensor
