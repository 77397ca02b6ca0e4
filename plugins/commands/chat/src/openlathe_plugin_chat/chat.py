"""``core chat``: a conversation in the terminal, with a running server or with one started for it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from openlathe.api import EngineConfig, FlagParser, add_flags, complain, load, paint, parse_command, say
from openlathe.spi import ConfigError, OpenlatheError

if TYPE_CHECKING:
    from .client import ChatClient

HELP = """\
/reset   forget the conversation
/exit    leave (so does Ctrl-D); Ctrl-C stops an answer"""


def main(arguments: Sequence[str]) -> int:
    """``core chat`` with ``arguments``; the exit status."""
    parser = FlagParser(prog="core chat", usage="core chat [MODEL] [flags]", description="Talk to a model.")
    add_arguments(parser)
    return run(parse_command(parser, arguments))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, EngineConfig)
    # vLLM's `chat -q` is --quick, though its `serve -q` is --quantization.
    parser.conflict_handler = "resolve"
    group = parser.add_argument_group("chat")
    group.add_argument("--url", metavar="URL", help="of a running server; default: one is started for MODEL")
    group.add_argument("--api-key", metavar="KEY", help="of that server; also OPENLATHE_API_KEY")
    group.add_argument("--model-name", metavar="NAME", help="default: the first that the server names")
    group.add_argument("--system-prompt", metavar="TEXT")
    group.add_argument("-q", "--quick", metavar="MESSAGE", help="send this, show the answer and leave")


def run(args: argparse.Namespace) -> int:
    with _connect(args) as client:
        conversation = Conversation(client, args.system_prompt)
        if args.quick is not None:
            return 0 if conversation.say(args.quick) else 1
        return conversation.loop()


@contextlib.contextmanager
def _connect(args: argparse.Namespace) -> Iterator[ChatClient]:
    from .client import ChatClient
    from .private_server import private_server

    if args.url:
        for name in (item.name for item in fields(EngineConfig)):
            if name in vars(args) and name != "model":
                raise ConfigError(
                    f"--url talks to a server that runs already, so --{name.replace('_', '-')} has no effect; "
                    "leave one of them out."
                )
        key = args.api_key or os.environ.get("OPENLATHE_API_KEY")
        model = args.model_name or args.positional_model or getattr(args, "model", None)
        with ChatClient(args.url, model=model, api_key=key) as client:
            yield client
        return
    config = load(EngineConfig, args)
    with private_server(config, args.policy) as socket, ChatClient(socket=socket, model=args.model_name) as client:
        yield client


class Conversation:
    """The messages so far, and the terminal they are shown on."""

    def __init__(self, client: ChatClient, system_prompt: str | None) -> None:
        self._client = client
        self._opening = [{"role": "system", "content": system_prompt}] if system_prompt else []
        self._messages = list(self._opening)

    def loop(self) -> int:
        """Reads and answers until the input ends; the exit status is 1 where the last answer failed."""
        if sys.stdin.isatty():
            _enable_line_editing()
            say(f"{self._client.model} (/help lists the commands)")
        good = True
        while (line := _read()) is not None:
            match line.strip():
                case "":
                    continue
                case "/exit" | "/quit":
                    break
                case "/reset":
                    self._messages = list(self._opening)
                case "/help":
                    say(HELP)
                case _:
                    good = self.say(line)
        return 0 if good else 1

    def say(self, text: str) -> bool:
        """Sends ``text`` and shows the answer as it comes; False where the server refused."""
        self._messages.append({"role": "user", "content": text})
        answer = ""
        shown = None
        try:
            for kind, piece in self._client.stream(self._messages):
                if kind != shown:
                    sys.stdout.write("\n\n" if shown else "")
                    shown = kind
                sys.stdout.write(paint(piece, "dim") if kind == "reasoning" else piece)
                sys.stdout.flush()
                answer += piece if kind == "content" else ""
            sys.stdout.write("\n")
        except OpenlatheError as error:
            self._messages.pop()
            complain(f"error: {error}")
            return False
        except KeyboardInterrupt:
            sys.stdout.write("\n")
        self._messages.append({"role": "assistant", "content": answer})
        return True


def _read() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None
    except KeyboardInterrupt:
        say()
        return None


def _enable_line_editing() -> None:
    with contextlib.suppress(ImportError):  # there is none on some systems
        import readline  # noqa: F401
