"""A whole memory as Parquet files, and an equal memory of them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from marc_core import schemas
from marc_core.config import MemoryConfig
from marc_core.errors import MemoryStoreError
from marc_core.memory import MemoryStore, transfer
from marc_core.memory.gaps import Gap
from marc_core.memory.tables import scan

runner = CliRunner()


@pytest.fixture(scope="session")
def fakes():
    from tests.marc_core.memory.conftest import _load

    return _load()


@pytest.fixture
def store(tmp_path: Path, fakes) -> MemoryStore:
    config = MemoryConfig(uri=str(tmp_path / "memory"))
    store = MemoryStore.open(
        config, embedding_dim=fakes.DIM, encoder_fingerprint="enc", create=True
    )
    store.publish(*fakes.tables_of("a", "/v/a.mp4", 5, text="said"))
    store.publish(*fakes.tables_of("b", "/v/b.mp4", 2, tags=["x", "y"], camera="gate"))
    failed = fakes.video_row("c", "/v/c.mp4", None, status="failed", error_class="unreadable")
    store.record_failures(pa.Table.from_pylist([failed], schema=schemas.VIDEOS))
    store.hide_duplicates({"b:0000:00000": "a:0000:00000"}, {})
    store.record_run("encoder: {}\n")
    noon = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    store.record_gaps([Gap("gate", noon, noon + dt.timedelta(seconds=3), "no route")])
    return store


def rows(store: MemoryStore) -> dict[str, list[dict]]:
    """Return every row of every table, by key."""
    store.refresh()
    return {
        name: sorted(
            scan(table, table.schema.names).to_pylist(), key=lambda row: row[transfer.key_of(name)]
        )
        for name, table in transfer._all(store.tables).items()
    }


def run(*arguments: str, ok: bool = True) -> str:
    result = runner.invoke(app, list(arguments))
    assert (result.exit_code == 0) is ok, result.output
    return str(result.stdout if ok else result.output)


def test_an_imported_memory_is_equal_row_by_row(store: MemoryStore, tmp_path: Path, fakes) -> None:
    folder, copy = str(tmp_path / "out"), str(tmp_path / "copy")
    run("export", "-m", store.config.uri, "--format", "parquet", "-o", folder)
    dry = json.loads(run("import", folder, "-m", copy, "--dry-run", "--json"))
    assert not dry["imported"]
    assert not Path(copy).exists()
    done = json.loads(run("import", folder, "-m", copy, "--json"))
    expected = {"videos": 3, "events": 7, "texts": 5, "features": 7, "runs": 1, "gaps": 1}
    assert done["rows"] == dry["rows"] == expected
    other = MemoryStore.open(MemoryConfig(uri=copy))
    assert other.meta == store.meta
    assert rows(other) == rows(store)
    for name, table in other.tables.all().items():
        assert (
            table.schema.remove_metadata() == getattr(store.tables, name).schema.remove_metadata()
        )
    assert other.load_features(["a:0000:00000"], "m1").keys() == {"a:0000:00000"}
    other.publish(*fakes.tables_of("a", "/v/a.mp4", 5, text="said"))  # keys are keys there, too
    assert other.tables.events.count_rows() == 7


def test_an_import_that_was_broken_off_goes_on(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    transfer.dump(store.config, folder)
    config = MemoryConfig(uri=str(tmp_path / "copy"))
    dump = transfer.open_dump(folder)
    monkeypatch.setattr(transfer, "_ROWS", {"events": 3})

    def stop(table: str, done: int, total: int) -> None:
        if table == "events":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer.load(dump, config, stop)
    broken = MemoryStore.open(config)
    assert (broken.tables.events.count_rows(), broken.tables.videos.count_rows()) == (3, 0)
    transfer.load(dump, config)
    assert rows(MemoryStore.open(config)) == rows(store)
    with pytest.raises(MemoryStoreError, match="holds 3 videos"):
        transfer.load(dump, config)


def refused(folder: Path, tmp_path: Path, words: str) -> None:
    said = run("import", str(folder), "-m", str(tmp_path / "none"), ok=False)
    assert words in said.replace("\n", " ")
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "none").exists()


def test_what_does_not_fit_is_refused_before_anything_is_written(
    store: MemoryStore, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    transfer.dump(store.config, folder)
    with pytest.raises(MemoryStoreError, match="not an empty folder"):
        transfer.dump(store.config, folder)
    manifest = folder / "marc.json"
    good = manifest.read_text()
    texts = pq.read_table(folder / "texts.parquet")

    def write(table: pa.Table) -> None:
        pq.write_table(table, folder / "texts.parquet")
        entry = json.loads(good)
        entry["tables"]["texts"]["sha256"] = transfer.full_digest(folder / "texts.parquet")
        manifest.write_text(json.dumps(entry))

    write(texts.append_column("mood", pa.array(["calm"] * len(texts))))
    refused(folder, tmp_path, "unknown: ['mood']")
    write(texts.drop_columns(["kind"]))
    refused(folder, tmp_path, "Missing columns: ['kind']")
    place = texts.schema.get_field_index("start_s")
    write(texts.set_column(place, "start_s", pa.array(["0"] * len(texts))))
    refused(folder, tmp_path, "of another type: ['start_s']")
    write(texts.slice(1))
    refused(folder, tmp_path, "holds 4 rows, marc.json says 5")
    write(texts)
    pq.write_table(texts.slice(2), folder / "texts.parquet")
    refused(folder, tmp_path, "not the file that was exported")
    for change, words in (
        ({"memory": {"format_version": 9, "embedding_dim": 4, "encoder_fingerprint": None}},
         "memory of format 9"),
        ({"export_version": 7}, "export of version 7"),
        ({"memory": {"size": 3}}, "no manifest of an export"),
        ({"tables": {}}, "must hold the tables videos, events"),
    ):  # fmt: skip
        manifest.write_text(json.dumps(json.loads(good) | change))
        refused(folder, tmp_path, words)
    manifest.unlink()
    refused(folder, tmp_path, "has no marc.json")


def test_an_export_of_an_older_version_gets_the_columns_that_came_later(
    store: MemoryStore, tmp_path: Path
) -> None:
    added = [field.name for field in schemas.ADDED["events"]]
    store.tables.events.drop_columns(added)
    transfer.dump(store.config, tmp_path / "out")
    config = MemoryConfig(uri=str(tmp_path / "copy"))
    transfer.load(transfer.open_dump(tmp_path / "out"), config)
    events = MemoryStore.open(config).tables.events
    assert set(added) <= set(events.schema.names)
    assert events.count_rows() == 7
