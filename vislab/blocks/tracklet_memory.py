"""Online TAR (RefineVIS section 3.6): each frame is refined with what was refined before, and then remembered.

Shape letters: N tracklets, M remembered frames, C channels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from vislab.blocks.temporal_attention_refinement import TemporalAttentionRefinement


class OnlineRefinement:
    """Refines tracklets frame by frame; holds the W - 1 last refined embeddings of each and their frames' numbers.

    A tracklet remembers from its first frame on: frames before it are no part of its window.

    Args:
        window: W, the current frame included; 0 changes nothing, 1 has no memory.
    """

    def __init__(self, layer: TemporalAttentionRefinement, window: int) -> None:
        self.layer, self.window = layer, window
        self._memory: dict[int, deque[tuple[int, Tensor]]] = {}

    def step(self, frame: int, track_ids: Sequence[int], embeddings: Tensor) -> Tensor:
        """Refined embeddings (N, C) of the current frame.

        frame: absolute number, larger than at the last call. track_ids: N different ones. embeddings: (N, C), zero
        where the tracklet has no match in this frame.
        """
        if self.window == 0 or not len(track_ids):
            return embeddings
        refined = self.layer.refine_current(embeddings, frame, *self._past(frame, track_ids, embeddings))
        for track_id, embedding in zip(track_ids, refined, strict=True):
            entries = self._memory.setdefault(track_id, deque(maxlen=self.window - 1))
            entries.append((frame, embedding.clone()))
        return refined

    def forget_all_but(self, track_ids: Collection[int]) -> None:
        """Drops the memory of all other tracklets."""
        self._memory = {track_id: entries for track_id, entries in self._memory.items() if track_id in track_ids}

    @property
    def num_embeddings(self) -> int:
        """How many embeddings are held."""
        return sum(len(entries) for entries in self._memory.values())

    def _past(self, frame: int, track_ids: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Remembered embeddings (N, M, C), their frames (N, M) and where there are none (N, M), within the window."""
        pasts = []
        for track_id in track_ids:
            entries = self._memory.get(track_id, deque())
            while entries and entries[0][0] <= frame - self.window:
                entries.popleft()
            pasts.append(entries)
        most = max(len(entries) for entries in pasts)
        memory = like.new_zeros(len(pasts), most, like.shape[-1])
        frames = torch.zeros(len(pasts), most, dtype=torch.int64, device=like.device)
        empty = torch.ones(len(pasts), most, dtype=torch.bool, device=like.device)
        for row, entries in enumerate(pasts):
            for column, (number, embedding) in enumerate(entries):
                memory[row, column], frames[row, column], empty[row, column] = embedding, number, False
        return memory, frames, empty
