"""The application: routes, the page, how errors are answered, what is counted."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.staticfiles import StaticFiles

from boneage import __version__
from boneage.core.errors import HTTP_STATUS, BoneAgeError, DeliveryError, TableMissing, http_status
from boneage.core.network import MIB
from boneage.reporting.coding import INTENDED_USE
from boneage.service import job_routes, reference_routes
from boneage.service.answers import JOBS, Problem
from boneage.service.limits import HEADERS, Guard, problem
from boneage.service.metrics import Metrics
from boneage.service.server import ReportFailed, Server

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "web"
_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "The database does not answer, or no worker is ready"}
}

_DESCRIPTION = f"""Bone age from radiographs of the hand. {INTENDED_USE}

An image that is sent becomes a job; a job ends as `done`, `rejected` (the image is none that can be read) or
`failed`. Every error has a `code` for programs and a `message` that says what to do."""


def create_app(server: Server) -> FastAPI:
    """Return the application of a server; the server starts and stops with it."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        server.start()
        try:
            yield
        finally:
            server.stop()

    app = FastAPI(
        title="boneage",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.server = server
    app.include_router(job_routes.router)
    app.include_router(reference_routes.router)
    _add_watch(app, server)
    _add_page(app)
    _add_errors(app)
    app.add_middleware(
        Guard,
        token=server.token,
        guarded=("/api/", "/metrics"),
        uploads=(JOBS,),
        upload_bytes=server.settings.upload_mib * MIB,
        upload_s=server.settings.upload_s,
    )
    app.add_middleware(Observed, metrics=server.metrics)
    return app


def _add_watch(app: FastAPI, server: Server) -> None:
    """Add what watches over servers ask for."""

    @app.get("/health/live", tags=["watch"], summary="Whether the server answers")
    async def live() -> dict[str, str]:
        """Answer."""
        return {"status": "live"}

    @app.get("/health/ready", tags=["watch"], summary="Whether it can take a job", responses=_NOT_READY)
    def ready() -> JSONResponse:
        """Answer 200 where the database answers and a worker has its bundle."""
        try:
            server.store.check()
        except SQLAlchemyError:
            return problem(503, "not_ready", "the database does not answer")
        if not server.has_room():
            return problem(503, "not_ready", "the disk is full: free some of it, or delete jobs")
        if not server.dispatcher.ready:
            return problem(503, "not_ready", server.dispatcher.trouble or "no worker has its bundle yet")
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", tags=["watch"], response_class=Response, summary="Figures for Prometheus")
    def metrics() -> Response:
        """Return all figures in Prometheus' text form."""
        return Response(server.metrics.page(), media_type="text/plain; version=0.0.4")


def _add_page(app: FastAPI) -> None:
    """Add the reading room."""

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", _Fresh(directory=PAGE))


class _Fresh(StaticFiles):
    """Files that a browser asks for again, so that a new version is seen at once."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _add_errors(app: FastAPI) -> None:
    """Answer every error with a code and a message; none repeats what was sent."""

    @app.exception_handler(BoneAgeError)
    def deliberate(_request: Request, error: BoneAgeError) -> JSONResponse:
        return problem(http_status(error), error.code, str(error))

    @app.exception_handler(TableMissing)
    def no_standard(_request: Request, error: TableMissing) -> JSONResponse:
        # A standard is named in a body; 404 would speak of the path.
        return problem(400, error.code, str(error))

    @app.exception_handler(ReportFailed)
    def no_report(_request: Request, error: ReportFailed) -> JSONResponse:
        # What a report cannot be made of is the image's header, which the sender can mend.
        status = 422 if error.code == DeliveryError.code else HTTP_STATUS.get(error.code, 500)
        return problem(status, error.code, str(error))

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = {
            ".".join(str(part) for part in item["loc"][1:])[:80]: str(item["msg"]) for item in error.errors()
        }
        said = "; ".join(f"{name or 'the body'}: {why}" for name, why in wrong.items())
        body = {
            "code": "invalid_request",
            "message": f"the request is not as it should be: {said}",
            "fields": [*wrong],
        }
        return JSONResponse(body, 422)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(request))
        detail: Any = error.detail
        if isinstance(detail, Mapping):
            return JSONResponse(dict(detail), error.status_code, headers)
        known = {
            404: "there is nothing under this path: see /openapi.json",
            405: "this path has no such method",
        }
        return problem(error.status_code, "http", known.get(error.status_code, str(detail)), headers)

    @app.exception_handler(SQLAlchemyError)
    def no_database(_request: Request, error: SQLAlchemyError) -> JSONResponse:
        # The driver's own words hold no values: those are parameters, which are left out.
        log.error("the database failed: %s", getattr(error, "orig", None) or type(error).__name__)
        return problem(503, "database", "the database does not answer: try again soon", {"Retry-After": "5"})

    @app.exception_handler(Exception)
    def unforeseen(_request: Request, error: Exception) -> JSONResponse:
        text = f"an unforeseen error ({type(error).__name__}): report it"
        return problem(500, "unforeseen", text, HEADERS)  # this answer does not pass the guard


def _methods(request: Request) -> list[str]:
    """Return the methods that a path has; each is a route of its own, and the framework tells one route's."""
    found = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in found for method in getattr(route, "methods", None) or ()})


class Observed:
    """Counts and times requests, and logs them by their route, never by what stands in a path or query."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request and take its measure."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_seen)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(seconds)
            log.info("%s %s %d %.0f ms", method, route, status, seconds * 1000)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
