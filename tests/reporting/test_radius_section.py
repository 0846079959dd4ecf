"""The report's section on the radius: its own view, its own grade and its own row stand out, in words too."""

from __future__ import annotations

import json
import re
from base64 import b64decode

import cv2
import numpy as np
import pytest
from boneage_fakes import assessment, graded_assessment
from radius_fakes import found_subgrade

from boneage.core.types import Assessment, MeanRadius, RadiusSubgrade, Sex
from boneage.reporting import document
from boneage.reporting.radius_section import OWN, radius_section, radius_words, totals_words
from boneage.reporting.tabular import assessment_record, failure_record

GREY = np.full((60, 40), 0.5, np.float32)
WHOLE = {"grade": 6, "subgrade": 6.0, "name": "6", "score": 69.0}


def shown(radius: RadiusSubgrade | None, sex: Sex = Sex.FEMALE) -> Assessment:
    """An assessment with grades, CHN's total by the sub-grade 6 points higher."""
    found = graded_assessment(sex=sex)
    own = {**found.scores["chn"], "total": found.scores["chn"]["total"] + 6}
    scores = {**found.scores, "chn_radius_subgraded": own}
    return graded_assessment(sex=sex, radius_subgrade=radius, scores=scores)


def section(radius: RadiusSubgrade, sex: Sex = Sex.FEMALE) -> str:
    return "\n".join(radius_section(shown(radius, sex)))


def figures(page: str) -> list[tuple[str, str, np.ndarray]]:
    """Class, caption and picture of every figure."""
    found = re.findall(
        r'<figure(?: class="(\w+)")?><img alt="[^"]+" src="data:image/jpeg;base64,([^"]+)">'
        r"<figcaption>(.*?)</figcaption></figure>",
        page,
    )
    pictures = [cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), 0) for _, data, _ in found]
    return [(kind, caption, own) for (kind, _, caption), own in zip(found, pictures, strict=True)]


def test_the_childs_view_stands_beside_mean_ones_and_its_own_is_marked() -> None:
    radius = found_subgrade()
    child, *means = figures(section(radius))
    assert child[:2] == ("child", "This child")
    assert [caption for _, caption, _ in means] == [
        "5, mean of 10",
        f"5_5, mean of 11<br>{OWN}",
        "6, mean of 12",
    ]
    assert [kind for kind, _, _ in means] == ["", "own", ""]
    columns = child[2].mean(axis=0)
    assert columns[:8].mean() < 15 and columns[-8:].mean() > 240, "the ramp of its view"
    assert abs(float(means[0][2].mean()) - 90) < 1


@pytest.mark.parametrize(
    ("sex", "whose", "scores"),
    [(Sex.FEMALE, "girls", (57, 63, 69, 74, 79)), (Sex.MALE, "boys", (59, 65, 71, 79, 87))],
)
@pytest.mark.parametrize("own", [1, 2, 4])
def test_the_score_table_is_the_papers_and_its_own_row_is_marked(
    sex: Sex, whose: str, scores: tuple[int, ...], own: int
) -> None:
    name = ("5", "5_5", "6", "6_5", "7")[own]
    grade = 5 + own / 2
    radius = found_subgrade(grade=int(grade), subgrade=grade, name=name, score=float(scores[own]))
    page = section(radius, sex)
    assert f"Score, {whose}" in page
    rows = re.findall(r'<tr( class="own")?><th scope="row">([\d_]+)</th><td>(\d+)</td><td>([^<]*)</td>', page)
    assert [(row[1], int(row[2])) for row in rows] == list(
        zip(("5", "5_5", "6", "6_5", "7"), scores, strict=True)
    )
    assert [bool(row[0]) for row in rows] == [row[3] == OWN for row in rows] == [at == own for at in range(5)]


def test_positions_and_totals_are_told_in_words() -> None:
    page = section(found_subgrade())
    assert "CHN 5_5 (between 5 and 6), score 63" in page
    assert "from the mean of grade 5 (0) to that of grade 6 (1) it lies at 0.44." in page
    scores = shown(None).scores
    own, whole = (round(scores[name]["total"]) for name in ("chn_radius_subgraded", "chn"))
    assert own == whole + 6 and f"CHN total {own} (" in page and f"whole grade {whole} (" in page
    assert "does not rest on them" in page


def test_words_of_a_whole_grade_and_of_no_total() -> None:
    assert radius_words(found_subgrade(**WHOLE)) == "CHN 6, score 69"
    both = shown(None).scores
    assert totals_words(found_subgrade(), both) != ""
    assert totals_words(found_subgrade(**WHOLE), both) == ""
    assert totals_words(found_subgrade(), {"chn": both["chn"]}) == totals_words(found_subgrade(), {}) == ""


def test_without_a_view_the_means_are_shown_alone() -> None:
    page = section(found_subgrade(**WHOLE, view=None, position={}))
    assert [kind for kind, _, _ in figures(page)] == ["", "", "own"]
    assert "it lies at" not in page


def test_a_grade_that_has_no_sub_grade_beside_it_has_neither_pictures_nor_table() -> None:
    radius = found_subgrade(grade=8, subgrade=8.0, name="8", score=83.0, position={}, view=None, means=())
    page = section(radius)
    assert "CHN 8, score 83" in page and "grade 8 has no sub-grade beside it" in page
    assert "<img" not in page and "<table" not in page


def test_a_sub_grade_that_the_papers_table_lacks_gets_a_row_between_its_neighbours() -> None:
    radius = found_subgrade(subgrade=5.25, name="5_25", score=60.0)
    rows = re.findall(r'<th scope="row">([\d_]+)</th><td>(\d+)</td>', section(radius))
    assert rows[:3] == [("5", "57"), ("5_25", "60"), ("5_5", "63")]


def test_the_section_is_in_the_page_where_a_sub_grade_is_and_only_there() -> None:
    page = document.html([shown(found_subgrade())], [GREY], [None])
    assert page.count('<section class="radius"><h3>Radius</h3>') == 1
    assert page.index("Grades and scores") < page.index("<h3>Radius</h3>") < page.index("How this was made")
    linked = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(linked) == 6 and all(value.startswith("data:image/jpeg;base64,") for value in linked)
    for other in (shown(None), assessment()):
        assert 'class="radius"' not in document.html([other], [GREY], [None])


def test_names_are_escaped() -> None:
    nasty = "<script>"
    mean = MeanRadius(5.5, nasty, np.zeros((4, 4), np.uint8), 9)
    page = section(found_subgrade(name=nasty, means=(mean,)))
    assert "<script" not in page and page.count("&lt;script&gt;") == 3


def test_the_record_has_the_sub_grade_without_pixels() -> None:
    record = json.loads(json.dumps(assessment_record(shown(found_subgrade())), allow_nan=False))
    assert record["radius_subgrade"] == {
        "grade": 5, "subgrade": 5.5, "name": "5_5", "score": 63.0, "position": {"5-6": 0.44},
    }  # fmt: skip
    assert record["scores"]["chn_radius_subgraded"].keys() == record["scores"]["chn"].keys()
    assert assessment_record(assessment())["radius_subgrade"] is None


def test_a_failure_has_the_same_keys() -> None:
    failed = failure_record(document.Failure("x.png", "failed", "x", "y"))
    assert failed["radius_subgrade"] is None
    assert failed.keys() == assessment_record(assessment()).keys() | {"code"}
