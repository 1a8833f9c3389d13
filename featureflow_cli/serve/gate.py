"""The gate: what every request passes, whatever it asks for. Limits, errors and counts in one place.

An error answers `{"error": {"code", "message", "hint", "at"}}`. What will be better in a moment (a store that is
away, too many requests, one that took too long) is 503 with Retry-After.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from featureflow_cli.errors import FeatureflowError, StoreUnavailable
from featureflow_cli.serve.limits import Limits
from featureflow_cli.serve.metrics import Metrics
from featureflow_cli.serve.requests import TooLarge, status_of

Endpoint = Callable[[Request], Awaitable[Response]]
RETRY_AFTER_S = 1
LOG = logging.getLogger("featureflow.serve")


class Saturated(StoreUnavailable):
    """As many requests as the server takes at once are being answered."""

    code = "saturated"


class TooSlow(StoreUnavailable):
    """The answer did not come within the time that a request may take."""

    code = "timeout"


class Json(Response):
    media_type = "application/json"

    def __init__(self, body: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(orjson.dumps(body), status, headers)


class Gate:
    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._in_flight = 0

    def guarded(self, name: str, endpoint: Endpoint) -> Endpoint:
        """`endpoint` behind the gate, counted under `name`."""

        async def guarded(request: Request) -> Response:
            started = perf_counter()
            self._in_flight += 1
            self._metrics.in_flight(self._in_flight)
            try:
                response = await self._answer(endpoint, request)
            finally:
                self._in_flight -= 1
                self._metrics.in_flight(self._in_flight)
            self._metrics.answered(name, response.status_code, perf_counter() - started)
            return response

        return guarded

    def failure(self, err: FeatureflowError, method: str) -> Response:
        """What an error answers."""
        self._metrics.failed(err.code)
        status = status_of(err, method)
        headers = {"retry-after": str(RETRY_AFTER_S)} if status == StoreUnavailable.http_status else None
        return failure(err, status, headers)

    async def _answer(self, endpoint: Endpoint, request: Request) -> Response:
        try:
            if self._in_flight > self._limits.in_flight:
                message = f"{self._limits.in_flight} requests are being answered"
                raise Saturated(message, hint="try again in a moment, or run more servers")
            async with asyncio.timeout(self._limits.seconds):
                return await endpoint(request)
        except TimeoutError:
            message = f"no answer within {self._limits.seconds:g} s"
            return self.failure(TooSlow(message, hint="try again in a moment"), request.method)
        except FeatureflowError as err:
            return self.failure(err, request.method)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody is there to read it; nginx's number, for the counts
        except Exception as err:  # the server's top: a bug fails one request, not the process
            LOG.exception("%s %s failed", request.method, request.url.path)
            message = f"a bug in featureflow: {type(err).__name__}: {err}"
            return self.failure(FeatureflowError(message), request.method)


def failure(err: FeatureflowError, status: int, headers: dict[str, str] | None = None) -> Response:
    body = {"error": {"code": err.code, "message": err.what, "hint": err.hint, "at": err.at}}
    return Json(body, status, headers)


async def body_of(request: Request, most: int) -> bytes:
    """The request's body; TooLarge as soon as it is known to exceed `most` bytes."""
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > most:
        raise _too_large(most)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
    return b"".join(parts)


def _too_large(most: int) -> TooLarge:
    message = f"the body is larger than {most:,} bytes"
    return TooLarge(message, hint="split the batch", at="body")
