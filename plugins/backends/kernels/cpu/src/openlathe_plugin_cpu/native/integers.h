// Sums of products of bytes: weights without a sign times inputs with one.
//
// Both are streams of 32-bit steps of four neighbouring inputs. Inputs are rounded to whole multiples of a scale of
// their own, one for every `group` of them in a row; sums of products are exact, in whatever order they are made.
#pragma once

#include <algorithm>

#include "team.h"
#include "vec.h"

namespace lathe {

constexpr int STEP = 4;
// Columns lie in panels of this many; sums of a tile of rows and a panel stay in registers.
constexpr int BYTE_PANEL = 2 * W;
constexpr int BYTE_ROWS = W == 16 ? 12 : 4;

typedef uint8_t vb __attribute__((vector_size(W)));  // as many elements as there are lanes

inline vi splat(int32_t x) { return x - vi{}; }
inline vf to_float(vi x) { return __builtin_convertvector(x, vf); }

// Keeps a product from being contracted with the sum that it is part of: it is rounded by itself, as in the definition.
inline vf rounded(vf x) {
#if defined(__AVX512F__)
  asm("" : "+v"(x));
#elif defined(__SSE2__)
  asm("" : "+x"(x));
#else
  asm("" : "+m"(x));
#endif
  return x;
}

// -- products -----------------------------------------------------------------------------------------------------

#if defined(__AVX512VNNI__)
using ByteColumns = __m512i;
using ByteRow = __m512i;
inline ByteColumns byte_columns(vu w) { return (__m512i)w; }
inline ByteRow byte_row(uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
inline vi dot(vi sum, ByteColumns w, ByteRow x) { return (vi)_mm512_dpbusd_epi32((__m512i)sum, w, x); }
#elif defined(__AVX2__)
// In pairs of 16 bits, whose products add up in 32 without overflow: those of bytes would add up in 16.
typedef int16_t vs __attribute__((vector_size(4 * W)));
struct ByteColumns { vu even, odd; };
using ByteRow = ByteColumns;
inline ByteColumns byte_columns(vu w) { return {w & 0x00ff00ff, (w >> 8) & 0x00ff00ff}; }
inline ByteRow byte_row(uint32_t x) {
  const vs both = (vs)splat(x);
  return {(vu)((both << 8) >> 8), (vu)(both >> 8)};
}
inline vi madd(vu a, vu b) {
#if defined(__AVX512BW__)
  return (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#else
  return (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#endif
}
inline vi dot(vi sum, ByteColumns w, ByteRow x) { return sum + madd(w.even, x.even) + madd(w.odd, x.odd); }
#else
using ByteColumns = vu;
using ByteRow = uint32_t;
inline ByteColumns byte_columns(vu w) { return w; }
inline ByteRow byte_row(uint32_t x) { return x; }
inline vi dot(vi sum, ByteColumns w, ByteRow x) {
  for (int shift = 0; shift < 32; shift += 8) sum += (vi)((w >> shift) & 0xff) * static_cast<int8_t>(x >> shift);
  return sum;
}
#endif

// -- inputs -------------------------------------------------------------------------------------------------------

// Rows cut into tiles of nearly equal size.
struct ByteTiles {
  long rows, count;
  explicit ByteTiles(long rows) : rows(rows), count((rows + BYTE_ROWS - 1) / BYTE_ROWS) {}
  long start(long tile) const { return tile * rows / count; }
  int size(long tile) const { return static_cast<int>(start(tile + 1) - start(tile)); }
};

// Of a tile: values [steps][rows], scales and sums [groups][rows], where `group` inputs share a scale.
struct Rounded {
  uint32_t* values;
  float* scales;
  int32_t* sums;
};

inline int32_t sum(vi x) {
  for (int distance = W / 2; distance; distance /= 2) x += __builtin_shuffle(x, iota() ^ distance);
  return x[0];
}
inline vi max(vi a, vi b) { return a > b ? a : b; }
inline int32_t greatest(vi x) {
  for (int distance = W / 2; distance; distance /= 2) x = max(x, __builtin_shuffle(x, iota() ^ distance));
  return x[0];
}

// As whole numbers, by which what is no number is the greatest and shows in the scale.
inline vi magnitude(vf x) { return (vi)x & 0x7fffffff; }
// 1e-20: nothing is divided by zero.
constexpr int32_t LEAST = 0x1e3ce508;

// Rounds a vector; the last bits of the sum are the nearest whole number.
inline vi nearest(vf x, float factor) { return (vi)(rounded(x * factor) + 12582912.f) - 0x4b400000; }

// The last byte of each lane.
inline vb low_bytes(vi x) {
#if defined(__AVX512F__)
  return (vb)_mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)x);
#else
  return __builtin_convertvector((vu)x, vb);
#endif
}

inline void put_steps(uint32_t* to, int rows, vi q, int steps = W / STEP) {
  const vb bytes = low_bytes(q);
  uint32_t words[W / STEP];
  std::memcpy(words, &bytes, sizeof words);
  for (int step = 0; step < steps; step++) to[step * rows] = words[step];
}

template <class E>
void round_group(const E* x, long count, int rows, const Rounded& to) {
  const long whole = count / W * W, rest = count - whole;
  vi most = splat(LEAST), sums = {};
  for (long i = 0; i < whole; i += W) most = max(most, magnitude(read(x + i)));
  if (rest) most = max(most, magnitude(read(x + whole, rest)));
  const int32_t bits = greatest(most);
  const float largest = load<float>(&bits), factor = 127.f / largest;
  for (long i = 0; i < whole; i += W) {
    const vi q = nearest(read(x + i), factor);
    sums += q;
    put_steps(to.values + i / STEP * rows, rows, q);
  }
  if (rest) {
    const vi q = nearest(read(x + whole, rest), factor);
    sums += q;
    put_steps(to.values + whole / STEP * rows, rows, q, static_cast<int>((rest + STEP - 1) / STEP));
  }
  *to.scales = largest / 127.f;
  *to.sums = sum(sums);
}

template <class E>
void round_rows(const E* x, long stride, long inputs, long group, int rows, const Rounded& to) {
  for (int row = 0; row < rows; row++)
    for (long first = 0, g = 0; first < inputs; first += group, g++)
      round_group(x + row * stride + first, std::min(group, inputs - first), rows,
                  Rounded{to.values + first / STEP * rows + row, to.scales + g * rows + row, to.sums + g * rows + row});
}

// The rounded rows of all tiles. Few are rounded by each thread for itself, which is sooner done than waited for.
template <class E>
class RoundedRows {
 public:
  RoundedRows(const E* x, long stride, const ByteTiles& tiles, long inputs, long group, long threads)
      : tiles_(tiles), steps_((inputs + STEP - 1) / STEP), groups_((inputs + group - 1) / group) {
    static thread_local Scratch own, shared;
    const bool alone = tiles.count < threads || threads == 1;
    const std::size_t words = tiles.rows * (steps_ + 2 * groups_);
    memory_ = alone ? own.room<uint32_t>(words) : shared_room<uint32_t>(shared, words);
    const auto round = [&](long t) {
      round_rows(x + tiles.start(t) * stride, stride, inputs, group, tiles.size(t), (*this)[t]);
    };
    if (alone) {
      for (long t = 0; t < tiles.count; t++) round(t);
      return;
    }
#pragma omp for schedule(static)
    for (long t = 0; t < tiles.count; t++) round(t);
  }

  Rounded operator[](long tile) const {
    const long start = tiles_.start(tile), rows = tiles_.rows;
    uint32_t* scales = memory_ + rows * steps_;
    uint32_t* sums = scales + rows * groups_;
    return {memory_ + start * steps_, reinterpret_cast<float*>(scales) + start * groups_,
            reinterpret_cast<int32_t*>(sums) + start * groups_};
  }

 private:
  const ByteTiles& tiles_;
  long steps_, groups_;
  uint32_t* memory_;
};

// -- outputs ------------------------------------------------------------------------------------------------------

// The panels of `outputs` columns.
inline long byte_panels(long outputs) { return (outputs + BYTE_PANEL - 1) / BYTE_PANEL; }

// Where a tile's sums go: rows `stride` apart, of which `left` columns are there from `y` on.
template <class E>
struct Outputs {
  E* y;
  const float* bias;  // filled up to whole panels, or null
  long stride, left;
  Outputs(void* y, const float* bias, long row, long outputs, long panel)
      : y(static_cast<E*>(y) + row * outputs + panel * BYTE_PANEL),
        bias(bias ? bias + panel * BYTE_PANEL : nullptr),
        stride(outputs),
        left(outputs - panel * BYTE_PANEL) {}

  void put(int row, int vector, vf sum) const {
    const long count = left - vector * W;
    if (count <= 0) return;
    if (bias) sum = rounded(sum) + load<vf>(bias + vector * W);
    E* to = y + row * stride + vector * W;
    if (count >= W) write(to, sum);
    else write(to, sum, count);
  }
};

// Calls `run(panel)` for all panels, so that a thread takes some that lie one behind the other.
template <class Run>
void share_panels(long panels, long threads, const Run& run) {
  const long chunk = std::max<long>(1, panels / (threads * 8));
#pragma omp for schedule(dynamic) nowait
  for (long first = 0; first < panels; first += chunk)
    for (long panel = first; panel < std::min(panels, first + chunk); panel++) run(panel);
}

}  // namespace lathe
