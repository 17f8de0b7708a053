"""Exchanging all vectors of a memory for another encoder's: time and memory, by its size.

    python -m benchmarks.switch_encoder > benchmarks/results/switch_encoder.json

Synthetic events of 256 dimensions with pictures of 10 KB get vectors of 512. `missing_s`: finding
what lacks a vector (a plan, or a look between rounds); `exchange_s`: the commit that readers see;
`complete_s`: every index built anew, the staged vectors dropped. `peak_growth_mb`: how much the
process grew by the exchange.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.clips import hardware
from benchmarks.memory_scale import EVENTS_PER_VIDEO, batch_of
from marc_core import schemas
from marc_core.config import MemoryConfig
from marc_core.digest import frames_digest
from marc_core.memory import MemoryStore, embeddings
from marc_core.memory.tables import open_tables

SIZES = (5_000, 20_000)
OLD_DIM, NEW_DIM = 256, 512
PICTURE_BYTES = 10_000
BATCH = 5_000
FRAMES_S = np.arange(10.0)


def fill(store: MemoryStore, rng: np.random.Generator, size: int) -> None:
    """Publish events, and stage a new vector for each."""
    assert not size % BATCH
    assert not BATCH % EVENTS_PER_VIDEO
    for first in range(0, size, BATCH):
        vectors_ED = rng.standard_normal((BATCH, OLD_DIM), dtype=np.float32)
        videos, events, texts, _ = batch_of(rng, vectors_ED, first)
        columns = {
            "frame_times_s": [FRAMES_S] * BATCH,
            "thumbnail": [rng.bytes(PICTURE_BYTES) for _ in range(BATCH)],
        }
        for name, values in columns.items():
            place, field = events.schema.get_field_index(name), events.schema.field(name)
            events = events.set_column(place, field, pa.array(values, field.type))
        store.publish(videos, events, None, texts)
        new_ED = rng.standard_normal((BATCH, NEW_DIM), dtype=np.float32)
        rows = [
            events["event_id"],
            events["video_id"],
            pa.array(["new"] * BATCH),
            pa.array([frames_digest(FRAMES_S)] * BATCH),
            pa.FixedSizeListArray.from_arrays(pa.array(new_ED.ravel()), NEW_DIM),
        ]
        store.stage_embeddings(pa.table(rows, schema=schemas.embeddings_schema(NEW_DIM)))
    store.optimize()


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), round(time.perf_counter() - started, 2)


def reset_peak() -> float:
    """Let the peak begin at what the process holds now; return it in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident_mb("VmRSS")


def resident_mb(name: str) -> float:
    """Return VmRSS, what the process holds, or VmHWM, the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) / 1024


def measure(size: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        config = MemoryConfig(uri=folder)
        store = MemoryStore.open(
            config, embedding_dim=OLD_DIM, encoder_fingerprint="old", create=True
        )
        fill(store, rng, size)
        missing, missing_s = timed(lambda: store.missing_embeddings("new").num_rows)
        assert missing == 0
        before_mb = reset_peak()
        done, exchange_s = timed(lambda: embeddings.exchange(store.tables, "new", NEW_DIM))
        assert done
        after_mb = resident_mb("VmHWM")
        tables = open_tables(config)
        _, complete_s = timed(lambda: embeddings.complete(tables, config))
        assert tables.events.count_rows() == size
    return {
        "missing_s": missing_s,
        "exchange_s": exchange_s,
        "complete_s": complete_s,
        "peak_growth_mb": round(after_mb - before_mb),
    }


def main() -> None:
    result = {
        "hardware": hardware(),
        "dims": [OLD_DIM, NEW_DIM],
        "picture_bytes": PICTURE_BYTES,
        "events": {str(size): measure(size) for size in SIZES},
    }
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
