"""One generated sequence on its way from token ids to text, reasoning and tool calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ..engine.messages import RequestOutput, SamplingParams, TokenLogprobs
from ..spi.events import Event, Piece, ToolCallArguments, ToolCallEnd, ToolCallStart
from ..spi.protocols import StreamParser
from .detokenize import Detokenizer
from .parse import OutputParser
from .stop import StopStrings
from .tokenize import Tokenizer

_CALL_EVENTS = (ToolCallStart, ToolCallArguments, ToolCallEnd)


class Delta(msgspec.Struct):
    """Everything new about one choice since the last one.

    ``prompt_logprobs`` are those of the prompt's next positions, from its second on.
    ``finish_reason`` is ``stop``, ``length``, ``tool_calls`` or ``abort`` in the last delta of a choice, and
    ``stop_reason`` then the stop string or the stop token id that ended it, None for an end-of-sequence token.
    ``scheduled_time`` and ``preemptions`` are the engine's.
    """

    events: list[Event] = []
    token_ids: list[int] = []
    logprobs: list[TokenLogprobs] = []
    prompt_logprobs: list[TokenLogprobs] = []
    cached_tokens: int | None = None
    scheduled_time: float | None = None
    preemptions: int = 0
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def add(self, following: Delta) -> None:
        """Takes in the next delta of the same choice."""
        self.events += following.events
        self.token_ids += following.token_ids
        self.logprobs += following.logprobs
        self.prompt_logprobs += following.prompt_logprobs
        self.cached_tokens = following.cached_tokens or self.cached_tokens
        self.scheduled_time = following.scheduled_time or self.scheduled_time
        self.preemptions = following.preemptions or self.preemptions
        self.finish_reason, self.stop_reason = following.finish_reason, following.stop_reason


class Choice:
    """Turns the engine's outputs for one sequence into deltas.

    ``single_call`` keeps the first tool call only. A parser that raises costs nothing but the parsing: its text is
    delivered raw and ``on_parser_error(stage, error)`` is called.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        *,
        reasoning: StreamParser | None = None,
        tools: StreamParser | None = None,
        single_call: bool = False,
        on_parser_error: Callable[[str, Exception], None],
    ) -> None:
        skip, include = sampling.skip_special_tokens, sampling.include_stop_str_in_output
        hidden = tokenizer.special_ids if skip else frozenset()
        self._detokenizer = Detokenizer(
            tokenizer, prompt_ids, skip_special_tokens=skip, spaces_between=sampling.spaces_between_special_tokens
        )
        self._stops = StopStrings(sampling.stop, include, hidden=hidden) if sampling.stop else None
        self._parser = OutputParser(reasoning, tools, hidden=hidden, on_error=on_parser_error)
        self._sampling = sampling
        self._single_call = single_call
        self._tokens = 0
        self.calls = 0

    def feed(self, outputs: Sequence[RequestOutput]) -> Delta:
        """The delta of one tick; nothing may be fed after one that has a ``finish_reason``."""
        delta = Delta()
        for output in outputs:
            if output.cached_tokens is not None:
                delta.cached_tokens = output.cached_tokens
            delta.prompt_logprobs += output.prompt_logprobs or ()
            delta.scheduled_time = output.scheduled_time or delta.scheduled_time
            delta.preemptions = output.preemptions or delta.preemptions
            self._feed_tokens(output, delta)
            if delta.finish_reason is None and output.finish_reason is not None:
                self._finish(output, delta)
            if delta.finish_reason is not None:
                break
        return delta

    def _feed_tokens(self, output: RequestOutput, delta: Delta) -> None:
        ids, logprobs = output.token_ids, output.logprobs or []
        hides_last = output.finish_reason == "stop" and not self._sampling.include_stop_str_in_output
        shown = ids[:-1] if hides_last else ids
        if not self._sampling.detokenize:
            shown = []
        elif self._stops is not None and (end := self._feed_to_stop(self._stops, shown, delta)) is not None:
            ids, logprobs = ids[:end], logprobs[:end]
        elif self._stops is None and shown:
            self._parse(self._detokenizer.feed(shown), delta)
        delta.token_ids += ids
        delta.logprobs += logprobs

    def _feed_to_stop(self, stops: StopStrings, ids: Sequence[int], delta: Delta) -> int | None:
        """Feeds token by token, so that a stop string ends the choice with the token that completed it: how many."""
        for count, token in enumerate(ids, start=1):
            pieces = self._detokenizer.feed((token,))
            matched = None
            self._tokens += 1
            if self._tokens > self._sampling.min_tokens:
                pieces, matched = stops.feed(pieces)
            self._parse(pieces, delta)
            if matched is not None:
                self._end(delta, "stop", matched)
                return count
        return None

    def _parse(self, pieces: list[Piece], delta: Delta) -> None:
        if pieces:
            self._emit(self._parser.feed(pieces), delta)

    def _finish(self, output: RequestOutput, delta: Delta) -> None:
        pieces = self._detokenizer.finish()
        matched = None
        if self._stops is not None:
            pieces, matched = self._stops.feed(pieces)
            if matched is None:
                pieces = [*pieces, *self._stops.finish()]
        self._parse(pieces, delta)
        if matched is not None:
            self._end(delta, "stop", matched)
            return
        reason = output.stop_reason if output.stop_reason in self._sampling.stop_token_ids else None
        self._end(delta, output.finish_reason or "stop", reason)

    def _end(self, delta: Delta, finish_reason: str, stop_reason: int | str | None) -> None:
        self._emit(self._parser.finish(), delta)
        delta.finish_reason = "tool_calls" if finish_reason == "stop" and self.calls else finish_reason
        delta.stop_reason = stop_reason

    def _emit(self, events: list[Event], delta: Delta) -> None:
        for event in events:
            if self._single_call and isinstance(event, _CALL_EVENTS) and event.index > 0:
                continue
            self.calls += isinstance(event, ToolCallEnd)
            delta.events.append(event)
