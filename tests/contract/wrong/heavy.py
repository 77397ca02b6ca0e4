"""A plugin that imports torch to be listed."""

import torch  # noqa: F401
