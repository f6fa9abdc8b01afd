"""A proxy in front of rendezvousd that does one thing wrong, for calibration: with
each of its faults a sign-in must fail, and without any it must not."""

import asyncio

FAULTS = {
    None: "no fault",
    "etag": "drops the ETag of a 304",
    "charset": "adds a charset to Content-Type",
    "lost": "loses a PUT",
    "stale": "answers a stale ETag",
}
# The first PUT is the scanner's, before there is a channel.
LOST = 3


class Message:
    """A request or response: first line, fields in order, body."""

    def __init__(self, first, fields, body):
        self.first, self.fields, self.body = first, fields, body

    def get(self, name):
        return next((value for known, value in self.fields if known.lower() == name), None)

    def set(self, name, value=None):
        self.fields = [field for field in self.fields if field[0].lower() != name]
        if value is not None:
            self.fields.append((name, value))

    def bytes(self):
        lines = [self.first, *(f"{name}: {value}" for name, value in self.fields)]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


async def read(stream, bodiless=lambda first: False):
    head = (await stream.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = [tuple(line.split(": ", 1)) for line in head[1:] if line]
    message = Message(head[0], fields, b"")
    if not bodiless(head[0]):
        message.body = await stream.readexactly(int(message.get("content-length") or 0))
    return message


class Faults:
    """Listens on 127.0.0.1; `applied` is how often the fault was there to see."""

    def __init__(self, target):
        self.target = int(target.rsplit(":", 1)[1])
        self.tasks = set()
        self.reset(None)

    def reset(self, fault):
        self.fault, self.applied, self.writes, self.tags = fault, 0, 0, []
        self.vain, self.polled = False, asyncio.Event()  # after a poll in vain

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def accept(self, reader, writer):
        task = asyncio.create_task(self.serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def serve(self, reader, writer):
        try:
            request = await read(reader)
            response = await self.answer(request)
            response.set("connection", "close")
            writer.write(response.bytes())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # a device that was stopped
        finally:
            writer.close()

    async def answer(self, request):
        method = request.first.split()[0]
        if method == "PUT":
            self.writes += 1
            if self.fault == "lost" and self.writes == LOST:
                self.applied += 1
                fields = [("etag", '"lost"'), ("content-length", "0")]
                return Message("HTTP/1.1 202 Accepted", fields, b"")
        response = await self.forward(request)
        if self.vain:
            self.polled.set()
        self.vain = self.vain or " 304" in response.first
        self.spoil(method, response)
        return response

    async def forward(self, request):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            request.set("x-forwarded-host", request.get("host"))
            request.set("x-forwarded-for", "127.0.0.1")
            request.set("connection", "close")
            writer.write(request.bytes())
            return await read(reader, lambda first: any(f" {status}" in first for status in (204, 304)))
        finally:
            writer.close()

    def spoil(self, method, response):
        status, tag = response.first.split()[1], response.get("etag")
        if self.fault == "etag" and status == "304":
            response.set("etag")
            self.applied += 1
        if self.fault == "charset" and response.get("content-type") == "text/plain":
            response.set("content-type", "text/plain; charset=utf-8")
            self.applied += 1
        if self.fault == "stale" and method == "PUT" and tag and self.tags:
            response.set("etag", self.tags[-1])
            self.applied += 1
        if tag:
            self.tags.append(tag)
