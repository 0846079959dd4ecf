"""`boneage assess`: read one or many images and say their bone age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from boneage.cli.assess_report import ReportParts, check_report, form_of
from boneage.cli.console import (
    check_age,
    complain,
    note,
    parse_sex,
    print_json,
    rich_console,
    warn,
    write_file,
)
from boneage.core.errors import EXIT_CODES, BoneAgeError, ConfigError, ExitCode
from boneage.core.runtime import DEFAULT_RUNTIME

if TYPE_CHECKING:
    from boneage.core.types import AgeDistribution, Assessment, Neighbours, RadiusSubgrade, Region, Sex
    from boneage.inference.assess import Assessor
    from boneage.inference.growth import Measurements
    from boneage.reporting.tabular import Failure

STANDARDS = {"rus_chn": "RUS-CHN", "tw3": "TW3", "chn": "CHN"}
"""Standard -> its column's title; ages in months, by the most probable grades."""

NEIGHBOURS = "neighbours"
EXPLANATIONS = (NEIGHBOURS,)
"""What `--explain` can show beside the answer."""


@dataclass(slots=True)
class _Outcome:
    """What became of the images, in their order; the parts of the report are made on the way."""

    results: list[Assessment | Failure] = field(default_factory=list)

    @property
    def failures(self) -> list[Failure]:
        from boneage.reporting.tabular import Failure

        return [result for result in self.results if isinstance(result, Failure)]

    @property
    def assessments(self) -> list[Assessment]:
        from boneage.core.types import Assessment

        return [result for result in self.results if isinstance(result, Assessment)]


def assess(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="PNG, JPEG, TIFF, WebP or DICOM.")],
    sex: Annotated[
        str | None, typer.Option(metavar="female|male", help="Also F or M; DICOM's own is used if absent.")
    ] = None,
    age_months: Annotated[float | None, typer.Option(help="Chronological age, for the SD score.")] = None,
    height_cm: Annotated[float | None, typer.Option(help="Standing height, to predict the adult's.")] = None,
    weight_kg: Annotated[float | None, typer.Option(help="Weight, which some predictions need.")] = None,
    father_cm: Annotated[float | None, typer.Option(help="The father's height, likewise.")] = None,
    mother_cm: Annotated[float | None, typer.Option(help="The mother's height, likewise.")] = None,
    menarche: Annotated[
        bool | None, typer.Option("--menarche/--no-menarche", help="Whether a girl's periods have begun.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list, an object an image.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a report: .html or .pdf of all images, .dcm (DICOM SR) or .fhir.json of one.",
        ),
    ] = None,
    radius_subgrades: Annotated[
        bool, typer.Option("--radius-subgrades", help="Tell the radius' sub-grade of CHN too, as 5_5.")
    ] = False,
    explain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(EXPLANATIONS),
            help="Show beside the answer which training hands are alike, and their bone ages; repeatable.",
        ),
    ] = None,
    localise: Annotated[
        Literal["fast", "dfc"],
        typer.Option(help="Find the hand by the shipped net, or by clustering (slow)."),
    ] = "fast",
    runtime: Annotated[
        Literal["onnxruntime", "openvino"], typer.Option(help="What runs the graphs.")
    ] = DEFAULT_RUNTIME,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the runtime.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Use this bundle, not the shipped one.")] = None,
) -> None:
    """Read the bone age of one or many images.

    Results go to standard output, one line for each problem to standard error.

    One image that fails ends with 1, or 2 if its sex is missing; of several, 3 if some fail.
    """
    known_sex = parse_sex(sex)
    check_age(age_months)
    check_report(report, len(images))
    check_explanations(explain or ())
    patient = _patient(
        known_sex, age_months, len(images), height_cm, weight_kg, father_cm, mother_cm, menarche
    )
    try:
        neighbours = NEIGHBOURS in (explain or ())
        assessor = _load(bundle, localise, runtime, threads, radius_subgrades, neighbours)
    except BoneAgeError as error:
        if as_json:
            _print_records([_failure(path, error) for path in images])
        raise
    parts = None if report is None else ReportParts(form_of(report))
    outcome = _read_all(images, assessor, patient, parts)
    if as_json:
        _print_records(outcome.results)
    elif len(outcome.failures) < len(images):
        _print_table(outcome.results)
        if len(images) == 1:
            _print_details(outcome.assessments)
    if report is not None and parts is not None:
        _write_report(report, parts, outcome.failures, as_json)
    raise typer.Exit(_exit_code(outcome))


