"""Student features of an event as bytes of a table row, and back. No pickle: raw numbers.

Not part of `marc_core.memory`, because who makes rows need not load LanceDB; and torch is imported
where it is used, because most of what opens a memory (writers, `marc status`) never needs it. Each
takes longer to import than all of MARC.

    EventFeatures (groups)  one row
    Hierarchy (nodes)       the nodes that cuts up to `HEAD_TOKENS` need, and a second row with
                            the rest, so that a small budget reads no more than it takes

Shapes: L deepstack layers, T temporal groups, P tokens of a group, R nodes, D channels.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from marc_core.errors import MemoryStoreError
from marc_core.schemas import make_feature_id
from marc_core.types import EventFeatures

if TYPE_CHECKING:
    import torch

    from marc_core.compress import Hierarchy, StoredFeatures

LAYOUT_VERSION = 1
"""Of the bytes of `data`; a row of a later version is refused."""
HEAD_TOKENS = 16
"""Cuts up to so many tokens read an event's first row alone (our choice: 31 nodes, 127 kB for the
3B student)."""
_DTYPES = ("bfloat16", "float16", "float32")


def features_rows(
    event_id: str, video_id: str, fingerprint: str, features: StoredFeatures
) -> list[dict[str, Any]]:
    """Return the rows of schemas.FEATURES of an event; fingerprint: see `features_row`."""
    if isinstance(features, EventFeatures):
        return [features_row(event_id, video_id, fingerprint, features)]
    split = len(features.head(HEAD_TOKENS).parents_R)
    spans = [(0, split), (split, len(features.parents_R))]
    return [
        {
            "feature_id": make_feature_id(event_id, fingerprint, piece),
            "event_id": event_id,
            "video_id": video_id,
            "fingerprint": fingerprint,
            **_node_columns(features, slice(*span)),
        }
        for piece, span in enumerate(spans)
        if span[1] > span[0]
    ]


def features_row(
    event_id: str, video_id: str, fingerprint: str, features: EventFeatures
) -> dict[str, Any]:
    """Return one row of schemas.FEATURES.

    `fingerprint` must change with everything that decides the numbers besides the event's frames:
    the vision tower and the compression (marc_core.fingerprints.features_name).
    """
    return {
        "feature_id": make_feature_id(event_id, fingerprint),
        "event_id": event_id,
        "video_id": video_id,
        "fingerprint": fingerprint,
        **features_columns(features),
    }


def features_columns(features: EventFeatures) -> dict[str, Any]:
    """Return the columns of schemas.FEATURES that describe the tensor, `data` included.

    Raises MemoryStoreError for a dtype that is not bfloat16, float16 or float32, and for shapes
    that contradict each other.
    """
    import torch

    stacked_KTPD = features.groups_TPD.unsqueeze(0)
    if features.deepstack_LTPD is not None:
        _check_deepstack(features.groups_TPD, features.deepstack_LTPD)
        stacked_KTPD = torch.cat([stacked_KTPD, features.deepstack_LTPD])
    num_layers, groups, tokens, dim = stacked_KTPD.shape
    grid_h, grid_w = features.grid_hw
    if tokens != grid_h * grid_w or len(features.times_T) != groups:
        raise MemoryStoreError(
            f"Features of {groups} groups x {tokens} tokens need one time a group and grid_h * "
            f"grid_w tokens. Got {len(features.times_T)} times and a grid of {grid_h} x {grid_w}."
        )
    return {
        "layout": "groups",
        "layout_version": LAYOUT_VERSION,
        "num_rows": groups,
        "num_source_groups": features.num_source_groups,
        "grid_h": grid_h,
        "grid_w": grid_w,
        "dim": dim,
        "num_layers": num_layers,
        "dtype": _dtype_name(stacked_KTPD.dtype),
        "times_s": _floats(features.times_T),
        "counts": None if features.counts_T is None else _floats(features.counts_T),
        "parents": None,
        "positions": None,
        "heights": None,
        "data": _to_bytes(stacked_KTPD),
    }


def _node_columns(nodes: Hierarchy, rows: slice) -> dict[str, Any]:
    import torch

    stacked_KRD = nodes.nodes_RD[rows].unsqueeze(0)
    if nodes.deepstack_LRD is not None:
        stacked_KRD = torch.cat([stacked_KRD, nodes.deepstack_LRD[:, rows]])
    positions_R3 = nodes.positions_R3[rows]
    return {
        "layout": "nodes",
        "layout_version": LAYOUT_VERSION,
        "num_rows": stacked_KRD.shape[1],
        "num_source_groups": nodes.num_source_groups,
        "grid_h": nodes.grid_hw[0],
        "grid_w": nodes.grid_hw[1],
        "dim": stacked_KRD.shape[2],
        "num_layers": stacked_KRD.shape[0],
        "dtype": _dtype_name(stacked_KRD.dtype),
        "times_s": _floats(positions_R3[:, 0]),
        "counts": [float(n) for n in nodes.counts_R[rows]],
        "parents": [int(n) for n in nodes.parents_R[rows]],
        "positions": _floats(positions_R3.reshape(-1)),
        "heights": [float(h) for h in nodes.heights_R[rows]],
        "data": _to_bytes(stacked_KRD),
    }


def read_features(rows: Sequence[dict[str, Any]]) -> StoredFeatures:
    """Return what the rows of one event hold, on the CPU: all of them, or a hierarchy's first.

    Raises MemoryStoreError like `read_features_row`.
    """
    pieces = sorted(rows, key=lambda row: str(row["feature_id"]))
    if pieces[0]["layout"] != "nodes":
        return read_features_row(pieces[0])
    return _read_nodes(pieces)


def _read_nodes(pieces: Sequence[dict[str, Any]]) -> Hierarchy:
    import numpy as np
    import torch

    from marc_core.compress import Hierarchy

    first = pieces[0]
    stacked_KRD = torch.cat([_tensor(p, 1) for p in pieces], dim=1)
    column = {
        name: np.concatenate([np.asarray(p[name], kind) for p in pieces])
        for name, kind in (("counts", np.float32), ("parents", np.int32), ("heights", np.float32))
    }
    positions = np.concatenate([np.asarray(p["positions"], np.float32) for p in pieces])
    return Hierarchy(
        nodes_RD=stacked_KRD[0],
        parents_R=column["parents"],
        positions_R3=torch.from_numpy(positions.reshape(-1, 3)),
        heights_R=column["heights"],
        counts_R=column["counts"],
        grid_hw=(first["grid_h"], first["grid_w"]),
        num_source_groups=first["num_source_groups"],
        deepstack_LRD=stacked_KRD[1:] if first["num_layers"] > 1 else None,
    )


def read_features_row(row: dict[str, Any]) -> EventFeatures:
    """Return the groups of a row of schemas.FEATURES, on the CPU.

    Raises MemoryStoreError when the bytes do not have the length that the row promises, or are
    laid out in a way that this version does not know.
    """
    import torch

    tokens = row["grid_h"] * row["grid_w"]
    flat_KND = _tensor(row, tokens)
    stacked_KTPD = flat_KND.reshape(len(flat_KND), row["num_rows"], tokens, row["dim"])
    return EventFeatures(
        groups_TPD=stacked_KTPD[0],
        grid_hw=(row["grid_h"], row["grid_w"]),
        times_T=torch.tensor(row["times_s"], dtype=torch.float32),
        num_source_groups=row["num_source_groups"],
        deepstack_LTPD=stacked_KTPD[1:] if row["num_layers"] > 1 else None,
        counts_T=None if row["counts"] is None else torch.tensor(row["counts"]),
    )


def _tensor(row: dict[str, Any], tokens_a_row: int) -> torch.Tensor:
    """Return the (1 + L, rows x tokens a row, D) numbers of a row."""
    import torch

    layout = "groups" if row["layout"] != "nodes" else "nodes"
    if (row["layout"], row["layout_version"]) != (layout, LAYOUT_VERSION):
        raise MemoryStoreError(
            f"Features '{row['feature_id']}' must have layout 'groups' or 'nodes' of version "
            f"{LAYOUT_VERSION}. Got '{row['layout']}' of version {row['layout_version']}: a later "
            "MARC wrote them. Update MARC, or redo them with `marc index --only features`."
        )
    shape = [row["num_layers"], row["num_rows"] * tokens_a_row, row["dim"]]
    dtype = getattr(torch, row["dtype"]) if row["dtype"] in _DTYPES else None
    if dtype is None or len(row["data"]) != math.prod(shape) * dtype.itemsize:
        raise MemoryStoreError(
            f"Features '{row['feature_id']}' hold {len(row['data'])} bytes of {row['dtype']} for "
            f"shape {shape}: the row is damaged. Index its video again."
        )
    return torch.frombuffer(bytearray(row["data"]), dtype=dtype).reshape(shape)


def tokens_a_row(layout: str, grid_h: int, grid_w: int) -> int:
    """Return how many tokens a row of stored features holds: a group's grid, or a node's one."""
    return grid_h * grid_w if layout == "groups" else 1


def _to_bytes(tensor: torch.Tensor) -> bytes:
    import torch

    assert sys.byteorder == "little", "features are stored little-endian"
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def _floats(values_T: torch.Tensor) -> list[float]:
    return [float(v) for v in values_T.detach().float().cpu().tolist()]


def _dtype_name(dtype: torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise MemoryStoreError(f"Features must be one of {', '.join(_DTYPES)}. Got {dtype}.")
    return name


def _check_deepstack(groups_TPD: torch.Tensor, deepstack_LTPD: torch.Tensor) -> None:
    same = deepstack_LTPD.shape[1:] == groups_TPD.shape
    if not same or deepstack_LTPD.dtype != groups_TPD.dtype:
        raise MemoryStoreError(
            f"Deepstack features must be (L, {', '.join(map(str, groups_TPD.shape))}) "
            f"{groups_TPD.dtype}. Got {tuple(deepstack_LTPD.shape)} {deepstack_LTPD.dtype}."
        )
