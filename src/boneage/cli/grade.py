"""`boneage grade`: one epiphysis crop, or several of one bone -> grade, TW3 stage, confidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from boneage.cli.console import complain, parse_sex, print_json, rich_console, warn
from boneage.core.errors import EXIT_CODES, BoneAgeError, ExitCode
from boneage.core.runtime import DEFAULT_RUNTIME

if TYPE_CHECKING:
    from boneage.core.types import Sex
    from boneage.inference.grade import CropGrade, Grader
    from boneage.reporting.tabular import Failure
    from boneage.standards.names import Bone


def grade(
    crops: Annotated[list[Path], typer.Argument(metavar="CROP", help="PNG, JPEG, TIFF, WebP or DICOM.")],
    bone: Annotated[str, typer.Option(help="Which bone the crops show: radius, mc1, MCPFirst ...")],
    sex: Annotated[str | None, typer.Option(metavar="female|male", help="Adds the scores; F or M.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list, an object a crop.")] = False,
    runtime: Annotated[
        Literal["onnxruntime", "openvino"], typer.Option(help="What runs the graph.")
    ] = DEFAULT_RUNTIME,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    bundle: Annotated[Path | None, typer.Option(help="Use this bundle, not the shipped one.")] = None,
) -> None:
    """Grade crops of one bone: RUS-CHN grade and TW3 stage; a carpal's grade is CHN's.

    A crop is upright and frames the epiphysis and its metaphysis; what it shows is not checked.

    One crop that fails ends with 1; of several, 3 if some fail.
    """
    from boneage.inference.bundle import Bundle
    from boneage.inference.grade import Grader
    from boneage.standards.names import parse_bone

    known_sex, known_bone = parse_sex(sex), parse_bone(bone)
    grader = Grader(Bundle.load(bundle), runtime=runtime, threads=threads)
    results = _grade_all(crops, grader, known_bone)
    if as_json:
        print_json([_record(result, known_bone, known_sex) for result in results])
    elif not all(_failed(result) for result in results):
        _print_table(results, known_sex)
    raise typer.Exit(_exit_code(results))


def _grade_all(crops: Sequence[Path], grader: Grader, bone: Bone) -> list[CropGrade | Failure]:
    """Grade every crop; a failure is said on standard error as it happens and kept as a result."""
    from boneage.reporting.tabular import Failure

    results: list[CropGrade | Failure] = []
    for path in crops:
        try:
            found = grader.grade(path, bone)
        except BoneAgeError as error:
            results.append(failure := Failure.of(str(path), error))
            complain(failure.line)
            continue
        for notice in found.warnings:
            warn(f"{path}: {notice.text}")
        results.append(found)
    return results


def _failed(result: CropGrade | Failure) -> bool:
    from boneage.reporting.tabular import Failure

    return isinstance(result, Failure)


def _record(result: CropGrade | Failure, bone: Bone, sex: Sex | None) -> dict[str, Any]:
    """Return a crop's JSON object: the same keys for a failure, empty where nothing is known."""
    from boneage.reporting.tabular import OK, Failure, plain

    record: dict[str, Any] = {"path": result.path, "status": OK, "message": "", "bone": str(bone)}
    if isinstance(result, Failure):
        empty = dict.fromkeys(("standard", "grade", "tw3_stage", "confidence", "expected_grade"))
        said = {"status": result.status, "message": result.message, "code": result.code}
        return {**record, **said, **empty, "probabilities": {}, "scores": {}, "warnings": []}
    rounded = {str(at): round(share, 4) for at, share in enumerate(result.probabilities)}
    return {
        **record,
        "standard": result.standard,
        "grade": result.grade,
        "tw3_stage": result.tw3_stage,
        "confidence": round(result.confidence, 4),
        "expected_grade": round(result.expected_grade, 3),
        "probabilities": rounded,
        "scores": {} if sex is None else plain(result.scores(sex)),
        "warnings": [{"code": notice.code, "text": notice.text} for notice in result.warnings],
    }


def _print_table(results: Sequence[CropGrade | Failure], sex: Sex | None) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("crop", overflow="fold")
    for title in ("bone", "standard", "grade", "TW3", "confidence", "expected"):
        table.add_column(title, justify="right", no_wrap=True)
    if sex is not None:
        table.add_column("score", justify="right", no_wrap=True)
    table.add_column("remarks", overflow="fold")
    for result in results:
        table.add_row(*_cells(result, sex))
    rich_console().print(table, markup=False)


def _cells(result: CropGrade | Failure, sex: Sex | None) -> tuple[str, ...]:
    from boneage.reporting.tabular import Failure
    from boneage.standards.scoring import standard

    if isinstance(result, Failure):
        return result.path, *("-" for _ in range(6 + (sex is not None))), f"{result.status}: {result.code}"
    found = [
        result.bone,
        standard(result.standard).title,
        str(result.grade),
        result.tw3_stage or "-",
        f"{result.confidence:.0%}",
        f"{result.expected_grade:.2f}",
    ]
    if sex is not None:
        found.append(f"{result.scores(sex)[result.standard]['score']:g}")
    return result.path, *found, ", ".join(notice.code for notice in result.warnings)


def _exit_code(results: Sequence[CropGrade | Failure]) -> ExitCode:
    from boneage.reporting.tabular import Failure

    failures = [result for result in results if isinstance(result, Failure)]
    if not failures:
        return ExitCode.DONE
    if len(failures) < len(results):
        return ExitCode.SOME_FAILED
    codes = {EXIT_CODES.get(failure.code, ExitCode.FAILED) for failure in failures}
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED
