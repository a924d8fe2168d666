"""Outlines, textures and rasterisation against plain definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from vislab.data.synthetic.motion import Poses
from vislab.data.synthetic.palette import _FAR_ENOUGH, BACKGROUNDS, Paint, distance
from vislab.data.synthetic.randomness import Stream
from vislab.data.synthetic.raster import Silhouette, owners, paint, silhouette
from vislab.data.synthetic.shapes import MAX_REACH, SHAPES, Shape
from vislab.data.synthetic.textures import TEXTURES, Texture

NAMES = [shape.name for shape in SHAPES]


def grid(step: float = 0.02, reach: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    line = (np.arange(-reach, reach, step) + step / 3).astype(np.float32)
    x, y = np.meshgrid(line, line)
    return x, y


def poses(x: list[float], y: list[float], radius: list[float], turn: float = 0.0, bend: float = 0.0) -> Poses:
    """Objects at one time, each turned by `turn` full circles."""
    columns = [np.array(v, np.float64)[:, None] for v in (x, y, radius)]
    angle = np.full((len(x), 1), 2 * math.pi * turn)
    return Poses(*columns, np.cos(angle), np.sin(angle), np.full((len(x), 1, 4), bend))


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_outline_is_a_bounded_distance(shape: Shape) -> None:
    x, y = grid()
    d = shape.outline(x, y)
    assert d.dtype == np.float32
    assert np.hypot(x, y)[d <= 0].max() <= shape.reach
    assert np.abs(np.diff(d, axis=0)).max() <= 0.02 * 1.01 and np.abs(np.diff(d, axis=1)).max() <= 0.02 * 1.01
    equal_area_radius = math.sqrt((d <= 0).sum() * 0.02**2 / math.pi)
    assert 0.75 < equal_area_radius < 0.9


def star_corners(tip: float) -> list[tuple[float, float]]:
    """The ten corners of a pentagram that points down; the inner ones lie at tip / phi^2."""
    inner = tip * (3 - math.sqrt(5)) / 2
    return [
        ((tip, inner)[k % 2] * math.sin(math.pi * k / 5), (tip, inner)[k % 2] * math.cos(math.pi * k / 5))
        for k in range(10)
    ]


@pytest.mark.parametrize(
    ("name", "corners"),
    [
        ("square", [(-0.76, -0.76), (0.76, -0.76), (0.76, 0.76), (-0.76, 0.76)]),
        ("triangle", [(1.2 * math.sin(2 * math.pi * k / 3), -1.2 * math.cos(2 * math.pi * k / 3)) for k in range(3)]),
        ("star", star_corners(0.4 / math.cos(math.radians(72)))),
    ],
)
def test_polygons_agree_with_point_in_polygon(name: str, corners: list[tuple[float, float]]) -> None:
    x, y = grid()
    d = SHAPES[NAMES.index(name)].outline(x, y)
    expected = Polygon(corners).contains_points(np.stack([x.ravel(), y.ravel()], 1)).reshape(x.shape)
    sure = np.abs(d) > 1e-5
    np.testing.assert_array_equal((d <= 0)[sure], expected[sure])


@pytest.mark.parametrize("texture", TEXTURES, ids=[t.name for t in TEXTURES])
def test_textures_are_weights_and_mostly_two_coloured(texture: Texture) -> None:
    x, y = grid()
    weight = texture.weight(x, y, 0.04)
    assert weight.dtype == np.float32 and weight.shape == x.shape
    assert weight.min() >= 0 and weight.max() <= 1
    share = weight[np.hypot(x, y) < 0.9].mean()
    assert share == 0 if texture.name == "plain" else 0.2 < share < 0.6


def test_silhouette_area_of_a_disc_half_outside() -> None:
    disc = silhouette(poses([0.0], [50.0], [30.0]), 0, 0, NAMES.index("disc"))
    assert disc.area == pytest.approx(math.pi * (0.86 * 30) ** 2, rel=0.01)
    visible = int((owners([disc], 100, 100) == 0).sum())
    assert visible / disc.area == pytest.approx(0.5, abs=0.02)


def test_nearer_objects_hide_farther_ones() -> None:
    """A square of half side 38 behind a disc of radius 17.2, by inequalities at the pixel centres."""
    both = poses([60.0, 90.0], [50.0, 50.0], [50.0, 20.0])
    square = silhouette(both, 0, 0, NAMES.index("square"))
    disc = silhouette(both, 1, 0, NAMES.index("disc"))
    y, x = np.mgrid[:100, :160] + 0.5
    in_disc = (x - 90) ** 2 + (y - 50) ** 2 <= 17.2**2
    in_square = (np.abs(x - 60) <= 38) & (np.abs(y - 50) <= 38)
    expected = np.where(in_disc, 1, np.where(in_square, 0, -1))
    np.testing.assert_array_equal(owners([square, disc], 100, 160), expected)
    assert (square.area, disc.area) == (in_square.sum(), in_disc.sum())
    np.testing.assert_array_equal(owners([disc, square], 100, 160) == 1, in_square)


@pytest.mark.parametrize("centre", [(-500.0, 20.0), (20.0, 900.0), (300.0, -40.0)])
def test_objects_outside_leave_no_trace(centre: tuple[float, float]) -> None:
    far = silhouette(poses([centre[0]], [centre[1]], [20.0]), 0, 0, 3)
    assert (owners([far], 64, 96) == -1).all() and far.area > 0
    canvas = np.full((3, 64, 96), 7, np.float32)
    paint(canvas, far, 1, Paint((255, 0, 0), (0, 0, 255)), 1.0)
    assert (canvas == 7).all()


@pytest.mark.parametrize("shape", range(len(SHAPES)), ids=NAMES)
@pytest.mark.parametrize(("turn", "bend"), [(0.1, 0.0), (0.37, 0.07), (0.8, -0.08)])
def test_crop_holds_the_whole_object(shape: int, turn: float, bend: float) -> None:
    found = silhouette(poses([50.3], [41.7], [24.0], turn, bend), 0, 0, shape)
    border = np.concatenate([found.distance[0], found.distance[-1], found.distance[:, 0], found.distance[:, -1]])
    assert (border > 0).all()
    assert found.area == pytest.approx(math.pi * (0.82 * 24) ** 2, rel=0.3)


def test_bend_changes_the_outline_in_the_stated_direction() -> None:
    """Coordinates are stretched by 1 + b cos 2a: a disc of radius r reaches r/(1 + b) along x, r/(1 - b) along y."""
    bent = poses([50.0], [50.0], [40.0])
    bent.bend[0, 0, 0] = 0.1
    inside = owners([silhouette(bent, 0, 0, NAMES.index("disc"))], 100, 100) == 0
    width, height = inside.any(0).sum(), inside.any(1).sum()
    assert (width, height) == (pytest.approx(2 * 34.4 / 1.1, abs=2), pytest.approx(2 * 34.4 / 0.9, abs=2))


def painted(opacity: float, texture: int = 0) -> tuple[np.ndarray, Silhouette]:
    shape = silhouette(poses([40.0], [32.0], [24.0]), 0, 0, NAMES.index("disc"))
    canvas = np.full((3, 64, 80), 100, np.float32)
    paint(canvas, shape, texture, Paint((240, 20, 100), (10, 10, 250)), opacity)
    return canvas, shape


def test_opacity_scales_the_difference_from_the_canvas() -> None:
    opaque, shape = painted(1.0)
    faint, _ = painted(0.25)
    nothing, _ = painted(0.0)
    assert (nothing == 100).all()
    core = owners([shape], 64, 80) == 0
    core &= owners([silhouette(poses([40.0], [32.0], [20.0]), 0, 0, 0)], 64, 80) == 0
    # inside, the shadow darkens the canvas before the object covers it: at most 28 % of the opacity
    ratio = (faint[0, core] - 100) / (opaque[0, core] - 100)
    assert ratio.min() > 0.15 and ratio.max() < 0.26
    np.testing.assert_allclose(opaque[0, 32, 40], 240, atol=2)


def test_streams_are_named_and_uniform() -> None:
    a, b = Stream("x", 1).numbers(2, 5, 4000), Stream("x", 2).numbers(2, 5, 4000)
    np.testing.assert_array_equal(a, Stream("x", 1).numbers(2, 5, 4000))
    assert abs(a.mean() - 3.5) < 0.06 and abs(np.corrcoef(a, b)[0, 1]) < 0.06
    assert a.min() >= 2 and a.max() < 5
    counts = np.bincount([Stream("w", k).weighted((0, 1, 0, 3)) for k in range(400)], minlength=4)
    assert counts[0] == counts[2] == 0 and 60 < counts[1] < 140
    assert sorted(Stream("o").order(7)) == list(range(7))
    np.testing.assert_array_equal(np.bincount(Stream("b").bytes(1000, 64).ravel(), minlength=256) > 150, True)


def test_colours_stand_out_from_every_background() -> None:
    for tints in BACKGROUNDS:
        assert len(_FAR_ENOUGH[tints]) >= 4
        assert all(distance(colour, tint) >= 150 for colour in _FAR_ENOUGH[tints] for tint in tints)
    assert MAX_REACH == 1.3
