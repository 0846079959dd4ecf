"""What site calibration gives on simulated shifts, over repeated random draws of a site's images.

    python benchmarks/calibrate.py [BUNDLE] --images 120 --draws 200
    python benchmarks/calibrate.py [BUNDLE] --exposures manifest.csv --limit 480 --work DIR

Answers and labels are the bundle's out-of-fold table, by models that had not seen the image. A draw takes
some of the images as the site's, calibrates on them by the product's own functions, and measures on the rest;
a draw whose calibration is refused keeps the bundle. Shifts of labels need no images. With `--exposures`,
real images are assessed as they are and at changed exposures, and only the shift between the two answers is
taken, image by image, and added to the out-of-fold answer: the shipped networks were trained on these
images, so their errors on them say nothing, but what a changed exposure does to an answer does. What was read
is kept in `--work`, and an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from boneage.batch import table
from boneage.batch.local import BundleReader, Settings
from boneage.batch.local import run as run_batch
from boneage.core.errors import BoneAgeError, ConfigError
from boneage.core.types import Sex
from boneage.data.manifest import Row, read_manifest
from boneage.data.splits import stratified_folds
from boneage.inference.bundle import Bundle
from boneage.inference.conclude import AGE_LIMITS_MONTHS
from boneage.inference.out_of_fold import read_oof
from boneage.inference.site_fit import (
    apply_lines,
    cross_correct,
    fit_bands,
    fit_lines,
    half_widths,
    refuse_harm,
)
from boneage.inference.site_table import FOLDS, LocalReadings, check_readings

Vector = NDArray[np.float64]

EXPOSURES: Mapping[str, Callable[[Vector], Vector]] = {
    "as it is": lambda pixels: pixels,
    "gamma 3": lambda pixels: pixels**3,
    "contrast 40%": lambda pixels: 0.5 + 0.4 * (pixels - 0.5),
    "white from 60%": lambda pixels: np.minimum(pixels / 0.6, 1.0),
    "noise of 2%": lambda pixels: pixels + np.random.default_rng(0).normal(0, 0.02, pixels.shape),
}
"""What is done to pixels in 0 to 1, bone bright: a dark film, a flat one, one that has lost all detail in
what is bright, and one with the grain of a low dose."""

BOYS_MONTHS = 6.0
FIGURES = ("boys' bias", "girls' bias", "MAE", "in the interval", "its width")


@dataclass(frozen=True)
class Setting:
    """A shift that is simulated: the readings of all images, and which rows they are."""

    name: str
    readings: LocalReadings
    rows: Sequence[Row]


def out_of_fold(bundle: Bundle) -> tuple[LocalReadings, list[Row]]:
    """Return the bundle's out-of-fold answers with its own intervals, and a row an image."""
    path, main = bundle.path / "oof.csv", str(bundle.manifest["method"])
    oof, alone = read_oof(path), read_oof(path, main).predicted
    rows = [
        Row(name, Path(name), Sex(sex), float(age))
        for name, sex, age in zip(oof.ids, oof.sex, oof.truth, strict=True)
    ]
    readings = answered(bundle, oof.predicted, LocalReadings(oof.sex, *[oof.truth] * 4, alone, oof.fold))
    return readings, rows


def calibration_of(bundle: Bundle) -> Any:
    """Return the settings of the intervals of the bundle's answer."""
    joined = bundle.manifest.get("combination")
    return (joined or bundle.manifest["methods"][bundle.manifest["method"]])["calibration"]


def answered(bundle: Bundle, ages: Vector, readings: LocalReadings) -> LocalReadings:
    """Return the readings with other answers (N,) and the bundle's intervals around them."""
    ages = np.clip(ages, *AGE_LIMITS_MONTHS)
    half = half_widths(ages, calibration_of(bundle))
    return readings.with_answers(ages, ages - half, ages + half)


def figures(readings: LocalReadings) -> list[float]:
    """Return `FIGURES` of some answers."""
    error = readings.answered - readings.truth
    held = (readings.truth >= readings.lower) & (readings.truth <= readings.upper)
    return [
        float(error[readings.sex == Sex.MALE].mean()),
        float(error[readings.sex == Sex.FEMALE].mean()),
        float(np.abs(error).mean()),
        float(held.mean()),
        float((readings.upper - readings.lower).mean()),
    ]


def calibrated(site: LocalReadings, rest: LocalReadings, calibration: Mapping[str, Any]) -> LocalReadings:
    """Return the rest's answers after calibration on the site's images.

    Raises:
        ConfigError: the calibration is refused.
    """
    check_readings(site)
    corrected = cross_correct(site, site.answered)
    refuse_harm(site, corrected)
    ages = apply_lines(fit_lines(site), rest.sex, rest.answered)
    half = half_widths(ages, fit_bands(corrected, site.truth, calibration))
    return rest.with_answers(ages, ages - half, ages + half)


def draw(setting: Setting, images: int, calibration: Mapping[str, Any], seed: int) -> tuple[Any, Any, bool]:
    """Return the figures before and after on the rest, and whether the calibration was refused."""
    order = np.random.default_rng(seed).permutation(len(setting.readings))
    chosen, others = np.sort(order[:images]), np.sort(order[images:])
    folds = stratified_folds([setting.rows[at] for at in chosen], FOLDS)
    site, rest = replace(setting.readings.take(chosen), fold=folds), setting.readings.take(others)
    try:
        after, refused = calibrated(site, rest, calibration), False
    except ConfigError:
        after, refused = rest, True
    return figures(rest), figures(after), refused


