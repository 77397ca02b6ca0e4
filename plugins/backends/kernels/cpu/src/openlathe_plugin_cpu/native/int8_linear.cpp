// Linear layers on weights of eight bits with a scale for each output, and inputs rounded to eight bits row by row.

#include <omp.h>

#include "api.h"
#include "integers.h"

namespace lathe {
namespace {

// Weights have no sign in memory: this much is added to them, and taken from the sums by those of the inputs.
constexpr int OFFSET = 128;
// Bytes of a step of a panel.
constexpr long STEP_BYTES = STEP * BYTE_PANEL;

struct Int8Linear {
  const void* x;
  const uint8_t* packed;
  const float* scales;  // filled up to whole panels, as is the bias
  const float* bias;    // or null
  void* y;
  int64_t bytes, stride, rows, inputs, outputs;  // bytes of an element of x and y, elements between rows of x
};

long steps_of(long inputs) { return (inputs + STEP - 1) / STEP; }

// While several tiles go over one panel the memory would rest: each of them fetches its part of the next panel,
// `ahead` and following, `line` bytes with every step. Without `line` nothing is.
template <class E, int ROWS, bool AHEAD>
void tile(const Rounded& x, const uint8_t* w, long steps, const float* scales, const Outputs<E>& out,
          const uint8_t* ahead, long line) {
  vi sums[ROWS][2];
#pragma GCC unroll 16
  for (int row = 0; row < ROWS; row++) sums[row][0] = sums[row][1] = splat(-OFFSET * x.sums[row]);
  const uint32_t* values = x.values;
  for (long step = 0; step < steps; step++, w += STEP_BYTES, values += ROWS) {
    if (AHEAD) {
      __builtin_prefetch(ahead, 0, 2);
      ahead += line;
    }
    const ByteColumns left = byte_columns(load<vu>(w)), right = byte_columns(load<vu>(w + STEP * W));
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; row++) {
      const ByteRow value = byte_row(values[row]);
      sums[row][0] = dot(sums[row][0], left, value);
      sums[row][1] = dot(sums[row][1], right, value);
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++)
      out.put(row, v, to_float(sums[row][v]) * load<vf>(scales + v * W) * x.scales[row]);
}

template <class E>
using Tile = void (*)(const Rounded&, const uint8_t*, long, const float*, const Outputs<E>&, const uint8_t*, long);

template <class E, bool AHEAD, int... INDEX>
Tile<E> tile_of(int rows, std::integer_sequence<int, INDEX...>) {
  static constexpr Tile<E> functions[] = {tile<E, INDEX + 1, AHEAD>...};
  return functions[rows - 1];
}

template <class E>
void multiply(const Int8Linear& a) {
  constexpr auto SIZES = std::make_integer_sequence<int, BYTE_ROWS>{};
  const long steps = steps_of(a.inputs), threads = omp_get_num_threads();
  const ByteTiles tiles(a.rows);
  const RoundedRows<E> x(static_cast<const E*>(a.x), a.stride, tiles, a.inputs, a.inputs, threads);
  const long line = STEP_BYTES / tiles.count;
  share_panels(byte_panels(a.outputs), threads, [&](long panel) {
    const uint8_t* w = a.packed + panel * steps * STEP_BYTES;
    for (long t = 0; t < tiles.count; t++) {
      const Outputs<E> out(a.y, a.bias, tiles.start(t), a.outputs, panel);
      const auto function = tiles.count > 1 ? tile_of<E, true>(tiles.size(t), SIZES)
                                            : tile_of<E, false>(tiles.size(t), SIZES);
      function(x[t], w, steps, a.scales + panel * BYTE_PANEL, out, w + (STEP_BYTES + t * line) * steps, line);
    }
  });
}

}  // namespace

LATHE_API long int8_bytes(long inputs, long outputs) {
  return byte_panels(outputs) * steps_of(inputs) * STEP_BYTES;
}
// Floats of scales and of a bias, filled up to whole panels.
LATHE_API long int8_outputs(long outputs) { return byte_panels(outputs) * BYTE_PANEL; }

// weight [outputs, inputs] -> packed [panels][steps][columns][STEP].
LATHE_API void pack_int8(const int8_t* weight, long inputs, long outputs, uint8_t* packed, int threads) {
  const long steps = steps_of(inputs);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (long panel = 0; panel < byte_panels(outputs); panel++)
    for (long step = 0; step < steps; step++)
      for (long i = 0; i < STEP_BYTES; i++) {
        const long output = panel * BYTE_PANEL + i / STEP, input = step * STEP + i % STEP;
        const int value = output < outputs && input < inputs ? weight[output * inputs + input] : 0;
        packed[(panel * steps + step) * STEP_BYTES + i] = static_cast<uint8_t>(value + OFFSET);
      }
}

LATHE_API void int8_linear(const Int8Linear* a) {
  if (a->bytes == sizeof(float)) multiply<float>(*a);
  else multiply<bf16>(*a);
}

}  // namespace lathe
