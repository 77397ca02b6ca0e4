// Mixtures of experts on packed weights: every expert that has tokens multiplies all of them at once.

#include <omp.h>

#include "api.h"
#include "panels.h"
#include "team.h"

namespace lathe {
namespace {

struct Experts {
  const void* x;
  const int64_t* chosen;
  const float* weights;
  const uint32_t *gate_up, *down;             // the panels of one expert after those of another
  const float *gate_up_bias, *down_bias;      // likewise, or null
  void* y;
  int64_t stride, tokens, top_k, experts, hidden, inner, gate;
};

// A choice is a place in `chosen`: a token and an expert of its own.
struct Routing {
  int64_t active;   // experts that have tokens
  int64_t* expert;  // [active] ascending
  int64_t* start;   // [active + 1] of their choices
  int64_t* choice;  // [tokens * top_k]

  static long words(const Experts& a) { return 2 * a.experts + 2 + a.tokens * a.top_k; }

  Routing(const Experts& a, int64_t* room)
      : active(room[0]), expert(room + 1), start(expert + a.experts), choice(start + a.experts + 1) {}

  // Sorts by counting, in the order of the tokens.
  static void fill(const Experts& a, int64_t* room) {
    Routing to(a, room);
    const long choices = a.tokens * a.top_k;
    std::fill_n(to.start, a.experts + 1, 0);
    for (long i = 0; i < choices; i++) to.start[a.chosen[i] + 1]++;
    for (long e = 0; e < a.experts; e++) to.start[e + 1] += to.start[e];
    for (long i = 0; i < choices; i++) to.choice[to.start[a.chosen[i]]++] = i;
    long active = 0, before = 0;  // start[e] is now where the choices of e end
    for (long e = 0; e < a.experts; e++) {
      const long end = to.start[e];
      if (end == before) continue;
      to.expert[active] = e;
      to.start[active++] = before;
      before = end;
    }
    to.start[active] = before;
    room[0] = active;
  }
};

// Of every choice's rows what a product reads: as it lies where an expert has one, else interleaved by tiles.
template <class T>
struct Operand {
  const Routing& routing;
  long inputs, steps;
  uint32_t* room;

  bool lies(long active) const {
    return inputs % T::per_step == 0 && routing.start[active + 1] - routing.start[active] == 1;
  }

  template <class Row>
  void arrange(const Row& row) const {
#pragma omp for schedule(dynamic, 1)
    for (long active = 0; active < routing.active; active++) {
      if (lies(active)) continue;
      const long start = routing.start[active];
      const Tiles tiles(routing.start[active + 1] - start);
      for (long t = 0; t < tiles.count; t++) {
        const long first = start + tiles.start(t);
        interleave<T>([&](int r) { return row(first + r); }, inputs, tiles.size(t), room + first * steps);
      }
    }
  }

