"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("the same every time", derandomize=True, deadline=None)
settings.load_profile("the same every time")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with optional real data sets (VISLAB_TEST_DATA); tests that need it are skipped without."""
    folder = Path(os.environ.get("VISLAB_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"optional real data not found at {folder}; set VISLAB_TEST_DATA")
    return folder


@pytest.fixture
def heeds_ctrl_c():
    """This process and those it starts take SIGINT, also where a shell started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
