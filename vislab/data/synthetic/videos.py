"""The synthetic benchmark as a VideoDataset."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np

from vislab.config import digest, digest_of
from vislab.data.dataset import DatasetConfig, FrameAnnotations, Split, VideoInfo
from vislab.data.synthetic import background
from vislab.data.synthetic.config import GENERATOR_VERSION, categories, resolve
from vislab.data.synthetic.damage import missing_part, missing_share
from vislab.data.synthetic.ground_truth import document, video_record
from vislab.data.synthetic.randomness import Stream
from vislab.data.synthetic.raster import Silhouette, owners, paint, silhouette
from vislab.data.synthetic.scene import Scene, make_scene, video_length
from vislab.errors import UserError

# An object that shows fewer pixels than this is null in that frame.
MIN_VISIBLE_PIXELS = 8
# Bounds of the memory for what is asked for again; bytes, each.
_SCENES_KEPT = 1024
_BACKGROUNDS_KEPT, _SILHOUETTES_KEPT = 48 * 2**20, 64 * 2**20
_BLUR_STEP, _MAX_BLUR_SAMPLES = 1.5, 16  # pixels of motion between two samples of an exposure

Value = TypeVar("Value")


class SyntheticVideos:
    """Videos of moving, textured shapes with perfect labels; see Dials for what can be made difficult.

    The same (preset, dials, seed, split, index) gives the same pixels on every platform. Frames are rendered when they
    are asked for, each for itself. Track ids number the objects of a video from far to near.
    """

    def __init__(self, config: DatasetConfig, split: Split = "train") -> None:
        """Raises UserError for an unknown preset, dial or split, or a value out of range."""
        if split not in ("train", "valid"):
            raise UserError(f"split '{split}' does not exist; expected 'train' or 'valid'")
        self.config = resolve(config)
        self.split = split
        self.name = self.config.name
        self.categories = categories(self.config.num_categories)
        self._scenes: dict[int, Scene] = {}
        self._backgrounds: dict[int, np.ndarray] = {}
        self._silhouettes: dict[tuple[int, int], list[Silhouette]] = {}
        pixels = self.config.height * self.config.width
        self._backgrounds_kept = max(2, _BACKGROUNDS_KEPT // (3 * pixels))
        self._frames_kept = max(2, min(_SILHOUETTES_KEPT // (20 * pixels), 32))

    def __len__(self) -> int:
        return self.config.num_videos[self.split == "valid"]

    def info(self, index: int) -> VideoInfo:
        """Ids count from 1, names are five digits and equal the index."""
        self._check(index)
        length = video_length(self.config, self.split, index)
        return VideoInfo(index + 1, f"{index:05d}", self.config.height, self.config.width, length)

    def scene(self, index: int) -> Scene:
        """The parameters of one video."""
        self._check(index)
        return _recall(self._scenes, index, _SCENES_KEPT, lambda: make_scene(self.config, self.split, index))

    def frames(self, index: int, frame_indices: Sequence[int]) -> np.ndarray:
        """(T, H, W, 3) uint8 RGB. Raises IndexError for a video or frame that does not exist."""
        frames = np.empty((len(frame_indices), self.config.height, self.config.width, 3), np.uint8)
        for position, frame in enumerate(frame_indices):
            frames[position] = self._render(index, int(frame)).transpose(1, 2, 0)
        return frames

    def annotations(self, index: int, frame_indices: Sequence[int]) -> FrameAnnotations:
        """The objects that are visible in at least one of the frames asked for."""
        labels = self.scene(index).labels
        shape = (len(labels), len(frame_indices))
        masks = np.zeros((*shape, self.config.height, self.config.width), bool)
        boxes = np.zeros((*shape, 4), np.float32)
        fractions = np.zeros(shape, np.float32)
        for position, frame in enumerate(frame_indices):
            self._annotate(index, int(frame), masks[:, position], boxes[:, position], fractions[:, position])
        present = fractions > 0
        seen = np.flatnonzero(present.any(axis=1))
        return FrameAnnotations(
            labels=labels[seen],
            track_ids=seen.astype(np.int64),
            iscrowd=np.zeros(len(seen), bool),
            masks=masks[seen],
            boxes=boxes[seen],
            present=present[seen],
            visible_fraction=fractions[seen],
        )

    def opacities(self, index: int, found: FrameAnnotations) -> np.ndarray:
        """(N, T): how opaque the objects of `found`, which is about all T frames, are drawn; where they are damaged, on
        average over their masks, to four digits."""
        scene = self.scene(index)
        drawn, patches = scene.opacities[found.track_ids], scene.patches[found.track_ids]
        for n, t in np.argwhere(found.present & (patches[..., 2] > 0).any(axis=-1)).tolist():
            shape = self._frame_silhouettes(index, t)[int(found.track_ids[n])]
            share = missing_share(shape, patches[n, t], found.masks[n, t])
            drawn[n, t] = round(float(drawn[n, t]) * (1 - share), 4)
        return drawn

    def ground_truth(self) -> dict[str, Any]:
        """YouTube-VIS JSON; annotations also hold "visible_fractions" and "opacities", one number per frame."""
        return document(self, (video_record(self, index) for index in range(len(self))))

    def fingerprint(self) -> str:
        """Hash of the generator's version, the whole configuration and the split: 16 hexadecimal digits."""
        return digest_of([GENERATOR_VERSION, digest(self.config), self.split])

    def _annotate(self, index: int, frame: int, masks: np.ndarray, boxes: np.ndarray, fractions: np.ndarray) -> None:
        """Fills masks (N, H, W), boxes (N, 4) and visible fractions (N,) of one frame; leaves absent objects zero."""
        shapes = self._frame_silhouettes(index, frame)
        owner = owners(shapes, self.config.height, self.config.width)
        for position, shape in enumerate(shapes):
            mask = owner == position
            visible = int(np.count_nonzero(mask))
            if visible >= MIN_VISIBLE_PIXELS:
                masks[position] = mask
                boxes[position] = tight_box(mask)
                fractions[position] = visible / shape.area

    def _frame_silhouettes(self, index: int, frame: int) -> list[Silhouette]:
        scene = self.scene(index)
        if not 0 <= frame < scene.length:
            raise IndexError(f"{self.name}: frame {frame} of a video of {scene.length} frames")

        def make() -> list[Silhouette]:
            return [silhouette(scene.poses, n, frame, int(shape)) for n, shape in enumerate(scene.shapes)]

        return _recall(self._silhouettes, (index, frame), self._frames_kept, make)

    def _render(self, index: int, frame: int) -> np.ndarray:
        """(3, H, W) uint8."""
        scene, height, width = self.scene(index), self.config.height, self.config.width
        shapes = self._frame_silhouettes(index, frame)
        if scene.noise[frame]:
            return background.noise_frame(Stream(*scene.key, "noise", frame), height, width)
        empty = self._background(index, scene)
        if self.config.dials.blur:
            planes = self._exposure(scene, frame, empty)
        else:
            planes = _composite(scene, shapes, frame, empty)
        background.add_grain(planes, Stream(*scene.key, "grain", frame))
        return background.to_bytes(planes)

    def _background(self, index: int, scene: Scene) -> np.ndarray:
        """(3, H, W) uint8."""

        def make() -> np.ndarray:
            return background.make_background(Stream(*scene.key, "background"), self.config, scene.tints)

        return _recall(self._backgrounds, index, self._backgrounds_kept, make)

    def _exposure(self, scene: Scene, frame: int, empty: np.ndarray) -> np.ndarray:
        """The mean of composites spread evenly over the exposure time, (3, H, W) float32."""
        half = self.config.dials.blur / 2
        ends = scene.motion.poses(np.array([frame - half, frame + half]))
        travel = np.maximum(np.abs(np.diff(ends.x)), np.abs(np.diff(ends.y))).max()
        samples = int(np.clip(np.ceil(travel / _BLUR_STEP), 2, _MAX_BLUR_SAMPLES))
        times = frame - half + 2 * half * (np.arange(samples) + 0.5) / samples
        poses = scene.motion.poses(times)
        planes = np.zeros(empty.shape, np.float32)
        for time in range(samples):
            shapes = [silhouette(poses, n, time, int(shape)) for n, shape in enumerate(scene.shapes)]
            planes += _composite(scene, shapes, frame, empty)
        planes *= 1 / samples
        return planes

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: video {index} of {len(self)}")


def _composite(scene: Scene, shapes: list[Silhouette], frame: int, empty: np.ndarray) -> np.ndarray:
    """All objects over the empty background, from far to near, (3, H, W) float32."""
    planes = empty.astype(np.float32)
    for position, shape in enumerate(shapes):
        opacity = float(scene.opacities[position, frame])
        missing = missing_part(shape, scene.patches[position, frame])
        paint(planes, shape, int(scene.textures[position]), scene.paints[position], opacity, missing)
    return planes


Key = TypeVar("Key", bound=Hashable)


def _recall(memory: dict[Key, Value], key: Key, capacity: int, make: Callable[[], Value]) -> Value:
    """memory[key], made if absent; forgets the oldest entry when there are more than `capacity`."""
    if key not in memory:
        memory[key] = make()
        if len(memory) > capacity:
            del memory[next(iter(memory))]
    return memory[key]


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Box around the True pixels of a mask (H, W) that has any: x1, y1, x2, y2, the last two exclusive."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
