"""Bone age from radiographs of the hand.

    >>> import boneage
    >>> assessor = boneage.Assessor(boneage.Bundle.load())
    >>> assessment = assessor.assess("hand.png", sex=boneage.Sex.FEMALE)
    >>> assessment.bone_age_months, assessment.interval_months

The public names are loaded on first use, so that `import boneage` costs nothing and reading an
image or a bundle is paid for only by those who do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boneage.core.errors import BoneAgeError, InputError
    from boneage.core.types import Assessment, Findings, Hand, Notice, Radiograph, Region, Sex, Side
    from boneage.imaging.read import read
    from boneage.inference.assess import Assessor
    from boneage.inference.bundle import Bundle

__version__ = "0.1.0"

__all__ = [
    "Assessment",
    "Assessor",
    "BoneAgeError",
    "Bundle",
    "Findings",
    "Hand",
    "InputError",
    "Notice",
    "Radiograph",
    "Region",
    "Sex",
    "Side",
    "__version__",
    "read",
]

_HOMES = {
    "Assessment": "boneage.core.types",
    "Assessor": "boneage.inference.assess",
    "BoneAgeError": "boneage.core.errors",
    "Bundle": "boneage.inference.bundle",
    "Findings": "boneage.core.types",
    "Hand": "boneage.core.types",
    "InputError": "boneage.core.errors",
    "Notice": "boneage.core.types",
    "Radiograph": "boneage.core.types",
    "Region": "boneage.core.types",
    "Sex": "boneage.core.types",
    "Side": "boneage.core.types",
    "read": "boneage.imaging.read",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'boneage' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
