"""A scripted HTTP server: each request it gets is answered by the next step of the script, the last step for ever."""

import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGE = {"links": [], "count": 1, "hasMore": False, "items": [{"links": [], "id": "1"}], "offset": 0, "totalResults": 1}


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    client: tuple[str, int]


Step = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "ScriptedServer"
    asked: Asked
    """The request that is answered at the moment."""

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        asked = Asked(self.command, self.path, dict(self.headers), self.rfile.read(length), self.client_address)
        self.asked = asked
        with self.server.lock:
            number = len(self.server.asked)
            self.server.asked.append(asked)
        self.server.script[min(number, len(self.server.script) - 1)](self)

    do_GET = do_POST

    def do_CONNECT(self) -> None:
        with self.server.lock:
            self.server.asked.append(Asked("CONNECT", self.path, dict(self.headers), b"", self.client_address))
        self.server.script[0](self)

    def send(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True


class ScriptedServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.scheme = "https" if tls else "http"
        if tls:
            # The handshake is left to the connection's own thread.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.lock = threading.Lock()
        self.asked: list[Asked] = []
        self.script: list[Step] = [page]
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(5)

    def handle_error(self, *_: Any) -> None:
        pass


def page(handler: Handler) -> None:
    handler.send(200, json.dumps(PAGE).encode(), "application/vnd.oracle.resource+json; type=collection")


def reply(status: int, body: bytes, content_type: str = "application/json", **headers: str) -> Step:
    return lambda handler: handler.send(status, body, content_type, **headers)


def refusal(status: int, detail: str, code: str, **headers: str) -> Step:
    envelope = {
        "type": "https://www.rfc-editor.org/rfc/rfc9110.html",
        "title": "Bad Request",
        "status": status,
        "o:errorDetails": [{"detail": detail, "o:errorCode": code}],
    }
    return reply(status, json.dumps(envelope).encode(), "application/vnd.oracle.resource+json; type=error", **headers)


LOGIN_REFUSED = refusal(
    401,
    "Invalid login attempt. For more details, see the Login Audit Trail in the NetSuite UI.",
    "INVALID_LOGIN",
    WWW_Authenticate='OAuth realm="1234567_SB1", error="token_rejected"',
)
TOO_MANY = refusal(429, "Concurrent request limit exceeded. Request blocked.", "CONCURRENCY_LIMIT_EXCEEDED")
BROKEN = refusal(500, "An unexpected error occurred. Error ID: jrgbpyylphhishmmlxyt", "UNEXPECTED_ERROR")
MAINTENANCE = reply(200, b"<html><body>scheduled maintenance</body></html>", "text/html")


def reset(handler: Handler) -> None:
    """Close with a reset instead of an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    handler.close_connection = True
    handler.connection.close()


def truncated(handler: Handler) -> None:
    """Announce more than is sent."""
    body = json.dumps(PAGE).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[:40])
    handler.wfile.flush()
    handler.close_connection = True


def cut_without_length(handler: Handler) -> None:
    """Send half a body whose end only the closing connection marks."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(json.dumps(PAGE).encode()[:40])
    handler.close_connection = True


def chunked(parts: list[bytes]) -> Step:
    def step(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in parts:
            handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    return step
