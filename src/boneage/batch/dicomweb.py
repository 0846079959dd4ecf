"""Images of a DICOMweb server: a query becomes a list (QIDO-RS), each of its rows an instance (WADO-RS).

    dicomweb+https://pacs/dicom-web?Modality=DX&StudyDate=20200101-20241231

The query is the server's own; what it finds is put in the order of the instances' UIDs, so that the same
finds make the same list. A bearer token is taken from the environment, `BONEAGE_DICOMWEB_TOKEN`.

Source: DICOM PS3.18, 10.4 (Retrieve) and 10.6 (Search).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from email.message import Message
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from boneage.core.errors import ConfigError, RuntimeUnavailable, UnreadableImage

if TYPE_CHECKING:
    import httpx

PREFIX = "dicomweb+"
TOKEN = "BONEAGE_DICOMWEB_TOKEN"
_PAGE = 1000
_TIMEOUT_S = 60.0
_STUDY, _SERIES, _INSTANCE, _SEX = "0020000D", "0020000E", "00080018", "00100040"
_SEXES = {"F": "female", "M": "male"}


def is_query(location: str) -> bool:
    """Return whether a text names a DICOMweb server."""
    return location.lower().startswith((f"{PREFIX}http://", f"{PREFIX}https://"))


def find(location: str) -> list[dict[str, str]]:
    """Return `id`, `path` and `sex` of every instance that a query finds, in the order of their UIDs.

    Raises:
        ConfigError: the server refuses the query, or does not answer it as the standard says.
        RuntimeUnavailable: the server does not answer, or httpx is not installed.
    """
    base, query = _parts(location)
    found: dict[str, dict[str, str]] = {}
    with _client() as client:
        while True:
            begun = len(found)
            page = {"limit": str(_PAGE), "offset": str(begun), "includefield": _SEX}
            answer = _get(client, f"{base}/instances?{query}", "application/dicom+json", page)
            if answer.status_code == 204:  # nothing more
                break
            if answer.status_code != 200:
                raise ConfigError(
                    f"{PREFIX}{base}: the query was refused (status {answer.status_code}); check it, "
                    f"and the token in {TOKEN}"
                )
            for instance in _instances(answer, base):
                found[instance["id"]] = instance
            if len(found) == begun:
                break
    return [found[uid] for uid in sorted(found)]


def load(location: str) -> bytes:
    """Return the DICOM file of an instance that `find` named.

    Raises:
        UnreadableImage: the server has no such instance, or does not give it.
        RuntimeUnavailable: the server does not answer, or httpx is not installed.
    """
    base, _ = _parts(location)
    with _client() as client:
        answer = _get(client, base, 'multipart/related; type="application/dicom"; transfer-syntax=*')
    if answer.status_code >= 500 or answer.status_code == 429:
        raise RuntimeUnavailable(
            f"the server did not give the image (status {answer.status_code}); try again"
        )
    if answer.status_code != 200:
        raise UnreadableImage(
            f"the server did not give the image (status {answer.status_code}); check it there"
        )
    return _first_part(answer.content, answer.headers.get("Content-Type", ""))


def _parts(location: str) -> tuple[str, str]:
    parts = urlsplit(location[len(PREFIX) :])
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", "")), parts.query


def _client() -> httpx.Client:
    try:
        import httpx
    except ModuleNotFoundError:
        raise RuntimeUnavailable(
            f"{PREFIX}https:// needs httpx, which is not installed: pip install 'boneage[dicom]'"
        ) from None
    token = os.environ.get(TOKEN)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(headers=headers, timeout=_TIMEOUT_S, follow_redirects=False)


def _get(
    client: httpx.Client, url: str, accept: str, query: Mapping[str, str] | None = None
) -> httpx.Response:
    import httpx

    try:
        whole = httpx.URL(url).copy_merge_params(query or {})
        return client.get(whole, headers={"Accept": accept})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        host = urlsplit(url).netloc.rpartition("@")[2]
        raise RuntimeUnavailable(
            f"the DICOMweb server {host} does not answer ({type(error).__name__}): check its address"
        ) from None


def _instances(answer: httpx.Response, base: str) -> list[dict[str, str]]:
    try:
        return [_instance(each, base) for each in answer.json()]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise ConfigError(
            f"{PREFIX}{base}: the answer to the query is no DICOM JSON; check the address"
        ) from None


def _instance(said: Mapping[str, Any], base: str) -> dict[str, str]:
    study, series, instance = (str(said[tag]["Value"][0]) for tag in (_STUDY, _SERIES, _INSTANCE))
    sex = _SEXES.get(str((said.get(_SEX, {}).get("Value") or [""])[0]), "")
    place = f"{PREFIX}{base}/studies/{study}/series/{series}/instances/{instance}"
    return {"id": instance, "path": place, "sex": sex}


def _first_part(content: bytes, kind: str) -> bytes:
    """Return the first file of a multipart answer, or an answer that is a file itself.

    Raises:
        UnreadableImage: it is neither.
    """
    header = Message()
    header["Content-Type"] = kind
    boundary = header.get_boundary()
    if header.get_content_type() == "application/dicom":
        return content
    if boundary:
        mark = f"--{boundary}".encode()
        _, _, rest = content.partition(mark)
        _, gap, body = rest.partition(b"\r\n\r\n")
        end = body.find(b"\r\n" + mark)
        if gap and end >= 0:
            return body[:end]
    raise UnreadableImage("the server's answer holds no DICOM file; check it there")
