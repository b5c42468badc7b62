"""Data that a tiny random model can learn."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders `dark`, `grey` and `light` of 20 noisy 28-pixel PNG files each."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    generator = np.random.default_rng(0)
    for name, brightness in (("dark", 60), ("grey", 128), ("light", 190)):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            pixels = generator.normal(brightness, 60, (28, 28, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    return folder


@pytest.fixture
def common(photos: Path, tiny_vit_folder: Path) -> list[object]:
    """`adapt PHOTOS --backbone dir:... --epochs 4`."""
    return ["adapt", photos, "--backbone", f"dir:{tiny_vit_folder}", "--epochs", 4]
