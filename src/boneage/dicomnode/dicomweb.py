"""DICOMweb, as a client: find with QIDO-RS, fetch with WADO-RS, store with STOW-RS.

Source: DICOM PS3.18, 10.4 (retrieve), 10.5 (store), 10.6 (search).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from boneage.core.errors import ConfigError, DeliveryError, RuntimeUnavailable
from boneage.dicomnode.sender import Unreachable, calling_context
from boneage.dicomnode.settings import Web

_PAGE = 100
_JSON = "application/dicom+json"
_FETCHED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_STUDY, _SERIES, _INSTANCE, _CLASS = "0020000D", "0020000E", "00080018", "00080016"
_FAILED = "00081198"
_UID = re.compile(r"[0-9.]{1,64}")
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)
_SERVER_TROUBLE = (401, 403, 404, 408, 429, 502, 503, 504)
"""HTTP status codes that say nothing of the object: the server, or the way to it, is not as it should be."""


@dataclass(frozen=True, slots=True)
class Found:
    """An image that a query found, by its UIDs."""

    study: str
    series: str
    instance: str
    sop_class: str


class WebClient:
    """One DICOMweb service; close it, or use it in a `with`.

    Args:
        name: of the destination or query, for messages.
        web: how it is reached.

    Raises:
        ConfigError: a file of secrets or certificates cannot be used.
        RuntimeUnavailable: httpx is not installed.
    """

    def __init__(self, name: str, web: Web) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise RuntimeUnavailable("DICOMweb needs httpx: pip install 'boneage[dicom]'") from error
        self._failure = httpx.HTTPError
        self._url = web.url.rstrip("/")
        self._client = httpx.Client(
            timeout=web.timeout_s,
            headers=_bearer(web),
            auth=(web.user, _secret(web.password_file)) if web.user else None,
            verify=True if web.tls is None else calling_context(name, web.tls),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def search(self, query: Mapping[str, str], limit: int = 0) -> Iterator[Found]:
        """Yield images that match, page by page, at most `limit` where it is not 0.

        Raises:
            Unreachable: the service does not answer, or not with a list of instances.
        """
        offset, known = 0, 0
        seen: set[str] = set()
        while True:
            size = min(_PAGE, limit - offset) if limit else _PAGE
            page = self._page({**query, "limit": str(size), "offset": str(offset)})
            for attributes in page:
                found = Found(*(_value(attributes, tag) for tag in (_STUDY, _SERIES, _INSTANCE, _CLASS)))
                if found.instance in seen:
                    continue
                seen.add(found.instance)
                if all(_UID.fullmatch(uid) for uid in (found.study, found.series, found.instance)):
                    yield found
            offset += len(page)
            # A server that knows no `offset` gives the same page for ever.
            if len(page) < size or (limit and offset >= limit) or len(seen) == known:
                return
            known = len(seen)

    def fetch(self, found: Found, max_bytes: int) -> bytes:
        """Return an image as a DICOM file, in the transfer syntax in which it is stored.

        Raises:
            Unreachable: the service does not answer.
            DeliveryError: the image is not to be had, or larger than allowed.
        """
        path = f"/studies/{found.study}/series/{found.series}/instances/{found.instance}"
        content = bytearray()
        try:
            with self._client.stream("GET", self._url + path, headers={"Accept": _FETCHED}) as answer:
                _check_status(answer.status_code)
                for piece in answer.iter_bytes():
                    content += piece
                    if len(content) > max_bytes:
                        raise DeliveryError("the image is larger than max_object_mb")
                kind = answer.headers.get("content-type", "")
        except self._failure as error:
            raise Unreachable(_told(error)) from None
        return first_part(bytes(content), kind)

    def store(self, path: Path) -> str:
        """Store a DICOM file; return why it was refused, an empty text where it was taken.

        Raises:
            Unreachable: the service does not answer, or answers for another reason than the file.
        """
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = head + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        try:
            answer = self._client.post(
                f"{self._url}/studies", content=body, headers={"Content-Type": kind, "Accept": _JSON}
            )
        except self._failure as error:
            raise Unreachable(_told(error)) from None
        if answer.status_code in _SERVER_TROUBLE:
            raise Unreachable(f"it answers with HTTP status {answer.status_code}")
        said = _json(answer)
        sequence = said.get(_FAILED) if isinstance(said, dict) else None
        failed = isinstance(sequence, dict) and bool(sequence.get("Value"))
        return f"HTTP status {answer.status_code}" if failed or not answer.is_success else ""

    def _page(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        try:
            answer = self._client.get(f"{self._url}/instances", params=dict(query), headers={"Accept": _JSON})
        except self._failure as error:
            raise Unreachable(_told(error)) from None
        if answer.status_code == 204:
            return []
        try:
            _check_status(answer.status_code)
        except DeliveryError as error:
            raise Unreachable(str(error)) from None
        page = _json(answer)
        if not isinstance(page, list) or not all(isinstance(one, dict) for one in page):
            raise Unreachable("it answers a query with no list of instances: check the url")
        return page


class StowChannel:
    """STOW-RS to a DICOMweb service, one request for a result; see `sender.Channel`."""

    def __init__(self, name: str, web: Web) -> None:
        self._client = WebClient(name, web)

    def send(self, paths: Sequence[Path]) -> Generator[str, None, None]:
        """Send files; see `Channel`."""
        for path in paths:
            yield self._client.store(path)

    def check(self) -> None:
        """Ask for one instance, as STOW-RS knows no echo; see `Channel`."""
        for _ in self._client.search({}, limit=1):
            pass


def first_part(content: bytes, kind: str) -> bytes:
    """Return the first part of a multipart answer, or the whole of another.

    Args:
        content: the answer's body.
        kind: its Content-Type.

    Raises:
        DeliveryError: it says that it is multipart, and is not.
    """
    if not kind.lower().startswith("multipart/"):
        return content
    boundary = _BOUNDARY.search(kind)
    mark = b"--" + (boundary[1].encode("utf-8") if boundary else b"")
    begin = content.find(mark)
    head_end = content.find(b"\r\n\r\n", begin)
    end = content.find(b"\r\n" + mark, head_end)
    if boundary is None or min(begin, head_end, end) < 0:
        raise DeliveryError("the answer is no whole multipart message")
    return content[head_end + 4 : end]


def _json(answer: Any) -> Any:
    """Return what an answer says, None where it is no JSON, or is nested beyond all measure."""
    try:
        return answer.json()
    except (ValueError, RecursionError):
        return None


def _check_status(status: int) -> None:
    if status != 200:
        trouble = Unreachable if status in _SERVER_TROUBLE and status != 404 else DeliveryError
        raise trouble(f"it answers with HTTP status {status}")


def _value(attributes: Mapping[str, Any], tag: str) -> str:
    """Return the first value of an attribute in DICOM JSON, an empty text where there is none."""
    element = attributes.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""


def _bearer(web: Web) -> dict[str, str]:
    return {"Authorization": f"Bearer {_secret(web.token_file)}"} if web.token_file else {}


def _secret(file: str) -> str:
    try:
        return Path(file).read_text("utf-8").strip() if file else ""
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{file} cannot be read: it must hold the secret alone, as text") from None


def _told(error: Exception) -> str:
    """Return what a failed request says, without its address."""
    return f"no answer ({type(error).__name__}): check the url, and that it runs"
