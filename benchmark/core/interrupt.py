"""What stops a run before its end: the user, the clock, the numbers or the memory."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """A signal asked the process to stop; the run can be resumed from its checkpoint."""


class TimedOut(Exception):
    """The run took longer than it may."""


class Diverged(Exception):
    """The loss, or a parameter, is not a finite number any more."""


class OutOfMemory(Exception):
    """Not even a single image fits."""


class StopSignal:
    """Asked after every step: must the run stop?

    Args:
        max_seconds: of one run; None = as long as it takes.
        heard: called with the name of the first signal, inside its handler.
    """

    def __init__(
        self, max_seconds: float | None = None, heard: Callable[[str], None] | None = None
    ) -> None:
        self.max_seconds, self._heard = max_seconds, heard
        self.signal: str = ""
        self._start = time.monotonic()

    def restart(self) -> None:
        """A run begins."""
        self._start = time.monotonic()

    def check(self, where: str) -> None:
        """Raises where the run must stop.

        Args:
            where: how far the run is, for the message.

        Raises:
            Interrupted: a signal came.
            TimedOut: the time is over.
        """
        self.check_signal(where)
        taken = time.monotonic() - self._start
        if self.max_seconds is not None and taken > self.max_seconds:
            raise TimedOut(
                f"over {self.max_seconds:g} s {where}; to resume, use --retry failed with a larger "
                "--max-seconds"
            )

    def stopping(self, where: str) -> Interrupted | TimedOut | None:
        """What `check` would raise; None where the run need not stop."""
        try:
            self.check(where)
        except (Interrupted, TimedOut) as reason:
            return reason
        return None

    def check_signal(self, where: str) -> None:
        """As `check`, but without the time limit.

        Raises:
            Interrupted: a signal came.
        """
        if self.signal:
            raise Interrupted(f"{self.signal} {where}; to resume, repeat the command")

    @property
    def exit_code(self) -> int:
        """Of a process that the signal ended, as shells count it; 0 where none came."""
        return 128 + signal.Signals[self.signal] if self.signal else 0

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Inside the block SIGINT and SIGTERM are remembered; a second one ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may have handlers
            return

        def remember(number: int, frame: FrameType | None) -> None:
            if self.signal:
                raise KeyboardInterrupt
            self.signal = signal.Signals(number).name
            if self._heard:
                self._heard(self.signal)

        former = {n: signal.signal(n, remember) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
