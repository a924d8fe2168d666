"""RefineVIS' figures from a trained model: masks that the frame-level model loses and refinement recovers (Fig. 1, 3).

    python experiments/plot_figures.py refinevis Fig3 --scale tiny
    python experiments/plot_figures.py refinevis Fig3 --scale tiny --video path/to/frames

The same weights predict every video twice, without refinement (window 0) and with it; which objects are drawn is found
from the two results alone, and what was found is printed, the losses too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from figures import PaperFigure, Setting
from matplotlib.figure import Figure
from refined_masks import Refined, Stretch, most_changed, refined_objects, summary

from vislab import rle
from vislab.config import replace_path
from vislab.data.excerpt import excerpt
from vislab.engine.config import RunConfig
from vislab.engine.infer import predict_video
from vislab.engine.progress import TerminalWatcher, Watcher
from vislab.errors import UserError
from vislab.metrics.inputs import Instance, load_json, read_ground_truth, read_results
from vislab.report.figures.refinement_figures import RefinedObject, draw_refinement

_FRAMES = 6  # of an object

Results = list[dict[str, Any]]


def recovered_masks(setting: Setting, count: int = 3) -> Figure:
    """The objects that gain most in consecutive frames, in the video asked for or in all of the data set: `count`, of
    different videos as far as there are. Fig. 3 has three, Fig. 1 one."""
    window = _window(setting)
    best = _ranked(setting, window)[:count]
    return draw_refinement([_drawn(setting, stretch, index) for stretch, index in best], window)


@lru_cache(maxsize=1)  # both figures are drawn from one search
def _ranked(setting: Setting, window: int) -> list[tuple[Stretch, int]]:
    """Each object's best stretch, greatest gain first, and the position of its video; prints what was found.
    Raises UserError if there is none."""
    dataset = setting.dataset
    videos = [setting.video] if setting.video_named else list(range(len(dataset)))
    without = replace_path(setting.run, "evaluation.stream.window", 0)
    before, after = (results_of(setting, run, videos, TerminalWatcher()) for run in (without, setting.run))
    places = {dataset.info(index).id: index for index in videos}
    names = {video_id: dataset.info(index).name for video_id, index in places.items()}
    objects = _objects(setting, videos, before, after)
    length = min(_FRAMES, *(dataset.info(index).length for index in videos))
    print("\n".join(summary(objects, names, length, window)))
    found = [(stretch, places[stretch.shown.video_id]) for stretch in most_changed(objects, length)]
    if not found:
        raise UserError(f"{dataset.name}: refinement makes no mask better, in {len(objects)} objects; nothing to draw")
    return found


def _window(setting: Setting) -> int:
    """Frames of the run's own refinement. Raises UserError if it has none."""
    stream, tar = getattr(setting.run.evaluation, "stream", None), getattr(setting.run.model, "tar", None)
    window = None if stream is None or tar is None else tar.window if stream.window is None else stream.window
    if not window:
        raise UserError(f"{type(setting.run.model).__name__}: the run has no refinement, expected a window above 0")
    return int(window)


def results_of(setting: Setting, run: RunConfig, videos: Sequence[int], watcher: Watcher) -> Results:
    """YouTube-VIS results of some videos: those of the finished evaluation of exactly this, or predicted anew."""
    finished = _finished_results(setting, run)
    if finished is not None:
        wanted = {setting.dataset.info(index).id for index in videos}
        return [result for result in finished if result["video_id"] in wanted]
    dataset, results = setting.dataset, []
    for done, index in enumerate(videos, start=1):
        info = dataset.info(index)
        frames = dataset.frames(index, range(info.length))
        found = predict_video(setting.model, frames, run.evaluation, len(dataset.categories), setting.device)
        results += [
            {
                "video_id": info.id,
                "category_id": dataset.categories[instance.label].id,
                "score": instance.score,
                "segmentations": instance.segmentations,
            }
            for instance in found
        ]
        watcher.update("infer", done, len(videos))
    return results


def _finished_results(setting: Setting, run: RunConfig) -> Results | None:
    if setting.store is None:
        return None
    record = setting.store.result(run.train_key, run.eval_key)
    if record is None or record["data_fingerprint"] != setting.dataset.fingerprint():
        return None
    path = setting.store.eval_dir(run.train_key, run.eval_key) / "predictions.json"
    return load_json(path) if path.exists() else None


def _objects(setting: Setting, videos: Sequence[int], before: Results, after: Results) -> list[Refined]:
    """Of all the videos. Raises UserError if there is none to compare."""
    dataset = setting.dataset
    truth = read_ground_truth(excerpt(dataset, videos), dataset.name)
    old, new = (read_results(results, truth) for results in (before, after))
    objects = [shown for index in videos for shown in refined_objects(truth, old, new, dataset.info(index).id)]
    if not objects:
        raise UserError(f"{dataset.name}: no object is found without and with refinement, nothing to compare")
    return objects


def _drawn(setting: Setting, stretch: Stretch, index: int) -> RefinedObject:
    """The frames and masks of a stretch."""
    shown, info = stretch.shown, setting.dataset.info(index)
    before, after, truth = (
        _masks(side, stretch.frames, info.height, info.width) for side in (shown.before, shown.after, shown.truth)
    )
    inside = slice(stretch.first, stretch.first + stretch.length)
    return RefinedObject(
        title=f"video {info.name}, {stretch.place}",
        frames=setting.dataset.frames(index, stretch.frames),
        numbers=tuple(stretch.frames),
        before=before,
        after=after,
        qualities=(shown.quality[0, inside], shown.quality[1, inside]),
        truth=None if shown.truth is None else truth,
    )


def _masks(instance: Instance | None, frames: range, height: int, width: int) -> np.ndarray:
    """(T, H, W) bool."""
    masks = np.zeros((len(frames), height, width), bool)
    track = None if instance is None else instance.track
    for mask, t in zip(masks, frames, strict=True):
        code = None if track is None else track[t]
        if code is not None:
            mask[:] = rle.decode_checked(code)
    return masks


FIGURES: dict[str, PaperFigure] = {
    "Fig1": PaperFigure("the object that refinement recovers most", partial(recovered_masks, count=1)),
    "Fig3": PaperFigure("masks lost by the frame-level model and recovered by refinement", recovered_masks),
}
