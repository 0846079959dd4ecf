"""`boneage bundle`: from runs or from a bundle, never from half of either."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from boneage.cli import main as program
from boneage.core.errors import ExitCode
from boneage.inference import assemble
from boneage.inference.bundle import SHIPPED, Bundle

UNUSED = {"consistency_run": None, "precisions": None}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "FINDER_RUN"),
        (("finder",), "AGE_RUN"),
        (("finder", "age"), "--data"),
        (("--extend", "bundle"), "--region-clusters, --consistency and --precisions"),
        (("finder", "age", "--extend", "bundle", "--intervals", "run"), "no other run"),
        (("--extend", "bundle", "--intervals", "run", "--grades", "run"), "no other run"),
        (("finder", "--extend", "bundle", "--radius-subgrades", "run"), "no other run"),
        (("finder", "--extend", "bundle", "--region-clusters", "run"), "no other run"),
    ],
)
def test_what_is_lacking_or_too_much_is_named(
    arguments: tuple[str, ...], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = program.run(["bundle", *arguments, "--out", str(tmp_path / "out"), "--version", "2"])
    error = capfd.readouterr().err
    assert code == ExitCode.USAGE
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error


def test_runs_and_a_bundle_to_extend_are_handed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, tuple[object, ...], dict[str, object]]] = []

    def record(called: str) -> Callable[..., Bundle]:
        def keep(*given: object, **options: object) -> Bundle:
            calls.append((called, given, options))
            return Bundle(tmp_path, {"name": "made", "version": "2"})

        return keep

    monkeypatch.setattr(assemble, "assemble", record("assemble"))
    monkeypatch.setattr(assemble, "extend", record("extend"))
    common = ["--out", str(tmp_path), "--version", "2", "--intervals", "c", "--radius-subgrades", "d"]
    common += ["--region-clusters", "e"]
    assert program.run(["bundle", "a", "b", "--data", "hands", *common]) == ExitCode.DONE
    assert program.run(["bundle", "--extend", str(SHIPPED), *common]) == ExitCode.DONE
    assert capfd.readouterr().out == f"made 2: {tmp_path}\n" * 2
    (first, runs, options), (second, (extended, out), others) = calls
    assert (first, second) == ("assemble", "extend")
    assert runs == (Path("a"), Path("b"), tmp_path) and out == tmp_path
    given = {"intervals_run": Path("c"), "subgrades_run": Path("d"), "clusters_run": Path("e")}
    assert given.items() <= options.items()
    assert (options["name"], options["data"], options["grades_run"]) == ("standard", "hands", None)
    assert isinstance(extended, Bundle) and extended.path == SHIPPED
    assert others == {**given, **UNUSED, "version": "2", "name": None, "data": None}


@pytest.mark.parametrize(
    ("option", "run"),
    [
        ("--radius-subgrades", "subgrades_run"),
        ("--region-clusters", "clusters_run"),
        ("--consistency", "consistency_run"),
        ("--precisions", "precisions"),
    ],
)
def test_a_bundle_is_extended_by_sub_grades_or_groups_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str, run: str
) -> None:
    kept: list[dict[str, object]] = []

    def keep(*_: object, **options: object) -> Bundle:
        kept.append(options)
        return Bundle(tmp_path, {"name": "made", "version": "2"})

    monkeypatch.setattr(assemble, "extend", keep)
    arguments = ["bundle", "--extend", str(SHIPPED), option, "d", "--out", str(tmp_path)]
    assert program.run([*arguments, "--version", "2"]) == ExitCode.DONE
    runs = {"intervals_run": None, "subgrades_run": None, "clusters_run": None, **UNUSED, run: Path("d")}
    assert {name: kept[0][name] for name in runs} == runs
