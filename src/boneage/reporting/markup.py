"""Parts of an HTML page that hold whatever text they are given: tables and pictures."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable
from html import escape

from boneage.reporting import overlay


def embedded(picture: overlay.Picture) -> str:
    """Return a picture as the `src` of an image that needs no other file."""
    return "data:image/jpeg;base64," + base64.b64encode(overlay.jpeg(picture)).decode("ascii")


def table(
    head: tuple[str, ...],
    rows: Iterable[tuple[str, ...]],
    *,
    feet: Iterable[tuple[str, ...]] = (),
    code: bool = False,
    marked: int | Collection[int] | None = None,
) -> str:
    """Return an HTML table whose first column names its rows; every cell is escaped here.

    Args:
        head: titles of the columns.
        rows: texts of the cells.
        feet: rows below a line.
        code: cells are set as code.
        marked: place of the row that stands out, or places of those that do.
    """

    def cell(text: str) -> str:
        return f"<code>{escape(text)}</code>" if code else escape(text)

    def line(row: tuple[str, ...], stands_out: bool = False) -> str:
        cells = "".join(f"<td>{cell(text)}</td>" for text in row[1:])
        opened = '<tr class="own">' if stands_out else "<tr>"
        return f'{opened}<th scope="row">{escape(row[0])}</th>{cells}</tr>'

    standing_out = () if marked is None else (marked,) if isinstance(marked, int) else marked
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = "".join(line(row, place in standing_out) for place, row in enumerate(rows))
    foot = "".join(map(line, feet))
    return (
        f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody>"
        f"{f'<tfoot>{foot}</tfoot>' if foot else ''}</table>"
    )