@dataclass(frozen=True, slots=True)
class _Patient:
    """What is said of the patient on the command line."""

    sex: Sex | None
    age_months: float | None
    measured: Measurements


def _patient(
    sex: Sex | None,
    age_months: float | None,
    images: int,
    height_cm: float | None,
    weight_kg: float | None,
    father_cm: float | None,
    mother_cm: float | None,
    menarche: bool | None,
) -> _Patient:
    """Return the patient, or say which measurements do not go together."""
    from boneage.inference.growth import Measurements

    measured = Measurements(height_cm, weight_kg, father_cm, mother_cm, menarche)
    given = [value is not None for value in (height_cm, weight_kg, father_cm, mother_cm, menarche)]
    if any(given) and images > 1:
        raise ConfigError("--height-cm and what goes with it belong to one patient: give one image")
    if any(given) and height_cm is None:
        raise ConfigError("an adult height is predicted from --height-cm: give it too")
    return _Patient(sex, age_months, measured)


def check_explanations(wanted: Sequence[str]) -> None:
    """Refuse an explanation that there is none of, before any image is read.

    Raises:
        ConfigError: it names those that there are.
    """
    for name in wanted:
        if name not in EXPLANATIONS:
            raise ConfigError(f"--explain knows no {name!r}: give {' or '.join(EXPLANATIONS)}")


def _load(
    bundle: Path | None,
    localise: str,
    runtime: str,
    threads: int | None,
    radius_subgrades: bool,
    neighbours: bool,
) -> Assessor:
    from boneage.inference.assess import Assessor
    from boneage.inference.bundle import Bundle

    return Assessor(
        Bundle.load(bundle),
        localise=localise,
        runtime=runtime,
        threads=threads,
        radius_subgrades=radius_subgrades,
        neighbours=neighbours,
    )


def _read_all(
    images: Sequence[Path], assessor: Assessor, patient: _Patient, parts: ReportParts | None
) -> _Outcome:
    """Read every image; a failure is said on standard error as it happens and kept as a result."""
    outcome = _Outcome()
    for path in images:
        try:
            assessment = _read(path, assessor, patient, parts)
        except BoneAgeError as error:
            failure = _failure(path, error)
            complain(failure.line)
            outcome.results.append(failure)
            continue
        for notice in assessment.warnings:
            warn(f"{path}: {notice.text}")
        outcome.results.append(assessment)
    return outcome


def _read(path: Path, assessor: Assessor, patient: _Patient, parts: ReportParts | None) -> Assessment:
    from boneage.imaging.read import read
    from boneage.reporting.forms import check_form

    radiograph = read(path)
    if parts is not None:
        check_form(parts.form, radiograph)
    assessment = assessor.assess(
        radiograph,
        sex=patient.sex,
        chronological_age_months=patient.age_months,
        measured=patient.measured,
    )
    if parts is not None:
        parts.add(radiograph, assessment, assessor)
    return assessment


def _write_report(report: Path, parts: ReportParts, failures: Sequence[Failure], as_json: bool) -> None:
    """Write the report, where there is something to report."""
    content = parts.content(failures)
    if content is None:
        return
    write_file(report, content)
    if not as_json:
        typer.echo(f"report: {report}")


def _failure(path: Path, error: BoneAgeError) -> Failure:
    from boneage.reporting.tabular import Failure

    return Failure.of(str(path), error)


def _print_records(results: Sequence[Assessment | Failure]) -> None:
    from boneage.reporting.tabular import Failure, assessment_record, failure_record

    print_json(
        [
            failure_record(result) if isinstance(result, Failure) else assessment_record(result)
            for result in results
        ]
    )


def _print_table(results: Sequence[Assessment | Failure]) -> None:
    from rich.table import Table

    from boneage.reporting.tabular import Failure

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("image", overflow="fold")
    for title in ("bone age", "months", "interval", *STANDARDS.values()):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("remarks", overflow="fold")
    for result in results:
        table.add_row(*(_failed_cells(result) if isinstance(result, Failure) else _cells(result)))
    rich_console().print(table, markup=False)


