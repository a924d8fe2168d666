"""Image files: opening them at the size that the annotations say, and listing folders of many."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from vislab.errors import UserError

__all__ = ["list_files", "open_image"]


def open_image(path: Path, where: str, width: int, height: int) -> Image.Image:
    """The image, decoded. Raises UserError, which begins with `where`, if it is none of this size in pixels."""
    try:
        with Image.open(path) as image:
            if image.size != (width, height):
                found = "{}x{}".format(*image.size)
                raise UserError(f"{where} has {found} pixels, expected {width}x{height} (width x height)")
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{where} cannot be read as an image ({error})") from None


def list_files(folder: Path) -> dict[str, int]:
    """Size in bytes of every file of a folder, by its name; empty if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    except OSError:
        return {}
