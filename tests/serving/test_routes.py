"""The routes over a real memory: search, lists, single things, pictures."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from fastapi.testclient import TestClient
from ray.exceptions import RayTaskError

from marc_core.errors import AnswerError
from serving.errors import api_error
from serving.retriever import MemoryRetriever


def get(client: TestClient, path: str, status: int = 200) -> Any:
    response = client.get(path)
    assert response.status_code == status, response.text
    return response.json()


def search(client: TestClient, **body: Any) -> Any:
    response = client.post("/v1/search", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_search_finds_what_the_preparer_finds(
    client: TestClient, retriever: MemoryRetriever
) -> None:
    found = search(client, text="a red circle", limit=4)
    own = retriever.session.search("a red circle", limit=4)
    assert [e["event_id"] for e in found["data"]] == [hit.event_id for hit in own]
    first, hit = found["data"][0], own[0]
    assert first["start_s"] == pytest.approx(hit.start_s - hit.video_start_s, abs=1e-3)
    assert first["cosine"] == pytest.approx(hit.cosine)
    assert first["clip_url"] == (
        f"/v1/videos/{hit.video_id}/media#t={first['start_s']:.3f},{first['end_s']:.3f}"
    )
    assert found["has_more"]
    assert found["next_offset"] == 4


def test_pages_of_a_search_join_without_a_gap(client: TestClient) -> None:
    whole = [e["event_id"] for e in search(client, text="a red circle", limit=10)["data"]]
    pages, offset = [], 0
    while offset is not None and len(pages) < 10:
        page = search(client, text="a red circle", limit=4, offset=offset)
        pages += [e["event_id"] for e in page["data"]]
        offset = page["next_offset"]
    assert pages[:10] == whole
    assert len(set(pages)) == len(pages)


def test_more_like_an_event_and_like_its_picture(client: TestClient) -> None:
    first = search(client, text="a red circle", limit=1)["data"][0]
    like = search(client, event_id=first["event_id"], limit=3)["data"]
    assert first["event_id"] not in {e["event_id"] for e in like}
    picture = client.get(first["thumbnail_url"])
    assert picture.headers["content-type"] == "image/jpeg"
    found = search(client, image=base64.b64encode(picture.content).decode(), limit=3)["data"]
    assert first["event_id"] in {e["event_id"] for e in found}


def test_a_picture_is_not_sent_again(client: TestClient) -> None:
    event = search(client, text="x", limit=1)["data"][0]
    first = client.get(event["thumbnail_url"])
    again = client.get(event["thumbnail_url"], headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


def test_a_video_its_events_and_one_event(client: TestClient) -> None:
    page = get(client, "/v1/videos?limit=2")
    assert (len(page["data"]), page["total"], page["next_offset"]) == (2, 3, 2)
    rest = get(client, "/v1/videos?limit=2&offset=2")
    assert (len(rest["data"]), rest["next_offset"]) == (1, None)
    video = rest["data"][0]
    assert get(client, f"/v1/videos/{video['video_id']}") == video
    events = get(client, f"/v1/videos/{video['video_id']}/events")["data"]
    assert len(events) == video["num_events"]
    assert [e["start_s"] for e in events] == sorted(e["start_s"] for e in events)
    one = get(client, f"/v1/events/{events[1]['event_id']}")
    assert events[1] == {k: v for k, v in one.items() if k not in ("texts", "boundary_kind")}
    assert client.get(video["thumbnail_url"]).status_code == 200


def test_what_is_said_in_an_event_counts_from_its_video(client: TestClient) -> None:
    found = search(client, text='"needle in the haystack"', limit=1)["data"][0]
    assert "needle" in found["text"]
    texts = get(client, f"/v1/events/{found['event_id']}")["texts"]
    assert [(t["kind"], t["start_s"]) for t in texts] == [("sidecar", pytest.approx(0.2, abs=0.05))]


def test_videos_by_name_and_state(client: TestClient) -> None:
    assert get(client, "/v1/videos?name=VIDEO1")["total"] == 1
    assert get(client, "/v1/videos?status=failed")["total"] == 0
    assert get(client, "/v1/videos?camera=none")["total"] == 0


def test_facets_name_the_folders(client: TestClient) -> None:
    facets = get(client, "/v1/facets")
    assert facets["num_videos"] == 3
    assert len(facets["folders"]) == 3
    within = search(client, text="x", filter={"folder": facets["folders"][1]}, limit=100)["data"]
    assert {e["uri"].rpartition("/")[0] for e in within} == {facets["folders"][1]}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/videos/no", "video_not_found"),
        ("/v1/videos/no/events", "video_not_found"),
        ("/v1/events/no", "event_not_found"),
        ("/v1/events/no'%20OR%20'1'='1/thumbnail", "event_not_found"),
        ("/v1/models/no", "model_not_found"),
        ("/nothing", "not_found"),
    ],
)
def test_what_is_not_there_is_a_404(client: TestClient, path: str, code: str) -> None:
    assert get(client, path, 404)["error"]["code"] == code


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({}, 422, "unanswerable", None),
        ({"text": "x", "event_id": "y"}, 422, "unanswerable", None),
        ({"text": " "}, 422, "unanswerable", None),
        ({"event_id": "unknown"}, 404, "event_not_found", None),
        ({"image": "no base64!"}, 422, "invalid_value", "image"),
        ({"image": "bm8gcGljdHVyZQ=="}, 422, "unanswerable", None),
        ({"text": "x", "limit": 0}, 422, "invalid_value", "limit"),
        ({"text": "x", "rerank": True}, 400, "unsupported_parameter", "rerank"),
        ({"text": "x", "filter": {"tag": "a"}}, 400, "unsupported_parameter", "filter.tag"),
    ],
)
def test_wrong_searches_say_what_is_wrong(
    client: TestClient, body: Any, status: int, code: str, param: str | None
) -> None:
    response = client.post("/v1/search", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")


def test_ready_names_its_parts(client: TestClient) -> None:
    assert get(client, "/health")["status"] == "ok"
    ready = get(client, "/ready")
    assert ready["parts"] == {"retriever": "ok", "student": "ok"}
    assert (ready["weights_version"], ready["weights_problem"]) == (0, None)
    assert get(client, "/v1/whoami")["anonymous"] is True


def test_an_error_of_another_process_is_its_own_sentence() -> None:
    crossed = RayTaskError("prepare", "a traceback", AnswerError("A question must not be empty."))
    for error in (crossed, crossed.as_instanceof_cause()):
        found = api_error(error)
        assert (found.status, found.message) == (422, "A question must not be empty.")


def test_an_address_that_is_nothing_says_where_to_look(client: TestClient) -> None:
    error = get(client, "/nope", 404)["error"]
    assert error["code"] == "not_found"
    assert error["message"] == (
        "There is nothing at '/nope'. /openapi.json lists the routes; the page is at /."
    )


def test_a_body_that_is_not_sent_as_json_says_which_header_is_missing(client: TestClient) -> None:
    """As `curl -d` sends it."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    response = client.post("/v1/search", content=b'{"text": "a circle"}', headers=form)
    assert response.status_code == 415, response.text
    error = response.json()["error"]
    assert error["code"] == "unsupported_type"
    assert "send the header Content-Type: application/json" in error["message"]
    assert "application/x-www-form-urlencoded" in error["message"]
