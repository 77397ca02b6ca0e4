"""Bodies in and out: bounded, decoded into typed structs, every fault told in one sentence."""

from __future__ import annotations

import logging
import re
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..spi.errors import InvalidRequest
from .fields import UNKNOWN_FIELDS_HEADER, check_fields, header_value

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 32 * 2**20

T = TypeVar("T", bound=msgspec.Struct)

_WHERE = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`\$\.?(?P<where>[^`]*)`)?$", re.DOTALL)
_decoder = msgspec.json.Decoder()
encoder = msgspec.json.Encoder()


async def read(request: Request, kind: type[T]) -> T:
    """The body of ``request`` as ``kind``; the names of fields nobody knows are left in ``request.state``."""
    return checked(request, await read_object(request), kind)


def checked(request: Request, sent: dict[str, Any], kind: type[T]) -> T:
    """``sent`` as ``kind``, its fields held against the tables of :mod:`.fields`."""
    body = convert(sent, kind)
    unknown = check_fields(sent, frozenset(kind.__struct_fields__))
    for name, value in sent.items():
        if isinstance(value, dict) and isinstance(inner := getattr(body, name, None), msgspec.Struct):
            unknown += [f"{name}.{key}" for key in value if key not in inner.__struct_fields__]
    request.state.unknown_fields = unknown
    if unknown:
        logger.info("%s: a request has fields that are unknown here: %s.", request.url.path, header_value(unknown))
    return body


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body of ``request``."""
    sent = decode(await _bytes(request))
    if not isinstance(sent, dict):
        raise InvalidRequest(f"The body must be a JSON object; this one is {_json_type(sent)}.")
    return sent


async def _bytes(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    body = bytearray()
    if not (declared.isdecimal() and int(declared[:20]) > MAX_BODY_BYTES):
        try:
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    break
            else:
                return bytes(body)
        except ClientDisconnect:
            raise InvalidRequest("The client closed the connection before the body was complete.") from None
    raise InvalidRequest(f"The body is larger than {MAX_BODY_BYTES // 2**20} MiB; send less at once.", status=413)


def decode(body: bytes) -> Any:
    """JSON text as Python data."""
    try:
        return _decoder.decode(body)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not valid UTF-8 ({error.reason}); encode it as UTF-8.") from None
    except RecursionError:
        raise InvalidRequest("The body nests its arrays and objects too deep; flatten it.") from None
    except msgspec.ValidationError:
        raise InvalidRequest("The body holds a number that is out of range; send a smaller one.") from None
    except msgspec.DecodeError as error:
        if not body.strip():
            raise InvalidRequest("The body is empty; send a JSON object.") from None
        if b"\\ud" in body.lower():
            raise InvalidRequest("The body is not valid JSON: a string holds half of a surrogate pair.") from None
        raise InvalidRequest(f"The body is not valid JSON: {_clause(str(error))}.") from None


def convert(sent: Any, kind: type[T], *, inside: str = "") -> T:
    """``sent`` checked against ``kind``; ``inside`` is the field it stands in."""
    try:
        return msgspec.convert(sent, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), sent, inside) from None
    except RecursionError:
        raise InvalidRequest("The body nests its arrays and objects too deep; flatten it.") from None


def _invalid(message: str, sent: Any, inside: str) -> InvalidRequest:
    match = _WHERE.match(message)
    what, where = (match["what"], match["where"] or "") if match else (message, "")
    missing = re.search(r"missing required field `(\w+)`", what)
    param = ".".join(filter(None, (inside, where, missing[1] if missing else None)))
    if missing:
        return InvalidRequest(f"The field '{param}' is required.", param=param)
    value = sent.get(where) if isinstance(sent, dict) else None
    given = f" (it is {value!r})" if isinstance(value, bool | int | float | str) and len(repr(value)) <= 40 else ""
    if not param:
        return InvalidRequest(f"The body cannot be used: {_clause(what)}.")
    return InvalidRequest(f"The field '{param}' cannot be used: {_clause(what)}{given}.", param=param)


def _clause(text: str) -> str:
    """A message of msgspec as a clause: lower case at its start, no back quotes, no full stop."""
    text = text.replace("`", "").rstrip(".")
    return text[:1].lower() + text[1:]


def _json_type(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def json_response(content: Any, request: Request | None = None, status: int = 200) -> Response:
    """``content`` (a struct or JSON data) as an answer to ``request``."""
    headers = unknown_fields_header(request) if request is not None else {}
    return Response(encoder.encode(content), status, headers, "application/json")


def unknown_fields_header(request: Request) -> dict[str, str]:
    names = getattr(request.state, "unknown_fields", None)
    return {UNKNOWN_FIELDS_HEADER: header_value(names)} if names else {}
