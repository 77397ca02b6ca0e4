"""``python -m openlathe serve --model M``: the same as ``core serve M``."""

from __future__ import annotations

import sys

from .cli.main import main

sys.exit(main())
