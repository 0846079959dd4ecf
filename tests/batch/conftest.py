"""Makes the stand-ins of tests/fakes importable, in worker processes too, and images that they read."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

from boneage.core.types import Sex
from boneage.data.manifest import Row


@pytest.fixture(scope="session")
def radiograph(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a small, hand-less, but readable image."""
    path = tmp_path_factory.mktemp("image") / "image.png"
    pixels = np.random.default_rng(0).integers(0, 255, (80, 64)).astype(np.uint8)
    assert cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (0, 0), 9))
    return path.read_bytes()


@pytest.fixture
def rows(tmp_path: Path, radiograph: bytes) -> Callable[..., list[Row]]:
    """Write an image for each name and return the rows of a manifest of them."""

    def make(*names: str, sex: Sex | None = Sex.FEMALE) -> list[Row]:
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / f"{name}.png").write_bytes(radiograph)
        return [Row(name, folder / f"{name}.png", sex) for name in names]

    return make


@pytest.fixture
def manifest(tmp_path: Path, rows: Callable[..., list[Row]]) -> Callable[[Sequence[str]], Path]:
    """Write images and a manifest CSV of them."""

    def make(names: Sequence[str]) -> Path:
        rows(*names)
        path = tmp_path / "manifest.csv"
        lines = [f"{name},images/{name}.png,female" for name in names]
        path.write_text("\n".join(["id,path,sex", *lines]) + "\n")
        return path

    return make


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the stand-in writes what it reads."""
    return tmp_path / "read.log"
