"""Dynamic batching without a timer: whoever comes while a batch is being worked on shares the next.

    submit --waiting--> [ one worker thread: all that waits, up to `most`, in one call ]

An idle worker starts at once, so batching costs nobody who is alone any time.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Given = TypeVar("Given")


class Batcher(Generic[Asked, Given]):
    """Calls `work` with what waits. Where a call of several fails, each is tried alone, so that one
    wrong request costs the others nothing but time. Close it after use."""

    def __init__(self, work: Callable[[Sequence[Asked]], Sequence[Given]], *, most: int) -> None:
        self._work, self._most = work, most
        self._waiting: deque[tuple[Asked, asyncio.Future[Given]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="marc-batcher", daemon=True)
        self._thread.start()

    async def submit(self, item: Asked) -> Given:
        """Return what `work` makes of the item. Who leaves before its turn is left out."""
        future: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._waiting.append((item, future))
            self._changed.notify()
        return await future

    def close(self) -> None:
        """End the worker after the batch that is under way."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            self._answer(batch)

    def _next(self) -> list[tuple[Asked, asyncio.Future[Given]]]:
        with self._changed:
            while not self._closing:
                here = [one for one in self._waiting if not one[1].cancelled()]
                if here:
                    self._waiting = deque(here[self._most :])
                    return here[: self._most]
                self._waiting.clear()
                self._changed.wait()
            return []

    def _answer(self, batch: list[tuple[Asked, asyncio.Future[Given]]]) -> None:
        try:
            found: Sequence[Given] = self._work([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
            if len(batch) > 1:
                for one in batch:
                    self._answer([one])
            else:
                _settle(batch[0][1], error=error)
            return
        for (_, future), result in zip(batch, found, strict=True):
            _settle(future, result=result)


def _settle(
    future: asyncio.Future[Given], *, result: Given | None = None, error: Exception | None = None
) -> None:
    def settle() -> None:
        if future.done():  # its reader has left
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    with suppress(RuntimeError):  # its event loop has ended
        future.get_loop().call_soon_threadsafe(settle)
