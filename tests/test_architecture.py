"""The shape of the house: who may import what, and what a start of the program loads."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import boneage

PACKAGE = Path(boneage.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

TRAINING = ("models/*.py", "training/*.py", "recipes/*/fit.py", "recipes/*/learn.py")
SERVICE = ("service/*.py", "service/**/*.py", "service/migrations/versions/*.py")
DICOM_NODE = ("dicomnode/*.py", "dicomnode/**/*.py")
CLUSTER = ("batch/*.py",)
ALLOWED: dict[str, tuple[str, ...]] = {
    "torch": TRAINING,
    "torchvision": TRAINING,
    "timm": TRAINING,
    "lightning": TRAINING,
    "pytorch_lightning": (),
    "fastapi": SERVICE,
    "uvicorn": SERVICE,
    "sqlalchemy": SERVICE,
    "alembic": SERVICE,
    "prometheus_client": SERVICE,
    "pynetdicom": DICOM_NODE,
    "highdicom": DICOM_NODE,
    "ray": CLUSTER,
}
"""Optional package -> the modules that may import it as they load (elsewhere: inside a function)."""


def imports_at_load(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield (top-level package, line) of every import that runs when the module is loaded."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0], node.lineno
        pending.extend(ast.iter_child_nodes(node))


def forbidden_imports(source: str, relative: Path) -> list[str]:
    """Return one line for each import that a module of the package may not run as it loads."""
    return [
        f"{relative}:{line} imports {package}; allowed in {', '.join(ALLOWED[package]) or 'no module'}"
        for package, line in imports_at_load(ast.parse(source))
        if package in ALLOWED and not any(relative.match(pattern) for pattern in ALLOWED[package])
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_optional_packages_are_imported_only_where_they_belong(path: Path) -> None:
    assert forbidden_imports(path.read_text("utf-8"), path.relative_to(PACKAGE)) == []


@pytest.mark.parametrize(
    ("source", "relative", "refused"),
    [
        ("import torch", "inference/assess.py", True),
        ("from torch.nn import Module", "anatomy/regions.py", True),
        ("if True:\n    import ray.data", "data/manifest.py", True),
        ("class Net:\n    import timm", "recipes/hand_regression/method.py", True),
        ("import torch", "models/backbones.py", False),
        ("import lightning", "recipes/hand_regression/fit.py", False),
        ("def fit():\n    import torch", "cli/train.py", False),
        ("if TYPE_CHECKING:\n    import torch", "cli/train.py", False),
        ("import torchlike", "core/types.py", False),
    ],
)
def test_the_import_rule_tells_right_from_wrong(source: str, relative: str, refused: bool) -> None:
    assert bool(forbidden_imports(source, Path(relative))) is refused


def loaded_by(code: str) -> set[str]:
    """Run code in a fresh interpreter and return the top-level packages that it has loaded."""
    ending = "import json, sys; print('\\n' + json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ending}"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


INFO = """
import sys
from boneage.cli.main import main
sys.argv = ["boneage", "info", "--json"]
try:
    code = main()
except SystemExit as end:
    code = end.code
assert not code, f"boneage info --json ended with {code}"
"""


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import boneage", {"cv2", "matplotlib", "numpy", "onnxruntime", "openvino", "pydicom", "torch"}),
        (
            "import boneage; boneage.Assessor, boneage.Bundle, boneage.read",
            {"matplotlib", "openvino", "pyarrow", "pydicom", "scipy", "sklearn", "timm", "torch"},
        ),
        ("import boneage.batch, boneage.data, boneage.reporting", {"lightning", "ray", "timm", "torch"}),
        (INFO, {"lightning", "timm", "torch"}),
    ],
    ids=["import", "assessor", "batch", "info"],
)
def test_a_start_loads_no_more_than_it_needs(code: str, absent: set[str]) -> None:
    assert loaded_by(code) & absent == set()


def declared_names() -> dict[str, str]:
    """The public names and their modules, as a type checker sees them in `boneage/__init__.py`."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    guarded = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for block in guarded for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_public_names_are_complete_and_sorted() -> None:
    assert boneage.__all__ == sorted(boneage.__all__)
    assert set(boneage.__all__) == {*declared_names(), "__version__"}


@pytest.mark.parametrize("name", boneage.__all__)
def test_a_public_name_is_what_its_home_defines(name: str) -> None:
    value = getattr(boneage, name)
    if name != "__version__":
        assert value is getattr(sys.modules[declared_names()[name]], name)
    assert name in dir(boneage)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'radiograf'"):
        _ = boneage.radiograf
