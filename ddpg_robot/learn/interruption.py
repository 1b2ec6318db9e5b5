"""Signals that end a training in good order."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any


class Interruption:
    """SIGINT and SIGTERM as a wish: the loop stops at the end of the episode. A second signal exits at once."""

    GRACE_S = 8.0

    def __init__(self) -> None:
        self._since: float | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def requested(self) -> bool:
        """A signal has come."""
        return self._since is not None

    @property
    def overdue(self) -> bool:
        """A signal came so long ago that the episode's end should not be waited for."""
        return self._since is not None and time.monotonic() - self._since > self.GRACE_S

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise SystemExit(130)
        self._since = time.monotonic()
