// A square of words, turned about its diagonal.
#pragma once

#include "vec.h"

namespace lathe {

// One of the log2(W) exchanges of a transposition: lanes that differ in bit DISTANCE change places between two rows.
template <int DISTANCE, int... I>
inline void exchange(vu (&rows)[W], std::integer_sequence<int, I...>) {
  constexpr vi low = {(I & DISTANCE ? W + I - DISTANCE : I)...};
  constexpr vi high = {(I & DISTANCE ? W + I : I + DISTANCE)...};
#pragma GCC unroll 16
  for (int row = 0; row < W; row++) {
    if (row & DISTANCE) continue;
    const vu one = rows[row], other = rows[row + DISTANCE];
    rows[row] = __builtin_shuffle(one, other, low);
    rows[row + DISTANCE] = __builtin_shuffle(one, other, high);
  }
}

template <int DISTANCE = W / 2>
inline void transpose(vu (&rows)[W]) {
  exchange<DISTANCE>(rows, std::make_integer_sequence<int, W>{});
  if constexpr (DISTANCE > 1) transpose<DISTANCE / 2>(rows);
}

}  // namespace lathe
