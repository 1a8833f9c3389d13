"""Schemas by their ids, as a Schema Registry keeps them."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from featureflow_cli.errors import DefinitionError, Problem, StoreUnavailable
from featureflow_cli.sources.schemas import NoSchema, Written
from featureflow_cli.spec.models import SchemaRegistryConfig
from featureflow_cli.spec.variables import resolve

ANSWER_S = 5.0
_NOT_THERE = 40403
_DENIED = {401, 403}
_FORMS = {"PROTOBUF": "serialized"}
"""What is asked for instead of the text that somebody wrote: Protobuf's descriptor is read without a compiler."""


class SchemaRegistry:
    """It connects when the first schema is asked for."""

    def __init__(self, settings: SchemaRegistryConfig, environ: Mapping[str, str], at: str) -> None:
        """`at` is the place of the settings. DefinitionError where one of their variables is not set."""
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

    def written(self, number: int, kind: str) -> Written:
        """The schema of that id. `kind`: AVRO or PROTOBUF, whose schemas come as base64 of their descriptors, where
        the registry can do that. NoSchema where there is none, StoreUnavailable where nobody answers.
        """
        found = self._get(f"schemas/ids/{number}", kind)
        written = found.get("schemaType", "AVRO")
        if written != kind:
            what = f"a schema of type {written}"
            raise NoSchema(what)
        references: dict[str, str] = {}
        self._follow(found, kind, references)
        return Written(found["schema"], references)

    def close(self) -> None:
        self._client.close()

    def _follow(self, found: Mapping[str, Any], kind: str, references: dict[str, str]) -> None:
        for each in found.get("references") or ():
            if each["name"] not in references:
                subject = quote(each["subject"], safe="")
                one = self._get(f"subjects/{subject}/versions/{each['version']}", kind)
                self._follow(one, kind, references)
                references[each["name"]] = one["schema"]

    def _get(self, path: str, kind: str) -> Mapping[str, Any]:
        form = {"format": _FORMS[kind]} if kind in _FORMS else None
        try:
            answer = self._client.get(f"{self._url}/{path}", params=form)
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
