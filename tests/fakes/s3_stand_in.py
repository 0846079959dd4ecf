"""A small S3 on this machine: enough of it that s3fs lists, reads, writes and removes objects."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

ACCESS_KEY = "AKIASTANDIN000000001"
SECRET_KEY = "standInSecretThatNobodyMayEverRead"


@dataclass
class Store:
    """The objects, by `bucket/key`, and where they are served."""

    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""


@contextmanager
def served() -> Iterator[Store]:
    """Serve an empty store; only who signs with `ACCESS_KEY` is let in."""
    store = Store()

    class Handler(_Handler):
        kept = store

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        store.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield store
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    kept: Store
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _begin(self) -> tuple[str, dict[str, list[str]]] | None:
        """Return the place and the query of a request that is signed."""
        parts = urlsplit(self.path)
        self.kept.asked.append(f"{self.command} {parts.path}")
        if f"Credential={ACCESS_KEY}/" not in self.headers.get("Authorization", ""):
            self._body()
            self._answer(403, b"<Error><Code>InvalidAccessKeyId</Code></Error>")
            return None
        return unquote(parts.path).strip("/"), parse_qs(parts.query, keep_blank_values=True)

    def do_HEAD(self) -> None:
        if begun := self._begin():
            place, _ = begun
            known = self.kept.objects
            found = place in known or any(name.startswith(f"{place}/") for name in known if "/" not in place)
            self._answer(200 if found else 404, known.get(place, b""), etag=True)

    def do_GET(self) -> None:
        if not (begun := self._begin()):
            return
        place, query = begun
        if "/" not in place:
            self._answer(200, self._list(place, query))
        elif place not in self.kept.objects:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._answer(*self._part(self.kept.objects[place]), etag=True)

    def do_PUT(self) -> None:
        if begun := self._begin():
            self.kept.objects[begun[0]] = self._body()
            self._answer(200, b"", etag=True)

    def do_DELETE(self) -> None:
        if begun := self._begin():
            self.kept.objects.pop(begun[0], None)
            self._answer(204, b"")

    def _part(self, content: bytes) -> tuple[int, bytes]:
        wanted = self.headers.get("Range")
        if wanted is None:
            return 200, content
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        return 206, content[int(first) : int(last) + 1 if last else None]

    def _list(self, bucket: str, query: dict[str, list[str]]) -> bytes:
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        keys = sorted(
            name.removeprefix(f"{bucket}/") for name in self.kept.objects if name.startswith(f"{bucket}/")
        )
        contents, folders = [], set()
        for key in (key for key in keys if key.startswith(prefix)):
            head, cut, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
            if cut:
                folders.add(f"{prefix}{head}{cut}")
            else:
                size = len(self.kept.objects[f"{bucket}/{key}"])
                contents.append(
                    f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>&quot;0&quot;</ETag>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
                )
        shared = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)
        )
        return (
            f"<ListBucketResult><Name>{bucket}</Name><KeyCount>{len(contents)}</KeyCount>"
            f"<IsTruncated>false</IsTruncated>{''.join(contents)}{shared}</ListBucketResult>"
        ).encode()

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return body
        whole = b""
        while body:
            size, _, rest = body.partition(b"\r\n")
            length = int(size.split(b";")[0], 16)
            if not length:
                break
            whole, body = whole + rest[:length], rest[length + 2 :]
        return whole

    def _answer(self, status: int, content: bytes, etag: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if etag:
            self.send_header("ETag", '"0"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
