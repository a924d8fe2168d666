"""Inference: a video as one clip (SeqFormer; wjf5203/SeqFormer inference.py), clip by clip (`clip_inference`), or frame
by frame (`stream_inference`).

Shape letters: T frames, Q queries, K classes, H W image size.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from vislab.data import Category, VideoDataset
from vislab.data.collate import video_batch
from vislab.engine.augmented import predict_augmented
from vislab.engine.clip_inference import Video, check_clip_length, predict_clips
from vislab.engine.config import EvalConfig
from vislab.engine.mask_encoding import MaskSampling, encode_masks
from vislab.engine.pairs import best_pairs, category_scores, pair_masks
from vislab.engine.progress import Watcher
from vislab.engine.stream_inference import FrameLevelModel, chunks, frame_level, predict_stream
from vislab.errors import UserError
from vislab.stitching import VideoInstance, clip_windows
from vislab.stitching.tracks import shortest

__all__ = ["VideoInstance", "predict_dataset", "predict_video", "results_of"]


def predict_dataset(
    model: nn.Module,
    dataset: VideoDataset,
    config: EvalConfig,
    device: torch.device,
    watcher: Watcher,
    videos: Collection[int],
    done_before: Collection[int] = (),
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Videos one after the other: each one's index in the data set, and its predictions as YouTube-VIS results
    (video_id, category_id, score, segmentations).

    videos, done_before: indices; of those to predict, and of others that the watcher is told are done.
    The watcher hears of every video or, with `config.clips`, of every clip, with `config.stream`, of a few frames at a
    time; no more are read at once. Raises UserError, before any video, if the model takes clips of another length than
    it would get, or single frames and would get clips.
    """
    infos = {index: dataset.info(index) for index in videos}
    for info in infos.values():
        check_input(model, config, info.length)
    done = sum(_num_steps(dataset.info(index).length, config) for index in done_before)
    total = done + sum(_num_steps(info.length, config) for info in infos.values())

    def advance() -> None:
        nonlocal done
        done += 1
        watcher.update("infer", done, total)

    for index, info in infos.items():
        video = Video(info.length, partial(dataset.frames, index), index)
        instances = _predict(model, video, config, len(dataset.categories), device, advance)
        yield index, results_of(instances, dataset.categories, info.id)


def results_of(
    instances: Sequence[VideoInstance], categories: Sequence[Category], video_id: int
) -> list[dict[str, Any]]:
    """The instances of a video as YouTube-VIS results. categories: of the labels."""
    return [
        {
            "video_id": video_id,
            "category_id": categories[instance.label].id,
            "score": instance.score,
            "segmentations": instance.segmentations,
        }
        for instance in instances
    ]


def predict_video(
    model: nn.Module, frames: np.ndarray, config: EvalConfig, num_categories: int, device: torch.device
) -> list[VideoInstance]:
    """The `config.top_k` best instances, best first, less those whose mask is empty in all frames.

    frames: (T, H, W, 3) uint8, RGB; without any there are no instances. num_categories: classes of the data set; the
    model may have more logits, which are not read. A query may appear under several classes. Raises UserError if the
    model takes clips of another length than it would get, or single frames and would get clips.
    """
    check_input(model, config, len(frames))
    video = Video(len(frames), lambda wanted: frames[list(wanted)])
    return _predict(model, video, config, num_categories, device, lambda: None)


def check_input(model: nn.Module, config: EvalConfig, video_length: int) -> None:
    """Raises UserError if the model takes other parts of a video than it would get."""
    if config.stream is not None:
        frame_level(model)
    elif isinstance(model, FrameLevelModel):
        found = f"evaluation.stream is None, expected a StreamConfig: {type(model).__name__} predicts single frames"
        raise UserError(found)
    check_clip_length(model, config, video_length)


def _num_steps(length: int, config: EvalConfig) -> int:
    if config.stream is not None:
        return len(chunks(length))
    return 1 if config.clips is None else len(clip_windows(length, config.clips.clip_length, config.clips.clip_stride))


@torch.inference_mode()
def _predict(
    model: nn.Module,
    video: Video,
    config: EvalConfig,
    num_categories: int,
    device: torch.device,
    advance: Callable[[], None],
) -> list[VideoInstance]:
    model.eval()
    if config.clips is not None:
        return predict_clips(model, video, config, config.clips, num_categories, device, advance)
    if config.stream is not None:
        return predict_stream(model, video, config, config.stream, num_categories, advance)
    instances = []
    if video.length:
        predict = _predict_whole if config.augmentation is None else predict_augmented
        instances = predict(model, video, config, num_categories, device)
    advance()
    return instances


def _predict_whole(
    model: nn.Module, video: Video, config: EvalConfig, num_categories: int, device: torch.device
) -> list[VideoInstance]:
    """The best pairs of query and class, each an instance."""
    frames = video.read(range(video.length))
    batch = video_batch(frames, config.short_side, config.max_side).to(device)
    output = model(batch.images, batch.padding_mask)
    best, queries, labels = best_pairs(category_scores(output, num_categories), config.top_k)
    above = best > config.score_threshold
    best, queries, labels = best[above], queries[above], labels[above]
    if not len(queries):
        return []
    sampling = MaskSampling.of(model, batch, config)
    logits, mask_index = pair_masks(output.pred_masks, queries, labels)
    masks = encode_masks(logits, sampling, frames.shape[1:3], config.mask_threshold)
    instances = [
        VideoInstance(label, shortest(score), masks[mask])
        for label, score, mask in zip(labels.tolist(), best.cpu().numpy(), mask_index.tolist(), strict=True)
    ]
    return [instance for instance in instances if any(mask is not None for mask in instance.segmentations)]
