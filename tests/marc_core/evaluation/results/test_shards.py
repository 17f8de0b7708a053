"""Shards: written whole, read back, replaced by a rerun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from marc_core.errors import ConfigError
from marc_core.evaluation.results.prediction import (
    FAILED,
    answered,
    from_table,
    to_table,
    unanswered,
)
from marc_core.evaluation.results.shards import Files, Shards


def test_outcomes_survive_the_table(make_sample: Any) -> None:
    predictions = [
        answered(make_sample(), "marc", "B", events=(1, 2), timings_s={"decode": 0.5},
                 evidence_shown=0.5),
        unanswered(make_sample("1"), "marc", FAILED, "timeout: slow"),
    ]  # fmt: skip
    assert from_table(to_table(predictions)) == predictions


def test_rerun_replaces_and_an_answer_wins(tmp_path: Path, make_sample: Any) -> None:
    shards = Shards(str(tmp_path), "run")
    failed = unanswered(make_sample(), "marc", FAILED, "x")
    right = answered(make_sample(), "marc", "B")
    shards.write([failed])
    assert shards.read() == [failed]
    shards.write([right])
    assert shards.count() == 1
    assert shards.read() == [right]
    teacher = answered(make_sample(), "teacher", "B")
    shards.write([failed, teacher])
    assert sorted(o.variant for o in shards.read()) == ["marc", "teacher"]
    assert right in shards.read()
    assert not list(tmp_path.rglob("*.part"))


def test_other_runs_are_not_read(tmp_path: Path, make_sample: Any) -> None:
    Shards(str(tmp_path), "one").write([answered(make_sample(), "marc", "B")])
    assert Shards(str(tmp_path), "two").read() == []


def test_an_attempt_knows_its_own_outcomes(tmp_path: Path, make_sample: Any) -> None:
    """So a video whose retry was lost is not taken for done because it had failed before."""
    failed = unanswered(make_sample(), "marc", FAILED, "timeout: slow")
    Shards(str(tmp_path), "run", "a").write([failed])
    second = Shards(str(tmp_path), "run", "b")
    assert (second.read(), second.read(own=True), second.count()) == ([failed], [], 0)
    right = answered(make_sample(), "marc", "B")
    second.write([right])
    assert (second.read(), second.read(own=True), second.count()) == ([right], [right], 1)


def test_an_unusable_address_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="output must be a folder"):
        Files("nonsense://bucket/x")
