// Rows of elements as steps of words side by side, which is how a tile of them is multiplied.
#pragma once

#include <algorithm>

#include "tile.h"
#include "transpose.h"

namespace lathe {

inline long ceil_div(long a, long b) { return (a + b - 1) / b; }

// Elements `step * per_step` and following of a row, zeros behind its end.
template <class T>
uint32_t step_at(const typename T::element* row, long inputs, long step) {
  uint32_t value = 0;
  const long first = step * T::per_step;
  std::memcpy(&value, row + first, sizeof(*row) * std::min<long>(T::per_step, inputs - first));
  return value;
}

// `row(r)` is where the r-th row of a tile lies.
template <class T, class Row>
void interleave(const Row& row, long inputs, int rows, uint32_t* to) {
  static_assert(MOST_ROWS <= W);
  const long steps = ceil_div(inputs, T::per_step), whole = inputs / T::per_step;
  const typename T::element* from[W];
  for (int r = 0; r < W; r++) from[r] = row(std::min(r, rows - 1));
  long turned = 0;
  // W steps of all rows at once. What a vector has beyond the rows lands where the next steps will be written.
  for (; turned + W <= whole && (turned + W - 1) * rows + W <= steps * rows; turned += W) {
    vu words[W];
    for (int r = 0; r < W; r++) words[r] = load<vu>(from[r] + turned * T::per_step);
    transpose(words);
    for (int s = 0; s < W; s++) store(to + (turned + s) * rows, words[s]);
  }
  for (int r = 0; r < rows; r++)
    for (long step = turned; step < steps; step++) to[step * rows + r] = step_at<T>(from[r], inputs, step);
}

}  // namespace lathe
