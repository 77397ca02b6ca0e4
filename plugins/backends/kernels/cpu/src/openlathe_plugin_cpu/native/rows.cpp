// Operators that treat each row by itself, in one pass over it.

#include <cmath>

#include "api.h"
#include "team.h"
#include "vec.h"

namespace lathe {

// x is [tokens, heads, size] with strides and y contiguous; or, where the sum of x and the residual takes the place of
// x, all are contiguous [tokens, size]. `bytes` and `weight_bytes` are those of an element.
struct Norm {
  void *x;
  const void *residual, *weight;
  void* y;
  int64_t bytes, weight_bytes, token, head, tokens, heads, size;
  double eps;
};

// x is [tokens, 2 * size], gates before values, rows `stride` apart; y is contiguous.
struct Gate {
  const void* x;
  void* y;
  int64_t bytes, stride, tokens, size;
};

// q and k are [tokens, heads, size] with strides, what they are turned to is contiguous; the first `turned` elements
// turn by the tokens' positions, whose cosines and sines are the rows of cos_sin [positions, turned].
struct Rotary {
  const void *q, *k;
  void *turned_q, *turned_k;
  const int64_t* positions;
  const float* cos_sin;
  int64_t bytes, q_token, q_head, q_heads, k_token, k_head, k_heads, tokens, size, turned, interleaved;
};

// `bytes` are those of a row.
struct Embedding {
  const int64_t* ids;
  const void* weight;
  void* y;
  int64_t tokens, bytes;
};

struct Greedy {
  const void* scores;
  int64_t* tokens;
  int64_t bytes, stride, rows, vocabulary;
};

namespace {

// Queries or keys on their way through Rotary.
struct Heads {
  const void* from;
  void* to;
  long token, head, count;
};

// Calls `run` with an element of the type that takes so many bytes: float32 or bfloat16.
template <class Run>
void typed(int bytes, const Run& run) {
  if (bytes == sizeof(float)) run(float{});
  else run(bf16{});
}

// Calls `see(index, vector, count)` for the elements of a row; `count` is less than W for what is left over.
template <class See>
inline void whole_and_rest(long size, const See& see) {
  long i = 0;
  for (; i + W <= size; i += W) see(i, static_cast<long>(W));
  if (i < size) see(i, size - i);
}

template <class E>
inline vf get(const E* from, long count) { return count == W ? read(from) : read(from, count); }
template <class E>
inline void put(E* to, vf value, long count) { count == W ? write(to, value) : write(to, value, count); }

template <class E, class G, class Element>
void norm_row(const Element& element, const G* weight, E* y, long size, float eps) {
  vf squares[4] = {};
  whole_and_rest(size, [&](long i, long count) {
    const vf x = element(i, count);
    squares[i / W % 4] += x * x;
  });
  const float mean = sum((squares[0] + squares[1]) + (squares[2] + squares[3])) / static_cast<float>(size);
  const float scale = 1.f / std::sqrt(mean + eps);
  whole_and_rest(size, [&](long i, long count) { put(y + i, element(i, count) * scale * get(weight + i, count), count); });
}

template <class E, class G>
void rms_norm(const Norm& a) {
  const E* x = static_cast<const E*>(a.x);
  const G* weight = static_cast<const G*>(a.weight);
  const Share rows(a.tokens * a.heads);
  for (long i = rows.begin; i < rows.end; i++) {
    const E* row = x + i / a.heads * a.token + i % a.heads * a.head;
    norm_row([&](long i, long count) { return get(row + i, count); }, weight, static_cast<E*>(a.y) + i * a.size, a.size,
             static_cast<float>(a.eps));
  }
}

template <class E, class G>
void add_rms_norm(const Norm& a) {
  const Share rows(a.tokens);
  for (long t = rows.begin; t < rows.end; t++) {
    E* row = static_cast<E*>(a.x) + t * a.size;
    const E* other = static_cast<const E*>(a.residual) + t * a.size;
    whole_and_rest(a.size, [&](long i, long count) { put(row + i, get(row + i, count) + get(other + i, count), count); });
    norm_row([&](long i, long count) { return get(row + i, count); }, static_cast<const G*>(a.weight),
             static_cast<E*>(a.y) + t * a.size, a.size, static_cast<float>(a.eps));
  }
}

template <class E, vf GATE(vf)>
void gate(const Gate& a) {
  const Share rows(a.tokens);
  for (long t = rows.begin; t < rows.end; t++) {
    const E *gates = static_cast<const E*>(a.x) + t * a.stride, *values = gates + a.size;
    E* y = static_cast<E*>(a.y) + t * a.size;
    whole_and_rest(a.size, [&](long i, long count) {
      put(y + i, GATE(get(gates + i, count)) * get(values + i, count), count);
    });
  }
}

// Pairs (i, i + half).
template <class E>
void turn_halves(const E* x, const float* cos, const float* sin, E* y, long half) {
  whole_and_rest(half, [&](long i, long count) {
    const vf first = get(x + i, count), second = get(x + half + i, count);
    const vf c = get(cos + i, count), s = get(sin + i, count);
    put(y + i, first * c - second * s, count);
    put(y + half + i, second * c + first * s, count);
  });
}

// Pairs (2i, 2i + 1).
template <class E>
void turn_neighbours(const E* x, const float* cos, const float* sin, E* y, long half) {
  for (long i = 0; i < half; i++) {
    const vf pair = read(x + 2 * i, 2);
    const vf turned = {pair[0] * cos[i] - pair[1] * sin[i], pair[1] * cos[i] + pair[0] * sin[i]};
    write(y + 2 * i, turned, 2);
  }
}

template <class E>
void turn(const Rotary& a, const Heads& x) {
  const long half = a.turned / 2;
  const Share rows(a.tokens * x.count);
  for (long i = rows.begin; i < rows.end; i++) {
    const long t = i / x.count;
    const E* row = static_cast<const E*>(x.from) + t * x.token + i % x.count * x.head;
    E* to = static_cast<E*>(x.to) + i * a.size;
    const float* cos = a.cos_sin + a.positions[t] * a.turned;
    if (a.interleaved) turn_neighbours(row, cos, cos + half, to, half);
    else turn_halves(row, cos, cos + half, to, half);
    std::memcpy(to + a.turned, row + a.turned, (a.size - a.turned) * sizeof(E));
  }
}

// The best of some scores and the first place where it stands.
struct Best {
  float score;
  long at;
  void meet(float other, long place) {
    if (other > score || (other == score && place < at)) score = other, at = place;
  }
};

template <class E>
Best best(const E* scores, long begin, long end) {
  vf most = splat(-INFINITY);
  vi places{}, place = iota() + static_cast<int32_t>(begin);
  long i = begin;
  for (; i + W <= end; i += W, place += W) {
    const vf score = read(scores + i);
    places = score > most ? place : places;
    most = max(score, most);
  }
  Best found{-INFINITY, begin};
  if (i > begin)
    for (int lane = 0; lane < W; lane++) found.meet(most[lane], places[lane]);
  for (; i < end; i++) {
    const vf score = read(scores + i, 1);
    found.meet(score[0], i);
  }
  return found;
}

template <class E>
void greedy(const Greedy& a) {
  static thread_local Scratch own;
  const long parts = omp_get_num_threads();
  Best* found = shared_room<Best>(own, a.rows * parts);
#pragma omp for schedule(static)
  for (long unit = 0; unit < a.rows * parts; unit++) {
    const E* row = static_cast<const E*>(a.scores) + unit / parts * a.stride;
    const long part = unit % parts;
    found[unit] = best(row, a.vocabulary * part / parts, a.vocabulary * (part + 1) / parts);
  }
  const Share rows(a.rows);
  for (long row = rows.begin; row < rows.end; row++) {
    Best all = found[row * parts];
    for (long part = 1; part < parts; part++) all.meet(found[row * parts + part].score, found[row * parts + part].at);
    a.tokens[row] = all.at;
  }
}

}  // namespace

LATHE_API void rms_norm(const Norm* a) {
  typed(a->bytes, [&](auto e) {
    typed(a->weight_bytes, [&](auto g) { rms_norm<decltype(e), decltype(g)>(*a); });
  });
}

LATHE_API void add_rms_norm(const Norm* a) {
  typed(a->bytes, [&](auto e) {
    typed(a->weight_bytes, [&](auto g) { add_rms_norm<decltype(e), decltype(g)>(*a); });
  });
}

LATHE_API void silu_mul(const Gate* a) {
  typed(a->bytes, [&](auto e) { gate<decltype(e), silu>(*a); });
}

LATHE_API void gelu_mul(const Gate* a) {
  typed(a->bytes, [&](auto e) { gate<decltype(e), gelu>(*a); });
}

LATHE_API void rotary(const Rotary* a) {
  typed(a->bytes, [&](auto e) {
    turn<decltype(e)>(*a, {a->q, a->turned_q, a->q_token, a->q_head, a->q_heads});
    turn<decltype(e)>(*a, {a->k, a->turned_k, a->k_token, a->k_head, a->k_heads});
  });
}

LATHE_API void embedding(const Embedding* a) {
  const Share rows(a->tokens);
  for (long t = rows.begin; t < rows.end; t++)
    std::memcpy(static_cast<char*>(a->y) + t * a->bytes, static_cast<const char*>(a->weight) + a->ids[t] * a->bytes,
                a->bytes);
}

LATHE_API void greedy(const Greedy* a) {
  typed(a->bytes, [&](auto e) { greedy<decltype(e)>(*a); });
}

}  // namespace lathe
