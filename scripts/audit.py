"""Look up every installed package in the public list of known vulnerabilities: what `make audit` runs.

    python scripts/audit.py [--if-reachable]

Ends with 0 where none is known, 1 where some are, and 3 where the list could not be asked: that is no
audit, and is said so. With --if-reachable, as `make check` runs it, an audit that could not be is said
as loudly, but ends with 0, so that a machine without a network can check the rest.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

NOT_AUDITED = 3
_OPTIONS = "-s osv --local --skip-editable --format json --progress-spinner off --timeout 15"
_COMMAND = ("-m", "pip_audit", *_OPTIONS.split())
_PATIENCE_S = 600.0


def main() -> int:
    """Ask, print what is known, and return the exit code."""
    parser = argparse.ArgumentParser(description="look installed packages up in the list of vulnerabilities")
    parser.add_argument(
        "--if-reachable", action="store_true", help="end with 0 where the list is out of reach"
    )
    given = parser.parse_args()
    found, reason = asked()
    if found is None:
        print(
            f"NOT AUDITED: the list of known vulnerabilities (OSV) could not be asked: {reason}",
            file=sys.stderr,
        )
        print("NOT AUDITED: run `make audit` where there is a network, before a release", file=sys.stderr)
        return 0 if given.if_reachable else NOT_AUDITED
    packages = [one for one in found["dependencies"] if "version" in one]
    faults = [(one, fault) for one in packages for fault in one.get("vulns", ())]
    for one, fault in faults:
        mended = ", ".join(fault.get("fix_versions", ())) or "no version yet"
        print(f"{one['name']} {one['version']}: {fault['id']}, mended in {mended}")
    print(f"{len(packages)} packages audited, {len(faults)} known vulnerabilities")
    return int(bool(faults))


def asked() -> tuple[dict[str, Any] | None, str]:
    """Return pip-audit's answer, or None and why there is none; its exit code is 1 for both."""
    try:
        run = subprocess.run(
            [sys.executable, *_COMMAND], capture_output=True, text=True, check=False, timeout=_PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer in {_PATIENCE_S:.0f} s"
    try:
        return dict(json.loads(run.stdout)), ""
    except ValueError:
        said = run.stderr.strip().splitlines() or ["no answer"]
        return None, said[-1][:160]


if __name__ == "__main__":
    sys.exit(main())
