"""Any JSON value, written in any way, cut anywhere."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
layouts = st.builds(dict, indent=st.sampled_from([None, 0, 2]), ensure_ascii=st.booleans())
points = st.sets(st.integers(0, 200))


def pieces(text: str, points: set[int]) -> list[str]:
    edges = sorted({0, len(text), *(point for point in points if point < len(text))})
    return [text[start:end] for start, end in pairwise(edges)]
