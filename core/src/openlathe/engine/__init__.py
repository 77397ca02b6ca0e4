"""The engine: what runs between a request's token ids and its output's token ids."""
