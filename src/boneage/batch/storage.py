"""Files by path or by URL: what is on this machine by `pathlib`, all else by fsspec.

A URL is `s3://bucket/key` or another that fsspec knows. Who may read it is said in the environment or by
the machine's role, as for every program of that storage; a URL that holds a password is refused. No message
and no log has more of a URL than its place: neither a user nor a query, which may be a signature.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

from boneage.batch import dicomweb
from boneage.core.errors import (
    BoneAgeError,
    ConfigError,
    DeliveryError,
    RuntimeUnavailable,
    UnreadableImage,
    UnsupportedImage,
)
from boneage.imaging.quality import MAX_FILE_BYTES

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})
"""Schemes under which a file appears when it is whole, so that nothing need be renamed."""

SCHEMES = OBJECT_STORES | {"hdfs", "webhdfs", "http", "https", "sftp"}
"""Schemes that are opened; fsspec has more, some of which run what they are told to."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_TALKATIVE = ("aiobotocore", "aiohttp", "botocore", "fsspec", "httpcore", "httpx", "s3fs", "urllib3")
"""Libraries whose debugging logs hold headers with signatures and tokens."""


class Folder(Protocol):
    """Where results lie; every write is whole or not there."""

    def names(self) -> list[str]:
        """Return the names in it, none where there is no such folder."""
        ...

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file, replacing one of that name, and make the folder where there is none."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...


def is_url(location: str) -> bool:
    """Return whether a text is a URL and no path."""
    return "://" in location and _URL.match(location) is not None


def check_url(url: str) -> None:
    """Refuse a URL that is not opened, before anything is asked of it.

    Raises:
        ConfigError: its scheme is not one of `SCHEMES`, it is several in one, or it holds a user or password.
    """
    found = _URL.match(url)
    scheme = found[1].lower() if found else ""
    if (scheme not in SCHEMES and not dicomweb.is_query(url)) or "::" in url:
        known = sorted(SCHEMES | {f"{dicomweb.PREFIX}https"})
        raise ConfigError(
            f"{shown(url)}: not a kind of URL that is opened; use one of "
            f"{', '.join(f'{name}://' for name in known)}"
        )
    if "@" in urlsplit(url).netloc:
        raise ConfigError(
            f"{shown(url)}: a user or password stands in the URL; give it in the environment instead"
        )


def shown(location: str) -> str:
    """Return a path as it is, a URL without user and query: for messages and results."""
    if not is_url(location):
        return location
    scheme, _, rest = location.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, key = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{key}"


def join(folder: str, name: str) -> str:
    """Return where a name leads from a folder; a name that is absolute or a URL leads by itself."""
    if is_url(name):
        return name
    name = os.path.expanduser(name) if name.startswith("~") else name  # noqa: PTH111 - a million of them
    if os.path.isabs(name) or not is_url(folder):  # noqa: PTH117
        return os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
    scheme, _, rest = folder.partition("://")
    return f"{scheme}://{posixpath.normpath(posixpath.join(rest, name))}"


def parent(location: str) -> str:
    """Return the folder of a file."""
    if is_url(location):
        scheme, _, rest = shown(location).partition("://")
        return f"{scheme}://{posixpath.dirname(rest)}"
    return os.path.dirname(location)  # noqa: PTH120 - '' stays '', as `join` wants it


def name_of(location: str) -> str:
    """Return the last part of a path or a URL."""
    return posixpath.basename(shown(location).rstrip("/").replace(os.sep, "/"))


def lies_in(folder: str, location: str) -> bool:
    """Return whether a place lies in a folder, by their names alone: links are not followed."""
    if is_url(folder) or is_url(location):
        return location.startswith(f"{folder.rstrip('/')}/") and "/../" not in f"{location}/"
    base = os.path.abspath(folder)  # noqa: PTH100 - a million of them
    return os.path.abspath(location).startswith(base if base.endswith(os.sep) else base + os.sep)  # noqa: PTH100


