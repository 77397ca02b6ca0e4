// Products of a few rows with a block of keys and with a block of values.
//
// Both lie as pages of the layout `lanes` have them, in words of 32 bits that hold `per_step` neighbours: elements of a
// key, with the words of LANES keys side by side, [steps][LANES]; keys, with the words of all elements of a value side
// by side, [LANES / per_step][elements]. So a row needs one word for all lanes, and nothing is summed across lanes. A sum
// takes its steps in order, in one accumulator: how many rows and columns are computed at once changes nothing of it.
#pragma once

#include "attend.h"
#include "sums.h"
#include "tile.h"

namespace lathe {

// Accumulators of one tile are ROWS * PLANES by VECTORS.
constexpr int VECTORS = W == 16 ? 4 : 2;

// Elements as they are: float32, or pairs of bfloat16.
template <class T>
struct Plain {
  using element = typename T::element;
  using weight = element;
  using Sum = vf;
  using Row = typename T::Row;
  using Columns = typename T::Columns;
  static constexpr int per_step = T::per_step, planes = 1, words = 1;
  static constexpr bool scaled = false;
  static constexpr long weight_words = BLOCK / per_step;
  static Columns keys(vu w) { return T::columns(w); }
  static Columns values(vu w) { return T::columns(w); }
  static Row row(const uint32_t* x) { return T::row(*x); }
  static Sum add_key(Sum sum, Columns k, Row x) { return T::add(sum, k, x); }
  static Sum add_value(Sum sum, Columns v, Row x) { return T::add(sum, v, x); }
  static vf score(const Sum* sums, int, int32_t) { return sums[0]; }
};

// Query rows of one call, at most.
template <class T>
constexpr int most_rows() { return ACCUMULATORS / VECTORS / T::planes; }

// A block of keys or of values of one head: where each LANES of them lie, those `first` to `end` that there are, and
// what is to be fetched meanwhile. The others point to one of these.
struct Block {
  const uint32_t* at[BLOCK_TILES];
  const uint32_t* next[BLOCK_TILES];
  long first, end;
};

// `x` [steps][ROWS][planes][words] times keys -> `scores` [ROWS][BLOCK].
template <class T, int N>
void score(const uint32_t* x, const Block& keys, long steps, const int32_t* offset, float* scores) {
  constexpr int ROWS = N * T::planes, PER_TILE = LANES / W;
  for (int first = 0; first < BLOCK / W; first += VECTORS) {
    if (first + VECTORS <= keys.first * PER_TILE || first >= keys.end * PER_TILE) continue;
    const uint32_t *at[VECTORS], *next[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
      at[v] = keys.at[(first + v) / PER_TILE] + (first + v) % PER_TILE * W;
      next[v] = keys.next[(first + v) / PER_TILE] + (first + v) % PER_TILE * W;
    }
    typename T::Sum sums[VECTORS][ROWS] = {};
    const uint32_t* row = x;
    for (long step = 0; step < steps; step++, row += ROWS * T::words) {
      typename T::Columns columns[VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++) {
        columns[v] = T::keys(load<vu>(at[v] + step * LANES));
        if (W == LANES || (first + v) % PER_TILE == 0) __builtin_prefetch(next[v] + step * LANES, 0, 2);
      }
#pragma GCC unroll 16
      for (int r = 0; r < ROWS; r++) {
        const auto value = T::row(row + r * T::words);
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) sums[v][r] = T::add_key(sums[v][r], columns[v], value);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < N; r++)
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++)
        store(scores + r * BLOCK + (first + v) * W, T::score(sums[v] + r * T::planes, 1, offset[r]));
  }
}

// Adds `weights` [N][planes][steps of a block][words] times elements `at` and following of values to those of `sums`.
template <class T, int N, int COLUMNS>
void mix(const uint32_t* weights, const Block& values, long stride, long at, Sums sums, const float* unit) {
  constexpr int ROWS = N * T::planes, STEPS = LANES / T::per_step;
  typename T::Sum total[ROWS][COLUMNS];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
    for (int v = 0; v < COLUMNS; v++) {
      if constexpr (T::planes == 1) total[r][v] = load<vf>(sums.values(r) + at + v * W) * sums.factor(r);
      else total[r][v] = {};
    }
  for (long tile = values.first; tile < values.end; tile++) {
    const uint32_t *from = values.at[tile] + at, *next = values.next[tile] + at;
    for (int step = 0; step < STEPS; step++, from += stride, next += stride) {
      typename T::Columns columns[COLUMNS];
#pragma GCC unroll 8
      for (int v = 0; v < COLUMNS; v++) {
        columns[v] = T::values(load<vu>(from + v * W));
        if (v * W % LANES == 0) __builtin_prefetch(next + v * W, 0, 2);
      }
#pragma GCC unroll 16
      for (int r = 0; r < ROWS; r++) {
        const auto value = T::row(weights + r * T::weight_words + (tile * STEPS + step) * T::words);
#pragma GCC unroll 8
        for (int v = 0; v < COLUMNS; v++) total[r][v] = T::add_value(total[r][v], columns[v], value);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < N; r++)
#pragma GCC unroll 8
    for (int v = 0; v < COLUMNS; v++) {
      float* to = sums.values(r) + at + v * W;
      if constexpr (T::planes == 1) store(to, total[r][v]);
      else store(to, load<vf>(to) * sums.factor(r) + T::sum(total[2 * r][v], total[2 * r + 1][v]) * unit[r]);
    }
}

// All elements of the values, as many at once as there are registers for.
template <class T, int N>
void mix_all(const uint32_t* weights, const Block& values, long stride, Sums sums, const float* unit) {
  constexpr int MOST = N * T::planes * 2 * VECTORS <= ACCUMULATORS && W == 16 ? 2 * VECTORS : VECTORS;
  long at = 0;
  for (; at + MOST * W <= sums.width(); at += MOST * W) mix<T, N, MOST>(weights, values, stride, at, sums, unit);
  for (; at < sums.width(); at += W) mix<T, N, 1>(weights, values, stride, at, sums, unit);
}

template <class T, int... INDEX>
void score_rows(int rows, const uint32_t* x, const Block& keys, long steps, const int32_t* offset, float* scores,
                std::integer_sequence<int, INDEX...>) {
  using Function = void (*)(const uint32_t*, const Block&, long, const int32_t*, float*);
  static constexpr Function functions[] = {score<T, INDEX + 1>...};
  functions[rows - 1](x, keys, steps, offset, scores);
}

template <class T, int... INDEX>
void mix_rows(int rows, const uint32_t* weights, const Block& values, long stride, Sums sums, const float* unit,
              std::integer_sequence<int, INDEX...>) {
  using Function = void (*)(const uint32_t*, const Block&, long, Sums, const float*);
  static constexpr Function functions[] = {mix_all<T, INDEX + 1>...};
  functions[rows - 1](weights, values, stride, sums, unit);
}

}  // namespace lathe
