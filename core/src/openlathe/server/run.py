"""The life of one server process: engine and frontend start side by side, requests are served, everything stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..config import ServerConfig
from ..engine.client import EngineClient
from ..engine.spawn import SpawnedEngine
from ..plugins.plan import Plan
from ..plugins.registry import Registry
from ..spi.errors import OpenlatheError
from . import listen

if TYPE_CHECKING:
    import uvicorn

    from .state import Engine, ServerState

logger = logging.getLogger(__name__)

#: Clients that keep a connection open without a request.
_KEEP_ALIVE_SECONDS = 5
_BACKLOG = 2048
#: What connections get to close in, when every request has been answered.
_CLOSING_SECONDS = 2


async def serve(
    plan: Plan,
    config: ServerConfig,
    registry: Registry,
    sock: socket.socket,
    spawned: SpawnedEngine,
    *,
    progress: Callable[[str], None],
    ready: Callable[[str], None],
) -> int:
    """Serves until SIGTERM or SIGINT, or until the engine has died for good; returns the exit status.

    ``spawned`` is where the engine will run. ``progress`` is told what start-up is at, ``ready`` the URL once clients
    are welcome. Raises ``ConfigError``, ``CheckpointError``, ``PluginError`` or ``EngineDeadError`` where the server
    cannot start.
    """
    stop = _on_signals()
    engine = EngineClient(plan, spawned)
    starting = asyncio.create_task(_start(plan, config, registry, engine, progress))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    try:
        state = await starting
    except asyncio.CancelledError:
        await engine.stop()
        return 0
    finally:
        stopping.cancel()
    try:
        return await _serve(state, engine, registry, sock, stop, ready)
    finally:
        await engine.stop()


async def _start(
    plan: Plan, config: ServerConfig, registry: Registry, engine: EngineClient, progress: Callable[[str], None]
) -> ServerState:
    """Loads the frontend in a thread while the engine loads in its process."""
    engine_ready = asyncio.create_task(engine.start(progress))
    frontend = asyncio.create_task(asyncio.to_thread(_load, plan, config, engine))
    try:
        state, _ = await asyncio.gather(frontend, engine_ready)
    except BaseException:
        engine_ready.cancel()
        await asyncio.gather(engine_ready, return_exceptions=True)
        await engine.stop()
        raise
    state.engine_started()
    return state


def _load(plan: Plan, config: ServerConfig, engine: Engine) -> ServerState:
    """Everything between HTTP and the engine; its imports take about as long as the engine's and run beside them."""
    import uvicorn.protocols.http.httptools_impl  # noqa: F401  imported here to be there when it is needed

    from ..frontend.defaults import GenerationDefaults
    from ..frontend.render import ChatRenderer, load_template
    from ..frontend.tokenize import Tokenizer
    from . import app, lifetime  # noqa: F401
    from .metrics import Metrics
    from .state import ServerState

    tokenizer = Tokenizer.load(plan.config.tokenizer or plan.model_path, plan.config)
    template = load_template(plan, tokenizer)
    state = ServerState(
        plan=plan,
        config=config,
        engine=engine,
        tokenizer=tokenizer,
        renderer=ChatRenderer(template, tokenizer) if template is not None else None,
        defaults=GenerationDefaults.load(plan, tokenizer),
        metrics=Metrics(config.metrics_namespace, plan.config.served_names[0]),
    )
    state.prepare()
    return state


async def _serve(
    state: ServerState,
    engine: EngineClient,
    registry: Registry,
    sock: socket.socket,
    stop: asyncio.Event,
    ready: Callable[[str], None],
) -> int:
    from .app import create_app
    from .observers import Observers

    observers = Observers(registry.hooks)
    state.on_finished = observers.request_finished
    server = _http_server(create_app(state, registry), state.config)
    await observers.start(state.info)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    living = asyncio.create_task(_live(server, state, engine, stop))
    try:
        while not (server.started or serving.done()):
            await asyncio.sleep(0.01)
        if server.started:
            ready(listen.url(state.config, sock))
        await serving
        return await living
    except SystemExit:
        raise OpenlatheError("The server could not listen; another process took its address meanwhile.") from None
    finally:
        living.cancel()
        await observers.stop(state.info)


def _http_server(app: Any, config: ServerConfig) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        """Leaves signals to :func:`_on_signals`: uvicorn would raise them again when it is done."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_level=config.uvicorn_log_level,
            access_log=not config.disable_uvicorn_access_log,
            server_header=False,
            root_path=config.root_path,
            ssl_keyfile=config.ssl_keyfile,
            ssl_certfile=config.ssl_certfile,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_CLOSING_SECONDS,
            backlog=_BACKLOG,
        )
    )


def _on_signals() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process at once, and the engine follows."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


async def _live(server: uvicorn.Server, state: ServerState, engine: EngineClient, stop: asyncio.Event) -> int:
    from .lifetime import live

    try:
        return await live(state, engine, stop)
    finally:
        server.should_exit = True
