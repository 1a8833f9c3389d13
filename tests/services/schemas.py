"""As much of a Confluent Schema Registry as is asked of one: schemas by id and by subject, behind a login or not."""

import base64
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import fastavro


class SchemaServer(ThreadingHTTPServer):
    """`answers`: (status, body) by path; `asked`: the paths so far."""

    def __init__(self, login: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.expected = None if login is None else f"Basic {base64.b64encode(login.encode()).decode()}"
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[str] = []

    def message(self, schema: Any, value: Any) -> bytes:
        """The value as a producer would send it, its schema registered."""
        text = json.dumps(schema)
        known = [path for path, (_, body) in self.answers.items() if body.get("schema") == text]
        number = int(known[0].rpartition("/")[2]) if known else len(self.answers) + 1
        self.answers[f"/schemas/ids/{number}"] = (200, {"schema": text})
        body = BytesIO()
        fastavro.schemaless_writer(body, fastavro.parse_schema(schema), value)
        return struct.pack(">bI", 0, number) + body.getvalue()


class _Handler(BaseHTTPRequestHandler):
    server: SchemaServer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, body = self.server.answers.get(self.path, (404, {"error_code": 40403}))
        if self.server.expected not in {None, self.headers["Authorization"]}:
            status, body = 401, {"error_code": 401}
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def schema_server(login: str | None = None) -> Iterator[SchemaServer]:
    with SchemaServer(login) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
