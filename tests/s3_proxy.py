"""An HTTP proxy in front of an S3 server: counts requests, and on demand is as unreliable as a network can be.

Which request suffers what is a function of the seed, the request and how often it has been made: not of time or threads.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}
CONDITIONS = {"if-match", "if-none-match"}
STEP = 1 << 18
FAULTS = ("slow_down", "error", "reset", "lost_answer", "cut", "slow", "damage")


@dataclass(frozen=True)
class Trouble:
    """How often each fault strikes, as a share of the requests.

    slow_down: 503 SlowDown; error: 500; reset: the connection breaks before the server has the request (of an upload half has
    gone); lost_answer: it breaks when the server has done what was asked; cut: the answer's body ends half-way; slow: the answer
    comes late and in pieces; damage: a byte of an upload's body is changed on the way.
    """

    seed: int = 0
    rates: dict[str, float] = field(default_factory=dict)

    def of(self, method: str, target: str, number: int) -> str:
        """The fault of the ``number``-th such request, or "". The bucket, which is another in every run, does not matter."""
        point = random.Random(f"{self.seed} {method} {key_of(target)} {number}").random()
        for name, rate in self.rates.items():
            assert name in FAULTS
            if point < rate:
                return name
            point -= rate
        return ""


def key_of(target: str) -> str:
    """The target without what is another in every run."""
    return re.sub(r"uploadId=[^&]*", "", target.lstrip("/").partition("/")[2])


@dataclass
class Request:
    """What came from the client."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


class S3Proxy(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Runs in threads of this process between ``with`` and its end. ``url`` is what AWS_ENDPOINT_URL must be.

    ``latency``: seconds that every request takes more; ``bandwidth``: bytes a second of one connection, both ways. ``refuse``:
    requests of that method (or "") whose target holds that text are answered with that status and S3 error code. ``expired_key``:
    what is signed with this access key is answered with ExpiredToken. ``no_conditions``: conditional puts are not implemented;
    ``forgets_conditions``: they are plain ones. All may be set at any time, ``trouble`` too. ``log`` is every request that came,
    ``struck`` how often each fault was.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, backend: str, trouble: Trouble | None = None) -> None:
        parts = urlsplit(backend)
        self.backend = (parts.hostname or "", parts.port or 80)
        self.trouble = trouble or Trouble()
        self.latency, self.bandwidth = 0.0, float("inf")
        self.refuse: tuple[str, str, int, str] | None = None
        self.expired_key = ""
        self.no_conditions = self.forgets_conditions = False
        self.log: list[tuple[str, str]] = []
        self.struck: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._seen: Counter[tuple[str, str]] = Counter()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> S3Proxy:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.shutdown()
        self.server_close()

    def fault(self, request: Request) -> str:
        """Counts the request; which fault strikes it."""
        key = (request.method, key_of(request.target))
        with self._lock:
            self.log.append((request.method, unquote(request.target)))
            self._seen[key] += 1
            name = self.trouble.of(request.method, request.target, self._seen[key])
            self.struck[name] += 1
        return name

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed, and sockets that were reset on purpose, are what this is for."""


class _Handler(socketserver.BaseRequestHandler):
    server: S3Proxy
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.request.makefile("rb") as incoming:
            upstream = http.client.HTTPConnection(*self.server.backend, timeout=60)
            try:
                while (request := self._receive(incoming)) is not None and self._answer(request, upstream):
                    pass
            finally:
                upstream.close()

    def _receive(self, incoming: BinaryIO) -> Request | None:
        line = incoming.readline()
        if not line:
            return None
        method, target, _ = line.decode("latin-1").split()
        headers = []
        while (line := incoming.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name.strip(), value.strip()))
        found = {name.lower(): value for name, value in headers}
        if found.get("expect", "").lower() == "100-continue":
            self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(found.get("content-length", 0))
        request = Request(method, target, headers, b"")
        fault = self.server.fault(request)
        request.headers.append(("x-fault", fault))
        if fault == "reset":
            incoming.read(length // 2)
            self._reset()
            return None
        request.body = self._body(incoming, length)
        return request if len(request.body) == length else None

    def _body(self, incoming: BinaryIO, length: int) -> bytes:
        if self.server.bandwidth == float("inf"):
            return incoming.read(length)
        pieces = []
        while length and (piece := incoming.read(min(length, STEP))):
            time.sleep(len(piece) / self.server.bandwidth)
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def _answer(self, request: Request, upstream: http.client.HTTPConnection) -> bool:
        """True if the connection may go on."""
        fault = request.headers.pop()[1]
        time.sleep(self.server.latency)
        refuse = self.server.refuse
        if self.server.expired_key and any(f"={self.server.expired_key}/" in value for _, value in request.headers):
            refuse = ("", "", 400, "ExpiredToken")
        if self.server.no_conditions and request.method == "PUT" and any(name.lower() in CONDITIONS for name, _ in request.headers):
            refuse = ("", "", 501, "NotImplemented")
        if refuse and refuse[0] in ("", request.method) and refuse[1] in unquote(request.target):
            said = f"<Error><Code>{refuse[3]}</Code><Message>as the test wants</Message></Error>".encode()
            return self._send(refuse[2], refuse[3], [("Content-Type", "application/xml")], said, request, "")
        if fault in ("slow_down", "error"):
            code, name = (503, "SlowDown") if fault == "slow_down" else (500, "InternalError")
            said = f"<Error><Code>{name}</Code></Error>".encode()
            return self._send(code, name, [("Content-Type", "application/xml")], said, request, "")
        body = request.body
        if fault == "damage" and body and request.method in ("PUT", "POST"):
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        upstream.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers:
            if name.lower() not in HOP_BY_HOP and not (self.server.forgets_conditions and name.lower() in CONDITIONS):
                upstream.putheader(name, value)
        # A server may answer without waiting for the body.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            upstream.endheaders(body or None)
        response = upstream.getresponse()
        content = response.read()
        if response.status >= 400:
            upstream.close()
        if fault == "lost_answer":
            self._reset()
            return False
        return self._send(response.status, response.reason, response.getheaders(), content, request, fault)

    def _send(self, status: int, reason: str, headers: list[tuple[str, str]], body: bytes, request: Request, fault: str) -> bool:
        kept = [(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP | {"content-length"}]
        stated = next((value for name, value in headers if name.lower() == "content-length"), "0")
        length = stated if request.method == "HEAD" else str(len(body))
        body = b"" if request.method == "HEAD" else body
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in kept), f"Content-Length: {length}"]
        self.request.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        if fault == "cut":
            self.request.sendall(body[: len(body) // 2])
            self._reset()
            return False
        if fault == "slow":
            third = len(body) // 3 + 1
            for start in range(0, len(body), third):
                time.sleep(0.1)
                self.request.sendall(body[start : start + third])
            return True
        for start in range(0, len(body), STEP):
            if self.server.bandwidth != float("inf"):
                time.sleep(min(STEP, len(body) - start) / self.server.bandwidth)
            self.request.sendall(body[start : start + STEP])
        return True

    def _reset(self) -> None:
        """RST in place of FIN: the other end sees "connection reset by peer"."""
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()
