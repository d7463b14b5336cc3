"""Ending a run from outside: a signal, a timer."""

import threading

from waveimport.runtime.coordinator import Coordinator, Stop


class StopSwitch:
    """Lets a signal handler or a timer end a run that may not have begun yet. Any thread."""

    def __init__(self) -> None:
        # A signal handler runs in the main thread, which may be inside `attach`.
        self._lock = threading.RLock()
        self._why: Stop | None = None
        self._coordinator: Coordinator | None = None
        self._event = threading.Event()

    def __call__(self, why: Stop) -> None:
        """Stop the run."""
        with self._lock:
            self._why = self._why or why
            self._event.set()
            if self._coordinator is not None:
                self._coordinator.stop(why)

    def attach(self, coordinator: Coordinator) -> None:
        """Have `coordinator` stopped when the switch is thrown, at once if it was."""
        with self._lock:
            self._coordinator = coordinator
            if self._why is not None:
                coordinator.stop(self._why)

    @property
    def thrown(self) -> Stop | None:
        """Why the run is to end; None while it is not."""
        return self._why

    def sleep(self, seconds: float) -> bool:
        """Wait; False when the switch was thrown."""
        return not self._event.wait(seconds)
