// Linear layers on weights of four bits in groups of neighbouring inputs, each with a scale and a zero point, and inputs
// rounded to eight bits in the same groups.

#include <omp.h>

#include "api.h"
#include "integers.h"

namespace lathe {
namespace {

// Where there are no zero points.
constexpr int MIDDLE = 8;
// Two steps lie in one: the first in the lower halves of the bytes, the second in the upper ones.
constexpr long PAIR = 2 * STEP;
constexpr long PAIR_BYTES = STEP * BYTE_PANEL;

struct Int4Linear {
  const void* x;
  const uint8_t* packed;
  const float* bias;  // filled up to whole panels, or null
  void* y;
  int64_t bytes, stride, rows, inputs, outputs;  // bytes of an element of x and y, elements between rows of x
  int64_t group, half, zeros;  // inputs of a group; whether scales are float16, not bfloat16; whether zero points vary
};

// A panel is a stream of groups: weights [group / PAIR][columns][STEP], scales [columns], zero points [columns].
struct Group {
  long pairs, bytes;
  bool half, zeros;
  Group(long size, bool half, bool zeros)
      : pairs(size / PAIR),
        bytes(pairs * PAIR_BYTES + BYTE_PANEL * (zeros ? sizeof(uint16_t) + 1 : sizeof(uint16_t))),
        half(half),
        zeros(zeros) {}
  const uint8_t* scales(const uint8_t* group) const { return group + pairs * PAIR_BYTES; }
  const uint8_t* points(const uint8_t* group) const { return scales(group) + BYTE_PANEL * sizeof(uint16_t); }
  vf scale(const uint8_t* group, int vector) const;
  vi zero(const uint8_t* group, int vector) const {
    return zeros ? __builtin_convertvector(load<vb>(points(group) + vector * W), vi) : splat(MIDDLE);
  }
};

inline vf widen_half(vh x) {
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_cvtph_ps(0xffff, (__m256i)x);
#elif defined(__AVX2__)
  return (vf)_mm256_cvtph_ps((__m128i)x);
#else
  // The exponents lie 112 apart; a product with a power of two is exact, and normal where x was not.
  const vu bits = __builtin_convertvector(x, vu);
  const vf value = (vf)((bits & 0x7fff) << 13) * 0x1p112f;
  return (vf)((vu)value | (bits & 0x8000) << 16);
#endif
}

// One group: the sums of its products in whole numbers.
template <int ROWS>
inline void add_group(vi (&sums)[ROWS][2], const uint32_t* values, const uint8_t* w, long pairs) {
  for (long pair = 0; pair < pairs; pair++, w += PAIR_BYTES, values += 2 * ROWS) {
    const vu left = load<vu>(w), right = load<vu>(w + STEP * W);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      const ByteColumns l = byte_columns((half ? left >> 4 : left) & 0x0f0f0f0f);
      const ByteColumns r = byte_columns((half ? right >> 4 : right) & 0x0f0f0f0f);
#pragma GCC unroll 16
      for (int row = 0; row < ROWS; row++) {
        const ByteRow value = byte_row(values[half * ROWS + row]);
        sums[row][0] = dot(sums[row][0], l, value);
        sums[row][1] = dot(sums[row][1], r, value);
      }
    }
  }
}

vf Group::scale(const uint8_t* group, int vector) const {
  const vh bits = load<vh>(scales(group) + vector * W * sizeof(uint16_t));
  return half ? widen_half(bits) : widen(bits);
}

template <class E, int ROWS>
void tile(const Rounded& x, const uint8_t* w, long groups, const Group& group, const Outputs<E>& out) {
  vf totals[ROWS][2] = {};
  for (long g = 0; g < groups; g++, w += group.bytes) {
    vi sums[ROWS][2];
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++) {
      const vi zero = group.zero(w, v);
#pragma GCC unroll 16
      for (int row = 0; row < ROWS; row++) sums[row][v] = zero * -x.sums[g * ROWS + row];
    }
    add_group<ROWS>(sums, x.values + g * group.pairs * 2 * ROWS, w, group.pairs);
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++) {
      const vf scale = group.scale(w, v);
#pragma GCC unroll 16
      for (int row = 0; row < ROWS; row++)
        totals[row][v] += rounded(to_float(sums[row][v]) * scale * x.scales[g * ROWS + row]);
    }
  }
  for (int row = 0; row < ROWS; row++)
    for (int v = 0; v < 2; v++) out.put(row, v, totals[row][v]);
}

template <class E, int... INDEX>
void tile_by_rows(int rows, const Rounded& x, const uint8_t* w, long groups, const Group& group, const Outputs<E>& out,
                  std::integer_sequence<int, INDEX...>) {
  using Function = void (*)(const Rounded&, const uint8_t*, long, const Group&, const Outputs<E>&);
  static constexpr Function functions[] = {tile<E, INDEX + 1>...};
  functions[rows - 1](x, w, groups, group, out);
}

template <class E>
void multiply(const Int4Linear& a) {
  const long groups = a.inputs / a.group, threads = omp_get_num_threads();
  const Group group(a.group, a.half, a.zeros);
  const ByteTiles tiles(a.rows);
  const RoundedRows<E> x(static_cast<const E*>(a.x), a.stride, tiles, a.inputs, a.group, threads);
  share_panels(byte_panels(a.outputs), threads, [&](long panel) {
    for (long t = 0; t < tiles.count; t++)
      tile_by_rows(tiles.size(t), x[t], a.packed + panel * groups * group.bytes, groups, group,
                   Outputs<E>(a.y, a.bias, tiles.start(t), a.outputs, panel),
                   std::make_integer_sequence<int, BYTE_ROWS>{});
  });
}

}  // namespace

LATHE_API long int4_bytes(long inputs, long outputs, long group, int zeros) {
  return byte_panels(outputs) * (inputs / group) * Group(group, false, zeros).bytes;
}

// weight [outputs, inputs] of 0 to 15, scales and zeros (or null) [outputs, inputs / group] -> packed, by panels.
LATHE_API void pack_int4(const uint8_t* weight, const uint16_t* scales, const uint8_t* zeros, long inputs, long outputs,
                         long size, uint8_t* packed, int threads) {
  const Group group(size, false, zeros != nullptr);
  const long groups = inputs / size;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long panel = 0; panel < byte_panels(outputs); panel++)
    for (long g = 0; g < groups; g++) {
      uint8_t* to = packed + (panel * groups + g) * group.bytes;
      std::memset(to, 0, group.bytes);
      for (long lane = 0; lane < std::min<long>(BYTE_PANEL, outputs - panel * BYTE_PANEL); lane++) {
        const long row = panel * BYTE_PANEL + lane;
        const uint8_t* from = weight + row * inputs + g * size;
        for (long i = 0; i < size; i++)
          to[i / PAIR * PAIR_BYTES + lane * STEP + i % STEP] |= from[i] << (i % PAIR / STEP * 4);
        std::memcpy(to + group.pairs * PAIR_BYTES + lane * sizeof(uint16_t), scales + row * groups + g,
                    sizeof(uint16_t));
        if (zeros) to[group.bytes - BYTE_PANEL + lane] = zeros[row * groups + g];
      }
    }
}

LATHE_API void int4_linear(const Int4Linear* a) {
  if (a->bytes == sizeof(float)) multiply<float>(*a);
  else multiply<bf16>(*a);
}

}  // namespace lathe
