"""Fonts for texts that matplotlib's own font cannot draw, such as names in Chinese.

They are looked for only where a text needs them, and are given to that text alone. What no installed font
can draw is counted in words, never shown as boxes.
"""

from __future__ import annotations

from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.text import Text

OWN = "DejaVu Sans"
"""The font that comes with matplotlib."""

FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "SimHei",
    "SimSun",
    "PingFang SC",
    "PingFang HK",
    "Hiragino Sans GB",
    "Heiti TC",
    "Noto Sans CJK JP",
    "Noto Sans CJK TC",
    "Noto Sans CJK KR",
    "Yu Gothic",
    "Malgun Gothic",
    "Unifont",
    "Arial Unicode MS",
)
"""Fonts with Chinese, Japanese or Korean letters, best first: Linux's, then Windows's and macOS's."""


def drawable(text: str) -> str:
    """Return the text with a count in place of letters that no installed font has."""
    if text.isascii():
        return text
    known = _letters(families(text))
    return "".join(
        "".join(run) if drawn else _counted(len(list(run)))
        for drawn, run in groupby(text, lambda letter: letter.isascii() or ord(letter) in known)
    )


def families(text: str) -> list[str]:
    """Return the fonts that draw a text: matplotlib's own, and those that have what it lacks."""
    found = [OWN]
    missing = {ord(letter) for letter in text if not letter.isascii()}
    if missing:
        missing -= _charmap(OWN)
    if missing:
        _find_new_fonts()
    for name in FALLBACKS if missing else ():
        if missing & _charmap(name):
            found.append(name)
            missing -= _charmap(name)
    return found


def give_fonts(texts: Iterable[Text]) -> None:
    """Let every text be drawn without boxes; those in Latin letters are left as they are."""
    for text in texts:
        if not (said := text.get_text()).isascii():
            text.set_text(drawable(said))
            if len(fonts := families(said)) > 1:
                text.set_fontfamily(fonts)


def columns(text: str) -> int:
    """Return how many Latin letters a text is wide; a Chinese letter takes two."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _counted(count: int) -> str:
    return f"[{count} letter{'' if count == 1 else 's'} without a font]"


def _letters(names: Iterable[str]) -> frozenset[int]:
    return frozenset().union(*map(_charmap, names))


@cache
def _find_new_fonts() -> None:
    """Let matplotlib know of fallbacks that were installed since it listed the machine's fonts."""
    from matplotlib.font_manager import findSystemFonts, fontManager, get_font

    listed = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - listed):
        try:
            if get_font(path).family_name in FALLBACKS:
                fontManager.addfont(path)
        except (OSError, RuntimeError):  # a damaged font, or a kind that matplotlib cannot read
            continue


@cache
def _charmap(name: str) -> frozenset[int]:
    """Return the letters that a font has; none where it is not installed."""
    from matplotlib.font_manager import findfont, fontManager, get_font

    if all(entry.name != name for entry in fontManager.ttflist):
        return frozenset()
    return frozenset(get_font(findfont(name)).get_charmap())
