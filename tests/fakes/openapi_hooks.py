"""For schemathesis: images among the noise, and ids of real jobs, so that it gets past the first door."""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from schemathesis import GenerationMode
from schemathesis.generation.meta import TestPhase
from service_fakes import JOBS
from worker_fakes import picture

JOB = os.environ.get("BONEAGE_KNOWN_JOB", "")
_IMAGE = picture()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Name a job that there is, but to delete it; let what should be accepted be an image of a girl."""
    modes = [] if case.meta is None else [case.meta.generation, *case.meta.components.values()]
    if not modes or any(one.mode is not GenerationMode.POSITIVE for one in modes):
        return
    follows = case.meta.phase.name is TestPhase.STATEFUL  # it has ids of its own making
    if not follows and "job" in (case.path_parameters or {}) and case.method.upper() != "DELETE":
        case.path_parameters = {**case.path_parameters, "job": JOB}
    if case.operation.path == JOBS and isinstance(case.body, dict) and len(repr(case.body)) % 4:
        kept = {name: value for name, value in case.body.items() if name == "label"}
        case.body = {**kept, "file": _IMAGE, "sex": "female"}
