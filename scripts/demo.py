"""Assess a few images, print a table and write a report: what `make demo` runs.

The images are those named; else some labelled radiographs, where their folder is there; else drawn hands.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from boneage import Assessment, Assessor, BoneAgeError, Bundle, Radiograph, Sex, read
from boneage.cli.console import complain, rich_console
from boneage.core.errors import ExitCode, exit_code
from boneage.data.manifest import Row, read_manifest
from boneage.data.synthetic import draw_hand, save_drawings
from boneage.reporting import document
from boneage.reporting.tabular import Failure, years_and_months

DRAWN = ((36.0, Sex.FEMALE), (84.0, Sex.MALE), (120.0, Sex.FEMALE), (168.0, Sex.MALE))
PER_SEX = 3


@dataclass(frozen=True)
class Subject:
    """An image to assess: where it lies, or the drawing itself, and what is known of it."""

    row: Row
    drawing: Radiograph | None = None

    def radiograph(self) -> Radiograph:
        """Return the drawing, or read the file."""
        return self.drawing or read(self.row.path)


def named(path: Path, sex: Sex | None) -> list[Subject]:
    """Return the image, the folder's images or the manifest's rows; `sex` fills in what they lack."""
    rows = read_manifest(path) if path.is_dir() or path.suffix == ".csv" else (Row(path.stem, path, None),)
    return [Subject(row if row.sex else replace(row, sex=sex)) for row in rows]


def labelled(manifest: Path) -> list[Subject]:
    """Return a few radiographs of a labelled collection: girls and boys, spread over the ages."""
    rows = sorted(read_manifest(manifest), key=lambda row: (row.bone_age_months or 0.0, row.id))
    groups = ([row for row in rows if row.sex is sex] for sex in Sex)
    return [
        Subject(group[(2 * k + 1) * len(group) // (2 * PER_SEX)]) for group in groups for k in range(PER_SEX)
    ]


def drawn(folder: Path) -> list[Subject]:
    """Draw hands into a folder and return them."""
    hands = [draw_hand(age, sex, seed) for seed, (age, sex) in enumerate(DRAWN)]
    rows = read_manifest(save_drawings(folder, hands))
    return [
        Subject(row, replace(hand.radiograph, path=str(row.path)))
        for row, hand in zip(rows, hands, strict=True)
    ]


def choose(images: str, data: Path, out: Path, sex: Sex | None) -> tuple[list[Subject], str]:
    """Return what to assess, and one sentence that says what it is."""
    if images:
        return named(Path(images), sex), f"assessing {images}"
    if (data / "labels.csv").is_file():
        return labelled(data / "labels.csv"), (
            f"assessing radiographs of {data}. The shipped networks were trained on that collection: the "
            "reference column shows how a result reads; docs/reference/model-card.md says how exact it is."
        )
    return drawn(out / "drawn"), (
        f"no radiographs at {data}, so these hands are DRAWN by boneage (in {out / 'drawn'}). They show that "
        "everything runs; their bone ages mean nothing. Try IMAGES=path SEX=female for a radiograph of yours."
    )


def assess(
    assessor: Assessor, subjects: Sequence[Subject], articles: list[str]
) -> Iterator[Assessment | Failure]:
    """Assess one subject after another, adding each one's part of the report."""
    for subject in subjects:
        row = subject.row
        try:
            radiograph = subject.radiograph()
            assessment = assessor.assess(
                radiograph, sex=row.sex, chronological_age_months=row.chronological_age_months
            )
            saliency = assessor.saliency(radiograph, assessment)
        except BoneAgeError as error:
            yield Failure.of(str(row.path), error)
            continue
        articles.append(document.article(assessment, radiograph.pixels, saliency))
        yield assessment


def show(console: Console, subjects: Sequence[Subject], results: Sequence[Assessment | Failure]) -> None:
    """Print one line an image, and under the table each warning and each refusal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("image", "sex", "bone age", "months", "interval", "reference", "warnings"):
        table.add_column(title, overflow="fold")
    remarks = []
    for subject, result in zip(subjects, results, strict=True):
        name = subject.row.path.name
        if isinstance(result, Failure):
            table.add_row(name, "", result.status, "", "", "", result.code)
            remarks.append(result.line)
            continue
        low, high = result.interval_months
        known = subject.row.bone_age_months
        table.add_row(
            name,
            str(result.sex),
            years_and_months(result.bone_age_months),
            f"{result.bone_age_months:.0f}",
            f"{low:.0f} to {high:.0f} ({result.coverage:.0%})",
            "" if known is None else f"{known:.0f}",
            ", ".join(notice.code for notice in result.warnings),
        )
        remarks += [f"{name}: {notice.text}" for notice in result.warnings]
    console.print(table)
    for remark in remarks:
        console.print(remark, markup=False, soft_wrap=True)


def run(arguments: argparse.Namespace, console: Console) -> ExitCode:
    """Do the demo and return the exit code."""
    sex = Sex.parse(arguments.sex) if arguments.sex else None
    arguments.out.mkdir(parents=True, exist_ok=True)
    subjects, sentence = choose(arguments.images, arguments.data, arguments.out, sex)
    console.print(sentence, markup=False)
    articles: list[str] = []
    results = list(assess(Assessor(Bundle.load()), subjects, articles))
    show(console, subjects, results)
    failures = [result for result in results if isinstance(result, Failure)]
    report = arguments.out / "report.html"
    report.write_text(document.page(articles, failures), encoding="utf-8")
    console.print(f"report: {report.resolve()}", markup=False, soft_wrap=True)
    console.print("Research use only; not a medical device.")
    if not failures:
        return ExitCode.DONE
    return ExitCode.SOME_FAILED if articles else ExitCode.FAILED


def main() -> int:
    """Read the arguments, do the demo, and put an error on one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="", help="an image, a folder or a manifest (CSV)")
    parser.add_argument("--sex", default="", help="sex of the images that name none")
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with labels.csv, for when no image is named"
    )
    parser.add_argument("--out", type=Path, required=True)
    try:
        return run(parser.parse_args(), rich_console())
    except BoneAgeError as error:
        complain(error)
        return exit_code(error)


if __name__ == "__main__":
    sys.exit(main())
