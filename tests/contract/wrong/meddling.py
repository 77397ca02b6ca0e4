"""A plugin that changes the process it is imported into."""

import logging

logging.getLogger().addHandler(logging.NullHandler())
