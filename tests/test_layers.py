"""Imports point down only; rooms of one level do not know each other; some rooms must not need torch.

Walks the syntax tree of every module, so that imports inside functions and under TYPE_CHECKING count as well.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LEVELS = [
    {"errors", "structures", "config", "records", "rle", "native_build", "native_rle", "shared_batch"},
    {"ops"},
    {"blocks", "losses", "data", "metrics"},
    {"models", "stitching"},
    {"engine"},
    {"study", "report"},
    {"__main__"},
    {"experiments"},
]
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
WITHOUT_TORCH = {"errors", "config", "records", "rle", "native_build", "native_rle", "metrics", "report"}


def source_files() -> list[Path]:
    files = [*(ROOT / "vislab").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]
    return sorted(path for path in files if path != ROOT / "vislab" / "__init__.py")


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "experiments" if parts[0] == "experiments" else parts[1]


def imported_modules(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Absolute names of everything a module imports; `from vislab import x` counts as vislab.x."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "vislab":
                yield from ((f"vislab.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield module, node.lineno


def vislab_imports(path: Path) -> Iterator[tuple[str, int]]:
    package = path.relative_to(ROOT).parts[:-1]
    for name, line in imported_modules(ast.parse(path.read_text()), package):
        if name.startswith("vislab."):
            yield name.split(".")[1], line


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    assert room in LEVEL_OF, f"{path} lies in a room that the layer test does not know; add {room!r} to LEVELS"
    for target, line in vislab_imports(path):
        assert target in LEVEL_OF, f"{path}:{line} imports vislab.{target}, which has no level"
        allowed = target == room or LEVEL_OF[target] < LEVEL_OF[room] or LEVEL_OF[room] == 0 == LEVEL_OF[target]
        assert allowed, f"{path}:{line}: {room} (level {LEVEL_OF[room]}) imports {target} (level {LEVEL_OF[target]})"


@pytest.mark.parametrize(
    "path",
    [path for path in source_files() if room_of(path) in WITHOUT_TORCH],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_torch_where_forbidden(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = {name.split(".")[0] for name, _ in imported_modules(tree, ("vislab",))}
    assert not names & {"torch", "transformers", "xformers"}, f"{path} must not need torch"


def test_torch_free_rooms_stay_torch_free_when_imported() -> None:
    """What they import must not pull torch in either."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in source_files()
        if room_of(path) in WITHOUT_TORCH and path.name != "__init__.py"
    ]
    code = f"import importlib, sys\nfor m in {modules!r}: importlib.import_module(m)\nprint('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_relative_imports_are_resolved() -> None:
    tree = ast.parse("from ..models import x\nfrom . import y\nfrom vislab import ops\nimport vislab.data.rle")
    names = [name for name, _ in imported_modules(tree, ("vislab", "report"))]
    assert names == ["vislab.models", "vislab.report", "vislab.ops", "vislab.data.rle"]
