"""Progress is looked up while work runs, and once more when it ends, however it ends."""

from __future__ import annotations

import time

import pytest

from pipelines.watch import watching


def test_the_last_look_sees_the_end():
    seen, done = [], [0]
    with watching(lambda: seen.append(done[0])):
        done[0] = 5
    assert seen == [5]


def test_work_that_fails_is_looked_at_too():
    seen = []
    with pytest.raises(ValueError, match="broken"), watching(lambda: seen.append(1)):
        raise ValueError("broken")
    assert seen == [1]


def test_looks_go_on_while_work_runs():
    seen = []
    with watching(lambda: seen.append(1)):
        time.sleep(2.5)
    assert len(seen) >= 3
