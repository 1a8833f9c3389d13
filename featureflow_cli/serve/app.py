"""The application: which path is which endpoint."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from featureflow_cli.errors import NotFound, UsageError, did_you_mean
from featureflow_cli.evaluate.project import Project
from featureflow_cli.serve.documentation import openapi, page
from featureflow_cli.serve.endpoints import Endpoints
from featureflow_cli.serve.gate import Gate, Json, failure
from featureflow_cli.serve.limits import Limits
from featureflow_cli.serve.metrics import Metrics


class UnknownPath(NotFound):
    code = "unknown_path"


class WrongMethod(UsageError):
    http_status = 405
    code = "wrong_method"


def application(project: Project, limits: Limits) -> Starlette:
    """The server of the project's applied definitions; UsageError where nothing is applied yet."""
    metrics = Metrics()
    endpoints, gate = Endpoints(project, limits, metrics), Gate(limits, metrics)

    async def show_openapi(request: Request) -> Response:
        return Json(openapi(endpoints.worlds.now))

    async def show_page(request: Request) -> Response:
        return HTMLResponse(page(endpoints.worlds.now))

    guarded = [
        ("/features/vector", "POST", endpoints.vector),
        ("/features/batch", "POST", endpoints.batch),
        ("/features/{entity}", "GET", endpoints.entity),
        ("/features/{entity}/{id}", "GET", endpoints.entity),
        ("/get-online-features", "POST", endpoints.feast),
        ("/registry", "GET", endpoints.registry),
        ("/openapi.json", "GET", show_openapi),
        ("/docs", "GET", show_page),
    ]
    # A saturated server still says how it is.
    open_to_all = [
        ("/health", endpoints.health),
        ("/ready", endpoints.ready),
        ("/metrics", endpoints.show_metrics),
    ]
    routes = [Route(path, gate.guarded(path, endpoint), methods=[verb]) for path, verb, endpoint in guarded]
    routes += [Route(path, endpoint, methods=["GET"]) for path, endpoint in open_to_all]

    async def refused(request: Request, exception: Exception) -> Response:
        """What Starlette refuses by itself: paths and methods that are not here."""
        assert isinstance(exception, HTTPException)
        path, status = request.url.path, exception.status_code
        if status == WrongMethod.http_status:
            what = f"{request.method} is not for {path}"
            return failure(WrongMethod(what, at=path), status, dict(exception.headers or {}))
        known = [path for path, _, _ in guarded] + [path for path, _ in open_to_all]
        hint = did_you_mean(path, known) or "GET /docs lists what is here"
        return failure(UnknownPath(f"there is nothing at {path}", hint=hint, at=path), status)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        watch = asyncio.create_task(endpoints.watch())
        yield
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        endpoints.close()

    handlers = {HTTPException: refused}
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
