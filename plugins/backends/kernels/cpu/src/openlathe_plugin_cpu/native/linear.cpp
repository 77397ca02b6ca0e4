// Linear layers on packed weights.

#include <omp.h>

#include "api.h"
#include "panels.h"
#include "team.h"

namespace lathe {
namespace {

// Of the inputs that are multiplied with one panel after the other: what stays in the second level of the cache beside
// the panel.
constexpr long CACHED_BYTES = 512 * 1024;

constexpr long LINE_BYTES = 64;

struct Pack {
  const void* weight;
  const float* bias;  // or null
  uint32_t* packed;
  float* packed_bias;
  int64_t inputs, outputs, gate;
};

template <class T>
void pack(const Pack& a) {
  const Panels panels(a.inputs, a.outputs, T::per_step, a.gate);
  const auto* weight = static_cast<const typename T::element*>(a.weight);
#pragma omp for schedule(static) nowait
  for (long panel = 0; panel < panels.count(); panel++) {
    uint32_t* to = a.packed + panel * panels.words();
    const typename T::element* rows[PANEL];
    for (int lane = 0; lane < PANEL; lane++) {
      const long row = panels.row(panel, lane);
      rows[lane] = row < 0 ? nullptr : weight + row * a.inputs;
      if (a.bias) a.packed_bias[panel * PANEL + lane] = row < 0 ? 0 : a.bias[row];
    }
    for (long step = 0; step < panels.steps; step++, to += PANEL)
      for (int lane = 0; lane < PANEL; lane++) to[lane] = rows[lane] ? step_at<T>(rows[lane], a.inputs, step) : 0;
  }
}

struct Linear {
  const void* x;
  const uint32_t* packed;
  const float* bias;
  const void* residual;
  void* y;
  int64_t stride, rows, inputs, outputs, gate;
};

// All rows of some tiles times all panels.
template <class T>
class Product {
 public:
  using E = typename T::element;
  explicit Product(const Linear& a) : a_(a), panels_(a.inputs, a.outputs, T::per_step, a.gate), tiles_(a.rows) {}

  void run() {
    if (a_.rows > FEW_ROWS || a_.inputs % T::per_step) interleave_all();
    const long most = std::max<long>(1, CACHED_BYTES / (MOST_ROWS * panels_.steps * 4));
    const long blocks = ceil_div(tiles_.count, most);
    const int threads = omp_get_num_threads();
    // Outputs of one line of the cache belong to one thread.
    const long in_line = std::max<long>(1, LINE_BYTES / (panels_.width() * static_cast<long>(sizeof(E))));
    const long piece = ceil_div(piece_of(panels_, threads), in_line) * in_line;
    const long pieces = ceil_div(panels_.count(), piece);
#pragma omp for schedule(dynamic, 1) nowait
    for (long unit = 0; unit < blocks * pieces; unit++) {
      const long block = unit / pieces, from = unit % pieces * piece, to = std::min(from + piece, panels_.count());
      const long first = block * tiles_.count / blocks, last = (block + 1) * tiles_.count / blocks;
      for (long panel = from; panel < to; panel++)
        multiply_panel(panel, panel + 1 < to ? panel + 1 : panel + 1 + (threads - 1) * piece, first, last);
    }
  }

 private:
  void interleave_all() {
    static thread_local Scratch scratch;
    interleaved_ = shared_room<uint32_t>(scratch, a_.rows * panels_.steps);
    const E* x = static_cast<const E*>(a_.x);
#pragma omp for schedule(static)
    for (long t = 0; t < tiles_.count; t++)
      interleave<T>([&](int row) { return x + (tiles_.start(t) + row) * a_.stride; }, a_.inputs, tiles_.size(t),
                    interleaved_ + tiles_.start(t) * panels_.steps);
  }

  void multiply_panel(long panel, long next, long first, long last) const {
    const uint32_t *w = a_.packed + panel * panels_.words();
    const uint32_t* following = a_.packed + std::min(next, panels_.count() - 1) * panels_.words();
    const long column = panel * panels_.width();
    for (long t = first; t < last; t++) {
      const long row = tiles_.start(t), at = row * a_.outputs + column;
      const Outputs<E> out{static_cast<E*>(a_.y) + at,
                           a_.residual ? static_cast<const E*>(a_.residual) + at : nullptr,
                           a_.bias ? a_.bias + panel * PANEL : nullptr,
                           a_.outputs,
                           a_.outputs - column,
                           a_.gate};
      if (interleaved_)
        multiply<T>(tiles_.size(t), Interleaved{interleaved_ + row * panels_.steps}, w, panels_.steps,
                    ahead_of(w, following, panels_, t - first, last - first), out);
      else
        multiply<T>(tiles_.size(t), Strided{static_cast<const char*>(a_.x), a_.stride * static_cast<long>(sizeof(E))}, w,
                    panels_.steps, out);
    }
  }

  const Linear& a_;
  const Panels panels_;
  const Tiles tiles_;
  uint32_t* interleaved_ = nullptr;
};

}  // namespace

// Columns of a packed weight, filled up to whole panels: each has a float of the bias and as many words as there are
// steps.
LATHE_API long packed_columns(long outputs, long gate) { return Panels(0, outputs, 1, gate).count() * PANEL; }

LATHE_API void pack_bfloat16(const Pack* a) { pack<BFloat16>(*a); }
LATHE_API void pack_float32(const Pack* a) { pack<Float32>(*a); }

// y [rows, outputs] = gate(x [rows, inputs] times the packed weight + bias) + residual; rows of x lie `stride` elements
// apart.
LATHE_API void linear_bfloat16(const Linear* a) { Product<BFloat16>(*a).run(); }
LATHE_API void linear_float32(const Linear* a) { Product<Float32>(*a).run(); }

}  // namespace lathe
