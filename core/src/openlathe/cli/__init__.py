"""The command line; a sub-command's own imports happen when it runs."""
