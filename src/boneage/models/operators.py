"""Declare the torchvision operators that its Python code expects, where its binary does not load.

A torchvision wheel built for another torch raises "operator torchvision::nms does not exist" on
import, and timm, torchmetrics and lightning fail with it. Declaring the missing schemas first
mends the imports. Where torchvision loads by itself nothing is declared.
"""

from __future__ import annotations

import importlib
import sys

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _torchvision_loads() -> bool:
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        return False
    return True


def declare_missing() -> torch.library.Library | None:
    """Declare the missing operators and return the library that holds them, or None if none were missing."""
    if _torchvision_loads():
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    return library


_declared = declare_missing()
