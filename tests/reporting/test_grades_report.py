"""Grades, scores and growth in pictures, pages and records."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from boneage_fakes import assessment, graded_assessment, graded_hand

from boneage.anatomy.keypoints import NAMES
from boneage.anatomy.localise import hand_from_points
from boneage.anatomy.regions import BONES, bone_regions
from boneage.core.types import Region, Sex
from boneage.data.synthetic import draw_hand
from boneage.imaging.geometry import rotate
from boneage.inference.growth import Measurements
from boneage.reporting import document, overlay
from boneage.reporting.growth import growth_lines
from boneage.reporting.tabular import assessment_record, percentage

GREY = np.full((60, 40), 0.5, np.float32)
MEASURED = Measurements(height_cm=140.0, weight_kg=35.0)


def drawn_regions(degrees: float, seed: int) -> tuple[list[Region], np.ndarray]:
    """Graded regions of a drawn hand, the film turned; and its pixels."""
    drawn = draw_hand(120.0, Sex.FEMALE, seed)
    pixels, turn = rotate(drawn.radiograph.pixels, degrees)
    points = turn(np.array([drawn.keypoints_px[name] for name in NAMES]))
    hand = hand_from_points(points, None, pixels.shape, confidence=0.9, method="fast")
    placed = bone_regions(hand, pixels.shape, BONES)
    graded = graded_hand(Sex.FEMALE).regions
    return [replace(one, box_px=region.box_px) for one, region in zip(graded, placed, strict=True)], pixels


@pytest.mark.parametrize("degrees", [0.0, 35.0, 90.0, 180.0])
@pytest.mark.parametrize("seed", range(3))
def test_labels_lie_inside_the_picture_and_not_over_one_another(degrees: float, seed: int) -> None:
    regions, pixels = drawn_regions(degrees, seed)
    height, width = (round(side * 1400 / max(pixels.shape)) for side in pixels.shape)
    scale = 1400 / max(pixels.shape)
    scaled = [replace(r, box_px=tuple(edge * scale for edge in r.box_px)) for r in regions]
    labels = overlay.labels(scaled, (height, width))
    assert len(labels) == 13  # metacarpal and phalanx share the third and the fifth knuckle's box
    assert {word for label in labels for word in label.text.split()[::2]} == set(BONES)
    for label in labels:
        x0, y0, x1, y1 = label.box_px
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    for one, other in combinations(labels, 2):
        (a0, b0, a1, b1), (c0, d0, c1, d1) = one.box_px, other.box_px
        shared = max(0, min(a1, c1) - max(a0, c0)) * max(0, min(b1, d1) - max(b0, d0))
        assert shared < 0.25 * min((a1 - a0) * (b1 - b0), (c1 - c0) * (d1 - d0)), (one.text, other.text)


def test_an_ungraded_bone_has_another_colour_and_a_question_mark() -> None:
    graded, ungraded = (
        overlay.labels(graded_hand(Sex.MALE, missing).regions, (60, 40)) for missing in ((), ("ulna",))
    )
    assert {label.colour for label in graded} == {overlay.REGION_COLOUR}
    odd = [label for label in ungraded if label.colour == overlay.UNGRADED_COLOUR]
    assert [label.text for label in odd] == ["ulna ?"]
    assert "capitate 6" in [label.text for label in graded]


def greenish(picture: np.ndarray) -> np.ndarray:
    """Where a picture has the regions' colour, or a blend of it."""
    blue, green, red = np.moveaxis(picture.astype(int), 2, 0)
    return (green > blue + 30) & (green > red + 30)


def test_a_box_is_drawn_where_the_bone_is_in_the_source_image() -> None:
    region = Region("radius", (100.0, 150.0, 140.0, 200.0), {"rus_chn": 7.0})
    image = np.full((400, 300), 0.5, np.float32)
    whole = overlay.graded_regions(image, [region], side_px=800)
    assert whole.shape == (800, 600, 3)
    green = greenish(whole)
    assert green[300:400, 200].mean() > 0.8 and green[300, 200:280].mean() > 0.8
    assert not green[:290].any() and not green[:, :190].any()


def test_only_the_hand_with_a_margin_is_shown() -> None:
    image = np.full((400, 300), 0.5, np.float32)
    region = Region("radius", (100.0, 150.0, 140.0, 260.0), {"rus_chn": 7.0})
    cut = overlay.graded_regions(image, [region], (90.0, 60.0, 190.0, 240.0), side_px=1000)
    # 90 to 190 by 60 to 260 with 16 on every side: 132 x 232
    assert cut.shape == (1000, round(132 * 1000 / 232), 3)
    green = greenish(cut)
    rows, columns = np.nonzero(green[:, : round((140 - 74) * 1000 / 232) - 20])
    assert columns.min() == pytest.approx((100 - 74) * 1000 / 232, abs=4)
    assert (rows.min(), rows.max()) == pytest.approx(
        ((150 - 44) * 1000 / 232, (260 - 44) * 1000 / 232), abs=4
    )


def test_a_hand_at_the_films_edge_is_cut_out_within_the_film() -> None:
    image = np.full((100, 80), 0.5, np.float32)
    outside = Region("radius", (-10.0, 80.0, 30.0, 130.0))
    assert overlay.graded_regions(image, [outside], (0.0, 0.0, 80.0, 100.0), side_px=100).shape == (
        100,
        80,
        3,
    )


