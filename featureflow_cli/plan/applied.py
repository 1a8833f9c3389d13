"""What the registry holds of one project and target."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["building", "serving", "retired", "dropped"]


@dataclass(frozen=True)
class Version:
    """One apply, as the history shows it."""

    version: int
    applied_us: int
    applied_by: str
    summary: str


@dataclass(frozen=True)
class Applied:
    """The applied state: `definitions` is the JSON of `spec.models.Definitions`.

    `allowed_future_us` is the one setting of feature_store.yaml that decides what an event is worth
    (design.md 1.7), so it is applied too.
    """

    version: int
    applied_us: int
    applied_by: str
    summary: str
    definitions: str
    allowed_future_us: int


@dataclass(frozen=True)
class Build:
    """One building-up of one view's online state.

    `number` is unique within (project, target) and never used again; `field` is the name of the state in the
    online store, which no other bootstrap ever has [build]; `version` is the applied version whose definition
    of the view it follows. `floor` is where the bootstrap ends and the stream begins, {partition: end}: None
    until the bootstrap has recorded it.
    A view has at most one build that is `building` and one that is `serving`; `retired` ones await `dropped`.
    """

    number: int
    view: str
    entity: str
    fingerprint: str
    version: int
    status: Status
    floor: Mapping[int, int] | None
    created_us: int

    @property
    def is_live(self) -> bool:
        """Whether it serves, or is to."""
        return self.status in {"building", "serving"}

    @property
    def field(self) -> str:
        # A registry that is made anew, or put back from a copy, gives numbers again: by when they were given,
        # fields of the same number differ. Short, since every hash has it: Redis keeps 14 characters in 16 bytes.
        return f"{self.fingerprint[:4]}.{self.number}.{self.created_us & 0xFFFFFF:06x}"


@dataclass(frozen=True)
class ViewState:
    """What `record` needs to know of a view: whether its meaning is still the one that a build follows."""

    view: str
    entity: str
    fingerprint: str
