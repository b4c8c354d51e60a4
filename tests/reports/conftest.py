"""Made-up finished runs in a test's own folder."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from report_fakes import write_run, write_truth


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write_truth(tmp_path)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run(name, values, blur=..., settings=..., clips=..., **changes): a finished evaluation's folder."""
    return partial(write_run, tmp_path)
