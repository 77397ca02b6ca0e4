// The inner product of everything here: a few rows times columns that were packed beforehand.
//
// All operands are streams of 32-bit steps: one float32, or two neighbouring bfloat16. An output is the sum over its
// steps in order, in one accumulator: how many rows and columns are computed at once changes nothing of it.
#pragma once

#include "vec.h"

namespace lathe {

constexpr int PANEL = 2 * W;
// Accumulators that fit the registers beside the operands, and so the greatest number of rows of a tile.
constexpr int ACCUMULATORS = W == 16 ? 24 : 8;
constexpr int MOST_ROWS = ACCUMULATORS / 2;

struct Float32 {
  using element = float;
  static constexpr int per_step = 1;
  using Columns = vf;
  using Row = float;
  static Columns columns(vu w) { return (vf)w; }
  static Row row(uint32_t x) { return load<float>(&x); }
  static vf add(vf sum, Columns w, Row x) { return w * x + sum; }
};

struct BFloat16 {
  using element = bf16;
  static constexpr int per_step = 2;
#if defined(__AVX512BF16__)
  using Columns = __m512bh;
  using Row = __m512bh;
  static Columns columns(vu w) { return (__m512bh)w; }
  static Row row(uint32_t x) { return (__m512bh)splat(x); }
  static vf add(vf sum, Columns w, Row x) { return (vf)_mm512_dpbf16_ps((__m512)sum, w, x); }
#else
  struct Columns { vf even, odd; };
  struct Row { float even, odd; };
  static Columns columns(vu w) { return {(vf)(w << 16), (vf)(w & 0xffff0000)}; }
  static Row row(uint32_t x) {
    uint32_t even = x << 16, odd = x & 0xffff0000;
    return {load<float>(&even), load<float>(&odd)};
  }
  static vf add(vf sum, Columns w, Row x) { return w.odd * x.odd + (w.even * x.even + sum); }
#endif
};

}  // namespace lathe
