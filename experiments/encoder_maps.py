"""Two quantities of the tokens that an encoder makes of a clip, and how well they tell objects from the background.

Shape letters: T frames, C channels, h w size of the finest level, H W frame size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.stats import rankdata

from vislab.models.seqformer import SeqFormer
from vislab.structures import Batch


def channel_mean(features: np.ndarray) -> np.ndarray:
    """The mean over the channels of every token, (T, C, h, w) to (T, h, w), as TAFormer's Fig. 5 has it."""
    return features.mean(axis=1)


def distance_from_mean(features: np.ndarray) -> np.ndarray:
    """One minus the cosine between every token and the mean token of the clip, (T, C, h, w) to (T, h, w) in [0, 2]."""
    mean = features.mean(axis=(0, 2, 3))
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(mean)
    return 1 - np.divide(np.einsum("tchw,c->thw", features, mean), lengths, where=lengths > 0, out=lengths * 0 + 1)


QUANTITIES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "channel mean": channel_mean,
    "distance from the mean token": distance_from_mean,
}


def finest_features(model: SeqFormer, batch: Batch) -> tuple[np.ndarray, int]:
    """(T, C, h, w) encoder output of the finest level of one clip, less padding, and its stride in pixels."""
    level = model.encoder_maps(batch.images, batch.padding_mask)[0][0]
    stride = batch.images.shape[-1] // level.shape[-1]
    height, width = (-(-int(side) // stride) for side in batch.image_sizes[0])
    return level[..., :height, :width].float().cpu().numpy(), stride


def on_frames(maps: np.ndarray, stride: int, input_size: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """(T, h, w) maps as (T, H, W): every pixel of a frame has the value of the token that covers its centre.

    input_size: height and width that the frames have in the model's input. size: H, W.
    """
    rows, columns = (
        ((np.arange(length) + 0.5) * resized / length / stride).astype(int)
        for length, resized in zip(size, input_size, strict=True)
    )
    return maps[:, rows][:, :, columns]


def separation(values: np.ndarray, inside: np.ndarray) -> float:
    """Area under the ROC curve: how probable it is that a pixel of an object has a larger value than one of the
    background, ties counting half. NaN if there is nothing of either.

    values: of any shape. inside: the same shape, bool.
    """
    objects, background = int(inside.sum()), int((~inside).sum())
    if not objects or not background:
        return float("nan")
    ranks = rankdata(values, axis=None)[inside.ravel()]
    return float((ranks.mean() - (objects + 1) / 2) / background)
