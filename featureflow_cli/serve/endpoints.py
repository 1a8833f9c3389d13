"""The endpoints: each reads its request, asks the world of this moment, and answers as JSON."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

from starlette.requests import Request
from starlette.responses import Response

from featureflow_cli.errors import FeatureflowError, StoreUnavailable
from featureflow_cli.evaluate.project import Project
from featureflow_cli.evaluate.spelling import body
from featureflow_cli.evaluate.vector import Vector
from featureflow_cli.serve import feast
from featureflow_cli.serve.gate import Json, body_of
from featureflow_cli.serve.limits import Limits
from featureflow_cli.serve.metrics import CONTENT_TYPE, Metrics
from featureflow_cli.serve.requests import Asked, batch_request, path_request, vector_request
from featureflow_cli.serve.world import World, Worlds, described

_LOOK_APART_S = 0.2
"""Failing requests make the server look for a new version no more often than this."""


class Endpoints:
    """One server's endpoints and what they share: the worlds, the threads that read, the counts."""

    def __init__(self, project: Project, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self.threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="read")
        self.worlds = Worlds(project, self.threads, metrics.store_read)
        self.worlds.now.warm()
        metrics.version(self.worlds.now.version)
        self._project = project
        self._looked_s = monotonic()

    # ---- vectors

    async def vector(self, request: Request) -> Response:
        text = await body_of(request, self.limits.body_bytes)

        async def answer(world: World) -> Response:
            asked = vector_request(world, text)
            (vector,) = await self._read(asked)
            return Json({**body(vector, asked.served.spellings), "registry_version": world.version})

        return await self._settled(answer)

    async def batch(self, request: Request) -> Response:
        text = await body_of(request, self.limits.body_bytes)

        async def answer(world: World) -> Response:
            asked = batch_request(world, text, self.limits.rows)
            results = [body(vector, asked.served.spellings) for vector in await self._read(asked)]
            return Json({"results": results, "registry_version": world.version})

        return await self._settled(answer)

    async def entity(self, request: Request) -> Response:
        async def answer(world: World) -> Response:
            entity, id = request.path_params["entity"], request.path_params.get("id")
            asked = path_request(world, entity, id, request.query_params.multi_items())
            (vector,) = await self._read(asked)
            return Json({**body(vector, asked.served.spellings), "registry_version": world.version})

        return await self._settled(answer)

    async def feast(self, request: Request) -> Response:
        text = await body_of(request, self.limits.body_bytes)

        async def answer(world: World) -> Response:
            asked = feast.feast_request(world, text, self.limits.rows)
            return Json(feast.feast_answer(asked, await self._read(asked.asked)))

        return await self._settled(answer)

    # ---- about the server

    async def registry(self, request: Request) -> Response:
        return Json(described(self.worlds.now))

    async def health(self, request: Request) -> Response:
        return Json({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """200 where every applied view can be read; else 503 and why."""

        def check() -> list[str]:
            try:
                world = self.worlds.look()
                lost = world.lost()
            except StoreUnavailable as err:
                return [err.what]
            return [f"the online state of {name} is not built yet" for name in world.unbuilt] + [
                f"the online store has lost the state of {name}" for name in lost
            ]

        reasons = await asyncio.get_running_loop().run_in_executor(self.threads, check)
        answer = {"ready": not reasons, "reasons": reasons, "registry_version": self.worlds.now.version}
        return Json(answer, 503 if reasons else 200, {"retry-after": "1"} if reasons else None)

    async def show_metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), headers={"content-type": CONTENT_TYPE})

    # ---- the world

    async def watch(self) -> None:
        """Look for another applied version every second, until cancelled."""
        while True:
            await asyncio.sleep(self.limits.look_every_seconds)
            try:
                await self._look()
            except FeatureflowError:
                continue  # the registry is away: what is known goes on being served

    async def _look(self) -> World:
        self._looked_s = monotonic()
        world = await asyncio.get_running_loop().run_in_executor(self.threads, self.worlds.look)
        self.metrics.version(world.version)
        return world

    async def _settled(self, answer: Callable[[World], Awaitable[Response]]) -> Response:
        """The answer; a state that another build has just replaced is looked up anew, once."""
        world = self.worlds.now
        try:
            return await answer(world)
        except StoreUnavailable:
            if monotonic() - self._looked_s < _LOOK_APART_S:
                raise
            fresh = await self._look()
            if fresh is world:
                raise
        return await answer(fresh)

    async def _read(self, asked: Asked) -> list[Vector]:
        lane = asked.served.lane
        if not asked.rows:
            return []
        if asked.as_of_us is None:
            vectors = await lane.read(asked.rows)
        else:
            vectors = await lane.read_at(asked.rows, asked.as_of_us)
        self.metrics.served(asked.served.reader.service.name, vectors)
        return vectors

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)
