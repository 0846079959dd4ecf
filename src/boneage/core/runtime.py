"""Which runtime runs the graphs where none is named."""

from __future__ import annotations

from typing import Final

DEFAULT_RUNTIME: Final = "openvino"
"""On two threads a whole assessment takes 0.61 of ONNX Runtime's time, on one thread the same; it starts a
third of a second later (`make bench`). `tests/inference` holds that both give the same answer.
"""
