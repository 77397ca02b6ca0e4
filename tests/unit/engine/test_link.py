"""Messages over a pair of sockets, in whatever parts they arrive."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlathe.engine.link import EngineLink, Frames, ServerLink, framed


@given(messages=st.lists(st.binary(max_size=40), max_size=8), cuts=st.lists(st.integers(0, 400), max_size=12))
def test_messages_come_out_as_they_went_in_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(framed, messages))
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    frames = Frames()
    out = [message for start, end in pairwise(bounds) for message in frames.feed(stream[start:end])]
    assert out == messages


def test_the_engine_end_reads_what_is_there_and_waits_only_when_told_to() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        link = EngineLink(theirs)
        assert link.receive(wait=False) == []
        ours.sendall(framed(b"one") + framed(b"") + framed(b"three")[:5])
        assert link.receive(wait=True) == [b"one", b""]
        ours.sendall(framed(b"three")[5:])
        assert link.receive(wait=True) == [b"three"]
        link.send(b"answer")
        assert ours.recv(100) == framed(b"answer")
        link.close()


@pytest.mark.parametrize("unread", [b"", b"what nobody has read"])
def test_an_engine_whose_server_is_gone_learns_it_by_reading_not_by_writing(unread: bytes) -> None:
    ours, theirs = socket.socketpair()
    link = EngineLink(theirs)
    link.send(unread)
    ours.close()
    link.send(b"into the void")
    for wait in (False, True):
        with pytest.raises(EOFError):
            link.receive(wait=wait)
    link.close()


def test_the_server_end_hears_everything_up_to_the_last_word() -> None:
    async def scenario() -> None:
        heard: list[bytearray] = []
        ours, theirs = socket.socketpair()
        link = ServerLink(heard.append)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
        large = bytes(range(256)) * 4096
        link.send(b"question")
        with theirs:
            assert theirs.recv(100) == framed(b"question")
            await asyncio.to_thread(EngineLink(theirs).send, large)
            theirs.sendall(framed(b"last word"))
        await asyncio.wait_for(link.lost.wait(), 10)
        link.close()
        assert heard == [large, b"last word"]

    asyncio.run(scenario())
