"""Every worked example and published point of golden_cases.csv, to the tolerance that it states."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from boneage.standards import adult_height
from boneage.standards.adult_height import CM_PER_INCH, Child, HeightPrediction
from boneage.standards.scoring import score, standard

Case = dict[str, str]
CASES: list[Case] = list(
    csv.DictReader((Path(__file__).parent / "golden_cases.csv").read_text("utf-8").splitlines())
)


def found(pattern: str, text: str) -> float:
    """Return the number that a pattern's group finds in a text."""
    match = re.search(pattern, text)
    assert match is not None, (pattern, text)
    return float(match[1])


def tolerance(case: Case) -> float:
    """Return a case's tolerance in its own unit; `exact` leaves room for the last binary digit."""
    return 1e-9 if case["tolerance"] == "exact" else found(r"^([\d.]+)", case["tolerance"])


def years(text: str, name: str) -> float:
    """Return an age written as `CA 12.5 y`, `CA 6y3m` or `CA 156 mo`."""
    if match := re.search(rf"{name} (\d+)y(\d+)m", text):
        return int(match[1]) + int(match[2]) / 12
    if match := re.search(rf"{name} ([\d.]+) mo", text):
        return float(match[1]) / 12
    return found(rf"{name} ([\d.]+) y", text)


def check_bayley_pinneau(case: Case) -> None:
    text = case["inputs"]
    child = Child(
        case["sex"],  # type: ignore[arg-type]
        age_months=years(text, "CA") * 12,
        height_cm=found(r"height ([\d.]+) in", text) * CM_PER_INCH,
        bone_age_months=years(text, "SA") * 12,
    )
    prediction = adult_height.bayley_pinneau(child)
    inches = found(r"([\d.]+) in", case["expected"])
    assert prediction.height_cm / CM_PER_INCH == pytest.approx(inches, abs=tolerance(case))
    category = case["expected"].partition(";")[0].replace("retarded", "delayed")
    assert prediction.edition.endswith(f": {category} bone age")
    if "%" in case["expected"]:
        percent = child.height_cm / prediction.height_cm * 100
        assert percent == pytest.approx(found(r"([\d.]+)%", case["expected"]), abs=1e-9)


def check_tw_mark1(case: Case) -> None:
    text, expected = case["inputs"], case["expected"]

    def predict(**parents: float) -> float:
        child = Child(
            case["sex"],  # type: ignore[arg-type]
            age_months=years(text, "CA") * 12,
            height_cm=found(r"height ([\d.]+) cm", text),
            bone_age_months=years(text, "BA") * 12,
            menarche={"pre": False, "post": True}.get(text.rpartition(" ")[2].removesuffix("menarcheal")),
            **parents,
        )
        return adult_height.tw_mark1(child).height_cm

    assert predict() == pytest.approx(found(r"^([\d.]+) cm", expected), abs=tolerance(case))
    if "mid-parent 165.0" in expected:
        allowed = found(r"mid-parent 165.0: ([\d.]+) cm", expected)
        assert predict(father_cm=170, mother_cm=160) == pytest.approx(allowed, abs=tolerance(case))


def check_rwt(case: Case, predict: Callable[[Child], HeightPrediction], length: str, parents: str) -> None:
    text = case["inputs"]
    centimetres, mid_parent = found(rf"{length} ([\d.]+) cm", text), found(rf"{parents} ([\d.]+) cm", text)
    child = Child(
        case["sex"],  # type: ignore[arg-type]
        age_months=years(text, "CA") * 12,
        height_cm=centimetres,
        recumbent_length_cm=centimetres,
        weight_kg=found(r"weight ([\d.]+) kg", text),
        father_cm=mid_parent + 6,
        mother_cm=mid_parent - 6,
        bone_age_months=years(text, "SA") * 12,
    )
    expected = found(r"^([\d.]+) cm", case["expected"])
    assert predict(child).height_cm == pytest.approx(expected, abs=tolerance(case))


def check_curve(case: Case) -> None:
    name = case["method"].removesuffix("_total_to_age")
    total = found(r"(?:total|RUS) ([\d.]+)", case["inputs"])
    age, _ = standard(name).age_months(case["sex"], total)
    assert age / 12 == pytest.approx(float(case["expected"]), abs=tolerance(case))


def check_full_hand(case: Case, name: str) -> None:
    chosen = standard(name)
    grades = {bone: chosen.grades(bone)[-1] for bone in chosen.bones}
    if "radius grade" in case["inputs"]:
        grades[chosen.bones[0]] = found(r"radius grade (\d+)", case["inputs"])
    sheet = score(name, case["sex"], grades)
    assert sheet.total == found(r"total (\d+)", case["expected"])
    if "age" in case["expected"]:
        assert sheet.age_months / 12 == pytest.approx(found(r"age ([\d.]+)", case["expected"]), abs=1e-9)


CHECKS: dict[str, Callable[[Case], None]] = {
    "bayley_pinneau": check_bayley_pinneau,
    "tw_mark1_1975": check_tw_mark1,
    "rwt_1975": lambda case: check_rwt(case, adult_height.rwt_1975, "recumbent length", "mid-parent"),
    "rwt_1993": lambda case: check_rwt(case, adult_height.rwt_1993, "stature", "MPS"),
    "chn_total_to_age": check_curve,
    "rus_chn_total_to_age": check_curve,
    "tw3_total_to_age": check_curve,
    "chn_full": lambda case: check_full_hand(case, "chn"),
    "rus_chn_scores": lambda case: check_full_hand(case, "rus_chn"),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_golden_case(case: Case) -> None:
    CHECKS[case["method"]](case)


def test_the_cases_are_all_there() -> None:
    assert len(CASES) == 35
    assert {case["method"] for case in CASES} == set(CHECKS)
