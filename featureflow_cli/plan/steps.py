"""The plan: a list of small frozen steps; plan/explain.py shows it, apply/ executes it."""

from dataclasses import dataclass
from typing import Literal

from featureflow_cli.plan.applied import ViewState

Kind = Literal["setting", "entity", "source", "topic", "view", "on-demand", "service"]
Sign = Literal["+", "~", "-"]
KINDS: tuple[Kind, ...] = ("setting", "entity", "source", "topic", "view", "on-demand", "service")
"""In the order in which a plan lists them: what others stand on comes first."""


@dataclass(frozen=True)
class Change:
    """A definition that is added (`+`), changed (`~`) or removed (`-`).

    `details` are one line each: `~ feature total_spend_24h: window 24h -> 48h`. `consequence` says what
    happens to state; `notes` say what the law obliges us to say of what is new here; `services` are those
    whose answers it touches. A `cosmetic` change touches no value anywhere.
    """

    sign: Sign
    kind: Kind
    name: str
    details: tuple[str, ...] = ()
    consequence: str = ""
    notes: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    cosmetic: bool = False


@dataclass(frozen=True)
class BuildState:
    """A view needs new online state: noted by Record, carried out by `stream` from the offline log.

    `events` and `starts_us` describe the history that is there now; None: no history yet.
    """

    view: str
    fingerprint: str
    replaces: bool
    events: int | None = None
    starts_us: int | None = None


@dataclass(frozen=True)
class Record:
    """Makes the definitions the applied ones and notes which builds their views need; one transaction."""

    definitions: str
    allowed_future_us: int
    views: tuple[ViewState, ...]
    expected_version: int
    summary: str


@dataclass(frozen=True)
class OpenLog:
    """Opens a streamed source's offline table to events as they are judged now (design.md 4 [meaning]).

    `is_new`: there is no such table yet. After it, commits by an older meaning are refused.
    """

    source: str
    meaning: str
    is_new: bool


@dataclass(frozen=True)
class CreateTopic:
    """Creates a Kafka topic on the brokers of `source`: that of its events, or `is_letters` that of its letters.

    `retention_us` None: as long as the brokers keep topics by default.
    """

    source: str
    topic: str
    partitions: int
    retention_us: int | None
    is_letters: bool


@dataclass(frozen=True)
class GrowTopic:
    """Adds partitions to a topic of `source`, so that it has `partitions`; there are `before` of them now."""

    source: str
    topic: str
    before: int
    partitions: int


@dataclass(frozen=True)
class DropState:
    """Removes the online state of a build that no applied view follows any more."""

    view: str
    number: int
    field: str


Step = Change | BuildState | Record | CreateTopic | GrowTopic | OpenLog | DropState


@dataclass(frozen=True)
class Plan:
    """Steps in the order of their execution; none where the definitions are applied as they stand."""

    project: str
    target: str | None
    base_version: int
    steps: tuple[Step, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        return tuple(step for step in self.steps if isinstance(step, Change))

    @property
    def is_empty(self) -> bool:
        return not self.steps

    def count(self, sign: Sign) -> int:
        return sum(change.sign == sign for change in self.changes)
