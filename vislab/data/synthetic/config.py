"""Presets, dials and the names that combine them: "synthetic-ovis+lookalike=1+faint=0.1"."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from vislab.config import added_later
from vislab.data.dataset import Category, DatasetConfig
from vislab.data.synthetic.shapes import SHAPES
from vislab.data.synthetic.textures import TEXTURES
from vislab.errors import UserError

# Part of every fingerprint. Raise it whenever a pixel, a mask or a number of any scene changes.
GENERATOR_VERSION = 1


@dataclass(frozen=True)
class Dials:
    """The difficulties; every field can be set in a data set's name. See RANGES for what is allowed.

    occlusion: 0 keeps objects apart, 1 herds all of them into one small area, where they hide each other.
    deformation: how far the outline swings, 1 = up to about a third of the radius.
    scale: how much the size changes over the video, 1 = by a factor of 2 up and down.
    blur: exposure time in frame intervals; a real camera stays below 1. The mask is that of mid-exposure.
    speed: factor on all motion.
    lookalike: probability that an object has the category and colours of an earlier one of its video.
    leave: probability that an object leaves the frame in the middle of the video and comes back by any side (videos of
        at least 5 frames).
    faint: opacity of an object in its faint frames; 1 turns it off. Masks are as if it were opaque.
    faint_fraction: share of an object's frames, drawn at random, that are faint (if `faint` is below 1); at least one
        frame stays evident, one in which most of the object is in view.
    noise_frames: share of the frames that are replaced by noise; at least one stays. Masks are kept.
    objects: number of objects in every video; 0 draws it as the preset does.
    crossing: probability that two objects, the first and the second, the third and the fourth ..., cross paths in the
        middle of the video: of different categories (or identical, where `lookalike` strikes), the nearer one larger
        and hiding all of the farther one for 3 to 6 frames, in which they stay together (videos of at least 5 frames).
        Objects that cross paths do not leave.
    damage: share of an object's frames, drawn at random, in which two to four patches of its border, a third of the
        object, show what is behind it; at least one frame stays whole, as with `faint_fraction`. Masks are those of the
        whole object.
    blackout: share of the frames in which an object is not drawn, in runs of one to three frames; not before its third
        frame in view, and as far as such runs fit in, a frame apart. Masks are kept.
    """

    occlusion: float = 0.25
    deformation: float = 0.0
    scale: float = 0.2
    blur: float = 0.0
    speed: float = 1.0
    lookalike: float = 0.0
    leave: float = 0.0
    faint: float = 1.0
    faint_fraction: float = 0.6
    noise_frames: float = 0.0
    objects: int = 0
    crossing: float = field(default=0.0, metadata=added_later())
    damage: float = field(default=0.0, metadata=added_later())
    blackout: float = field(default=0.0, metadata=added_later())


RANGES: dict[str, tuple[float, float]] = {
    "occlusion": (0, 1),
    "deformation": (0, 1),
    "scale": (0, 1),
    "blur": (0, 4),
    "speed": (0, 4),
    "lookalike": (0, 1),
    "leave": (0, 1),
    "faint": (0, 1),
    "faint_fraction": (0, 1),
    "noise_frames": (0, 1),
    "objects": (0, 12),
    "crossing": (0, 1),
    "damage": (0, 1),
    "blackout": (0, 1),
}


@dataclass(frozen=True)
class Preset:
    """What a synthetic set shares with the real one that it stands in for.

    videos: train and valid. length: shortest and longest video in frames. object_weights: relative frequency of
    1, 2, 3 ... objects. diameter: smallest and largest, as shares of the frame height.

    Sources. YouTube-VIS 2019 (Yang et al., ICCV 2019; youtube-vos.org/dataset/vis): 2,238 + 302 videos of 3 to 6
    seconds at 6 annotated frames a second, 40 categories, 4,883 instances in 2,883 videos (1.7 each), 131k masks (27 an
    instance). YouTube-VIS 2021 (same page): 2,985 + 421 videos, 40 categories, 8,171 instances in 3,859 videos (2.1
    each). OVIS (Qi et al., IJCV 2022; songbai.site/ovis): 607 + 140 videos, 25 categories, 4.72 objects a frame, 296k
    masks in 901 videos, so about 70 annotated frames each; the occlusion dial gives its mean bounding-box overlap rate,
    0.22. COCO 2017 (Lin et al., ECCV 2014; cocodataset.org): 118,287 + 5,000 images, 80 categories; its 7 instances an
    image are 5 here, since none is tiny.
    """

    videos: tuple[int, int]
    num_categories: int
    length: tuple[int, int]
    object_weights: tuple[float, ...]
    diameter: tuple[float, float]
    dials: Dials = field(default_factory=Dials)
    height: int = 360
    width: int = 640


PRESETS: dict[str, Preset] = {
    "synthetic-ytvis19": Preset((2238, 302), 40, (20, 36), (0.55, 0.28, 0.11, 0.06), (0.3, 0.64)),
    "synthetic-ytvis21": Preset(
        (2985, 421), 40, (20, 42), (0.4, 0.31, 0.17, 0.08, 0.04), (0.26, 0.62), Dials(occlusion=0.35, scale=0.3)
    ),
    "synthetic-ovis": Preset(
        (607, 140), 25, (40, 100), (0, 0, 0.15, 0.25, 0.3, 0.3), (0.28, 0.55), Dials(occlusion=0.75)
    ),
    "synthetic-coco": Preset(
        (118287, 5000), 80, (1, 1), (0.1, 0.1, 0.12, 0.14, 0.14, 0.12, 0.1, 0.08, 0.06, 0.04), (0.15, 0.55)
    ),
}


@dataclass(frozen=True)
class SyntheticConfig:
    """Everything that a scene depends on, apart from the split and the index."""

    preset: str
    dials: Dials
    num_videos: tuple[int, int]
    height: int
    width: int
    length: tuple[int, int]
    num_categories: int
    seed: int

    @property
    def name(self) -> str:
        """The preset and the dials that differ from its own, in the order of Dials."""
        own = PRESETS[self.preset].dials
        changed = [f.name for f in fields(Dials) if getattr(self.dials, f.name) != getattr(own, f.name)]
        return "+".join([self.preset, *(f"{dial}={getattr(self.dials, dial):.15g}" for dial in changed)])


def resolve(config: DatasetConfig) -> SyntheticConfig:
    """The preset that `config.name` names, with its dials and the overrides of `config`.

    Raises UserError for an unknown preset or dial, a value that is no number or out of range, a bad override.
    """
    preset_name, dials = parse_name(config.name)
    preset = PRESETS[preset_name]
    for option, low in (("num_videos", 1), ("height", 32), ("width", 32), ("length", 1), ("num_categories", 1)):
        value = getattr(config, option)
        if value is not None and value < low:
            raise UserError(f"data set '{config.name}': {option}={value}; expected at least {low}")
    num_categories = config.num_categories or preset.num_categories
    category_grid(num_categories)
    return SyntheticConfig(
        preset=preset_name,
        dials=dials,
        num_videos=(config.num_videos, config.num_videos) if config.num_videos else preset.videos,
        height=config.height or preset.height,
        width=config.width or preset.width,
        length=(config.length, config.length) if config.length else preset.length,
        num_categories=num_categories,
        seed=config.seed,
    )


def parse_name(name: str) -> tuple[str, Dials]:
    """Splits "PRESET+dial=value+..." into the preset's name and its dials. Raises UserError, see `resolve`."""
    preset, *settings = name.split("+")
    if preset not in PRESETS:
        raise UserError(f"data set '{name}': no preset '{preset}'; presets: {', '.join(PRESETS)}")
    changes: dict[str, Any] = {}
    for setting in settings:
        dial, _, text = setting.partition("=")
        if dial not in RANGES:
            raise UserError(f"data set '{name}': no dial '{dial}'; dials: {', '.join(RANGES)}")
        if dial in changes:
            raise UserError(f"data set '{name}': dial '{dial}' is set twice")
        changes[dial] = _dial_value(name, dial, text)
    return preset, replace(PRESETS[preset].dials, **changes)


