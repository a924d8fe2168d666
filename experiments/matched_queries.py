"""Box queries of a clip that are matched to labelled objects.

Shape letters: T frames, Q queries, C channels, N box queries that are matched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from figures import Setting

from vislab.data.collate import collate
from vislab.data.transforms import ClipSample, resize
from vislab.errors import UserError
from vislab.losses.matching import MatcherConfig, match_sequences
from vislab.models.seqformer import SeqFormer
from vislab.structures import Batch


@dataclass(frozen=True)
class MatchedQueries:
    """One box query for each object and frame in which it is visible.

    embeddings: (N, C) as the last decoder layer gives them, which the contrastive loss sees through two linear layers
    of its own. objects: (N,) track ids. frames: (N,) numbers in the clip. categories: object -> its label.
    """

    embeddings: np.ndarray
    objects: np.ndarray
    frames: np.ndarray
    categories: dict[int, int]


def labelled_clip(setting: Setting, length: int) -> Batch:
    """What `Setting.clip` makes of so many frames, with labels. Raises UserError for classes that the model lacks."""
    frames, batch = setting.clip(length)
    found = setting.dataset.annotations(setting.video, range(setting.first_frame, setting.first_frame + length))
    known, classes = setting.run.model.num_classes, len(setting.dataset.categories)
    if classes > known:
        raise UserError(
            f"{setting.dataset.name} has {classes} categories, expected at most {known}, those of the model, to match "
            "its queries to the objects"
        )
    clip = ClipSample(frames, found.labels, found.track_ids, found.iscrowd, found.masks)
    height, width = batch.image_sizes[0].tolist()
    return collate([resize(clip, height, width)]).to(setting.device)


@torch.no_grad()
def matched_queries(model: SeqFormer, batch: Batch, matcher: MatcherConfig) -> MatchedQueries:
    """Of one clip, matched as in training: a query to each object, for all frames together. Sorted by object, frame."""
    output = model(batch.images, batch.padding_mask)
    assert output.frame_queries is not None
    ((queries, chosen),) = match_sequences(output, batch.targets, matcher)
    target = batch.targets[0]
    order = target.track_ids[chosen].argsort()
    queries, chosen = queries[order], chosen[order]
    object_index, frames = target.present[chosen].nonzero(as_tuple=True)
    embeddings = output.frame_queries[0, frames, queries[object_index]]
    ids, labels = target.track_ids[chosen], target.labels[chosen]
    return MatchedQueries(
        embeddings.double().cpu().numpy(),
        ids[object_index].cpu().numpy(),
        frames.cpu().numpy(),
        dict(zip(ids.tolist(), labels.tolist(), strict=True)),
    )
