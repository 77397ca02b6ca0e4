"""What ``command`` plugins may use: configuration, assembly, the engine client and the offline API; versioned contract.

Importing this module is cheap: each name is imported from where it lives when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import check_weights, locate
    from .cli.flags import FlagParser, add_flags, load
    from .config import EngineConfig, ServerConfig
    from .engine.client import EngineClient
    from .engine.messages import EngineRequest, RequestOutput, SamplingParams
    from .frontend.render import ChatRenderer, load_template
    from .frontend.tokenize import Tokenizer
    from .llm import LLM
    from .plugins.assemble import assemble
    from .plugins.plan import Plan, make_plan
    from .plugins.policy import Policy, read_policy
    from .plugins.registry import Registry

#: Grows with every addition; a breaking change gets a new module.
API_VERSION = 1

_HOMES = {
    "checkpoint": ("check_weights", "locate"),
    "cli.flags": ("FlagParser", "add_flags", "load"),
    "config": ("EngineConfig", "ServerConfig"),
    "engine.client": ("EngineClient",),
    "engine.messages": ("EngineRequest", "RequestOutput", "SamplingParams"),
    "frontend.render": ("ChatRenderer", "load_template"),
    "frontend.tokenize": ("Tokenizer",),
    "llm": ("LLM",),
    "plugins.assemble": ("assemble",),
    "plugins.plan": ("Plan", "make_plan"),
    "plugins.policy": ("Policy", "read_policy"),
    "plugins.registry": ("Registry",),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "API_VERSION",
    "LLM",
    "ChatRenderer",
    "EngineClient",
    "EngineConfig",
    "EngineRequest",
    "FlagParser",
    "Plan",
    "Policy",
    "Registry",
    "RequestOutput",
    "SamplingParams",
    "ServerConfig",
    "Tokenizer",
    "add_flags",
    "assemble",
    "check_weights",
    "load",
    "load_template",
    "locate",
    "make_plan",
    "read_policy",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __package__), name)
