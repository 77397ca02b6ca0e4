"""What happens to every HTTP request around its route: a request id, an answer whatever fails, and the API key."""

from __future__ import annotations

import hmac
import re
import uuid
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import describe, error_body, error_response

#: Routes that load balancers and monitoring reach without a key.
OPEN_ROUTES = frozenset({"/health", "/ping", "/metrics"})
REQUEST_ID_HEADER = "X-Request-Id"
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class RequestId:
    """Gives each HTTP request an id, the client's own where it sent a usable one, and echoes it.

    Starlette's own answer to a fault would go out above all middleware, without this header and without CORS's.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            if started:
                raise  # nothing can be said any more; the connection is closed
            await error_response(*describe(error))(scope, receive, send_with_id)


class ApiKeys:
    """Lets in only who shows one of ``keys``, as ``Authorization: Bearer KEY`` or ``X-Api-Key: KEY``."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] == "lifespan" or path in OPEN_ROUTES or self._admits(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        message = "The API key is missing or wrong; send the server's key as 'Authorization: Bearer KEY'."
        await error_response(401, error_body(401, message))(scope, receive, send)

    def _admits(self, headers: Headers) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        sent = bearer if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        given = sent.strip().encode("latin-1")  # the bytes as they came
        # every key is compared, in constant time, so that the answer's timing tells nothing
        return sum(hmac.compare_digest(given, key) for key in self._keys) > 0
