"""A torchvision that does not load by itself is mended; one that does is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from boneage.models import operators  # noqa: E402

BROKEN = """
import torch
if not hasattr(torch.ops.torchvision, "nms"):
    raise RuntimeError("operator torchvision::nms does not exist")
"""
"""A torchvision of another torch: it names an operator that its binary did not bring."""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in its own process, `folder` before all installed packages."""
    found = os.pathsep.join([str(folder), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": found},
    )


def test_torchvision_and_what_builds_on_it_load_after_the_models() -> None:
    import timm
    import torchvision

    assert timm.is_model("mobilenetv3_large_100") and torchvision.__version__
    assert hasattr(torch.ops.torchvision, "nms")


@pytest.mark.slow
def test_a_broken_torchvision_is_mended(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(BROKEN)
    code = (
        "import sys\ntry:\n    import torchvision\n    sys.exit('not broken')\nexcept RuntimeError: pass\n"
        "import boneage.models.operators as operators\nassert operators._declared is not None\n"
        "import torchvision, torch\nassert 'dets' in str(torch.ops.torchvision.nms.default._schema)"
    )
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_nothing_is_declared_where_torchvision_loads() -> None:
    assert operators.declare_missing() is None  # by now it loads, by itself or mended
