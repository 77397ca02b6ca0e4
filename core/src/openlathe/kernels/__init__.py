"""The operators: one module each, with its signature and the plain torch reference that defines it.

Providers of kind ``kernel`` override single operators; which one serves is chosen once, when the engine is assembled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from torch import Tensor

from ..spi import KVPages
from .add_rms_norm import add_rms_norm as _add_rms_norm
from .attend import AttendOperator
from .attend import attend as _attend
from .attend_latent import AttendLatentOperator
from .attend_latent import attend_latent as _attend_latent
from .capture import CaptureOperator
from .capture import capture as _capture
from .draw import DrawOperator
from .draw import draw as _draw
from .embedding import embedding as _embedding
from .experts import ExpertsOperator, PackedExperts
from .experts import experts as _experts
from .gelu import GeluOperator
from .gelu import gelu as _gelu
from .gelu_mul import gelu_mul as _gelu_mul
from .greedy import greedy as _greedy
from .head_linear import head_linear as _head_linear
from .int4_linear import Int4LinearOperator
from .int4_linear import int4_linear as _int4_linear
from .int8_linear import Int8LinearOperator
from .int8_linear import int8_linear as _int8_linear
from .linear import Gate, LinearOperator, PackedLinear
from .linear import linear as _linear
from .merge_states import merge_states as _merge_states
from .rms_norm import rms_norm as _rms_norm
from .rotary import RotaryOperator
from .rotary import rotary as _rotary
from .silu_mul import silu_mul as _silu_mul
from .write_kv import write_kv as _write_kv
from .write_latent import write_latent as _write_latent


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """One provider per operator; ``Operators()`` holds the references."""

    capture: CaptureOperator = _capture
    embedding: Callable[[Tensor, Tensor], Tensor] = _embedding
    rms_norm: Callable[[Tensor, Tensor, float], Tensor] = _rms_norm
    add_rms_norm: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]] = _add_rms_norm
    rotary: RotaryOperator = _rotary
    silu_mul: Callable[[Tensor], Tensor] = _silu_mul
    gelu_mul: Callable[[Tensor], Tensor] = _gelu_mul
    gelu: GeluOperator = _gelu
    linear: LinearOperator = _linear
    int8_linear: Int8LinearOperator = _int8_linear
    int4_linear: Int4LinearOperator = _int4_linear
    experts: ExpertsOperator = _experts
    write_kv: Callable[[Tensor, Tensor, KVPages, Tensor, str], None] = _write_kv
    attend: AttendOperator = _attend
    merge_states: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = _merge_states
    head_linear: Callable[[Tensor, Tensor], Tensor] = _head_linear
    write_latent: Callable[[Tensor, Tensor, Tensor], None] = _write_latent
    attend_latent: AttendLatentOperator = _attend_latent
    greedy: Callable[[Tensor], Tensor] = _greedy
    draw: DrawOperator = _draw


#: Every operator's reference by the operator's name, which is also the name of its module.
OPERATORS: dict[str, Callable] = {item.name: getattr(Operators(), item.name) for item in fields(Operators)}
