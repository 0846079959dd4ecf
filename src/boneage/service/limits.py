"""What every request passes before a route sees it: the body's size, kind and time, the token, the origin."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from boneage.core.network import MIB, is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

JSON_BYTES = MIB
"""Largest body of a request that carries no image."""

_FORM_ROOM = MIB
"""What a form may hold beside the image."""

_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]*))(?::[0-9]*)?")

_CLOSE = {"Connection": "close"}

UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Sent with every answer: pages run nothing but the product's own modules, and nobody frames them."""


def problem(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error's answer: a code for programs, a message for people."""
    return JSONResponse({"code": code, "message": message}, status, headers)


def refuse(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> HTTPException:
    """Return the error to raise; the application answers it as `problem` does."""
    return HTTPException(status, {"code": code, "message": message}, headers)


def too_large(most: int) -> HTTPException:
    """Return the error of a request that is larger than so many bytes."""
    return refuse(
        413,
        "too_large",
        f"the request is larger than the {most // MIB} MiB that this server takes: send one image alone",
        _CLOSE,
    )


class Guard:
    """Refuses what no route should see, and sets the headers of every answer.

    Args:
        app: what is guarded.
        token: that every request under `guarded` must bear; None asks for none, and answers loopback names.
        guarded: beginnings of paths.
        uploads: paths that take images as multipart forms.
        upload_bytes: largest image in one.
        upload_s: time that a body may take.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        guarded: Iterable[str],
        uploads: Iterable[str],
        upload_bytes: int,
        upload_s: float,
    ) -> None:
        self._app = app
        self._token = None if token is None else hashlib.sha256(token.encode()).digest()
        self._guarded = tuple(guarded)
        self._uploads = frozenset(uploads)
        self._upload_bytes = upload_bytes
        self._upload_s = upload_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        await self._limited(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        """Return why a request is answered without reading its body."""
        headers = Headers(scope=scope)
        path, method = scope["path"], scope["method"]
        if self._token is None and not is_loopback(_host(headers)):
            return problem(
                421, "wrong_host", "this server answers this machine only: ask for localhost, or set a token"
            )
        if self._token is not None and path.startswith(self._guarded) and not self._bears_token(headers):
            return problem(
                401,
                "unauthorised",
                "the token is missing or wrong: send the header Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        if method in UNSAFE and not _same_origin(headers):
            return problem(403, "foreign_origin", "pages of another origin may not change anything here")
        if path in self._uploads and method == "POST":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "multipart/form-data":
                return problem(
                    415,
                    "wrong_content_type",
                    f"send the image as multipart/form-data, not {kind[:80] or 'nothing'}",
                )
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._most(path):
            refused = self._too_large(path)
            return JSONResponse(refused.detail, refused.status_code, refused.headers)
        return None

    def _most(self, path: str) -> int:
        return self._upload_bytes + _FORM_ROOM if path in self._uploads else JSON_BYTES

    def _too_large(self, path: str) -> HTTPException:
        return too_large(self._upload_bytes if path in self._uploads else JSON_BYTES)

    def _bears_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(given.strip().encode()).digest()
        return scheme.lower() == "bearer" and hmac.compare_digest(digest, self._token or b"")

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on; its body may be no larger and come no slower than allowed."""
        most, until, seen, ended = self._most(scope["path"]), time.monotonic() + self._upload_s, 0, False

        async def receive_within_limits() -> Message:
            nonlocal seen, ended
            if ended:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.01, until - time.monotonic()))
            except TimeoutError:
                text = f"the request's body did not arrive within {self._upload_s:g} seconds: send it again"
                raise refuse(408, "too_slow", text, _CLOSE) from None
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                ended = not message.get("more_body", False)
                if seen > most:
                    raise self._too_large(scope["path"])
            return message

        await self._app(scope, receive_within_limits, send)


def _host(headers: Headers) -> str:
    """Return the name or address in the header Host, without brackets and port."""
    found = _HOST.fullmatch(headers.get("host", "").lower())
    return "" if found is None else found["v6"] or found["name"] or ""


def _same_origin(headers: Headers) -> bool:
    """Return whether a request comes from the server's own page, or from no page at all."""
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()
