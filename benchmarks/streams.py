"""A load of streams over plain sockets, cheap enough to share the server's cores."""

from __future__ import annotations

import json
import random
import selectors
import socket
import time
from dataclasses import dataclass, field


@dataclass
class Load:
    """``clients`` streams at a time until ``requests`` are answered, ``output`` tokens to ``prompt`` random ones."""

    path: str
    clients: int
    requests: int
    prompt: int
    output: int

    def bodies(self) -> list[bytes]:
        draw = random.Random(0)
        return [self._body([draw.randrange(300, 700) for _ in range(self.prompt)]) for _ in range(self.requests)]

    def _body(self, ids: list[int]) -> bytes:
        asked = {"max_tokens": self.output, "temperature": 0, "ignore_eos": True, "stream": True}
        if "chat" in self.path:
            prompt: dict[str, object] = {"messages": [{"role": "user", "content": " ".join(map(str, ids[::3]))}]}
        else:
            prompt = {"prompt": ids}
        body = json.dumps({**asked, **prompt}).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


@dataclass
class Stream:
    sock: socket.socket
    started: float
    answered: bool = False
    last: float = 0.0


@dataclass
class Answers:
    """Seconds to the first write of each stream and between the later ones; ``writes`` counts what was read."""

    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    writes: int = 0
    failed: int = 0
    seconds: float = 0.0


def run(port: int, load: Load) -> Answers:
    """Sends ``load`` and reads every stream to its end."""
    waiting, answers, selector = load.bodies(), Answers(), selectors.DefaultSelector()

    def begin() -> None:
        sock = socket.create_connection(("127.0.0.1", port))
        stream = Stream(sock, time.perf_counter())
        sock.sendall(waiting.pop())
        selector.register(sock, selectors.EVENT_READ, stream)

    started = time.perf_counter()
    for _ in range(min(load.clients, load.requests)):
        begin()
    while selector.get_map():
        for key, _ in selector.select():
            if not _read(key.data, answers):
                selector.unregister(key.fileobj)
                key.data.sock.close()
                if waiting:
                    begin()
    answers.seconds = time.perf_counter() - started
    return answers


def _read(stream: Stream, answers: Answers) -> bool:
    """Notes what came; False at the stream's end."""
    data = stream.sock.recv(1 << 16)
    if not data:
        return False
    now = time.perf_counter()
    answers.failed += not stream.answered and not data.startswith(b"HTTP/1.1 200")
    stream.answered = True
    if b'"choices"' in data:
        answers.writes += 1
        if stream.last:
            answers.between.append(now - stream.last)
        else:
            answers.first.append(now - stream.started)
        stream.last = now
    return True
