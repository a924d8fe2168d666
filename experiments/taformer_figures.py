"""TAFormer's figures that compare two trained models: what the encoder makes of a clip without and with attention over
frames (Fig. 5), and where box queries lie without and with the contrastive loss (Fig. 6).

    python experiments/plot_figures.py taformer Fig5 Fig6 --scale tiny

Pictures of single videos persuade easily. Both figures therefore print a number that says what they show, for the video
and, unless one was asked for by name, as a mean over the first held-out videos.

Shape letters: N objects, T frames, H W frame size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import taformer
from encoder_maps import QUANTITIES, finest_features, on_frames, separation
from figures import PaperFigure, Setting
from matched_queries import MatchedQueries, labelled_clip, matched_queries
from matplotlib.figure import Figure

from vislab.engine.progress import TerminalWatcher
from vislab.errors import UserError
from vislab.losses.criterion import CriterionConfig
from vislab.metrics.embeddings import nearest_is_same, silhouette
from vislab.models.seqformer import SeqFormer
from vislab.report.figures.embedding_figures import EmbeddingPlane, draw_planes
from vislab.report.figures.embedding_plane import tsne_plane
from vislab.report.figures.feature_figures import MappedQuantity, draw_feature_maps

_FRAMES = 6  # of Fig. 5
_VIDEOS = 20  # held-out ones that numbers are means over

Maps = Mapping[str, tuple[np.ndarray, np.ndarray]]  # quantity -> (T, H, W) without and with


def encoder_features(setting: Setting) -> Figure:
    """Fig. 5: the finest level of the encoder's output, of SeqFormer's encoder and of the spatio-temporal one.

    The paper draws the mean over the channels. The encoder ends in a layer normalisation, which makes that mean zero in
    every token but for what its learned gains leave over, so that the map shows little of what a token holds. Hence a
    second quantity: how far, in angle, the token lies from the mean token of the clip, nearly all of which is
    background. White lines are the labelled objects.
    """
    frames, _ = setting.clip(_length(setting, _FRAMES))
    objects = _masks(setting, len(frames))
    maps = _maps(setting)
    info = setting.dataset.info(setting.video)
    title = f"video {info.name}, frames {setting.first_frame} to {setting.first_frame + len(frames) - 1}"
    quantities = [
        MappedQuantity(((f"{name}, without attention over frames", without), ("with attention over frames", full)))
        for name, (without, full) in maps.items()
    ]
    _tell_separation(setting, _separations(maps, objects))
    return draw_feature_maps(title, frames, quantities, objects)


def box_queries(setting: Setting) -> Figure:
    """Fig. 6: the box queries of a video in the plane of a t-SNE, one for each object and frame in which it is visible.

    They are those that the matcher of training gives to the labelled objects, for the whole video at once. The video
    is the one asked for, or the first that has two objects of one category, as the paper's has.
    """
    shown = setting if setting.video_named else replace(setting, video=_first_with_a_pair(setting))
    both = _both_queries(shown)
    if len(both[0].categories) < 2:
        raise UserError(
            f"video {shown.dataset.info(shown.video).name} of {shown.dataset.name} has {len(both[0].categories)} "
            f"labelled objects from frame {shown.first_frame} on, expected two or more to tell apart"
        )
    planes = [
        EmbeddingPlane(
            f"{name} contrastive loss\nsilhouette {silhouette(found.embeddings, found.objects):.2f}",
            tsne_plane(found.embeddings, int(np.unique(found.objects, return_counts=True)[1].max())),
            found.objects,
        )
        for name, found in zip(("without", "with"), both, strict=True)
    ]
    _tell_queries(shown, both)
    names = [category.name for category in shown.dataset.categories]
    return draw_planes(planes, {number: names[label] for number, label in both[0].categories.items()})


def _models(setting: Setting) -> tuple[SeqFormer, SeqFormer]:
    """Without and with what the figure is about."""
    model, other = setting.model, setting.other
    assert isinstance(model, SeqFormer) and isinstance(other, SeqFormer)
    return other, model


def _length(setting: Setting, most: int | None = None) -> int:
    """Frames from the first one on; at least one, of which `Setting.clip` says that there is none."""
    left = setting.dataset.info(setting.video).length - setting.first_frame
    return max(1, left if most is None else min(left, most))


def _first_videos(setting: Setting) -> Iterator[Setting]:
    """The first held-out videos one by one, with a bar; none at all if the user asked for a video."""
    count = 0 if setting.video_named else min(_VIDEOS, len(setting.dataset))
    watcher = TerminalWatcher()
    for video in range(count):
        yield replace(setting, video=video)
        watcher.update("infer", video + 1, count)


def _masks(setting: Setting, length: int) -> np.ndarray:
    """(N, T, H, W) bool, of the labelled objects."""
    found = setting.dataset.annotations(setting.video, range(setting.first_frame, setting.first_frame + length))
    return found.masks[~found.iscrowd]


def _maps(setting: Setting) -> Maps:
    """Every quantity of the clip on its frames."""
    frames, batch = setting.clip(_length(setting, _FRAMES))
    height, width = batch.image_sizes[0].tolist()
    size = frames.shape[1], frames.shape[2]
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    features = [finest_features(model, batch) for model in _models(setting)]
    for name, quantity in QUANTITIES.items():
        without, full = (on_frames(quantity(tokens), stride, (height, width), size) for tokens, stride in features)
        found[name] = without, full
    return found


def _separations(maps: Maps, objects: np.ndarray) -> np.ndarray:
    """(quantities, 2), without and with."""
    inside = np.asarray(objects.any(axis=0))
    return np.array([[separation(values, inside) for values in pair] for pair in maps.values()])


def _tell_separation(setting: Setting, of_video: np.ndarray) -> None:
    found = [_separations(_maps(each), _masks(each, _length(each, _FRAMES))) for each in _first_videos(setting)]
    print(
        "pixels of objects against background, without -> with attention over frames (area under the ROC curve; "
        "0.5: no difference, 0: objects always lower, 1: always higher)"
    )
    for place, name in enumerate(QUANTITIES):
        _tell(setting, name, of_video[place], [values[place] for values in found])


def _both_queries(setting: Setting) -> tuple[MatchedQueries, MatchedQueries]:
    criterion = setting.run.criterion
    assert isinstance(criterion, CriterionConfig)
    batch = labelled_clip(setting, _length(setting))
    without, full = (matched_queries(model, batch, criterion.matcher) for model in _models(setting))
    return without, full


def _first_with_a_pair(setting: Setting) -> int:
    """Raises UserError if no video has two objects of one category."""
    for video in range(len(setting.dataset)):
        length = _length(replace(setting, video=video))
        found = setting.dataset.annotations(video, range(setting.first_frame, setting.first_frame + length))
        labels = found.labels[~found.iscrowd]
        if len(labels) > len(set(labels.tolist())):
            return video
    raise UserError(f"{setting.dataset.name}: no video has two labelled objects of one category; name one with --video")


def _tell_queries(setting: Setting, both: Sequence[MatchedQueries]) -> None:
    measured = [np.array([_measures(queries) for queries in both]).T]
    for each in _first_videos(setting):
        measured.append(np.array([_measures(queries) for queries in _both_queries(each)]).T)
    names = ("silhouette of the objects", "nearest box query of another frame is of the same object")
    print("box queries by the cosine between them, without -> with the contrastive loss")
    for place, name in enumerate(names):
        _tell(setting, name, measured[0][place], [values[place] for values in measured[1:]])


def _measures(found: MatchedQueries) -> tuple[float, float]:
    """NaN with fewer than two objects, which nothing could confuse."""
    if len(found.categories) < 2:
        return float("nan"), float("nan")
    return silhouette(found.embeddings, found.objects), nearest_is_same(found.embeddings, found.objects, found.frames)


def _tell(setting: Setting, name: str, of_video: np.ndarray, of_videos: Sequence[np.ndarray]) -> None:
    """One line: the values without and with, of the video and as means over those others in which they are defined."""
    known, parts = [values for values in of_videos if not np.isnan(values).any()], []
    if not np.isnan(of_video).any():
        parts.append(f"video {setting.dataset.info(setting.video).name} {of_video[0]:.3f} -> {of_video[1]:.3f}")
    if known:
        without, full = np.mean(known, axis=0)
        parts.append(f"mean of {len(known)} held-out videos {without:.3f} -> {full:.3f}")
    print(f"  {name}: {'; '.join(parts) or 'no labelled objects to tell'}")


FIGURES: dict[str, PaperFigure] = {
    "Fig5": PaperFigure(
        "the encoder's output without and with attention over frames",
        encoder_features,
        taformer.ENCODER_ONLY,
        against=taformer.NO_SPATIO_TEMPORAL_ENCODER,
        trained_on=taformer.FAINT,
    ),
    "Fig6": PaperFigure(
        "box queries of a video without and with the contrastive loss, t-SNE",
        box_queries,
        against=taformer.NO_CONTRASTIVE_LOSS,
        trained_on=taformer.LOOKALIKES,
    ),
}
