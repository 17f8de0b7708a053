"""Which videos a run takes up: the rules of resume, retry and quarantine, without Ray."""

from __future__ import annotations

from functools import partial

import pyarrow as pa
import pytest

from marc_core import schemas
from marc_core.config import IndexConfig
from marc_core.fingerprints import Fingerprints
from marc_core.types import VideoSource
from pipelines.plan import collect, plan_work, verdict

STATES = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("status", pa.string()),
        ("error_class", pa.string()),
        ("attempts", pa.int32()),
        ("cuts_fingerprint", pa.string()),
        ("embeddings_fingerprint", pa.string()),
        ("features_fingerprint", pa.string()),
        ("texts_fingerprint", pa.string()),
    ]
)
SOURCE = VideoSource(video_id="v", uri="/a.mp4", size_bytes=1, version="1")

NOW = Fingerprints(cuts="now", embeddings="e", features=None)


def state(status: str, error: str | None = None, attempts: int = 1, fingerprint: str = "now"):
    return {
        "video_id": "v",
        "uri": "/a.mp4",
        "status": status,
        "error_class": error,
        "attempts": attempts,
        "cuts_fingerprint": fingerprint,
        "embeddings_fingerprint": "e",
        "features_fingerprint": None,
    }


@pytest.mark.parametrize(
    ("known", "retry_failed", "attempt"),
    [
        ([], False, 1),
        ([state(schemas.INDEXED)], False, None),
        ([state(schemas.INDEXED)], True, None),
        ([state(schemas.INDEXED, fingerprint="before")], False, 1),
        ([state(schemas.FAILED, "unreadable")], False, None),
        ([state(schemas.FAILED, "unreadable")], True, 2),
        ([state(schemas.FAILED, "unreadable", fingerprint="before")], False, 1),
        ([state(schemas.FAILED, "timeout", 2)], False, 3),
        ([state(schemas.FAILED, "source", 9)], False, 10),
        ([state(schemas.FAILED, "internal", 9)], False, 10),
        ([state(schemas.FAILED, "worker_lost", 9)], False, 10),
        ([state(schemas.QUARANTINED, "timeout", 3)], False, None),
        ([state(schemas.QUARANTINED, "timeout", 3)], True, 4),
    ],
)
def test_plan(known: list, retry_failed: bool, attempt: int | None) -> None:
    config = IndexConfig(retry_failed=retry_failed)
    states = pa.Table.from_pylist(known, schema=STATES)
    plan = plan_work(collect([SOURCE]), states, partial(verdict, NOW, config))
    assert plan.work["attempts"].to_pylist() == ([] if attempt is None else [attempt])
    assert sum(plan.why.values()) == 1


@pytest.mark.parametrize("column", ["embeddings_fingerprint", "features_fingerprint"])
@pytest.mark.parametrize(
    ("status", "error", "attempt"),
    [(schemas.FAILED, "unreadable", None), (schemas.FAILED, "internal", 2),
     (schemas.QUARANTINED, "timeout", None)],
)  # fmt: skip
def test_other_models_do_not_help_a_video_that_cannot_be_decoded(
    status: str, error: str, attempt: int | None, column: str
) -> None:
    states = pa.Table.from_pylist([state(status, error) | {column: "before"}], schema=STATES)
    plan = plan_work(collect([SOURCE]), states, partial(verdict, NOW, IndexConfig()))
    assert plan.work["attempts"].to_pylist() == ([] if attempt is None else [attempt])
    assert plan.redo.num_rows == 0
