"""Keys: who may do what, and sees what; everything outside of a key's bound is not there."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from jobs.cli import app as marc
from marc_core.errors import ConfigError
from marc_core.question import EventFilter
from serving.access import SCOPES, narrowed
from serving.config import LimitConfig, ServeConfig
from serving.errors import ApiError
from serving.keys import Key, KeyFile, new_key
from serving.limits import LocalLimits
from serving.retriever import MemoryRetriever
from serving.student import EngineStudent
from tests.serving.conftest import make_app

ASK: Any = {"model": "marc", "messages": [{"role": "user", "content": "What colour is it?"}]}


def add(file: Path, *scopes: Any, **more: Any) -> str:
    key, token = new_key("someone", scopes or SCOPES, **more)
    KeyFile(file).change(lambda every: every.update({key.id: key}))
    return token


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def locked(
    key_file: Path, serve_config: ServeConfig, retriever: MemoryRetriever, student: EngineStudent
) -> FastAPI:
    add(key_file)
    config = replace(serve_config, keys=str(key_file), limits=LimitConfig())
    return make_app(config, retriever, student)


def client_of(app: FastAPI, token: str | None) -> TestClient:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    app.state.gateway.keys._file._looked_at = 0.0  # as if a second had passed
    return TestClient(app, raise_server_exceptions=False, headers=headers)


def refused(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


# What passes both passes the intersection, and nothing else


class Place:
    def __init__(self, video: str, folder: str, camera: str, tags: set[str]) -> None:
        self.video, self.folder, self.camera, self.tags = video, folder, camera, tags

    def passes(self, f: EventFilter) -> bool:
        return (
            (f.video_ids is None or self.video in f.video_ids)
            and (f.folder is None or self.folder == f.folder
                 or self.folder.startswith(f.folder + "/"))
            and (f.camera is None or self.camera == f.camera)
            and set(f.tags) <= self.tags
        )  # fmt: skip


PLACES = [
    Place(video, folder, camera, tags)
    for video in ("1", "2")
    for folder in ("/a", "/a/b", "/ab")
    for camera in ("x", "y")
    for tags in (set[str](), {"t"}, {"t", "u"})
]
FILTERS = [
    EventFilter(video_ids=ids, folder=folder, camera=camera, tags=tags)
    for ids in (None, (), ("1",), ("1", "2"))
    for folder in (None, "/a", "/a/b", "/ab")
    for camera in (None, "x", "y")
    for tags in ((), ("t",), ("u",))
]


def test_an_intersection_passes_what_both_pass() -> None:
    for asked, bound in itertools.product(FILTERS, FILTERS):
        both = narrowed(asked, bound)
        for place in PLACES:
            assert place.passes(both) == (place.passes(asked) and place.passes(bound))


def test_times_stay_the_requests() -> None:
    asked = EventFilter(start_s=1.0, recorded_from=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    assert narrowed(asked, EventFilter(camera="x")) == replace(asked, camera="x")


# Keys


def test_the_file_holds_no_key_and_is_its_owners(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    token = add(file, "read")
    text = file.read_text()
    assert token not in text
    assert token.split("_")[2] not in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    soon = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    key, _ = new_key(
        "a", ("read",), bound=EventFilter(camera="x", tags=("t",), folder="/f", video_ids=("1",)),
        expires_at=soon, requests_per_minute=3, concurrent_requests=2,
    )  # fmt: skip
    assert Key.from_json(key.to_json()) == key
    assert key.digest not in repr(key)


def test_no_key_a_wrong_one_and_an_expired_one(locked: FastAPI, key_file: Path) -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    expired = add(key_file, expires_at=past)
    good = add(key_file)
    for token, code in [
        (None, "missing_api_key"),
        ("nonsense", "invalid_api_key"),
        (good[:-1] + ("a" if good[-1] != "a" else "b"), "invalid_api_key"),
        (good + "x", "invalid_api_key"),
        ("mk_00000000_x", "invalid_api_key"),
        ("_" * 9, "invalid_api_key"),
        (expired, "expired_api_key"),
    ]:
        found = client_of(locked, token)
        for path in ("/v1/whoami", "/v1/videos", "/v1/models"):
            assert refused(found.get(path)) == (401, code)
    assert client_of(locked, good).get("/v1/whoami").json()["scopes"] == sorted(SCOPES)
    assert client_of(locked, None).get("/health").status_code == 200


def test_a_scope_that_is_missing_is_named(locked: FastAPI, key_file: Path) -> None:
    reader = client_of(locked, add(key_file, "read"))
    assert reader.get("/v1/videos").status_code == 200
    response = reader.post("/v1/chat/completions", json=ASK)
    assert refused(response) == (403, "missing_scope")
    assert "'ask'" in response.json()["error"]["message"]
    assert refused(reader.get("/metrics")) == (403, "missing_scope")
    asker = client_of(locked, add(key_file, "ask"))
    assert refused(asker.post("/v1/search", json={"text": "x"})) == (403, "missing_scope")
    assert asker.post("/v1/chat/completions", json=ASK).status_code == 200


def test_the_openai_client_meets_its_exceptions(locked: FastAPI, key_file: Path) -> None:
    def ai(token: str) -> openai.OpenAI:
        return openai.OpenAI(
            base_url="http://127.0.0.1/v1", api_key=token, max_retries=0,
            http_client=client_of(locked, None),
        )  # fmt: skip

    with pytest.raises(openai.AuthenticationError):
        ai("wrong").models.list()
    with pytest.raises(openai.PermissionDeniedError):
        ai(add(key_file, "read")).chat.completions.create(**ASK)
    free = ai(add(key_file, "ask", requests_per_minute=0, concurrent_requests=0))
    assert all(free.models.list() for _ in range(20))
    once = ai(add(key_file, "ask", requests_per_minute=6))
    assert once.chat.completions.create(**ASK).choices
    with pytest.raises(openai.RateLimitError) as caught:
        once.chat.completions.create(**ASK)
    assert int(caught.value.response.headers["retry-after"]) >= 1
    counted = locked.state.gateway.metrics.text().decode()
    assert 'marc_rejected_total{reason="rate_limit"} 1.0' in counted


def test_a_revoked_key_and_its_links_end(locked: FastAPI, key_file: Path) -> None:
    token = add(key_file)
    mine = client_of(locked, token)
    link = mine.get("/v1/videos").json()["data"][0]["thumbnail_url"]
    assert client_of(locked, None).get(link).status_code == 200
    result = CliRunner().invoke(marc, ["keys", "revoke", token.split("_")[1], "--keys", key_file])
    assert result.exit_code == 0, result.output
    assert refused(client_of(locked, token).get("/v1/videos")) == (401, "invalid_api_key")
    assert refused(client_of(locked, None).get(link)) == (401, "invalid_link")


def test_links_are_good_for_what_they_name_only(locked: FastAPI, key_file: Path) -> None:
    first, second = client_of(locked, add(key_file)).get("/v1/videos").json()["data"][:2]
    link, other = first["thumbnail_url"], second["thumbnail_url"]
    path, query = link.split("?")
    nobody = client_of(locked, None)
    assert nobody.get(link).status_code == 200
    assert refused(nobody.get(f"{other.split('?')[0]}?{query}")) == (401, "invalid_link")
    late = query.replace("expires=", "expires=9")
    assert refused(nobody.get(f"{path}?{late}")) == (401, "invalid_link")
    assert refused(nobody.get(f"/v1/videos?{query}")) == (401, "missing_api_key")


def test_a_bound_key_sees_nothing_else(locked: FastAPI, key_file: Path) -> None:
    everything = client_of(locked, add(key_file))
    mine, other = everything.get("/v1/videos").json()["data"][:2]
    folder = mine["uri"].rpartition("/")[0]
    bound = client_of(locked, add(key_file, bound=EventFilter(folder=folder + "/a")))
    inside = everything.get("/v1/videos", params={"folder": folder + "/a"}).json()["data"]
    if not inside:  # whichever comes first lies at the top
        inside, other = [mine], other
        bound = client_of(locked, add(key_file, bound=EventFilter(video_ids=(mine["video_id"],))))
    ids = {video["video_id"] for video in inside}
    outside = other if other["video_id"] not in ids else mine
    assert {v["video_id"] for v in bound.get("/v1/videos").json()["data"]} == ids
    event = everything.get(f"/v1/videos/{outside['video_id']}/events").json()["data"][0]
    for path in (
        f"/v1/videos/{outside['video_id']}",
        f"/v1/videos/{outside['video_id']}/events",
        f"/v1/events/{event['event_id']}",
        f"/v1/events/{event['event_id']}/thumbnail",
    ):
        assert everything.get(path).status_code == 200
        assert bound.get(path).status_code == 404
    found = bound.post("/v1/search", json={"text": "a red circle", "limit": 100}).json()["data"]
    assert {e["video_id"] for e in found} == ids
    named = {"text": "x", "filter": {"video_ids": [outside["video_id"]]}}
    assert bound.post("/v1/search", json=named).json()["data"] == []
    like = bound.post("/v1/search", json={"event_id": event["event_id"]})
    unknown = bound.post("/v1/search", json={"event_id": "unknown"})
    assert refused(like) == refused(unknown) == (404, "event_not_found")
    cited = bound.post("/v1/chat/completions", json=ASK).json()["marc"]["citations"]
    assert {c["video_id"] for c in cited} <= ids
    assert bound.get("/v1/facets").json()["num_videos"] == len(ids)


# Limits


def test_a_key_saves_up_ten_seconds_and_no_more() -> None:
    now = [0.0]
    limits = LocalLimits(lambda: now[0])

    async def admitted(times: int) -> int:
        count = 0
        for _ in range(times):
            try:
                await limits.enter("k", 60, 100)
                await limits.leave("k")
                count += 1
            except ApiError:
                continue
        return count

    assert asyncio.run(admitted(50)) == 10
    now[0] = 3.0
    assert asyncio.run(admitted(50)) == 3
    now[0] = 1000.0
    assert asyncio.run(admitted(50)) == 10


def test_requests_at_once_are_counted() -> None:
    async def run() -> None:
        limits = LocalLimits()
        await limits.enter("k", 6000, 2)
        await limits.enter("k", 6000, 2)
        await limits.enter("other", 6000, 2)
        with pytest.raises(ApiError, match="at once"):
            await limits.enter("k", 6000, 2)
        await limits.leave("k")
        await limits.enter("k", 6000, 2)

    asyncio.run(run())


# The command line


def test_keys_on_the_command_line(tmp_path: Path) -> None:
    file, runner = str(tmp_path / "k.json"), CliRunner()
    made = runner.invoke(
        marc, ["keys", "create", "alice", "--keys", file, "--days", "1", "--camera", "gate"]
    )
    token = next(line for line in made.output.splitlines() if line.startswith("mk_"))
    (key,) = KeyFile(file).keys().values()
    assert (key.name, key.scopes, key.bound.camera) == ("alice", ("read", "ask"), "gate")
    listed = runner.invoke(marc, ["keys", "list", "--keys", file, "--json"])
    assert "alice" in listed.output
    assert key.digest not in listed.output
    assert token not in listed.output
    wrong = runner.invoke(marc, ["keys", "create", "bob", "--keys", file, "--scope", "root"])
    assert wrong.exit_code == 2


def test_a_damaged_key_file_is_said_at_start(
    tmp_path: Path, serve_config: ServeConfig, retriever: MemoryRetriever, student: EngineStudent
) -> None:
    file = tmp_path / "keys.json"
    file.write_text("{")
    with pytest.raises(ConfigError, match="marc keys create"):
        make_app(replace(serve_config, keys=str(file)), retriever, student)
