"""What a bundle or an archive holds is never run: nothing in the package can unpickle."""

from __future__ import annotations

import ast
import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from boneage.anatomy.completeness import HandModel
from boneage.core.arrays import read_arrays
from boneage.core.errors import BundleError

SRC = Path(__file__).resolve().parents[2] / "src"
FILES = sorted(SRC.rglob("*.py"))
BANNED_MODULES = {
    "pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "yaml",
    "jsonpickle",
}
BANNED_CALLS = {"eval", "exec", "compile", "__import__"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call with its name as it is written: `np.load`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def argument(call: ast.Call, name: str) -> object:
    return next((ast.literal_eval(word.value) for word in call.keywords if word.arg == name), None)


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def faults(source: str) -> list[str]:
    """Return what in a module could run what it reads."""
    tree = ast.parse(source)
    found = [f"imports {name}" for name in imported(tree) if name in BANNED_MODULES]
    for name, call in calls(tree):
        last = name.rpartition(".")[2]
        if name in BANNED_CALLS:
            found.append(f"{name}()")
        if any(
            word.arg == "allow_pickle" and getattr(word.value, "value", None) is not False
            for word in call.keywords
        ):
            found.append(f"{name}(allow_pickle=...)")
        if name == "torch.load" and argument(call, "weights_only") is not True:
            found.append("torch.load without weights_only=True")
        if last in ("load_from_checkpoint", "read_pickle", "to_pickle"):
            found.append(name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_a_module_runs_nothing_that_it_reads(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import yaml",
        "eval(text)",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=given)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "pd.read_pickle(f)",
        "Net.load_from_checkpoint(f)",
    ],
)
def test_the_rule_finds_what_it_forbids(source: str) -> None:
    assert faults(source)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.sign,)


def test_an_archive_with_a_pickle_is_refused_and_the_pickle_not_run(tmp_path: Path) -> None:
    sign, path = tmp_path / "it_ran", tmp_path / "hand_model.npz"
    np.savez(path, mean=np.array([Bomb(sign)], dtype=object))
    assert not sign.exists()
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_arrays(path)
    with pytest.raises(BundleError, match="no hand model"):
        HandModel.load(path)
    assert not sign.exists()
    bare = tmp_path / "bare.npz"
    bare.write_bytes(pickle.dumps(Bomb(sign)))
    with pytest.raises(BundleError):
        HandModel.load(bare)
    assert not sign.exists()


def archive(path: Path, header: bytes, content: bytes = b"") -> Path:
    whole = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("mean.npy", whole)
    return path


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(100000000,)", "(9,)"])
def test_an_array_that_promises_more_than_it_holds_is_refused_before_memory_is_taken(
    tmp_path: Path, shape: str
) -> None:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    with pytest.raises(ValueError, match=r"mean\.npy ends early"):
        read_arrays(archive(tmp_path / "a.npz", header, bytes(64)))


@pytest.mark.parametrize("header", [b"(" * 300, b"{'descr': '<f8'}", b"__import__('os').getpid()", b""])
def test_a_header_that_is_none_is_a_value_error(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(ValueError, match="no whole archive"):
        read_arrays(archive(tmp_path / "a.npz", header))


def test_a_compressed_array_that_is_damaged_is_a_value_error(tmp_path: Path) -> None:
    out = io.BytesIO()
    np.savez_compressed(out, mean=np.arange(1000.0))
    data = bytearray(out.getvalue())
    data[60:70] = b"\xff" * 10
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="no whole archive"):
        read_arrays(path)


def test_whole_archives_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", b=np.eye(2), names=np.array(["x", "yy"]), one=np.array(3))
    found = read_arrays(tmp_path / "a.npz")
    assert (
        found["b"].tolist() == [[1, 0], [0, 1]]
        and found["names"].tolist() == ["x", "yy"]
        and found["one"] == 3
    )
