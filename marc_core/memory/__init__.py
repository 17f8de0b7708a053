"""The memory of events on LanceDB: `MemoryStore` writes and reads, `search` retrieves."""

from marc_core.memory.filters import EventFilter
from marc_core.memory.retriever import chronological, search
from marc_core.memory.store import MemoryStore

__all__ = ["EventFilter", "MemoryStore", "chronological", "search"]
