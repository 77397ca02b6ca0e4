// Vectors as wide as the instruction set, in the compiler's own vector types: one source serves every level.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace lathe {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef uint16_t vh __attribute__((vector_size(2 * W)));   // as many elements, half as wide

using bf16 = uint16_t;

template <class V>
inline V load(const void* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class V>
inline void store(void* to, V value) {
  std::memcpy(to, &value, sizeof value);
}

inline vf splat(float x) { return x - vf{}; }
inline vu splat(uint32_t x) { return x - vu{}; }
template <int... LANES>
constexpr vi lanes(std::integer_sequence<int, LANES...>) { return vi{LANES...}; }
inline vi iota() { return lanes(std::make_integer_sequence<int, W>{}); }
inline vf max(vf a, vf b) { return a > b ? a : b; }
inline vf min(vf a, vf b) { return a < b ? a : b; }

// The sum and the greatest of the lanes, always in the same order.
inline float sum(vf x) {
  for (int distance = W / 2; distance; distance /= 2) x += __builtin_shuffle(x, iota() ^ distance);
  return x[0];
}
inline float greatest(vf x) {
  for (int distance = W / 2; distance; distance /= 2) x = max(x, __builtin_shuffle(x, iota() ^ distance));
  return x[0];
}

// -- bfloat16 ----------------------------------------------------------------------------------------------------

inline vf widen(vh x) { return (vf)(__builtin_convertvector(x, vu) << 16); }

inline vh narrow(vf x) {
#if defined(__AVX512BF16__)
  return (vh)_mm512_cvtneps_pbh((__m512)x);
#else
  vu bits = (vu)x;
  vu even = bits + 0x7fff + ((bits >> 16) & 1);
  vu quiet = bits | 0x400000;  // rounding could carry a NaN into infinity
  return __builtin_convertvector((x == x ? even : quiet) >> 16, vh);
#endif
}

// One vector of floats, whatever the elements in memory are.
inline vf read(const float* from) { return load<vf>(from); }
inline vf read(const bf16* from) { return widen(load<vh>(from)); }
inline void write(float* to, vf value) { store(to, value); }
inline void write(bf16* to, vf value) { store(to, narrow(value)); }

// The first `count` lanes, zeros behind them.
template <class E>
inline vf read(const E* from, long count) {
  E part[W] = {};
  std::memcpy(part, from, count * sizeof(E));
  return read(part);
}
template <class E>
inline void write(E* to, vf value, long count) {
  E part[W];
  write(part, value);
  std::memcpy(to, part, count * sizeof(E));
}

// -- functions ---------------------------------------------------------------------------------------------------

// Two units in the last place, by Cody and Waite's reduction; exactly 1 at 0, and 0 below the smallest normal number.
inline vf exp(vf x) {
  vf clamped = min(splat(88.37f), max(splat(-87.33f), x));  // in this order NaN stays NaN
  vf shifted = clamped * 1.44269504f + 12582912.f;  // rounds: the last bits of the sum are the whole number
  vf n = shifted - 12582912.f;
  vf r = clamped - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  vf p = splat(1.9875691e-4f);
  p = p * r + 1.3981999e-3f;
  p = p * r + 8.3334519e-3f;
  p = p * r + 4.1665796e-2f;
  p = p * r + 1.6666665e-1f;
  p = p * r + 5.0000001e-1f;
  p = p * (r * r) + (r + 1.f);
  vf power = (vf)((__builtin_convertvector(n, vi) + 127) << 23);
  return x < -87.33f ? vf{} : p * power;
}

inline vf tanh(vf x) { return 1.f - 2.f / (exp(2.f * x) + 1.f); }
inline vf silu(vf x) { return x / (1.f + exp(-x)); }
inline vf gelu(vf x) { return 0.5f * x * (1.f + tanh(0.7978845608f * (x + 0.044715f * x * x * x))); }

}  // namespace lathe
