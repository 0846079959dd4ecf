"""Folds: balanced by sex and age, whole by patient, the same for everyone."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boneage.core.errors import ConfigError
from boneage.core.types import Sex
from boneage.data.manifest import Row, read_manifest
from boneage.data.splits import read_folds, stratified_folds, write_folds


def _row(number: int, sex: Sex | None, age: float | None, patient: str | None = None) -> Row:
    return Row(str(number), Path(f"{number}.png"), sex, age, patient_id=patient)


_ROWS = st.lists(
    st.tuples(
        st.sampled_from([*Sex, None]),
        st.one_of(st.none(), st.floats(0, 228)),
        st.one_of(st.none(), st.sampled_from("abcdefgh")),
    ),
    min_size=13,
    max_size=60,
).map(lambda drawn: [_row(number, *values) for number, values in enumerate(drawn)])


@settings(deadline=None, max_examples=30)
@given(rows=_ROWS, seed=st.integers(0, 5))
def test_any_rows_are_split_whole_by_patient_whatever_their_order(rows: list[Row], seed: int) -> None:
    if len({row.patient_id or f"own {row.id}" for row in rows}) < 3:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = stratified_folds(rows, 3, seed)
    by_id = {row.id: fold for row, fold in zip(rows, folds, strict=True)}
    assert set(folds) == {0, 1, 2}
    for patient in {row.patient_id for row in rows if row.patient_id}:
        assert len({by_id[row.id] for row in rows if row.patient_id == patient}) == 1
    backwards = rows[::-1]
    assert (
        dict(zip([row.id for row in backwards], stratified_folds(backwards, 3, seed), strict=True)) == by_id
    )


def test_single_images_are_spread_evenly_over_sex_and_age() -> None:
    rng = np.random.default_rng(1)
    rows = [_row(n, Sex.MALE if n % 3 else Sex.FEMALE, float(rng.uniform(12, 228))) for n in range(503)]
    folds = stratified_folds(rows)
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 1
    for sex in Sex:
        for low in range(0, 228, 24):
            inside = [row.sex is sex and low <= (row.bone_age_months or 0) < low + 24 for row in rows]
            counts = np.bincount(folds[inside], minlength=5)
            assert counts.max() - counts.min() <= 2, (sex, low, counts)


def test_the_seed_matters() -> None:
    rows = [_row(n, Sex.MALE, float(n)) for n in range(50)]
    assert (stratified_folds(rows, seed=0) != stratified_folds(rows, seed=1)).any()


def test_large_patients_do_not_pile_up() -> None:
    rows = [_row(n, Sex.MALE, 100.0, f"p{n // 10}" if n < 50 else None) for n in range(100)]
    assert np.bincount(stratified_folds(rows)).tolist() == pytest.approx([20] * 5, abs=3)


def test_too_few_patients_or_folds_are_refused() -> None:
    rows = [_row(n, Sex.MALE, 100.0, "one") for n in range(9)]
    with pytest.raises(ConfigError, match="at least 5 patients, got 1"):
        stratified_folds(rows)
    with pytest.raises(ConfigError, match="at least 2 folds"):
        stratified_folds(rows, 1)


def test_folds_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [_row(n, Sex.FEMALE, float(n)) for n in range(7)]
    folds = stratified_folds(rows, 3)
    write_folds(tmp_path / "folds.csv", rows, folds)
    assert read_folds(tmp_path / "folds.csv") == {row.id: int(f) for row, f in zip(rows, folds, strict=True)}
    assert [path.name for path in tmp_path.iterdir()] == ["folds.csv"]
    with pytest.raises(ConfigError, match="a fold for each of 6 rows"):
        write_folds(tmp_path / "folds.csv", rows[1:], folds)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,part\n1,0\n", ":1: expected the columns id and fold"),
        ("id,fold\n1,x\n", ":2: fold must be a whole number"),
        ("id,fold\n1,-1\n", ":2: fold must be a whole number"),
        ("id,fold\n1,0\n1,1\n", ":3: the id is empty or was there before"),
    ],
)
def test_bad_fold_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_folds(tmp_path / "f.csv")
    assert said in str(caught.value)


def test_the_real_set_is_balanced(shared_data: Path) -> None:
    rows = read_manifest(shared_data / "rsna" / "labels.csv")
    folds = stratified_folds(rows)
    means = [
        np.mean([row.bone_age_months or 0 for row, f in zip(rows, folds, strict=True) if f == k])
        for k in range(5)
    ]
    girls = [
        sum(row.sex is Sex.FEMALE for row, f in zip(rows, folds, strict=True) if f == k) for k in range(5)
    ]
    assert max(means) - min(means) < 1.0
    assert max(girls) - min(girls) <= 1
