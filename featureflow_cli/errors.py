"""The error tree: branches by what the caller can do about it.

FeatureflowError                 exit 1, HTTP 500   anything that went wrong and is explained
├── UsageError                   exit 2, HTTP 422   the call's words are off: say it otherwise
│   └── NotFound                 exit 2, HTTP 404   a name that is not there (with a did-you-mean)
├── DefinitionError              exit 3, HTTP 500   the repo's YAML is wrong: mend the listed places
├── StoreUnavailable             exit 4, HTTP 503   a backend is away: wait, or start it
├── CheckFailed                  exit 5, HTTP 500   a check ran and did not pass (leakage, skew, unit tests)
└── Conflict                     exit 1, HTTP 409   somebody else was first: look again, and repeat

A user error never shows a traceback; the CLI prints `what`, `at` and `hint`, and exits with `exit_code`.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong: where (`file:line:column` or a path in a request), what, and what to do."""

    at: str
    what: str
    hint: str = ""
    excerpt: str = ""

    def __str__(self) -> str:
        head = f"{self.at}: {self.what}" if self.at else self.what
        return "\n".join(
            part for part in (head, self.excerpt, f"  hint: {self.hint}" if self.hint else "") if part
        )


class FeatureflowError(Exception):
    """Root of every error that this package raises on purpose."""

    exit_code = 1
    http_status = 500
    code = "failed"

    def __init__(self, what: str, *, hint: str = "", at: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.at = at

    def __str__(self) -> str:
        return str(Problem(at=self.at, what=self.what, hint=self.hint))


class UsageError(FeatureflowError):
    """What was asked for cannot be asked like that."""

    exit_code = 2
    http_status = 422
    code = "invalid_request"


class NotFound(UsageError):
    """A feature, view, service, entity or join key of that name does not exist."""

    http_status = 404
    code = "not_found"


class DefinitionError(FeatureflowError):
    """The definitions are wrong; holds every problem found, not the first only."""

    exit_code = 3
    code = "invalid_definitions"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return self.what


class StoreUnavailable(FeatureflowError):
    """A backend (store, broker, object storage, disk) does not answer or refuses."""

    exit_code = 4
    http_status = 503
    code = "unavailable"


class StillAnswering(StoreUnavailable):
    """It answers, and has not answered all yet: whoever asks again gets further."""


class CheckFailed(FeatureflowError):
    """A check ran to its end and did not pass."""

    exit_code = 5
    code = "check_failed"


class Conflict(FeatureflowError):
    """Somebody else changed the same thing first."""

    http_status = 409
    code = "conflict"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'count'?` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""