def cells(page: str, name: str) -> list[str]:
    """The cells of the table row that a name heads."""
    row = re.search(rf'<tr><th scope="row">{re.escape(name)}</th>(.*?)</tr>', page)
    assert row is not None, name
    return re.findall(r"<td>(.*?)</td>", row[1])


def test_the_grade_table_has_grades_scores_and_totals() -> None:
    found = graded_assessment()
    page = document.html([found], [GREY], [None])
    assert cells(page, "radius")[0].startswith("6 (") and cells(page, "radius")[3] == "80%"
    assert re.fullmatch(r"[A-I] \(\d+\)", cells(page, "radius")[1])
    assert cells(page, "ulna")[2] == "\N{EN DASH}" and cells(page, "capitate")[:2] == ["\N{EN DASH}"] * 2
    for at, name in enumerate(("rus_chn", "tw3", "chn")):
        assert cells(page, "Total")[at].startswith(f"{found.scores[name]['total']:.0f}: ")
        assert cells(page, "Expected total")[at].startswith(f"{found.scores[name]['expected_total']:.0f}: ")
        points = [re.search(r"\((\d+)\)", cells(page, row)[at]) for row in bone_rows(page)]
        assert sum(int(found_[1]) for found_ in points if found_) == found.scores[name]["total"]
    assert "weak mapping" in page and "not from graders" in page


def bone_rows(page: str) -> list[str]:
    """The heads of the grade table's rows, without its totals."""
    table = page[page.index("Grades and scores") :]
    body = table[table.index("<tbody>") : table.index("</tbody>")]
    return re.findall(r'<th scope="row">(.*?)</th>', body)


def test_what_could_not_be_graded_is_named_and_its_totals_are_missing() -> None:
    page = document.html([graded_assessment(missing=("ulna",))], [GREY], [None])
    assert cells(page, "ulna") == ["not graded", "not graded", "\N{EN DASH}", ""]
    assert cells(page, "Total")[:2] == ["a bone is missing"] * 2
    assert cells(page, "Total")[2][0].isdigit()
    assert "Warning: not graded" in page


def test_an_assessment_without_grades_has_no_grade_section() -> None:
    page = document.html([assessment()], [GREY], [None])
    assert "Grades and scores" not in page and "By method" not in page and "Growth" not in page


def test_the_growth_section_has_score_heights_and_reasons() -> None:
    page = document.html(
        [graded_assessment(sex=Sex.MALE, age_months=120.0, measured=MEASURED)], [GREY], [None]
    )
    assert cells(page, "Bone age against chronological age")[0].endswith(" SD")
    name = "Adult height, TW Mark I (Tanner et al. 1975)"
    assert re.fullmatch(r"1\d\d\.\d cm \(SD [\d.]+\)", cells(page, name)[0])
    assert cells(page, "Adult height, Khamis-Roche 1995") == [
        "none", "needs the father&#x27;s height, the mother&#x27;s height: give them",
    ]  # fmt: skip


def test_growth_lines_without_a_score_give_the_reason_alone() -> None:
    found = graded_assessment(age_months=400.0)
    (line,) = [line for line in growth_lines(found.growth) if "chronological" in line.what]
    assert (line.value, line.given) == ("none", False)
    assert line.remarks.startswith("no reference reaches 400")


def test_scores_growth_and_bones_are_escaped() -> None:
    nasty = "<script>alert(1)</script>"
    found = graded_assessment(age_months=120.0, measured=MEASURED)
    scores = {name: {**score, "remarks": [nasty]} for name, score in found.scores.items()}
    growth = {
        **found.growth,
        "sd_score": {**found.growth["sd_score"], "reference": nasty, "remarks": [nasty]},
    }
    ages = {**found.ages, nasty: 100.0}
    page = document.html([replace(found, scores=scores, growth=growth, ages=ages)], [GREY], [None])
    assert "<script" not in page and page.count("&lt;script&gt;") == 4


def test_the_record_has_the_contracts_keys_and_no_nan() -> None:
    found = graded_assessment(sex=Sex.MALE, missing=("hamate",), age_months=120.0, measured=MEASURED)
    scores = {**found.scores, "tw3": {**found.scores["tw3"], "total": float("nan")}}
    record = json.loads(json.dumps(assessment_record(replace(found, scores=scores)), allow_nan=False))
    assert [region["bone"] for region in record["regions"]] == list(BONES)
    for region in record["regions"]:
        assert region.keys() == {"bone", "box_px", "grades", "confidence", "expected_grade"}
        assert (region["confidence"] is None) == (region["bone"] == "hamate")
    assert record["regions"][0]["grades"].keys() == {"rus_chn", "tw3", "chn"}
    assert record["scores"].keys() == {"rus_chn", "tw3"}
    assert record["scores"]["tw3"]["total"] is None
    assert record["scores"]["rus_chn"]["expected_age_months"] == record["ages"]["rus_chn"]
    assert record["growth"].keys() == {"plates", "sd_score", "adult_heights"}


@pytest.mark.parametrize(
    ("share", "words"), [(0.0, "0%"), (0.804, "80%"), (0.994, "99%"), (0.9999, ">99%"), (1.0, "100%")]
)
def test_a_percentage_short_of_certainty_is_not_100(share: float, words: str) -> None:
    assert percentage(share) == words
