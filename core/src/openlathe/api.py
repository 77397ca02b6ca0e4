"""What ``command`` plugins may use: configuration, assembly, the engine client and the offline API; versioned contract.

Importing this module is cheap: each name is imported from where it lives when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import check_weights as check_weights
    from .checkpoint import locate as locate
    from .cli.flags import FlagParser as FlagParser
    from .cli.flags import add_flags as add_flags
    from .cli.flags import load as load
    from .cli.flags import parse_command as parse_command
    from .cli.own_server import OwnServer as OwnServer
    from .cli.text import complain as complain
    from .cli.text import paint as paint
    from .cli.text import say as say
    from .config import EngineConfig as EngineConfig
    from .config import ServerConfig as ServerConfig
    from .engine.client import EngineClient as EngineClient
    from .engine.messages import (
        EngineRequest as EngineRequest,
    )
    from .engine.messages import (
        RequestOutput as RequestOutput,
    )
    from .engine.messages import (
        SamplingParams as SamplingParams,
    )
    from .frontend.render import ChatRenderer as ChatRenderer
    from .frontend.render import load_template as load_template
    from .frontend.tokenize import Tokenizer as Tokenizer
    from .llm import LLM as LLM
    from .plugins.assemble import assemble as assemble
    from .plugins.plan import Plan as Plan
    from .plugins.plan import make_plan as make_plan
    from .plugins.policy import Policy as Policy
    from .plugins.policy import read_policy as read_policy
    from .plugins.registry import Registry as Registry

#: Grows with every addition; a breaking change gets a new module.
API_VERSION = 1

_HOMES = {
    "checkpoint": ("check_weights", "locate"),
    "cli.flags": ("FlagParser", "add_flags", "load", "parse_command"),
    "cli.own_server": ("OwnServer",),
    "cli.text": ("complain", "paint", "say"),
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

__all__ = ["API_VERSION", *_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __package__), name)
