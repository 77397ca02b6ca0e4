"""What parser plugins are built from; versioned contract, stdlib only.

:class:`MarkerScanner` finds markers, :class:`JsonScanner` and :class:`JsonCall` follow JSON as it arrives,
:class:`StreamMachine` drives a parser made of states, and :class:`CallFormat` makes one from a description.
"""

from .calls import CallBody, CallFormat, MarkedCalls, random_call_id
from .json_call import JsonCall
from .json_text import JsonScanner, JsonStringDecoder, Stop
from .machine import State, StreamMachine
from .markers import Markers, MarkerScanner, compile_markers

__all__ = [
    "CallBody",
    "CallFormat",
    "JsonCall",
    "JsonScanner",
    "JsonStringDecoder",
    "MarkedCalls",
    "MarkerScanner",
    "Markers",
    "State",
    "Stop",
    "StreamMachine",
    "compile_markers",
    "random_call_id",
]
