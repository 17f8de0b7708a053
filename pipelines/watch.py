"""Progress of long work, looked up on a thread of its own while the pipeline runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LARGEST_SHARE = 0.05
"""Share of a core that looking may take, however long a look gets."""


@contextmanager
def watching(look: Callable[[], None]) -> Iterator[None]:
    """Call `look` about once a second until the block ends, and once more then."""
    stop = threading.Event()

    def loop() -> None:
        pause_s = 1.0
        while not stop.wait(pause_s):
            started = time.monotonic()
            look()
            pause_s = max(1.0, (time.monotonic() - started) / LARGEST_SHARE)

    thread = threading.Thread(target=loop, name="marc-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        look()
