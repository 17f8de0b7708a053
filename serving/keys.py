"""The file of API keys: digests only. `marc keys` writes it, every gateway reads it.

A key is mk_<8 hex digits>_<43 characters of 256 random bits>. SHA-256 without salt is enough for
such a secret: there is nothing to guess.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marc_core.errors import ConfigError
from marc_core.question import EventFilter, filter_from_json
from serving.schemas import Scope

LOOK_AGAIN_S = 1.0
"""A changed file is seen within this time (our choice)."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is kept of a key. digest: SHA-256 of the whole key. bound: videos, folder, camera and
    tags that it sees. requests_per_minute, concurrent_requests: None takes the deployment's, 0 is
    no limit."""

    id: str
    name: str
    digest: str = field(repr=False)
    scopes: tuple[Scope, ...]
    bound: EventFilter = field(default_factory=EventFilter)
    created_at: dt.datetime
    expires_at: dt.datetime | None = None
    requests_per_minute: int | None = None
    concurrent_requests: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        bound = {
            "video_ids": None if self.bound.video_ids is None else list(self.bound.video_ids),
            "folder": self.bound.folder,
            "camera": self.bound.camera,
            "tags": list(self.bound.tags),
        }
        return {
            "id": self.id, "name": self.name, "digest": self.digest, "scopes": list(self.scopes),
            "bound": bound, "created_at": self.created_at.isoformat(),
            "expires_at": None if self.expires_at is None else self.expires_at.isoformat(),
            "requests_per_minute": self.requests_per_minute,
            "concurrent_requests": self.concurrent_requests,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Key:
        """Return the key that `to_json` wrote."""
        expires = values["expires_at"]
        return cls(
            **values
            | {
                "scopes": tuple(values["scopes"]),
                "bound": filter_from_json(values["bound"]),
                "created_at": dt.datetime.fromisoformat(values["created_at"]),
                "expires_at": None if expires is None else dt.datetime.fromisoformat(expires),
            }
        )


def new_key(name: str, scopes: Sequence[Scope], **more: Any) -> tuple[Key, str]:
    """Return a key and its text, which is kept nowhere."""
    key_id = secrets.token_hex(4)
    secret = secrets.token_urlsafe(33).replace("_", "-")[:43]
    token = f"mk_{key_id}_{secret}"
    key = Key(
        id=key_id,
        name=name,
        digest=hashlib.sha256(token.encode()).hexdigest(),
        scopes=tuple(scopes),
        created_at=dt.datetime.now(dt.UTC),
        **more,
    )
    return key, token


class KeyFile:
    """A file of keys, readable by its owner only. Raises ConfigError where it cannot be read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._looked_at, self._version = 0.0, (0, 0)
        self._keys: dict[str, Key] = {}
        self._secret = b""

    def keys(self) -> dict[str, Key]:
        """Return the keys by id, as the file has them within the last second."""
        self._read()
        return self._keys

    def secret(self) -> bytes:
        """Return what signs links."""
        self._read()
        return self._secret

    def change(self, change: Callable[[dict[str, Key]], None]) -> None:
        """Let `change` work on the keys and write them, one writer at a time; a missing file is
        made."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.parent / f".{self.path.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.path.exists():
                self._read(now=True)
            keys, secret = dict(self._keys), self._secret or secrets.token_bytes(32)
            change(keys)
            self._write(keys, secret)
        self._read(now=True)

    def _read(self, *, now: bool = False) -> None:
        if not now and time.monotonic() < self._looked_at + LOOK_AGAIN_S:
            return
        try:
            state = self.path.stat()
            version = (state.st_mtime_ns, state.st_ino)
            if version != self._version:
                values = json.loads(self.path.read_text())
                self._keys = {k["id"]: Key.from_json(k) for k in values["keys"]}
                self._secret = bytes.fromhex(values["link_secret"])
                self._version = version
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"The file of API keys '{self.path}' cannot be read: {type(error).__name__}: "
                f"{error}. Make one with `marc keys create --keys {self.path} NAME`."
            ) from error
        self._looked_at = time.monotonic()

    def _write(self, keys: dict[str, Key], secret: bytes) -> None:
        values = {"link_secret": secret.hex(), "keys": [key.to_json() for key in keys.values()]}
        handle, part = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        with os.fdopen(handle, "w") as file:  # mkstemp makes it readable by its owner only
            json.dump(values, file, indent=2)
        os.replace(part, self.path)