def load_image(location: str) -> bytes:
    """Return the bytes of an image's file.

    Raises:
        UnreadableImage: there is no such file, or it cannot be opened.
        UnsupportedImage: it is larger than any radiograph.
        RuntimeUnavailable: the storage, or the package that opens it, does not answer.
    """
    if not is_url(location):
        return _load_local(Path(location))
    if dicomweb.is_query(location):
        content = dicomweb.load(location)
        _check_bytes(len(content))
        return content
    files, path = filesystem(location)
    try:
        content = bytes(files.cat_file(path, start=0, end=MAX_FILE_BYTES + 1))
    except FileNotFoundError:
        raise UnreadableImage("no such file; check the path") from None
    except PermissionError:
        raise UnreadableImage("the storage refuses to give it; check who may read it") from None
    except Exception as error:  # noqa: BLE001 - every storage has errors of its own
        raise RuntimeUnavailable(
            f"the storage did not give the file ({type(error).__name__}); try again"
        ) from None
    _check_bytes(len(content))
    return content


def _load_local(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise UnreadableImage("a folder, not an image; name a file")
        if path.exists() and not path.is_file():
            raise UnreadableImage("not a regular file; name an image file")
        _check_bytes(path.stat().st_size)
        return path.read_bytes()
    except FileNotFoundError:
        raise UnreadableImage("no such file; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        raise UnreadableImage(
            f"the file cannot be opened ({reason}); check the path and its permissions"
        ) from None


def _check_bytes(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise UnsupportedImage(f"the file is larger than {MAX_FILE_BYTES >> 20} MiB; export one image alone")


@contextmanager
def open_table(location: str) -> Iterator[BinaryIO]:
    """Open a manifest to be read.

    Raises:
        ConfigError: it is missing or cannot be opened.
        RuntimeUnavailable: the storage, or the package that opens it, does not answer.
    """
    try:
        if is_url(location):
            files, path = filesystem(location)
            file = files.open(path, "rb")
        else:
            file = Path(location).open("rb")  # noqa: SIM115 - closed below
    except BoneAgeError:
        raise
    except FileNotFoundError:
        raise ConfigError(f"{shown(location)}: no such file; give a CSV or a folder of images") from None
    except Exception as error:  # noqa: BLE001 - every storage has errors of its own
        raise ConfigError(
            f"{shown(location)}: the file cannot be opened ({_reason(error)}); "
            "check its name and its permissions"
        ) from None
    with file:
        try:
            yield file
        except OSError as error:
            raise ConfigError(
                f"{shown(location)}: the file cannot be read to its end ({_reason(error)}); try again"
            ) from None


def find_files(url: str) -> list[str]:
    """Return the URLs of all files below a folder, sorted; none where it is no folder.

    Raises:
        ConfigError: the storage refuses.
        RuntimeUnavailable: the package that opens it is not installed.
    """
    files, path = filesystem(url)
    base = path.rstrip("/")
    try:
        found = files.find(base)
    except Exception as error:  # noqa: BLE001 - every storage has errors of its own
        raise ConfigError(
            f"{shown(url)}: cannot be listed ({_reason(error)}); check its name and its permissions"
        ) from None
    below = [name.removeprefix(f"{base}/") for name in found if name.startswith(f"{base}/")]
    return sorted(f"{shown(url).rstrip('/')}/{name}" for name in below)


def folder_at(location: str) -> Folder:
    """Return the folder of results at a path or URL, which need not exist.

    Raises:
        ConfigError: the URL is not one that is opened.
        RuntimeUnavailable: the package that opens it is not installed.
    """
    return _Remote(location) if is_url(location) else _Local(Path(location))


def upload(file: Path, url: str) -> None:
    """Copy a finished file to a URL, whole or not at all.

    Raises:
        DeliveryError: it cannot be written there.
    """
    files, path = filesystem(url)
    try:
        files.put_file(str(file), path)
    except Exception as error:  # noqa: BLE001 - every storage has errors of its own
        raise DeliveryError(
            f"{shown(url)} cannot be written ({_reason(error)}): check who may write there, "
            "then go on with --resume"
        ) from None


def download(url: str, file: Path) -> None:
    """Copy the file at a URL to this machine.

    Raises:
        ConfigError: it cannot be read.
    """
    files, path = filesystem(url)
    try:
        files.get_file(path, str(file))
    except Exception as error:  # noqa: BLE001 - every storage has errors of its own
        raise ConfigError(
            f"{shown(url)}: the file cannot be opened ({_reason(error)}); check its name and its permissions"
        ) from None


def exists(location: str) -> bool:
    """Return whether there is a file or folder at a path or URL.

    Raises:
        ConfigError: the storage does not say.
    """
    if not is_url(location):
        return Path(location).exists()
    files, path = filesystem(location)
    try:
        return bool(files.exists(path))
    except Exception as error:  # noqa: BLE001 - every storage has errors of its own
        raise ConfigError(
            f"{shown(location)}: the storage does not answer ({_reason(error)}); "
            "check its name and its permissions"
        ) from None


def filesystem(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it.

    Raises:
        ConfigError: the URL is not one that is opened.
        RuntimeUnavailable: the package that opens it is not installed.
    """
    check_url(url)
    if dicomweb.is_query(url):
        raise ConfigError(
            f"{shown(url)}: images are read from a DICOMweb server, nothing else; name a folder"
        )
    quieten()
    try:
        import fsspec

        files, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        missing = error.name or "its package"
        raise RuntimeUnavailable(
            f"{url.partition('://')[0]}:// needs {missing}, which is not installed: "
            "pip install 'boneage[cluster]'"
        ) from None
    return files, str(path)


def quieten() -> None:
    """Keep libraries that log headers from doing so, whatever level the program logs at."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


def _reason(error: Exception) -> str:
    """Return what an error is, without its text, which may hold a key or a signed address."""
    known: dict[type[Exception], str] = {
        FileNotFoundError: "no such file",
        PermissionError: "access denied",
    }
    return known.get(type(error)) or getattr(error, "strerror", None) or type(error).__name__


class _Local:
    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        return sorted(path.name for path in self._path.iterdir()) if self._path.is_dir() else []

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        part = self._path / f".{name}.part"
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path / name)
        except OSError as error:
            raise DeliveryError(
                f"{self._path / name} cannot be written ({error.strerror}): free some space, "
                "then go on with --resume"
            ) from None
        finally:
            if part.exists():
                part.unlink()

    def remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)


class _Remote:
    def __init__(self, url: str) -> None:
        self._shown = shown(url)
        self._files, self._path = filesystem(url)
        self._renames = url.partition("://")[0].lower() not in OBJECT_STORES

    def names(self) -> list[str]:
        try:
            self._files.invalidate_cache()
            return sorted(name_of(name) for name in self._files.ls(self._path, detail=False))
        except FileNotFoundError:
            return []
        except Exception as error:  # noqa: BLE001 - every storage has errors of its own
            raise ConfigError(
                f"{self._shown}: cannot be listed ({_reason(error)}); check its name and its permissions"
            ) from None

    def read(self, name: str) -> bytes:
        try:
            content: bytes = self._files.cat_file(f"{self._path}/{name}")
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - every storage has errors of its own
            raise RuntimeUnavailable(
                f"{self._shown}/{name}: the storage did not give the file ({_reason(error)}); try again"
            ) from None
        return content

    def write(self, name: str, content: bytes) -> None:
        final = f"{self._path}/{name}"
        try:
            if not self._renames:
                self._files.pipe_file(final, content)
                return
            self._files.makedirs(self._path, exist_ok=True)
            self._files.pipe_file(f"{self._path}/.{name}.part", content)
            self._files.mv(f"{self._path}/.{name}.part", final)
        except Exception as error:  # noqa: BLE001 - every storage has errors of its own
            raise DeliveryError(
                f"{self._shown}/{name} cannot be written ({_reason(error)}): check who may write there, "
                "then go on with --resume"
            ) from None

    def remove(self, name: str) -> None:
        try:
            self._files.rm_file(f"{self._path}/{name}")
        except FileNotFoundError:
            return
        except Exception as error:  # noqa: BLE001 - every storage has errors of its own
            raise DeliveryError(
                f"{self._shown}/{name} cannot be removed ({_reason(error)}): check who may write there"
            ) from None
