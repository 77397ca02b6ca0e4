"""A plugin that leans on core's insides."""

import openlathe.config  # noqa: F401