def _dial_value(name: str, dial: str, text: str) -> float | int:
    low, high = RANGES[dial]
    kind = int if dial == "objects" else float
    try:
        value = kind(text)
    except ValueError:
        value = kind(low - 1)
    if not low <= value <= high:
        unit = "an integer" if kind is int else "a number"
        raise UserError(f"data set '{name}': {dial}='{text}'; expected {unit} from {low:g} to {high:g}")
    return value


@functools.cache
def category_grid(num_categories: int) -> tuple[int, int]:
    """Number of shapes and of textures whose product is num_categories: about twice as many shapes as textures.

    8 gives 4 x 2, 25 gives 5 x 5, 40 gives 10 x 4, 80 gives 10 x 8. Raises UserError if no such pair exists.
    """
    pairs = [(s, t) for s in range(1, len(SHAPES) + 1) for t in range(1, min(s, len(TEXTURES)) + 1)]
    fitting = [pair for pair in pairs if pair[0] * pair[1] == num_categories]
    if not fitting:
        possible = ", ".join(str(n) for n in sorted({s * t for s, t in pairs}))
        raise UserError(f"num_categories={num_categories} is not shapes x textures; possible: {possible}")
    return min(fitting, key=lambda pair: (abs(pair[0] - 2 * pair[1]), -pair[0]))


def split_labels(labels: np.ndarray, num_categories: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in SHAPES and in TEXTURES of labels in 0..num_categories-1, arrays of the same shape."""
    shapes, textures = np.divmod(labels, category_grid(num_categories)[1])
    return shapes, textures


def categories(num_categories: int) -> tuple[Category, ...]:
    """Ids from 1, names such as "striped star"; the texture varies fastest."""
    num_shapes, num_textures = category_grid(num_categories)
    names = [f"{texture.name} {shape.name}" for shape in SHAPES[:num_shapes] for texture in TEXTURES[:num_textures]]
    return tuple(Category(position + 1, name) for position, name in enumerate(names))
