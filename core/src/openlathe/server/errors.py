"""Errors as OpenAI's clients expect them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..spi.errors import EngineDeadError, InvalidRequest

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1


class ErrorDetail(msgspec.Struct, kw_only=True):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct):
    error: ErrorDetail


class Overloaded(InvalidRequest):
    """More requests are in the server than ``--max-num-queued-reqs`` allows."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The server already holds {limit} requests; send this one again a little later.",
            status=429,
            code="server_overloaded",
        )


#: What stands in ``type`` and, unless the error says otherwise, in ``code``.
_TYPES: dict[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "not_found"),
    405: ("invalid_request_error", "method_not_allowed"),
    413: ("invalid_request_error", "body_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("server_error", "engine_dead"),
}


def describe(error: Exception) -> tuple[int, ErrorBody]:
    """The status and body of an answer to a request that failed with ``error``."""
    if isinstance(error, InvalidRequest):
        return error.status, error_body(error.status, str(error), error.param, error.code)
    if isinstance(error, EngineDeadError):
        return 503, error_body(503, str(error))
    logger.error("A request failed.", exc_info=error)
    return 500, error_body(500, f"The server failed on this request ({type(error).__name__}); its log says more.")


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> ErrorBody:
    kind, default_code = _TYPES.get(status, ("invalid_request_error" if status < 500 else "server_error", None))
    return ErrorBody(ErrorDetail(message=message, type=kind, param=param, code=code or default_code))


def error_response(status: int, body: ErrorBody, headers: Mapping[str, str] | None = None) -> Response:
    headers = dict(headers or {})
    if status == 429:
        headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    if status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    return Response(msgspec.json.encode(body), status, headers, "application/json")


async def on_error(request: Request, error: Exception) -> Response:
    """The handler of every exception the routes raise."""
    if isinstance(error, HTTPException):
        return error_response(
            error.status_code, error_body(error.status_code, _sentence(request, error)), error.headers
        )
    return error_response(*describe(error))


def _sentence(request: Request, error: HTTPException) -> str:
    if error.status_code == 404:
        return f"There is no {request.url.path} here; the routes are listed in the documentation."
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return f"{request.url.path} does not take {request.method}; use {allowed}."
    return error.detail
