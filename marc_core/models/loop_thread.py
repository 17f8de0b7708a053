"""An event loop in a thread of its own, for work that callers on any loop share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from marc_core.errors import EngineError

_T = TypeVar("_T")


class LoopThread:
    """Runs coroutines on its own event loop until it is closed."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether nothing can run here any more."""
        return self._loop.is_closed()

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start a coroutine here; called on any thread. Raises EngineError when closed."""
        if self.is_closed:
            work.close()
            raise EngineError("The engine is closed. Build a new one.")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await a coroutine that runs here; it goes on where the caller is cancelled."""
        return await asyncio.shield(asyncio.wrap_future(self.submit(work)))

    def call_soon(self, work: Callable[[], None]) -> None:
        """Have a function called here; nothing happens when closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
