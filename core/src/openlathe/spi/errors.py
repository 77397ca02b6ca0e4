"""Errors that are meant to be read by people: one sentence that says what was wrong and what to do."""

from __future__ import annotations


class OpenlatheError(Exception):
    """Base of every error whose message is complete without a traceback."""


class ConfigError(OpenlatheError):
    """A flag, a line of the configuration file or an environment variable cannot be used as given."""


class InvalidRequest(OpenlatheError):
    """A request asks for something that cannot be served; the client's mistake, answered with a 4xx.

    ``param`` names the offending field where there is one, ``status`` the HTTP status the server answers with.
    """

    def __init__(self, message: str, *, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.status = status
        self.code = code


class CheckpointError(OpenlatheError):
    """A model directory, its configuration or one of its weight files cannot be used."""


class EngineDeadError(OpenlatheError):
    """The engine core has stopped; no request can be served any more."""


class PluginError(OpenlatheError):
    """Something is wrong with installed plugins or with how one was asked for.

    ``kind`` and ``name`` say what was asked for; ``distribution`` names the package to blame, where one is.
    """

    def __init__(
        self, message: str, *, kind: str | None = None, name: str | None = None, distribution: str | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.name = name
        self.distribution = distribution


class ProviderNotFound(PluginError):
    """No active plugin provides the name that was asked for."""


class AmbiguousProvider(PluginError):
    """Several distributions provide the name that was asked for and nothing says which one is meant."""
