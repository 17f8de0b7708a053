import importlib.util
from pathlib import Path

import pytest

from marc_core.config import MemoryConfig
from marc_core.memory import MemoryStore

_FILE = Path(__file__).with_name("fakes.py")


def _load():
    spec = importlib.util.spec_from_file_location("marc_memory_fakes", _FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fakes():
    return _load()


@pytest.fixture
def config(tmp_path):
    return MemoryConfig(uri=str(tmp_path / "memory"))


@pytest.fixture
def store(config, fakes):
    return MemoryStore.open(config, embedding_dim=fakes.DIM, create=True)
