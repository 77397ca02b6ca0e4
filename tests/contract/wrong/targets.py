"""Targets that lack something."""


class HalfAMethod:
    """A linear method that cannot pack, and whose ``load`` takes no shards."""

    def create(self, layer, prefix, in_features, out_features, bias): ...

    def load(self, layer, name, tensor): ...

    def apply(self, layer, x): ...
