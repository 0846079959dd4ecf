"""Two kills of a batch into shards; `make chaos` tries 50, as many of one table and of the server.

Kills of the server are in tests/service/test_service_process.py, of a batch within a run in tests/batch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest

import chaos


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills are POSIX signals")
def test_a_killed_batch_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    line = chaos.batch_killed(tmp_path, "out", 12, 2, Random(8))
    assert line.times == 2 and line.faults == (), line


def test_what_is_lost_doubled_or_left_over_is_found(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("id,status\na,ok\nb,ok\nb,ok\n")
    (tmp_path / ".out.csv.part").write_bytes(b"")
    (tmp_path / "out.csv.journal").write_bytes(b"")
    found = chaos._table_faults(out, ["a", "b", "c"])
    assert found[:2] == ["lost c", "doubled b"]
    assert sorted(found[2:]) == ["left over: .out.csv.part", "left over: out.csv.journal"]
    out.write_text("id,status\nb,ok\na,ok\n")
    assert "rows out of order" in chaos._table_faults(out, ["a", "b"])
