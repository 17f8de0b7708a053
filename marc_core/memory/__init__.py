"""The memory of events on LanceDB: `MemoryStore` writes and reads, `search` retrieves,
`MemoryArchive` (marc_core.memory.archive) is what questions are asked of."""

from marc_core.memory.retriever import search
from marc_core.memory.store import MemoryStore

__all__ = ["MemoryStore", "search"]
