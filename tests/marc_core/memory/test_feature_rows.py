import dataclasses

import pytest
import torch

from marc_core import schemas
from marc_core.errors import MemoryStoreError
from marc_core.feature_rows import features_columns, features_row, read_features_row


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
