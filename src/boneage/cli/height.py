"""`boneage height`: adult height by every published method whose measurements are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from boneage.cli.console import note, print_json, rich_console, warn
from boneage.core.errors import NotApplicable

if TYPE_CHECKING:
    from boneage.standards.adult_height import HeightForecast


def height(
    sex: Annotated[str, typer.Option(metavar="female|male", help="Also F or M.")],
    age_months: Annotated[float, typer.Option(help="Chronological age.")],
    height_cm: Annotated[float, typer.Option(help="Standing height.")],
    weight_kg: Annotated[float | None, typer.Option(help="Weight without clothes.")] = None,
    bone_age_months: Annotated[
        float | None, typer.Option(help="Bone age; each method was made with its own scale.")
    ] = None,
    father_cm: Annotated[float | None, typer.Option(help="The father's height.")] = None,
    mother_cm: Annotated[float | None, typer.Option(help="The mother's height.")] = None,
    menarche: Annotated[
        bool | None, typer.Option("--menarche/--no-menarche", help="Whether a girl's periods have begun.")
    ] = None,
    recumbent_length_cm: Annotated[
        float | None, typer.Option(help="Length lying down; the height and 1.25 cm if absent.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Predict adult height by every method whose measurements are there, and say why not by the others."""
    from boneage.core.types import Sex
    from boneage.standards.adult_height import Child, predict_heights

    child = Child(
        sex=Sex.parse(sex),
        age_months=age_months,
        height_cm=height_cm,
        weight_kg=weight_kg,
        bone_age_months=bone_age_months,
        father_cm=father_cm,
        mother_cm=mother_cm,
        menarche=menarche,
        recumbent_length_cm=recumbent_length_cm,
    )
    forecast = predict_heights(child)
    if as_json:
        print_json(_record(forecast))
    else:
        _print(forecast)
    if not forecast.predictions:
        raise NotApplicable("no method can predict from these measurements: give those that are named above")


def _record(forecast: HeightForecast) -> dict[str, Any]:
    return {
        "predictions": [
            {
                "method": prediction.method,
                "edition": prediction.edition,
                "height_cm": round(prediction.height_cm, 2),
                "residual_sd_cm": prediction.residual_sd_cm,
                "bone_age_scale": prediction.bone_age_scale,
                "warnings": [{"code": notice.code, "text": notice.text} for notice in prediction.warnings],
            }
            for prediction in forecast.predictions
        ],
        "left_out": dict(forecast.left_out),
    }


def _print(forecast: HeightForecast) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", overflow="fold")
    for title in ("adult height", "residual SD"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("made with bone ages by")
    for prediction in forecast.predictions:
        error = prediction.residual_sd_cm
        table.add_row(
            prediction.edition,
            f"{prediction.height_cm:.1f} cm",
            "-" if error is None else f"{error:g} cm",
            prediction.bone_age_scale or "none",
        )
        for notice in prediction.warnings:
            warn(f"{prediction.method}: {notice.text}")
    if forecast.predictions:
        rich_console().print(table, markup=False)
    for method, reason in forecast.left_out.items():
        note(f"left out: {method} {reason}")
