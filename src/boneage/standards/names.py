"""The bones' names, in this project and elsewhere, and the TW3 stages' letters."""

from __future__ import annotations

import re
from enum import StrEnum

from boneage.core.errors import WrongBones


class Bone(StrEnum):
    """A bone that a standard grades; a text such as `"mc1"` is the same key in a mapping."""

    RADIUS = "radius"
    ULNA = "ulna"
    MC1 = "mc1"
    MC3 = "mc3"
    MC5 = "mc5"
    PP1 = "pp1"
    PP3 = "pp3"
    PP5 = "pp5"
    MP3 = "mp3"
    MP5 = "mp5"
    DP1 = "dp1"
    DP3 = "dp3"
    DP5 = "dp5"
    CAPITATE = "capitate"
    HAMATE = "hamate"

    @property
    def readable(self) -> str:
        """The name that people read, as `first metacarpal`."""
        return READABLE[self]


CARPALS = (Bone.CAPITATE, Bone.HAMATE)
"""The carpal bones that CHN grades."""

RUS = tuple(bone for bone in Bone if bone not in CARPALS)
"""Radius, ulna and short bones: the 13 bones of RUS-CHN and TW3-RUS."""

CHN = (*(bone for bone in RUS if bone is not Bone.ULNA), *CARPALS)
"""The 14 bones of CHN: no ulna, two carpals."""

TW3_STAGES = "ABCDEFGHI"
"""Letters of the TW3 stages; a stage's place in it is its grade. The ulna ends at H."""

_ROWS = {"mc": "metacarpal", "pp": "proximal phalanx", "mp": "middle phalanx", "dp": "distal phalanx"}
_ORDINALS = {"1": "first", "3": "third", "5": "fifth"}

READABLE: dict[Bone, str] = {
    bone: f"{_ORDINALS[bone[2]]} {_ROWS[bone[:2]]}" if bone[:2] in _ROWS else str(bone) for bone in Bone
}
"""Bone -> the name that people read."""

# Graders' software names an epiphysis after its joint: `MCPThird`, `PIPFirst`, `MIPFifth`, `DIPThird`.
_ROW_WORDS = {
    "mc": ("mc", "mcp", "metacarpal"),
    "pp": ("pp", "pip", "proximalphalanx"),
    "mp": ("mp", "mip", "middlephalanx"),
    "dp": ("dp", "dip", "distalphalanx"),
}
_RAY_WORDS = {
    "1": ("1", "i", "first", "thumb"),
    "3": ("3", "iii", "third", "middlefinger"),
    "5": ("5", "v", "fifth", "littlefinger"),
}
_ALIASES: dict[str, Bone] = {
    "radius": Bone.RADIUS,
    "ulna": Bone.ULNA,
    "capitate": Bone.CAPITATE,
    "hamate": Bone.HAMATE,
    **{
        text: bone
        for bone in Bone
        for row in _ROW_WORDS.get(bone[:2], ())
        for ray in _RAY_WORDS[bone[2]]
        for text in (row + ray, ray + row)
    },
}


def parse_bone(name: str) -> Bone:
    """Return the bone that a name means, in any case: `MCPFirst`, `metacarpal_1`, `Distal phalanx 3`.

    Raises:
        WrongBones: no bone has that name.
    """
    bone = _ALIASES.get(re.sub(r"[\s_.-]", "", name).lower())
    if bone is None:
        raise WrongBones(f"no bone is called {name!r}: name one of {', '.join(Bone)}")
    return bone
