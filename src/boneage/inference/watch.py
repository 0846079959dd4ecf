"""What a stage of an assessment runs in, by its name: a clock, a trace, or nothing."""

from collections.abc import Callable
from contextlib import AbstractContextManager

Watch = Callable[[str], AbstractContextManager[object]]
