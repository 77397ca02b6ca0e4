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
  static vf score(const Sum* sums, int32_t) { return sums[0]; }
};

// Keys and values rounded to int8, each row of them with its scale.
//
// VNNI multiplies bytes, of which one operand has no sign. What they are multiplied by takes two bytes, in a plane each:
// queries are whole numbers up to HIGH * 127, with keys moved up by 128 and `offset` what that adds to a score; weights
// are whole numbers up to 65535. Nothing but the rounding of keys and values is to be seen of it.
struct Int8 {
  using element = int8_t;
  static constexpr int per_step = 4;
  static constexpr bool scaled = true;
#if defined(__AVX512VNNI__)
  using weight = uint8_t;
  using Sum = __m512i;
  using Row = __m512i;
  using Columns = __m512i;
  static constexpr int planes = 2, words = 1;
  static constexpr long weight_words = BLOCK / per_step;
  static constexpr int HIGH = 128;
  static Columns keys(vu w) { return (__m512i)(w ^ 0x80808080u); }
  static Columns values(vu w) { return (__m512i)w; }
  static Row row(const uint32_t* x) { return (__m512i)splat(*x); }
  static Sum add_key(Sum sum, Columns k, Row x) { return _mm512_dpbusd_epi32(sum, k, x); }
  static Sum add_value(Sum sum, Columns v, Row x) { return _mm512_dpbusd_epi32(sum, x, v); }
  static vf score(const Sum* sums, int32_t offset) {
    return __builtin_convertvector((vi)((vu)sums[0] * HIGH + (vu)sums[1] - static_cast<uint32_t>(offset)), vf);
  }
  static vf sum(Sum high, Sum low) { return __builtin_convertvector((vi)((vu)high * 256 + (vu)low), vf); }
#else
  using weight = float;
  using Sum = vf;
  struct Row { float x[4]; };
  struct Columns { vf x[4]; };
  static constexpr int planes = 1, words = 4;
  static constexpr long weight_words = BLOCK;
  static Columns keys(vu w) { return {{byte(w << 24), byte(w << 16), byte(w << 8), byte(w)}}; }
  static Columns values(vu w) { return keys(w); }
  static Row row(const uint32_t* x) { return load<Row>(x); }
  static Sum add_key(Sum sum, const Columns& k, const Row& x) {
    for (int i = 0; i < 4; i++) sum = k.x[i] * x.x[i] + sum;
    return sum;
  }
  static Sum add_value(Sum sum, const Columns& v, const Row& x) { return add_key(sum, v, x); }
  static vf score(const Sum* sums, int32_t) { return sums[0]; }
  static vf byte(vu high) { return __builtin_convertvector((vi)high >> 24, vf); }
#endif
};

// The scales of four neighbouring values, of whose bytes each word has one of every value.
inline void scales_of_four(const uint32_t* words, float* to) {
  typedef uint8_t bytes __attribute__((vector_size(16)));
  store(to, __builtin_shuffle(load<bytes>(words), bytes{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15}));
}

// Query rows of one call, at most.
template <class T>
constexpr int most_rows() { return ACCUMULATORS / VECTORS / T::planes; }

// A block of keys or of values of one head: where each LANES of them lie, those `first` to `end` that there are, and
// what is to be fetched meanwhile. The others point to one of these.
struct Block {
  const uint32_t* at[BLOCK_TILES];
  const uint32_t* next[BLOCK_TILES];
  long first, end;

  // What is next is on its way.
  void fetched() { std::copy(at, at + BLOCK_TILES, next); }
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
        store(scores + r * BLOCK + (first + v) * W, T::score(sums[v] + r * T::planes, offset[r]));
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
      else total[r][v] = typename T::Sum{};
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
