"""What a bundle or an archive holds is never run: nothing in the package can unpickle."""

from __future__ import annotations

import ast
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import seeds
from boneage.anatomy.completeness import HandModel
from boneage.core.arrays import read_arrays
from boneage.core.errors import BundleError

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for part in ("src", "scripts", "benchmarks") for path in (ROOT / part).rglob("*.py"))
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


LOADERS = {"numpy": {"load"}, "numpy.lib.format": {"read_array"}, "torch": {"load", "jit", "hub"}}
"""What may be called by its full name only, so that its arguments are looked at."""


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
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            found += [
                f"from {node.module} import {name}" for name in names & LOADERS.get(node.module or "", set())
            ]
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
        if name in ("np.load", "numpy.load") and len(call.args) > 2:
            found.append(f"{name} with a third argument, which is allow_pickle")
        if name.startswith(("torch.jit.load", "torch.hub.")):
            found.append(name)
        if last in ("load_from_checkpoint", "read_pickle", "to_pickle"):
            found.append(name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
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
        "np.load(f, None, True)",
        "from numpy import load",
        "from torch import load",
        "torch.jit.load(f)",
        "torch.hub.load(f)",
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


_WATCHED = """
import sys
seen = set()
def watch(event, words):
    if event == "pickle.find_class":
        seen.add(".".join(map(str, words)))
sys.addaudithook(watch)
if sys.argv.pop(1) == "trap":
    import pickle
    pickle.loads(pickle.dumps(print))
from boneage.cli.main import run
code = run(sys.argv[1:])
sys.exit(f"unpickled {sorted(seen)}" if seen else code)
"""


def watched(folder: Path, trap: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line; it ends with 1 where Python says that a pickle names a class or function."""
    return subprocess.run(
        [sys.executable, "-c", _WATCHED, trap, *words],
        cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_nothing_is_unpickled_from_the_bundle_to_the_report(tmp_path: Path) -> None:
    pixels, _ = seeds.whole_hands()[1]
    (tmp_path / "hand.png").write_bytes(seeds.encoded(".png", pixels))
    options = "--sex F --radius-subgrades --explain neighbours --report out.html"
    ran = watched(tmp_path, "", "assess", "hand.png", *options.split())
    assert (ran.returncode, (tmp_path / "out.html").exists()) == (0, True), ran.stderr


def test_what_is_unpickled_would_be_heard(tmp_path: Path) -> None:
    ran = watched(tmp_path, "trap", "--version")
    assert ran.returncode == 1 and "unpickled ['builtins.print']" in ran.stderr


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_training_that_goes_on_unpickles_nothing_from_its_checkpoint(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    lightning = pytest.importorskip("lightning")
    from boneage.training.fit import run

    class Task(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(1, 1)

        def train_dataloader(self) -> object:
            return torch.utils.data.DataLoader(torch.zeros(1, 1))

        def training_step(self, batch: object, _: int) -> object:
            return self.net(batch).sum()

        def configure_optimizers(self) -> object:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    sign = tmp_path / "it_ran"
    torch.save({"state_dict": Bomb(sign)}, tmp_path / "last.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        run(Task(), 1, tmp_path)
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
