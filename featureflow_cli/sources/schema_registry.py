"""Avro schemas by their ids, as a Schema Registry keeps them; each is asked for once."""

from collections.abc import Mapping
from typing import Any

import httpx

from featureflow_cli.errors import DefinitionError, Problem, StoreUnavailable, UsageError
from featureflow_cli.spec.models import SchemaRegistryConfig
from featureflow_cli.spec.variables import resolve

ANSWER_S = 5.0
_NOT_THERE = 40403
_DENIED = {401, 403}


class NoSchema(Exception):
    """The registry knows no Avro schema of that id; says what it has instead."""


class SchemaRegistry:
    """It connects when the first schema is asked for; a schema never changes, so it is kept."""

    def __init__(self, settings: SchemaRegistryConfig, environ: Mapping[str, str], at: str) -> None:
        """`at` is the place of the settings. DefinitionError where one of their variables is not set."""
        try:
            import fastavro  # noqa: F401
        except ImportError:
            what = "Avro needs a library that is not installed"
            raise UsageError(what, hint="pip install 'featureflow[avro]'", at=at) from None
        self._url = resolve(settings.url, environ, f"{at}.url").rstrip("/")
        login = [
            resolve(text or "", environ, f"{at}.{name}")
            for name, text in (("username", settings.username), ("password", settings.password))
        ]
        try:
            httpx.URL(self._url)
        except httpx.InvalidURL:
            raise DefinitionError(
                [Problem(f"{at}.url", "this is no URL", "write http://host:8081")]
            ) from None
        self._client = httpx.Client(auth=(login[0], login[1]) if login[0] else None, timeout=ANSWER_S)
        self._schemas: dict[int, Any] = {}

    def schema(self, number: int) -> Any:
        """The parsed schema of that id; NoSchema where there is none, StoreUnavailable where nobody answers."""
        if number not in self._schemas:
            self._schemas[number] = self._parsed(self._get(f"schemas/ids/{number}"), {})
        return self._schemas[number]

    def close(self) -> None:
        self._client.close()

    def _parsed(self, found: Mapping[str, Any], named: dict[str, Any]) -> Any:
        """`named` fills with what the schema refers to: schemas of their own subjects."""
        import fastavro
        import orjson

        if found.get("schemaType", "AVRO") != "AVRO":
            what = f"a schema of type {found['schemaType']}"
            raise NoSchema(what)
        for reference in found.get("references", ()):
            name, version = reference["subject"], reference["version"]
            self._parsed(self._get(f"subjects/{name}/versions/{version}"), named)
        try:
            return fastavro.parse_schema(orjson.loads(found["schema"]), named_schemas=named)
        except (ValueError, KeyError, fastavro.schema.SchemaParseException) as err:
            what = f"a schema that is none: {err}"
            raise NoSchema(what) from None

    def _get(self, path: str) -> Mapping[str, Any]:
        try:
            answer = self._client.get(f"{self._url}/{path}")
            body = answer.json() if answer.headers.get("content-type", "").endswith("json") else {}
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as err:
            what = f"does not answer: {err}"
            raise self._away(what) from None
        if answer.is_success and isinstance(body, dict) and "schema" in body:
            return body
        if isinstance(body, dict) and body.get("error_code") == _NOT_THERE:
            what = "no schema"
            raise NoSchema(what)
        if answer.status_code in _DENIED:
            what = "does not let this account in"
        else:
            what = f"answers {path} with status {answer.status_code}"
        raise self._away(what)

    def _away(self, what: str) -> StoreUnavailable:
        host = httpx.URL(self._url).copy_with(username=None, password=None)
        hint = "is it running, and is `schema_registry` of the source right (url, username, password)?"
        return StoreUnavailable(f"the Schema Registry at {host} {what}", hint=hint)
