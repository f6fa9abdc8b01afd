"""As much of an HTTP/1.1 client as measuring needs."""

import json
import socket
from dataclasses import dataclass


@dataclass
class Answer:
    status: int
    fields: list  # of (name, value), as they came
    body: bytes

    def field(self, name):
        value = self.find(name)
        if value is None:
            raise KeyError(f"an answer {self.status} has no {name}")
        return value

    def find(self, name):
        values = (value for known, value in self.fields if known.lower() == name.lower())
        return next(values, None)


class Connection:
    """A kept connection to a server on this machine."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")

    def ask(self, method, path, body=None, **fields):
        self.socket.sendall(request(method, path, body, **fields))
        return self.answer(method)

    def answer(self, method="GET"):
        return read(self.stream, method)

    def close(self):
        self.stream.close()
        self.socket.close()


def read(stream, method="GET"):
    """The answer that a stream begins with."""
    first = stream.readline()
    if not first:
        raise ConnectionError("closed instead of answered")
    status = int(first.split()[1])
    fields = []
    length = 0
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, value = line.decode().split(":", 1)
        fields.append((name, value.strip()))
        if name.lower() == "content-length":
            length = int(value)
    bodiless = status in (204, 304) or method == "HEAD"
    return Answer(status, fields, b"" if bodiless else stream.read(length))


def request(method, path, body=None, **fields):
    """The bytes of a request; `If_Match="x"` is a field."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines + ["", ""]).encode() + (body or b"")


def fill(port, create, sessions, size, kind="text/plain", batch=1):
    """Creates sessions with payloads of a size; returns their paths. In
    batches it is sooner done, but no client asks so, and the large buffers of
    such input leave holes between the sessions."""
    connection = Connection(port)
    one = request("POST", create, b"x" * size, Content_Type=kind)
    paths = []
    while len(paths) < sessions:
        together = min(batch, sessions - len(paths))
        connection.socket.sendall(one * together)
        for _ in range(together):
            answer = connection.answer()
            if answer.status != 201:
                raise RuntimeError(f"session {len(paths)} was answered {answer.status}")
            paths.append(place(create, answer))
    connection.close()
    return paths


def place(create, answer):
    """The path of a new session. The predecessor gives a bare name, and
    Synapse a URL, in its body only."""
    location = answer.find("Location")
    if location is None:
        location = "/" + json.loads(answer.body)["url"].split("/", 3)[3]
    return location if location.startswith("/") else f"{create}/{location}"
