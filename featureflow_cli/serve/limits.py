"""What one server process takes on; beyond it, it says so at once instead of falling over."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    body_bytes: int = 1_048_576
    rows: int = 1_000
    in_flight: int = 256
    seconds: float = 5.0
    drain_seconds: float = 10.0
    """How long a stopping server waits for the requests that it has taken."""
    look_every_seconds: float = 1.0
    """How often it looks for another applied version."""
    threads: int = 4
