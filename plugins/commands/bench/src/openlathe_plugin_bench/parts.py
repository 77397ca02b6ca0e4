"""The parts of an engine's step, and how a recorder gets to see them and the operators.

Whatever an engine is made of comes out of ``Plan.resolve``, so that is where models and operators are met. The rest of
the step has no contract that could be asked; it is named here, and a test says when a name is out of date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import msgspec

from openlathe.api import Plan

from .spans import DECODE, OPERATOR, PART, PREFILL, Recorder

#: Part -> the functions whose own time it is: theirs without that of the parts within.
PLACES: dict[str, tuple[str, ...]] = {
    "plan": ("openlathe.engine.scheduler:Scheduler.schedule",),
    "update": ("openlathe.engine.scheduler:Scheduler.update",),
    "collect": ("openlathe.engine.runner:RunningStep.collect",),
    "detokenize": ("openlathe.offline_jobs:PromptJob.take",),
    "inputs": ("openlathe.engine.runner:ModelRunner.execute",),
    "sample": ("openlathe.engine.runner:ModelRunner.sample",),
}
#: Made by what a plan resolves, and by this module.
FORWARD, LOGITS, ENCODE = "forward", "logits", "encode"
#: Of a thread's time, what no part accounts for.
REST = "rest"
CAPTURED = "captured step"
_SCHEDULE, _EXECUTE = PLACES["plan"][0], PLACES["inputs"][0]
_STEP = "openlathe.engine.core:EngineCore.step"

#: Part -> what the table says of it.
MEANINGS = {
    "plan": "the scheduler orders the step",
    "encode": "its outputs as the message that a server would be sent",
    "collect": "sampled tokens and logprobs are read",
    "update": "the scheduler books what was sampled",
    "detokenize": "ids become text",
    "inputs": "positions, block tables, attention plans",
    FORWARD: "the model, or a captured step",
    LOGITS: "the output head",
    "sample": "logits become ids",
    REST: "all else, waiting for the other thread included",
}


@contextmanager
def watched(recorder: Recorder) -> Iterator[None]:
    """Engines that are built and run inside are seen by ``recorder``."""
    with ExitStack() as stack:
        for part, places in PLACES.items():
            for place in places:
                _replace(stack, place, partial(recorder.timed, part, PART))
        _replace(stack, _SCHEDULE, partial(_planning, recorder))
        _replace(stack, _EXECUTE, partial(_executing, recorder))
        _replace(stack, _STEP, partial(_encoding, recorder))
        resolve = Plan.resolve

        def resolved(plan: Plan, slot: str) -> Any:
            found = resolve(plan, slot)
            if slot == "model":
                for name, part in (("forward", FORWARD), ("compute_logits", LOGITS)):
                    _set(stack, found, name, recorder.timed(part, PART, getattr(found, name)))
            kind, _, name = slot.partition(".")
            return _operator(recorder, stack, name, found) if kind == "kernel" else found

        _set(stack, Plan, "resolve", resolved)
        yield


def find(place: str) -> tuple[Any, str]:
    """The class and the name of ``module:Class.name``; raises ``AttributeError`` or ``ImportError``."""
    module, _, path = place.partition(":")
    holder, _, name = path.rpartition(".")
    owner = getattr(import_module(module), holder)
    getattr(owner, name)
    return owner, name


def _replace(stack: ExitStack, place: str, change: Callable[[Any], Any]) -> None:
    owner, name = find(place)
    _set(stack, owner, name, change(getattr(owner, name)))


def _set(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Sets an attribute of a class until ``stack`` is closed."""
    own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, value)
    stack.callback(lambda: setattr(owner, name, before) if own else delattr(owner, name))


def _planning(recorder: Recorder, schedule: Callable[..., Any]) -> Callable[..., Any]:
    """``schedule``: what the engine's thread does from here on belongs to the step that it answers with."""

    def run(scheduler: Any) -> Any:
        plan = schedule(scheduler)
        _tell_phase(recorder, plan)
        return plan

    return run


def _executing(recorder: Recorder, execute: Callable[..., Any]) -> Callable[..., Any]:
    """``execute``: what the device's thread does from here on belongs to the step that it is given."""

    def run(runner: Any, plan: Any) -> None:
        _tell_phase(recorder, plan)
        execute(runner, plan)

    return run


def _tell_phase(recorder: Recorder, plan: Any) -> None:
    if plan is not None and plan.scheduled:
        recorder.set_phase(DECODE if plan.num_tokens == len(plan.scheduled) else PREFILL)


def _encoding(recorder: Recorder, step: Callable[..., Any]) -> Callable[..., Any]:
    """``step``, and the work of sending its outputs to another process, which an engine in this process is spared."""
    encode = recorder.timed(ENCODE, PART, msgspec.msgpack.Encoder().encode)

    def run(core: Any) -> Any:
        outputs = step(core)
        encode(outputs)
        return outputs

    return run


def _operator(recorder: Recorder, stack: ExitStack, name: str, operator: Any) -> Any:
    """An operator whose calls are noted; of one that packs weights, the calls of what it answers with."""
    return _capturing(recorder, operator) if name == "capture" else _Noted(recorder, stack, name, operator)


class _Noted:
    """An operator in its place: it has its attributes, and equals it where providers look each other up."""

    def __init__(self, recorder: Recorder, stack: ExitStack, name: str, operator: Any) -> None:
        self._recorder, self._stack, self._name, self._operator = recorder, stack, name, operator
        self._timed = recorder.timed(name, OPERATOR, operator)
        self._labels: dict[int, str] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        answer = self._timed(*args, **kwargs)
        if callable(answer):
            self._labels[id(answer)] = f"{self._name} {_shape(args)}"
            _note_calls(self._recorder, self._stack, type(answer), self._labels)
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operator, name)

    def __eq__(self, other: object) -> bool:
        return other is self or bool(self._operator == other)

    def __hash__(self) -> int:
        return hash(self._operator)


def _note_calls(recorder: Recorder, stack: ExitStack, packed: type, labels: dict[int, str]) -> None:
    """Has the calls of ``packed``'s instances noted that have a label; once for a class."""
    call = packed.__call__
    known: list[dict[int, str]] | None = getattr(call, "labels", None)
    if known is not None:
        if not any(labels is other for other in known):
            known.append(labels)
        return
    tables, timers = [labels], dict[str, Callable[..., Any]]()

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        label = next((table[id(self)] for table in tables if id(self) in table), None)
        if label is None:  # a part of another one, that has its label
            return call(self, *args, **kwargs)
        if label not in timers:
            timers[label] = recorder.timed(label, OPERATOR, call)
        return timers[label](self, *args, **kwargs)

    run.labels = tables  # type: ignore[attr-defined]
    _set(stack, packed, "__call__", run)


def _shape(args: tuple[Any, ...]) -> str:
    """Of the first weight, inputs before outputs as people say it: ``1024x3072``."""
    shape = getattr(args[0], "shape", ()) if args else ()
    return "x".join(str(size) for size in reversed(shape))


def _capturing(recorder: Recorder, operator: Any) -> Any:
    """The operator that captures steps: what it answers with is one call for a whole step."""

    def capture(step: Any) -> Any:
        captured = operator(step)
        if captured.replay is None:
            return captured
        replay = recorder.timed(CAPTURED, OPERATOR, recorder.timed(FORWARD, PART, captured.replay))
        return replace(captured, replay=replay)

    return capture
