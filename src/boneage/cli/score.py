"""`boneage score`: grades of the bones -> scores, total and bone age by a standard, without an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from boneage.cli.console import print_json, rich_console, warn
from boneage.core.errors import ConfigError, WrongBones

if TYPE_CHECKING:
    from boneage.standards.names import Bone
    from boneage.standards.scoring import ScoreSheet, Standard


def score(
    standard: Annotated[
        str, typer.Argument(metavar="STANDARD", help="rus-chn, tw3, tw3-c-rus, chn or chn-radius-subgraded.")
    ],
    grades: Annotated[
        list[str], typer.Argument(metavar="BONE=GRADE", help="As radius=7, ulna=6.5; tw3 also radius=F.")
    ],
    sex: Annotated[str, typer.Option(metavar="female|male", help="Also F or M.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a hand from its bones' grades: total and bone age by a standard.

    Every bone of the standard must be given once; a grade may be a fraction.
    """
    from boneage.core.types import Sex
    from boneage.standards import scoring

    chosen = scoring.standard(standard)
    sheet = scoring.score(chosen, Sex.parse(sex), parse_grades(chosen, grades))
    for notice in sheet.warnings:
        warn(notice.text)
    if as_json:
        from boneage.reporting.tabular import score_record

        print_json(score_record(sheet))
    else:
        _print_table(sheet, chosen)


def parse_grades(standard: Standard, texts: list[str]) -> dict[Bone, float]:
    """Return the grades that texts such as `radius=7` or `mc1=F` give.

    Raises:
        ConfigError: a text is not BONE=GRADE.
        WrongBones: a bone is unknown, not the standard's, or given twice.
        UnknownGrade: the bone has no such grade.
    """
    from boneage.standards.names import parse_bone

    found: dict[Bone, float] = {}
    for text in texts:
        name, separator, grade = text.partition("=")
        if not separator:
            raise ConfigError(f"a grade is written BONE=GRADE, as radius=7, not {text!r}: write it so")
        bone = parse_bone(name)
        if bone in found:
            raise WrongBones(f"the {bone} is given twice, the second time as {text!r}: give each bone once")
        found[bone] = standard.parse_grade(bone, grade)
    return found


def _print_table(sheet: ScoreSheet, standard: Standard) -> None:
    from rich.table import Table

    from boneage.reporting.tabular import years_and_months

    typer.echo(f"{sheet.edition}, {sheet.sex}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("bone")
    for column in ("grade", "stage", "score", "of"):
        table.add_column(column, justify="right")
    for bone in sheet.bones:
        cells = (f"{bone.grade:g}", bone.stage, f"{bone.score:.4g}", f"{bone.maximum:g}")
        table.add_row(bone.bone.readable, *cells)
    rich_console().print(table, markup=False)
    maximum = sum(bone.maximum for bone in sheet.bones)
    typer.echo(f"total {sheet.total:.4g} of {maximum:g}")
    typer.echo(
        f"bone age {years_and_months(sheet.age_months)} ({sheet.age_months:.1f} months) by {standard.title}"
    )