  // One expert's rows times one panel; `out(first)` takes the sums of choices from `first` on.
  template <class Row, class Out>
  void multiply_panel(long active, const Row& row, const uint32_t* w, const uint32_t* next, const Panels& panels,
                      const Out& out) const {
    const long start = routing.start[active];
    const Tiles tiles(routing.start[active + 1] - start);
    if (lies(active)) return multiply<T>(1, Strided{reinterpret_cast<const char*>(row(start)), 0}, w, steps, out(start));
    for (long t = 0; t < tiles.count; t++) {
      const long first = start + tiles.start(t);
      multiply<T>(tiles.size(t), Interleaved{room + first * steps}, w, steps,
                  ahead_of(w, next, panels, t, tiles.count), out(first));
    }
  }
};

// Adds what an expert puts out to the sums of its tokens, by their weights.
struct Weighted {
  float* sums;  // [tokens][PANEL]
  const int64_t* choice;
  const float *weights, *bias;
  long top_k;
  void end(int row, const vf (&products)[2]) const {
    float* to = sums + choice[row] / top_k * PANEL;
    for (int v = 0; v < 2; v++, to += W) {
      const vf product = bias ? products[v] + load<vf>(bias + v * W) : products[v];
      store(to, load<vf>(to) + product * weights[choice[row]]);
    }
  }
};

template <class T>
void experts(const Experts& a) {
  using E = typename T::element;
  static thread_local Scratch routing_room, x_room, inner_room, operand_room, sums_room;
  const Panels up(a.hidden, a.inner, T::per_step, a.gate), down(a.inner, a.hidden, T::per_step, NO_GATE);
  const long choices = a.tokens * a.top_k;
  const int threads = omp_get_num_threads();

  int64_t* room = shared_room<int64_t>(routing_room, Routing::words(a));
#pragma omp single
  Routing::fill(a, room);
  const Routing routing(a, room);

  const auto token = [&](long choice) {
    return static_cast<const E*>(a.x) + routing.choice[choice] / a.top_k * a.stride;
  };
  const Operand<T> x{routing, a.hidden, up.steps, shared_room<uint32_t>(x_room, choices * up.steps)};
  x.arrange(token);
  E* inner = shared_room<E>(inner_room, choices * a.inner);
  const long piece = piece_of(up, threads), pieces = ceil_div(up.count(), piece);
#pragma omp for schedule(dynamic, 1)
  for (long unit = 0; unit < routing.active * pieces; unit++) {
    const long active = unit / pieces, from = unit % pieces * piece, to = std::min(from + piece, up.count());
    const long expert = routing.expert[active] * up.count();
    for (long panel = from; panel < to; panel++) {
      const uint32_t* w = a.gate_up + (expert + panel) * up.words();
      const long next = panel + 1 < to ? panel + 1 : std::min(panel + 1 + (threads - 1) * piece, up.count() - 1);
      const long column = panel * up.width();
      x.multiply_panel(active, token, w, a.gate_up + (expert + next) * up.words(), up, [&](long first) {
        return Outputs<E>{inner + first * a.inner + column,
                          nullptr,
                          a.gate_up_bias ? a.gate_up_bias + (expert + panel) * PANEL : nullptr,
                          a.inner,
                          a.inner - column,
                          a.gate};
      });
    }
  }

  const auto gated = [&](long choice) { return inner + choice * a.inner; };
  const Operand<T> h{routing, a.inner, down.steps, shared_room<uint32_t>(operand_room, choices * down.steps)};
  h.arrange(gated);
  float* sums = sums_room.room<float>(a.tokens * PANEL);
#pragma omp for schedule(dynamic, 1) nowait
  for (long panel = 0; panel < down.count(); panel++) {
    std::fill_n(sums, a.tokens * PANEL, 0.f);
    for (long active = 0; active < routing.active; active++) {
      const bool last = active + 1 == routing.active;
      const long at = routing.expert[active] * down.count() + panel;
      const long next = routing.expert[last ? 0 : active + 1] * down.count() +
                        (last ? std::min(panel + threads, down.count() - 1) : panel);
      h.multiply_panel(active, gated, a.down + at * down.words(), a.down + next * down.words(), down, [&](long first) {
        return Weighted{sums, routing.choice + first, a.weights, a.down_bias ? a.down_bias + at * PANEL : nullptr,
                        a.top_k};
      });
    }
    const long column = panel * PANEL;
    for (long t = 0; t < a.tokens; t++)
      for (long v = 0; v < PANEL && column + v < a.hidden; v += W)
        write(static_cast<E*>(a.y) + t * a.hidden + column + v, load<vf>(sums + t * PANEL + v),
              std::min<long>(W, a.hidden - column - v));
  }
}

}  // namespace

// y [tokens, hidden]: the weighted sum of what the chosen experts make of each token, added up in their order.
LATHE_API void experts_bfloat16(const Experts* a) { experts<BFloat16>(*a); }
LATHE_API void experts_float32(const Experts* a) { experts<Float32>(*a); }

}  // namespace lathe