def _cells(assessment: Assessment) -> tuple[str, ...]:
    from boneage.reporting.tabular import years_and_months

    low, high = assessment.interval_months
    return (
        assessment.path,
        years_and_months(assessment.bone_age_months),
        f"{assessment.bone_age_months:.1f}",
        f"{low:.1f} to {high:.1f} ({assessment.coverage:.0%})",
        *(_months(assessment.ages.get(name)) for name in STANDARDS),
        ", ".join(notice.code for notice in assessment.warnings),
    )


def _failed_cells(failure: Failure) -> tuple[str, ...]:
    return failure.path, *"-" * (3 + len(STANDARDS)), f"{failure.status}: {failure.code}"


def _months(age: float | None) -> str:
    return "-" if age is None else f"{age:.0f}"


def _print_details(assessments: Sequence[Assessment]) -> None:
    """Print one image's intervals, grades, neighbours and growth; on standard error, what is to be noted."""
    for assessment in assessments:
        if assessment.distribution is not None:
            _print_intervals(assessment.distribution)
        if assessment.regions:
            _print_grades(assessment)
        if assessment.radius_subgrade is not None:
            _print_radius(assessment.radius_subgrade, assessment.scores)
        if assessment.neighbours is not None:
            _print_neighbours(assessment.neighbours)
        _print_growth(assessment)


def _print_intervals(distribution: AgeDistribution) -> None:
    from boneage.reporting.tabular import likely_intervals, percentage

    named = (f"{name} {percentage(share)}" for name, share in likely_intervals(distribution))
    typer.echo(f"\nbone age lies in: {', '.join(named)}")


def _print_grades(assessment: Assessment) -> None:
    from rich.table import Table

    from boneage.reporting.tabular import percentage
    from boneage.standards.names import Bone

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("bone")
    for title in (*STANDARDS.values(), "confidence"):
        table.add_column(title, justify="right", no_wrap=True)
    for region in assessment.regions:
        shown = _grades(region)
        sure = "not graded" if region.confidence is None else percentage(region.confidence)
        table.add_row(Bone(region.bone).readable, *(shown.get(name, "") for name in STANDARDS), sure)
    for title, key in (("total", "total"), ("expected total", "expected_total")):
        totals = (assessment.scores.get(name) for name in STANDARDS)
        table.add_row(title, *("-" if total is None else f"{total[key]:.0f}" for total in totals), "")
    rich_console().print()
    rich_console().print(table, markup=False)
    for remark in {text: None for score in assessment.scores.values() for text in score["remarks"]}:
        note(f"note: {remark}")


def _grades(region: Region) -> dict[str, str]:
    """Return a bone's grades as its standards write them."""
    from boneage.standards.names import TW3_STAGES

    return {
        name: TW3_STAGES[round(grade)] if name == "tw3" else f"{grade:g}"
        for name, grade in region.grades.items()
    }


def _print_radius(radius: RadiusSubgrade, scores: Mapping[str, Mapping[str, Any]]) -> None:
    from boneage.reporting.radius_section import radius_words, totals_words

    totals = totals_words(radius, scores)
    typer.echo(f"\nRadius: {radius_words(radius)}" + (f"; {totals}" if totals else ""))


def _print_neighbours(near: Neighbours) -> None:
    from boneage.reporting.neighbours_section import group_words, typical_words

    typer.echo()
    if near.group is not None:
        typer.echo(f"Neighbours, without a label: {group_words(near.group)}")
    typer.echo(f"Most alike in maturity: {typical_words(near.typical)}")


def _print_growth(assessment: Assessment) -> None:
    from boneage.reporting.growth import growth_lines

    lines = list(growth_lines(assessment.growth))
    if lines:
        typer.echo()
    for line in (line for line in lines if line.given):
        typer.echo(f"{line.what}: {line.value}" + (f"; {line.remarks}" if line.remarks else ""))
    for line in (line for line in lines if not line.given):
        note(f"note: {line.what}: {line.value}, {line.remarks}")


def _exit_code(outcome: _Outcome) -> ExitCode:
    failures = outcome.failures
    if not failures:
        return ExitCode.DONE
    if len(failures) < len(outcome.results):
        return ExitCode.SOME_FAILED
    codes = {EXIT_CODES.get(failure.code, ExitCode.FAILED) for failure in failures}
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED
