"""The dialogues that the scripted checkpoint knows by heart, as data that tests assert.

Random weights never call a tool and never stop thinking; a client's whole conversation can only be tested against a
model that answers sensibly. Each :class:`Script` is one request and the one answer to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]

GET_WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@dataclass(frozen=True)
class Call:
    """One expected tool call; ``arguments`` as an object."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Script:
    """One request and its answer.

    Attributes:
        messages, tools, enable_thinking: the request; ``template_kwargs`` is its ``chat_template_kwargs``.
        reasoning, content, calls: the answer; surrounding white space is the parser's affair.
    """

    name: str
    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    enable_thinking: bool = True
    reasoning: str = ""
    content: str = ""
    calls: Sequence[Call] = ()

    @property
    def template_kwargs(self) -> dict[str, Any]:
        return {} if self.enable_thinking else {"enable_thinking": False}

    @property
    def completion(self) -> str:
        """What the model writes behind the rendered prompt, its end token left out, in Qwen3's format."""
        thought = f"<think>\n{self.reasoning}\n</think>\n\n" if self.enable_thinking else ""
        calls = "\n".join(
            "<tool_call>\n" + json.dumps({"name": call.name, "arguments": call.arguments}) + "\n</tool_call>"
            for call in self.calls
        )
        return thought + "\n".join(part for part in (self.content, calls) if part)

    def reply(self, *, with_reasoning: bool = False) -> Message:
        """The answer as the assistant message that a client sends back in its next request."""
        message: Message = {"role": "assistant", "content": self.content}
        if with_reasoning:
            message["reasoning_content"] = self.reasoning
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": f"call_{index}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
                }
                for index, call in enumerate(self.calls)
            ]
        return message


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def tool_result(index: int, **result: Any) -> Message:
    return {"role": "tool", "tool_call_id": f"call_{index}", "content": json.dumps(result)}


GREETING = Script(
    name="greeting",
    messages=[user("Hello!")],
    reasoning="The user says hello, so I greet them.",
    content="Hello! How can I help you today?",
)

WEATHER_CALL = Script(
    name="weather_call",
    messages=[user("What is the weather in Paris?")],
    tools=[GET_WEATHER],
    reasoning="I need the weather in Paris, so I ask the tool.",
    calls=[Call("get_weather", {"city": "Paris"})],
)

WEATHER_ANSWER = Script(
    name="weather_answer",
    messages=[*WEATHER_CALL.messages, WEATHER_CALL.reply(), tool_result(0, temperature=21, sky="sunny")],
    tools=[GET_WEATHER],
    reasoning="The tool says 21 degrees and sunny.",
    content="It is sunny in Paris, 21 degrees.",
)

NO_THINKING = Script(
    name="no_thinking",
    messages=[user("Hello!")],
    enable_thinking=False,
    content="Hello! Nice to meet you.",
)

TWO_CALLS = Script(
    name="two_calls",
    messages=[user("What is the weather in Paris and in Rome?")],
    tools=[GET_WEATHER],
    reasoning="Two cities, so I ask the tool twice.",
    calls=[Call("get_weather", {"city": "Paris"}), Call("get_weather", {"city": "Rome"})],
)

TWO_ANSWERS = Script(
    name="two_answers",
    messages=[
        *TWO_CALLS.messages,
        TWO_CALLS.reply(),
        tool_result(0, temperature=21, sky="sunny"),
        tool_result(1, temperature=25, sky="cloudy"),
    ],
    tools=[GET_WEATHER],
    reasoning="Now I know both cities.",
    content="Paris has 21 degrees and sun, Rome 25 degrees and clouds.",
)

COUNTING = Script(
    name="counting",
    messages=[user("Count to twenty.")],
    enable_thinking=False,
    content=", ".join(str(number) for number in range(1, 21)) + ".",
)

UNICODE = Script(
    name="unicode",
    messages=[user("Greet me in Japanese.")],
    reasoning="日本語で挨拶します。",
    content="こんにちは 👋🏽, très bien!",
)

#: A conversation in one piece, the tool on offer throughout: greeting, question, call, result, answer.
CHAT_GREETING = Script(
    name="chat_greeting",
    messages=GREETING.messages,
    tools=[GET_WEATHER],
    reasoning=GREETING.reasoning,
    content=GREETING.content,
)
CHAT_CALL = Script(
    name="chat_call",
    messages=[*GREETING.messages, GREETING.reply(), *WEATHER_CALL.messages],
    tools=[GET_WEATHER],
    reasoning=WEATHER_CALL.reasoning,
    calls=WEATHER_CALL.calls,
)
CHAT_ANSWER = Script(
    name="chat_answer",
    messages=[*CHAT_CALL.messages, *WEATHER_ANSWER.messages[1:]],
    tools=[GET_WEATHER],
    reasoning=WEATHER_ANSWER.reasoning,
    content=WEATHER_ANSWER.content,
)

SCRIPTS: dict[str, Script] = {
    script.name: script
    for script in (
        GREETING,
        WEATHER_CALL,
        WEATHER_ANSWER,
        NO_THINKING,
        TWO_CALLS,
        TWO_ANSWERS,
        COUNTING,
        UNICODE,
        CHAT_GREETING,
        CHAT_CALL,
        CHAT_ANSWER,
    )
}


def training_scripts() -> list[Script]:
    """Every script, and again those whose history a client may send back with the reasoning in it."""
    variants = []
    for script in SCRIPTS.values():
        if any(message.get("tool_calls") for message in script.messages):
            asked = TWO_CALLS if script is TWO_ANSWERS else WEATHER_CALL
            history = [
                asked.reply(with_reasoning=True) if message.get("tool_calls") else message
                for message in script.messages
            ]
            variants.append(
                Script(
                    name=f"{script.name}_with_reasoning",
                    messages=history,
                    tools=script.tools,
                    reasoning=script.reasoning,
                    content=script.content,
                )
            )
    return [*SCRIPTS.values(), *variants]
