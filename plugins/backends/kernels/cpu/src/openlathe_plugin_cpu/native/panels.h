// Linear layers on packed weights: how these lie, and the product of some rows with one panel of them.
//
// A panel holds the columns of PANEL outputs, [steps][PANEL]. Where a gate is part of the layer, its first vector holds
// those of gates and its second those of the values they belong to, so that a tile has both when it is done.
#pragma once

#include <algorithm>
#include <type_traits>

#include "interleave.h"

namespace lathe {

enum Gate : int64_t { NO_GATE, SILU, GELU };

// `outputs` are those of the layer: with a gate it has a gate and a value for each.
struct Panels {
  long inputs, outputs, steps;
  bool gated;
  Panels(long inputs, long outputs, int per_step, int64_t gate)
      : inputs(inputs), outputs(outputs), steps(ceil_div(inputs, per_step)), gated(gate != NO_GATE) {}
  long width() const { return gated ? W : PANEL; }  // outputs of one panel
  long count() const { return ceil_div(outputs, width()); }
  long words() const { return steps * PANEL; }
  long bytes() const { return words() * static_cast<long>(sizeof(uint32_t)); }
  // The row of the weight that a lane holds, or -1 behind the last one.
  long row(long panel, int lane) const {
    const long output = panel * width() + lane % width();
    return output < outputs ? output + lane / width() * outputs : -1;
  }
};

// Panels that a thread takes at once: so many that it reads in long streams, and so few that all threads are done at the
// same time.
inline long piece_of(const Panels& panels, int threads) {
  constexpr long STREAM_BYTES = 64 * 1024, LEAST_PIECES = 8;
  return std::max<long>(1, std::min(STREAM_BYTES / panels.bytes(), panels.count() / (threads * LEAST_PIECES)));
}

// -- rows ----------------------------------------------------------------------------------------------------------

// Rows as they lie, `stride` bytes apart.
struct Strided {
  const char* at;
  long stride;
  template <int ROWS>
  uint32_t get(int row, long step) const { return load<uint32_t>(at + row * stride + 4 * step); }
};

// Rows of one tile side by side, [steps][ROWS].
struct Interleaved {
  const uint32_t* at;
  template <int ROWS>
  uint32_t get(int row, long step) const { return at[step * ROWS + row]; }
};

// Rows cut into tiles of nearly equal size.
struct Tiles {
  long rows, count;
  explicit Tiles(long rows) : rows(rows), count(ceil_div(rows, MOST_ROWS)) {}
  long start(long tile) const { return tile * rows / count; }
  int size(long tile) const { return static_cast<int>(start(tile + 1) - start(tile)); }
};

// -- products ------------------------------------------------------------------------------------------------------

// Inputs that are summed up before their sum is added to that of the inputs before them: shorter sums round less.
// Outputs in bfloat16 would lose by it, and their own rounding hides what there is: 0 stands for all at once.
template <class T>
constexpr long SUMMED = T::per_step == 1 ? 512 : 0;

// Memory that is fetched while a tile is computed, so many bytes of it in each step.
struct Ahead {
  const char* at;
  long per_step;
};

// One tile of rows times one panel; `out.end(row, sums)` takes a row's two vectors. Rows as they lie are so few that
// the panel is a plain stream, which the processor fetches best by itself.
template <class T, int ROWS, class Rows, class Out>
void product(const Rows& x, const uint32_t* w, long steps, const Ahead& ahead, const Out& out) {
  [[maybe_unused]] vf totals[ROWS][2] = {};
  for (long step = 0;;) {
    const long first = step, last = SUMMED<T> ? std::min(steps, first + SUMMED<T>) : steps;
    vf sums[ROWS][2] = {};
    for (; step < last; step++, w += PANEL) {
      if (std::is_same_v<Rows, Interleaved>) {
        const char* fetched = ahead.at + step * ahead.per_step;
        __builtin_prefetch(fetched, 0, 2);  // into the second level: the first has enough to do
        __builtin_prefetch(fetched + 64, 0, 2);
      }
      const auto one = T::columns(load<vu>(w)), other = T::columns(load<vu>(w + W));
#pragma GCC unroll 16
      for (int row = 0; row < ROWS; row++) {
        const auto value = T::row(x.template get<ROWS>(row, step));
        sums[row][0] = T::add(sums[row][0], one, value);
        sums[row][1] = T::add(sums[row][1], other, value);
      }
    }
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; row++) {
      if constexpr (SUMMED<T> > 0) {
        for (int v = 0; v < 2; v++) {
          if (first) sums[row][v] += totals[row][v];
          totals[row][v] = sums[row][v];
        }
      }
      if (last == steps) out.end(row, sums[row]);
    }
    if (last == steps) return;
  }
}

template <class T, class Rows, class Out, int... INDEX>
void product_by_rows(int rows, const Rows& x, const uint32_t* w, long steps, const Ahead& ahead, const Out& out,
                     std::integer_sequence<int, INDEX...>) {
  using Function = void (*)(const Rows&, const uint32_t*, long, const Ahead&, const Out&);
  static constexpr Function functions[] = {product<T, INDEX + 1, Rows, Out>...};
  functions[rows - 1](x, w, steps, ahead, out);
}

// Rows that are multiplied as they lie, at most: with more of them interleaving pays.
constexpr int FEW_ROWS = std::min(6, MOST_ROWS);

template <class T, class Out>
void multiply(int rows, const Strided& x, const uint32_t* w, long steps, const Out& out) {
  product_by_rows<T>(rows, x, w, steps, Ahead{}, out, std::make_integer_sequence<int, FEW_ROWS>{});
}
template <class T, class Out>
void multiply(int rows, const Interleaved& x, const uint32_t* w, long steps, const Ahead& ahead, const Out& out) {
  product_by_rows<T>(rows, x, w, steps, ahead, out, std::make_integer_sequence<int, MOST_ROWS>{});
}

// What is fetched while tile `t` of `tiles` is multiplied with a panel: single tiles stay a little ahead of themselves,
// several share in fetching the panel that comes next, which so arrives while there is something to compute.
inline Ahead ahead_of(const uint32_t* w, const uint32_t* next, const Panels& panels, long t, long tiles) {
  constexpr long DISTANCE = 8192, STEP = PANEL * sizeof(uint32_t);
  if (tiles == 1) return {reinterpret_cast<const char*>(w) + DISTANCE, STEP};
  return {reinterpret_cast<const char*>(next) + t * panels.bytes() / tiles, STEP / tiles};
}

// -- what becomes of the sums --------------------------------------------------------------------------------------

// Outputs of one panel: of `rows` that lie `stride` elements apart, the last `left` of each.
template <class E>
struct Outputs {
  E* y;
  const E* residual;  // or null
  const float* bias;  // filled up to whole panels, or null
  long stride, left;
  int64_t gate;

  void end(int row, const vf (&sums)[2]) const {
    vf one = sums[0], other = sums[1];
    if (bias) one += load<vf>(bias), other += load<vf>(bias + W);
    if (gate == NO_GATE) put(row, 0, one), put(row, W, other);
    else put(row, 0, (gate == SILU ? silu(one) : gelu(one)) * other);
  }

 private:
  void put(int row, long at, vf sum) const {
    const long count = left - at, element = row * stride + at;
    if (count >= W) {
      if (residual) sum += read(residual + element);
      write(y + element, sum);
    } else if (count > 0) {
      if (residual) sum += read(residual + element, count);
      write(y + element, sum, count);
    }
  }
};

}  // namespace lathe
