"""Gaps of live sources: written again and again, closed, forgotten."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from marc_core.config import MemoryConfig
from marc_core.memory import MemoryStore
from marc_core.memory.gaps import Gap, forget_before


def at(second: int) -> dt.datetime:
    return dt.datetime(2026, 5, 28, 20, 0, second, tzinfo=dt.UTC)


def test_a_gap_is_a_row_until_it_was_none(tmp_path: Path) -> None:
    store = MemoryStore.open(MemoryConfig(uri=str(tmp_path)), embedding_dim=8, create=True)
    assert store.gaps() == []
    store.record_gaps([Gap("gate", at(1), None, "refused"), Gap("yard", at(2), at(9), "it's off")])
    store.record_gaps([Gap("gate", at(1), at(5), "refused")])
    assert store.gaps() == [
        Gap("gate", at(1), at(5), "refused"), Gap("yard", at(2), at(9), "it's off"),
    ]  # fmt: skip
    store.record_gaps([Gap("gate", at(1), at(1), "refused")])
    assert [gap.source for gap in store.gaps()] == ["yard"]
    assert forget_before(store.tables, "yard", at(9)) == 0
    assert forget_before(store.tables, "yard", at(10)) == 1
    assert MemoryStore.open(MemoryConfig(uri=str(tmp_path))).gaps() == []
