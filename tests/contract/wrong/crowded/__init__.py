"""A package that does something before its plugin is asked for."""

LOADED = True
