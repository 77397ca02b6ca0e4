"""What the nested run collects: the suites of every wrong plugin, each beside all that is installed but Qwen3."""

from openlathe.plugins.discover import discover
from openlathe_sdk.conformance import suite
from wrong.catalogue import candidates

INSTALLED = [item for item in discover() if item.distribution != "openlathe-plugin-qwen3"]

globals().update(
    {f"TestWrong{number}": suite(item.id, candidates=[*INSTALLED, item]) for number, item in enumerate(candidates())}
)
