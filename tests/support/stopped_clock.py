"""A monotonic clock that stands still until a test moves it, for a module that reads `time.monotonic`."""

import time


class StoppedClock:
    """Takes the place of the module `time` in the module under test: `monkeypatch.setattr(module, "time", clock)`."""

    def __init__(self):
        self.at = time.monotonic()
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        """Return at once."""
        self.slept.append(seconds)
        self.at += seconds

    def advance(self, seconds: float) -> None:
        self.at += seconds
