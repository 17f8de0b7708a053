"""Who asks, what they may do, and what they see: the one place for all three.

    Authorization: Bearer mk_ID_SECRET --KeyRing.find--> Key --> Caller(scopes, bound)
    ?expires=&key=&signature=          --KeyRing.follow-> Key --> Caller(read, bound)
    neither, on loopback without keys  -----------------------> Caller(everything)

A key may be bound to videos, a folder, a camera and tags. `narrowed` intersects that with what a
request asks for; every route goes through it, direct ids by `bound` in the retriever.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, get_args
from urllib.parse import urlencode

from marc_core.filenames import canonical, is_below
from marc_core.question import EventFilter
from serving.errors import ApiError
from serving.schemas import Scope

if TYPE_CHECKING:
    from serving.keys import Key, KeyFile

SCOPES: tuple[Scope, ...] = get_args(Scope)
LINK_S = 6 * 3600
"""A link is good for at least so long, and for an hour more at most (our choice: whoever looks at
an answer in the afternoon still plays its clips; ends fall on full hours, so that browsers keep
what they have loaded)."""
_NOTHING = EventFilter(video_ids=())


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks. key: None for anonymous callers. bound: what they see. secret: signs their links;
    empty where no key is needed."""

    name: str
    scopes: frozenset[Scope]
    bound: EventFilter = field(default_factory=EventFilter)
    key: Key | None = None
    secret: bytes = field(default=b"", repr=False)

    @property
    def is_bound(self) -> bool:
        """Whether they see a part of the archive only."""
        return self.bound != EventFilter()

    def needs(self, scope: Scope) -> None:
        """Raise a 403 that names the scope where the caller lacks it."""
        if scope not in self.scopes:
            have = ", ".join(sorted(self.scopes)) or "none"
            message = f"This needs the scope '{scope}'; the key '{self.name}' has: {have}."
            raise ApiError(403, "missing_scope", message)

    def filter(self, asked: EventFilter) -> EventFilter:
        """Return what is asked for, as far as the caller sees it."""
        return narrowed(asked, self.bound)

    def link(self, path: str) -> str:
        """Return a path that a browser can load without a header."""
        if self.key is None:
            return path
        expires = (int(time.time()) // 3600 + 1) * 3600 + LINK_S
        values = {"expires": str(expires), "key": self.key.id}
        signature = _signature(self.secret, path, values)
        return f"{path}?{urlencode(values | {'signature': signature})}"


ANONYMOUS = Caller(name="anonymous", scopes=frozenset(SCOPES))
"""Everybody, on loopback without keys."""


class KeyRing:
    """The keys of a file, read again when it changes."""

    def __init__(self, file: KeyFile) -> None:
        self._file = file

    def find(self, token: str) -> Caller:
        """Return whose key this is. Raises a 401 for unknown, revoked and expired keys.

        Digests are compared in constant time, also where there is no such key.
        """
        key_id = token.split("_")[1] if token.count("_") == 2 else ""
        key = self._file.keys().get(key_id)
        given = hashlib.sha256(token.encode(errors="replace")).hexdigest()
        same = hmac.compare_digest(given, "" if key is None else key.digest)
        if key is None or not same:
            raise ApiError(401, "invalid_api_key", "This API key is not known, or was revoked.")
        return self._caller(key)

    def follow(self, path: str, query: Mapping[str, str]) -> Caller:
        """Return on whose behalf a link was made; it may only read. Raises a 401."""
        values = {name: query.get(name, "") for name in ("expires", "key")}
        key = self._file.keys().get(values["key"])
        good = hmac.compare_digest(
            _signature(self._file.secret(), path, values).encode(),
            query.get("signature", "").encode(errors="replace"),
        )
        expires = values["expires"]
        if key is None or not good or not expires.isdigit() or int(expires) < time.time():
            message = "This link is not valid any more. Search again for a new one."
            raise ApiError(401, "invalid_link", message)
        caller = self._caller(key)
        return replace(caller, scopes=caller.scopes & {"read"})

    def _caller(self, key: Key) -> Caller:
        if key.expires_at is not None and key.expires_at <= dt.datetime.now(dt.UTC):
            message = f"The API key '{key.name}' has expired on {key.expires_at:%Y-%m-%d}."
            raise ApiError(401, "expired_api_key", message)
        return Caller(
            name=key.name,
            scopes=frozenset(key.scopes),
            bound=key.bound,
            key=key,
            secret=self._file.secret(),
        )


def narrowed(asked: EventFilter, bound: EventFilter) -> EventFilter:
    """Return the filter that passes what both pass.

    bound: videos, folder, camera and tags only; wall clock and seconds are the request's alone.
    """
    if None not in (asked.camera, bound.camera) and asked.camera != bound.camera:
        return _NOTHING
    folder = _folder(asked.folder, bound.folder)
    if folder == "":
        return _NOTHING
    ids = asked.video_ids if bound.video_ids is None else bound.video_ids
    if asked.video_ids is not None and bound.video_ids is not None:
        ids = tuple(i for i in asked.video_ids if i in set(bound.video_ids))
    return replace(
        asked,
        video_ids=ids,
        folder=folder,
        camera=asked.camera if bound.camera is None else bound.camera,
        tags=tuple(dict.fromkeys((*bound.tags, *asked.tags))),
    )


def _folder(asked: str | None, bound: str | None) -> str | None:
    """Return the deeper of two folders; empty where neither lies in the other."""
    if asked is None or bound is None:
        return bound if asked is None else asked
    if is_below(canonical(asked), canonical(bound)):
        return asked
    return bound if is_below(canonical(bound), canonical(asked)) else ""


def _signature(secret: bytes, path: str, values: Mapping[str, str]) -> str:
    text = f"{path}\n{values['expires']}\n{values['key']}"
    return hmac.new(secret, text.encode(errors="replace"), hashlib.sha256).hexdigest()
