"""What tests of figures look at: the figure before it is a picture, its panels, texts and pixels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from types import ModuleType

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

Drawn = Callable[[Callable[[], bytes]], Figure]


def figures_of(modules: tuple[ModuleType, ...], monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Gives the figure that a function of the modules turns into a picture by its `png`."""

    def figure_of(draw: Callable[[], bytes]) -> Figure:
        found: list[Figure] = []
        with monkeypatch.context() as patch:
            for module in modules:
                patch.setattr(module, "png", lambda figure: found.append(figure) or b"")
            draw()
        return found[0]

    return figure_of


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_visible()]


def picture(file: bytes) -> np.ndarray:
    """A PNG's pixels, (H, W, 3) BGR."""
    found = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return found


def assert_readable(figure: Figure, title: str) -> None:
    """No text covers another or is cut off, and the title is among them."""
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    # Outside the axes' limits, ticks are kept though they are not drawn; an axis that is off draws none.
    for axes in panels(figure):
        for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for at, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False):
                if not (axes.axison and min(ends) <= at <= max(ends)) and label in texts:
                    texts.remove(label)
    texts = [text for text in texts if text.axes is None or text.axes.get_visible()]
    assert title in {text.get_text().replace("\n", " ") for text in texts}
    # Of an annotation, the text alone without its arrow.
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in texts]
    for (one, left), (other, right) in combinations(boxes, 2):
        shared = left.intersection(left, right)
        area = 0.0 if shared is None else shared.width * shared.height
        assert area < 0.05 * min(left.width * left.height, right.width * right.height), (one, other)
    for told, box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1, told
        assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, told
