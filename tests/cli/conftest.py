"""Makes the stand-ins of tests/fakes importable, in worker processes too, and runs command lines on them."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

import boneage_fakes

import boneage.cli.main as program


@pytest.fixture
def assessor() -> type:
    """The stand-in that `run` puts in the assessor's place; a module may have its own."""
    return boneage_fakes.Assessor


@pytest.fixture
def run(
    assessor: type, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command line on the stand-in; returns exit code, stdout and stderr."""
    for name, member, stand_in in (
        ("assess", "Assessor", assessor),
        ("bundle", "Bundle", boneage_fakes.Bundle),
    ):
        module = ModuleType(f"boneage.inference.{name}")
        setattr(module, member, stand_in)
        module.SHIPPED = Path("shipped")  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def execute(*arguments: object) -> tuple[int, str, str]:
        code = program.run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return execute
