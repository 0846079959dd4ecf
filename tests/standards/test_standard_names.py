"""Bone names: one spelling here, many elsewhere."""

from __future__ import annotations

import pytest

from boneage.core.errors import WrongBones
from boneage.standards.names import CARPALS, CHN, READABLE, RUS, Bone, parse_bone


@pytest.mark.parametrize(
    ("name", "bone"),
    [
        ("radius", Bone.RADIUS),
        ("Ulna", Bone.ULNA),
        ("MCPFirst", Bone.MC1),
        ("MCPThird", Bone.MC3),
        ("MCPFifth", Bone.MC5),
        ("PIPFirst", Bone.PP1),
        ("PIPThird", Bone.PP3),
        ("PIPFifth", Bone.PP5),
        ("MIPThird", Bone.MP3),
        ("MIPFifth", Bone.MP5),
        ("DIPFirst", Bone.DP1),
        ("DIPThird", Bone.DP3),
        ("DIPFifth", Bone.DP5),
        ("metacarpal_1", Bone.MC1),
        ("proximal_phalanx_5", Bone.PP5),
        ("Middle phalanx III", Bone.MP3),
        ("third middle phalanx", Bone.MP3),
        ("distal-phalanx-1", Bone.DP1),
        ("PP5", Bone.PP5),
        ("mcV", Bone.MC5),
        ("Capitate", Bone.CAPITATE),
        ("HAMATE", Bone.HAMATE),
    ],
)
def test_names_of_other_schemes(name: str, bone: Bone) -> None:
    assert parse_bone(name) is bone


@pytest.mark.parametrize("name", ["", "mp1", "mc2", "radius2", "MCP", "lunate", "metacarpal", "1"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(WrongBones, match="name one of radius, ulna, mc1"):
        parse_bone(name)


@pytest.mark.parametrize("bone", Bone)
def test_own_and_readable_names_come_back(bone: Bone) -> None:
    assert parse_bone(bone) is bone
    assert parse_bone(bone.readable) is bone


def test_the_sets_of_bones() -> None:
    assert set(RUS) | set(CARPALS) == set(Bone) == set(READABLE)
    assert set(RUS) - set(CHN) == {Bone.ULNA}
    assert {Bone.MC1: 1.0}["mc1"] == 1.0  # type: ignore[index]
