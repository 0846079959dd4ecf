"""Registries name what exists; listing them imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from inspect import isclass

import pytest

from boneage.core.errors import ConfigError
from boneage.core.registry import METHODS, RECIPES, load


@pytest.mark.parametrize("name", METHODS)
def test_every_method_loads_and_knows_its_own_name(name: str) -> None:
    method = load(METHODS, name)
    assert isclass(method)
    assert method.name == name
    for attribute in ("graph", "needs_sex", "prepare", "decode", "from_settings"):
        assert hasattr(method, attribute), attribute


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_loads_and_can_be_called(name: str) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    assert callable(load(RECIPES, name))


def test_an_unknown_name_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"'nothing'.*hand_regression"):
        load(METHODS, "nothing")


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom boneage.core.registry import METHODS, RECIPES\nassert METHODS and RECIPES\n"
        "sys.exit(' '.join(sorted({'torch', 'cv2', 'onnxruntime', 'numpy'} & sys.modules.keys())) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_loading_a_method_needs_no_torch() -> None:
    code = (
        "import sys\nfrom boneage.core.registry import METHODS, load\n"
        "for name in METHODS: load(METHODS, name)\nsys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
