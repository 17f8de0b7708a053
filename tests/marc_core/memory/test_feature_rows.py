import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from marc_core import schemas
from marc_core.compress import event_hierarchy
from marc_core.compress.hierarchy import cut
from marc_core.errors import MemoryStoreError
from marc_core.feature_rows import (
    HEAD_TOKENS,
    features_columns,
    features_row,
    features_rows,
    read_features,
    read_features_row,
)
from marc_core.types import EventFeatures


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_every_bit_comes_back(fakes, dtype):
    features = fakes.features_of(3, dtype)
    row = features_row("v:0000:00000", "v", "m", features)
    assert list(row) == schemas.FEATURES.names
    back = read_features_row(row)
    assert back.groups_TPD.dtype == dtype
    assert torch.equal(back.groups_TPD, features.groups_TPD)
    assert torch.equal(back.times_T, features.times_T)
    assert (back.grid_hw, back.num_source_groups) == (features.grid_hw, 5)
    assert back.deepstack_LTPD is None
    assert back.counts_T is None


def test_deepstack_and_counts_come_back(fakes):
    plain = fakes.features_of()
    features = dataclasses.replace(
        plain,
        deepstack_LTPD=torch.stack([plain.groups_TPD + i for i in (1, 2, 3)]),
        counts_T=torch.tensor([1.0, 4.0]),
    )
    back = read_features_row(features_row("v:0000:00000", "v", "m", features))
    assert torch.equal(back.groups_TPD, features.groups_TPD)
    assert torch.equal(back.deepstack_LTPD, features.deepstack_LTPD)
    assert torch.equal(back.counts_T, features.counts_T)


def test_views_are_stored_as_they_read(fakes):
    plain = fakes.features_of()
    view = plain.groups_TPD.repeat(1, 1, 2)[:, :, ::2]
    back = read_features_row(
        features_row("e", "v", "m", dataclasses.replace(plain, groups_TPD=view))
    )
    assert torch.equal(back.groups_TPD, view)


def test_the_result_may_be_written_to(fakes):
    back = read_features_row(features_row("e", "v", "m", fakes.features_of()))
    back.groups_TPD.zero_()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid_hw": (2, 2)}, "grid of 2 x 2"),
        ({"times_T": torch.zeros(3)}, "3 times"),
        ({"groups_TPD": torch.zeros(2, 6, 8, dtype=torch.float64)}, "float64"),
        ({"deepstack_LTPD": torch.zeros(1, 2, 6, 4, dtype=torch.bfloat16)}, "Deepstack"),
        ({"deepstack_LTPD": torch.zeros(1, 2, 6, 8)}, "Deepstack"),
    ],
)
def test_contradictions_are_refused(fakes, changes, message):
    with pytest.raises(MemoryStoreError, match=message):
        features_columns(dataclasses.replace(fakes.features_of(), **changes))


def test_damaged_rows_are_refused(fakes):
    row = features_row("v:0000:00000", "v", "m", fakes.features_of())
    with pytest.raises(MemoryStoreError, match="damaged"):
        read_features_row(row | {"data": row["data"][:-2]})
    with pytest.raises(MemoryStoreError, match="damaged"):
        read_features_row(row | {"dtype": "int8"})


def nodes_of(num_groups: int, layers: int = 0):
    x = torch.randn(1 + layers, num_groups, 6, 8, generator=torch.manual_seed(0)).bfloat16()
    event = EventFeatures(
        groups_TPD=x[0],
        grid_hw=(2, 3),
        times_T=torch.arange(num_groups) * 2.0 + 0.5,
        num_source_groups=num_groups,
        deepstack_LTPD=x[1:] if layers else None,
    )
    return event_hierarchy(event, max_tokens=40)


@pytest.mark.parametrize(("groups", "layers", "pieces"), [(1, 0, 1), (6, 0, 2), (6, 2, 2)])
def test_a_hierarchy_comes_back_from_its_pieces(groups, layers, pieces):
    nodes = nodes_of(groups, layers)
    rows = features_rows("v:0000:00000", "v", "m", nodes)
    assert [list(row) for row in rows] == [schemas.FEATURES.names] * pieces
    table = pa.Table.from_pylist(rows, schema=schemas.FEATURES)
    back = read_features(table.to_pylist()[::-1])
    for name in ("nodes_RD", "positions_R3"):
        assert torch.equal(getattr(back, name), getattr(nodes, name))
    for name in ("parents_R", "heights_R", "counts_R"):
        np.testing.assert_array_equal(getattr(back, name), getattr(nodes, name))
    assert (back.grid_hw, back.num_source_groups) == ((2, 3), groups)
    assert (back.deepstack_LRD is None) == (not layers)
    if layers:
        assert torch.equal(back.deepstack_LRD, nodes.deepstack_LRD)


def test_the_first_piece_is_enough_for_small_cuts():
    nodes = nodes_of(6)
    head = read_features(features_rows("v:0000:00000", "v", "m", nodes)[:1])
    assert head.max_tokens == HEAD_TOKENS
    for wanted in (1, 5, HEAD_TOKENS):
        rows = cut(head, wanted)
        np.testing.assert_array_equal(rows, cut(nodes, wanted))
        assert torch.equal(head.nodes_RD[rows], nodes.nodes_RD[rows])


def test_a_later_layout_is_refused():
    (row,) = features_rows("e", "v", "m", nodes_of(1))
    for change in ({"layout": "clouds"}, {"layout_version": 2}):
        with pytest.raises(MemoryStoreError, match="a later MARC wrote them"):
            read_features([row | change])
