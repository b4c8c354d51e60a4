import pytest

from vsrbench.data.catalog import Settings
from vsrbench.data.degradations import Bicubic


@pytest.fixture
def settings():
    """``settings("reds", root, lr="made", ...)``: reading at scale 4 with bicubic LR."""

    def make(set_name: str, root=None, **other) -> Settings:
        return Settings.of(
            {"set": set_name, "root": None if root is None else str(root), "scale": 4, **other}, Bicubic()
        )

    return make
