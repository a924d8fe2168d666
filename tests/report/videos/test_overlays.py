from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from vislab.report.videos.overlays import PALETTE, Overlay, draw_overlays, identity_colour

COLOUR = PALETTE[0]


def noise(height: int = 41, width: int = 53) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def disc(row: float, column: float, radius: float, height: int = 41, width: int = 53) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def drawn(*arguments, **options) -> np.ndarray:  # type: ignore[no-untyped-def]
    return np.asarray(draw_overlays(*arguments, **options))


def relative_luminance(colour: tuple[int, int, int]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_identities_have_colours_of_their_own() -> None:
    colours = [identity_colour(identity) for identity in range(21)]
    assert len(set(colours)) == 21 and tuple(colours[: len(PALETTE)]) == PALETTE
    assert identity_colour(21) == colours[0]
    differences = [np.abs(np.subtract(a, b)).sum() for a in colours for b in colours if a != b]
    assert min(differences) > 30


def test_without_instances_the_frame_is_as_it_was() -> None:
    frame = noise()
    nothing = Overlay(np.zeros((41, 53), bool), COLOUR, "nothing")
    np.testing.assert_array_equal(drawn(frame, []), frame)
    np.testing.assert_array_equal(drawn(frame, [nothing]), frame)


@pytest.mark.parametrize(
    "mask", [disc(20, 25, 9), disc(0, 52, 7), np.ones((41, 53), bool)], ids=["in", "corner", "all"]
)
def test_fill_contour_and_halo_lie_where_the_mask_does(mask: np.ndarray) -> None:
    frame = noise()
    result = drawn(frame, [Overlay(mask, COLOUR)])
    square = np.ones((3, 3), bool)
    near = ndimage.binary_dilation(mask, square)
    inside = ndimage.binary_erosion(mask, square, border_value=1)  # a small picture has a line of one pixel
    np.testing.assert_array_equal(result[~near], frame[~near])
    assert (result[mask & ~inside] == COLOUR).all()
    blend = 0.58 * frame[inside] + 0.42 * np.array(COLOUR)
    assert np.abs(result[inside] - blend).max() <= 0.5 + 1e-9
    assert (result[near & ~mask] <= frame[near & ~mask]).all()


def test_the_smaller_instance_lies_on_top_whatever_the_order() -> None:
    frame = np.zeros((41, 53, 3), np.uint8)
    overlays = [Overlay(disc(20, 25, 5), PALETTE[1]), Overlay(disc(20, 25, 15), PALETTE[0])]
    result = drawn(frame, overlays)
    np.testing.assert_array_equal(result, drawn(frame, overlays[::-1]))
    edge = disc(20, 25, 5) & ~ndimage.binary_erosion(disc(20, 25, 5), np.ones((3, 3)))
    assert (result[edge] == PALETTE[1]).all()


@pytest.mark.parametrize("scale", [3.0, 1.7, 0.5])
def test_a_scaled_mask_sits_on_its_object(scale: float) -> None:
    """The object is black and the colour is bright: what the overlay brightens must be what is dark in the picture."""
    mask = disc(30.5, 45, 17, 64, 96)
    frame = np.where(mask, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    result = drawn(frame, [Overlay(mask, (255, 255, 255))], scale=scale)
    size = (round(96 * scale), round(64 * scale))
    plain = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))[..., 0] < 128
    covered = ndimage.binary_fill_holes(result[..., 0] < 145)  # halo included
    assert result.shape == (size[1], size[0], 3)
    allowed = ndimage.binary_dilation(plain, np.ones((3, 3)), iterations=2)
    assert not (covered & ~allowed).any() and not (plain & ~covered).any()


def test_labels_are_inside_the_picture_and_do_not_hide_each_other() -> None:
    frame = np.zeros((120, 200, 3), np.uint8)
    mask = disc(60, 100, 20, 120, 200)
    alone = [drawn(frame, [Overlay(mask, c, "person 0.93")]) for c in PALETTE[:3]]
    areas = [np.count_nonzero((picture == c).all(axis=2)) for picture, c in zip(alone, PALETTE[:3], strict=True)]
    together = drawn(frame, [Overlay(mask, c, "person 0.93") for c in PALETTE[:3]])
    line = np.count_nonzero((drawn(frame, [Overlay(mask, COLOUR)]) == COLOUR).all(axis=2))
    for colour, area in zip(PALETTE[:3], areas, strict=True):
        tag = area - line
        assert tag > 300
        assert np.count_nonzero((together == colour).all(axis=2)) >= tag


@pytest.mark.parametrize("size", [(8, 8), (41, 53), (1, 1)])
def test_a_label_wider_than_the_picture_is_cut_off(size: tuple[int, int]) -> None:
    frame = np.zeros((*size, 3), np.uint8)
    result = draw_overlays(frame, [Overlay(np.ones(size, bool), COLOUR, "a category with a long name 0.99")])
    assert result.size == size[::-1] and result.mode == "RGB"


def test_text_is_readable_on_every_colour() -> None:
    """Contrast as WCAG 2 defines it; 3 is its least for large or bold text."""
    for identity in range(21):
        colour = identity_colour(identity)
        picture = draw_overlays(
            np.full((40, 60, 3), colour, np.uint8), [Overlay(np.ones((40, 60), bool), colour, "MM")]
        )
        found = [shade for _, shade in picture.getcolors(2400) or []]
        contrasts = [relative_luminance(shade) + 0.05 for shade in [*found, colour]]  # type: ignore[arg-type]
        own = contrasts.pop()
        assert max(max(own / other, other / own) for other in contrasts) > 3
