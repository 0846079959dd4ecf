"""One image in every cell: by the way of a file, with refusals as answers, and figures of the images read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boneage_fakes
import cv2
import numpy as np
import pytest

from boneage.core.errors import ConfigError, NotAHand
from boneage.core.types import Assessment, Notice, Radiograph, Sex
from boneage.data.synthetic import View, draw_hand
from boneage.inference.stress import (
    OK,
    REFUSED,
    UNCHANGED,
    Answer,
    answers,
    cells,
    effects,
    from_record,
    new_warnings,
    record,
)


class Brightness:
    """Reads the mean grey as an age, and refuses small images; it keeps what it saw."""

    def __init__(self, smallest: int = 0) -> None:
        self.smallest = smallest
        self.seen: list[Radiograph] = []

    def assess(self, source: Any, *, sex: Sex | None = None) -> Assessment:
        self.seen.append(source)
        if max(source.shape) < self.smallest:
            raise NotAHand("too small")
        age = 100 + 100 * float(source.pixels.mean())
        return boneage_fakes.assessment(bone_age_months=age, sex=sex, warnings=source.warnings)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stress") / "hand.png"
    pixels = draw_hand(120, Sex.FEMALE, view=View(shape=(420, 320))).pixels
    path.write_bytes(cv2.imencode(".png", np.round(pixels * 255).astype(np.uint8))[1].tobytes())
    return path


def test_every_cell_has_an_answer_and_the_unchanged_one_is_the_files(file: Path) -> None:
    reader = Brightness()
    found = answers(reader, file, Sex.FEMALE, seed=1)
    assert tuple(found) == cells() and all(answer.status == OK for answer in found.values())
    levels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_allclose(reader.seen[0].pixels, levels / np.float32(255), atol=1e-7)
    assert found["brightness +0.15 of full range"].age_months > found[UNCHANGED].age_months  # type: ignore[operator]


def test_an_inverted_image_goes_through_the_judgement_of_polarity(file: Path) -> None:
    found = answers(Brightness(), file, Sex.FEMALE, seed=1)
    inverted = found["inversion bone dark"]
    assert "polarity_corrected" in inverted.warnings
    assert inverted.age_months == pytest.approx(found[UNCHANGED].age_months, abs=0.01)


def test_a_refusal_is_an_answer_with_its_code(file: Path) -> None:
    found = answers(Brightness(smallest=300), file, Sex.FEMALE, seed=1)
    assert found["resolution 256 px"] == Answer(REFUSED, code="not_a_hand")
    assert found["resolution 384 px"].status == OK


def test_an_image_refused_as_it_is_has_no_other_cell(file: Path, tmp_path: Path) -> None:
    assert list(answers(Brightness(smallest=9999), file, Sex.FEMALE, 1)) == [UNCHANGED]
    absent = answers(Brightness(), tmp_path / "absent.png", Sex.FEMALE, 1)
    assert absent == {UNCHANGED: Answer(REFUSED, code="unreadable_image")}


def test_answers_outlive_json() -> None:
    found = {UNCHANGED: Answer(OK, 120.5, "", ("flat",)), "x": Answer(REFUSED, None, "not_a_hand")}
    assert from_record(json.loads(json.dumps(record(found)))) == found


def test_figures_are_of_the_images_that_are_read_as_they_are() -> None:
    def image(age: float, moved: float | None) -> dict[str, Answer]:
        other = (
            Answer(REFUSED, code="not_a_hand") if moved is None else Answer(OK, age + moved, "", ("flat",))
        )
        return dict.fromkeys(cells(), other) | {UNCHANGED: Answer(OK, age)}

    found = {"a": image(100, 3), "b": image(110, None), "c": {UNCHANGED: Answer(REFUSED)}}
    effect = effects(found, {"a": 100.0, "b": 110.0, "c": 120.0})["flip left to right"]
    assert (effect.images, effect.read, effect.refused.estimate) == (2, 1, 0.5)
    assert effect.mae_change is not None and effect.mae_change.estimate == pytest.approx(3)
    assert new_warnings(found)["flip left to right"] == {"flat": 1}
    with pytest.raises(ConfigError, match="none of the images"):
        effects({"c": found["c"]}, {"c": 120.0})


def test_a_notice_that_the_image_has_anyway_is_not_new() -> None:
    notice = Notice("flat", "flat")
    same = {name: Answer(OK, 1.0, "", (notice.code,)) for name in cells()}
    assert not any(new_warnings({"a": same}).values())
