"""Refusals that are wrong: one answers with an exception, and the module imports torch."""

import torch


def refuse(query):
    raise RuntimeError(f"no idea what {query} means to torch {torch.__version__}")
