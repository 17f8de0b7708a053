"""Which tokens can follow while an answer is decoded among its choices."""

from __future__ import annotations

from marc_core.models.sampling import next_ids


def test_ids_after_a_prefix():
    choices = [[1, 2, 9], [1, 3, 9], [4, 9]]
    assert next_ids(choices, []) == [1, 4]
    assert next_ids(choices, [1]) == [2, 3]
    assert next_ids(choices, [4]) == [9]
    assert next_ids(choices, [4, 9]) == next_ids(choices, [7]) == []
