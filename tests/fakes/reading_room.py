"""A browser for the reading room: where Chromium is, what pages must not say, what is asked of them."""

from __future__ import annotations

import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from boneage.core.types import Sex
from boneage.data.synthetic import draw_foot, draw_hand

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-of-the-tests-alone"
WAIT_MS = 30_000
"""How long a page may take for anything before a test fails; the machine may be busy."""

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

WATCH = """addEventListener("securitypolicyviolation", (event) =>
  console.error("CSP", event.violatedDirective, event.blockedURI))"""
"""Lets a page complain of what its Content-Security-Policy forbids."""

SIGN_IN = f"""sessionStorage.getItem("boneage.token") ?? sessionStorage.setItem("boneage.token", "{TOKEN}")"""
"""Gives a page the token, as if somebody had typed it."""

CONTRASTS = """() => {
  const channels = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const over = (top, below) => {
    const alpha = top[3] ?? 1;
    return [0, 1, 2].map((place) => alpha * top[place] + (1 - alpha) * below[place]);
  };
  const ground = (node) => {
    if (!node) return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
    return over(channels(getComputedStyle(node).backgroundColor), ground(node.parentElement));
  };
  const light = (colour) => {
    const [red, green, blue] = colour.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (node) => {
    const style = getComputedStyle(node);
    const below = ground(node);
    const ink = over(channels(node.ownerSVGElement ? style.fill : style.color), below);
    const [dark, bright] = [light(ink), light(below)].sort((one, other) => one - other);
    return (bright + 0.05) / (dark + 0.05);
  };
  // Names on the film carry an outline of their own, whatever lies under them.
  const found = [...document.querySelectorAll("body *:not(option):not(script):not(noscript)")].filter(
    (node) =>
      [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()) &&
      node.checkVisibility({ visibilityProperty: true }) && !node.closest(".overlay, .unseen, title"),
  );
  const name = (node) => node.tagName + "." + node.getAttribute("class");
  return found.map((node) => [Number(contrast(node).toFixed(2)), name(node), node.textContent.slice(0, 40)]);
}"""
"""What a page answers with the contrast of every visible text, what it stands in, and its beginning."""

REACHABLE = """() => {
  const asked = "a[href], button, input, select, textarea, summary, [tabindex]";
  const found = [...document.querySelectorAll(asked)].filter((node) => {
    const other = node.type === "radio" && !node.checked;
    const seen = node.checkVisibility({ visibilityProperty: true });
    return node.tabIndex >= 0 && !node.disabled && !other && seen;
  });
  found.forEach((node, place) => node.setAttribute("data-place", place));
  return found.length;
}"""
"""Numbers what the keyboard should reach, and answers with how many they are."""

FOCUSED = """() => {
  const node = document.activeElement;
  const shown = node.matches("input.unseen") ? node.nextElementSibling : node;
  return [node.dataset.place ?? null, getComputedStyle(shown).outlineStyle !== "none"];
}"""
"""Answers with the number of what has the focus, and whether that can be seen."""

UNNAMED = """() => {
  const asked = "a, button, input, select, [role=region], [role=application], figure, img, svg[role]";
  const named = (node) => ["aria-label", "aria-labelledby", "alt"].some((name) => node.hasAttribute(name));
  const shown = [...document.querySelectorAll(asked)].filter((node) => node.checkVisibility());
  const left = shown.filter((node) => !node.labels?.length && !named(node) && !node.textContent.trim());
  return left.map((node) => node.outerHTML.slice(0, 120));
}"""
"""Answers with what has no name for a screen reader."""


@dataclass
class Complaints:
    """What a page said on its console, and which of it was to be expected."""

    said: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    @property
    def left(self) -> list[str]:
        """What nobody expected."""
        return [line for line in self.said if not any(words in line for words in self.expected)]


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a Chromium, or skip the tests that need one."""
    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with sync.sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        found = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip(
                f"no Chromium: none of {', '.join(names)} is on PATH, nor is playwright's own installed"
            )
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def radiograph(folder: Path) -> Path:
    """Return a real radiograph of a boy where there is one, else a drawn hand."""
    real = (
        Path(os.environ.get("BONEAGE_DATA", ROOT.parent / "shared" / "data"))
        / "rsna"
        / "images"
        / "10009.jpg"
    )
    return real if real.is_file() else write_png(folder / "hand.png", draw_hand(110, Sex.MALE).pixels)


def write_png(path: Path, pixels: NDArray[np.float32]) -> Path:
    """Write pixels in [0, 1] as a picture."""
    assert cv2.imwrite(str(path), np.round(255 * pixels).astype(np.uint8))
    return path


def foot(folder: Path) -> Path:
    """Write the picture of a foot, which is refused."""
    return write_png(folder / "foot.png", draw_foot().pixels)


def pdf_text(content: bytes) -> str:
    """Return the letters of a PDF that matplotlib made, without the blanks between its texts."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
    plain = b"".join(zlib.decompress(stream) for stream in streams if stream[:1] == b"\x78")
    return "".join(text.decode("latin-1") for text in re.findall(rb"\(((?:\\.|[^\\)])*)\)", plain))