def shifted_labels(readings: LocalReadings, rows: Sequence[Row]) -> Iterator[Setting]:
    """Yield the labels as they are, and those of boys some months higher."""
    yield Setting("labels as they are", readings, rows)
    boys = readings.sex == Sex.MALE
    higher = np.clip(readings.truth + BOYS_MONTHS * boys, *AGE_LIMITS_MONTHS)
    yield Setting(f"boys' labels {BOYS_MONTHS:+g} months", replace(readings, truth=higher), rows)


def read_exposures(bundle: Bundle, rows: Sequence[Row], work: Path) -> dict[str, dict[str, float]]:
    """Return exposure -> id -> the bundle's answer, of the images that it could read."""
    ages = {}
    for name, change in EXPOSURES.items():
        folder = work / "".join(letter if letter.isalnum() else "_" for letter in name)
        folder.mkdir(parents=True, exist_ok=True)
        changed = [replace(row, path=folder / f"{row.id}.png") for row in rows]
        for row, to in zip(rows, changed, strict=True):
            if not to.path.exists():
                image = cv2.imread(str(row.path), cv2.IMREAD_GRAYSCALE)
                if image is None:
                    raise ConfigError(f"{row.path} cannot be read; give the challenge's own images")
                pixels = change(image.astype(np.float64) / 255)
                cv2.imwrite(str(to.path), np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
        out = work / f"{folder.name}.csv"
        run_batch(changed, out, BundleReader(bundle.path), Settings(workers=1, resume=True))
        ages[name] = {
            str(record["id"]): float(record["bone_age_months"])
            for record in table.read(out)
            if record["status"] == "ok"
        }
    return ages


def changed_exposures(
    bundle: Bundle, readings: LocalReadings, rows: Sequence[Row], options: argparse.Namespace
) -> Iterator[Setting]:
    """Yield the out-of-fold answers, each moved by what a changed exposure does to the image's answer."""
    places = {row.id: at for at, row in enumerate(rows)}
    images = [row for row in read_manifest(options.exposures) if row.id in places]
    order = np.sort(np.random.default_rng(0).permutation(len(images))[: options.limit])
    ages = read_exposures(bundle, [images[at] for at in order], options.work)
    plain = ages.pop(next(iter(EXPOSURES)))
    for name, changed in ages.items():
        known = [one for one in plain if one in changed]
        at = np.array([places[one] for one in known])
        moved = np.array([changed[one] - plain[one] for one in known])
        some = readings.take(at)
        boys = some.sex == Sex.MALE
        print(
            f"{name}: {len(known)} images; the answer moves by {moved[boys].mean():+.2f} (SD "
            f"{moved[boys].std():.2f}) of boys, {moved[~boys].mean():+.2f} (SD {moved[~boys].std():.2f}) of "
            f"girls; {len(plain) - len(known)} images are refused"
        )
        yield Setting(name, answered(bundle, some.answered + moved, some), [rows[place] for place in at])


def report(settings: Iterator[Setting], bundle: Bundle, images: int, draws: int) -> None:
    """Print the figures of every setting: the mean over the draws and where 95% of the draws lie."""
    head = ["setting", "", *(f"{name} (95% of draws)" for name in FIGURES), "draws refused"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "--:|" * (len(FIGURES) + 1)]
    for setting in settings:
        found = [draw(setting, images, calibration_of(bundle), seed) for seed in range(draws)]
        refused = float(np.mean([one[2] for one in found]))
        for number, when in enumerate(("before", "after")):
            every = np.array([one[number] for one in found])
            cells = [_cell(name, column) for name, column in zip(FIGURES, every.T, strict=True)]
            last = f"{refused:.0%}" if number else ""
            lines.append("| " + " | ".join([setting.name, when, *cells, last]) + " |")
        print(f"{setting.name}: {draws} draws", file=sys.stderr, flush=True)
    print(f"\n{bundle.name}: calibrated on {images} images, measured on the rest; {draws} draws\n")
    print("\n".join(lines))


def _cell(name: str, values: Vector) -> str:
    low, high = np.percentile(values, [2.5, 97.5])
    form = {"in the interval": ".0%", "its width": ".0f", "MAE": ".2f"}.get(name, "+.1f")
    return f"{values.mean():{form}} ({low:{form}} to {high:{form}})"


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, nargs="?", help="a bundle's folder; the shipped one if absent")
    parser.add_argument("--images", type=int, default=120, help="that a draw calibrates on (default 120)")
    parser.add_argument("--draws", type=int, default=200, help="random draws (default 200)")
    parser.add_argument(
        "--exposures", type=Path, help="manifest of the training images: change their exposure"
    )
    parser.add_argument("--limit", type=int, default=480, help="of them that are read (default 480)")
    parser.add_argument("--work", type=Path, help="folder that keeps what was read")
    options = parser.parse_args()
    try:
        if options.exposures is not None and options.work is None:
            raise ConfigError("--exposures needs --work DIR, a folder that keeps what was read: give one")
        bundle = Bundle.load(options.bundle)
        readings, rows = out_of_fold(bundle)
        settings = (
            shifted_labels(readings, rows)
            if options.exposures is None
            else changed_exposures(bundle, readings, rows, options)
        )
        report(settings, bundle, options.images, options.draws)
    except BoneAgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
