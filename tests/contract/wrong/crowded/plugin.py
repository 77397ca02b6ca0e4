"""Right, in the wrong package."""
