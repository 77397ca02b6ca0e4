// Keys and values of tokens into the slots of their pages.

#include <omp.h>

#include <cmath>

#include "api.h"
#include "attend.h"
#include "team.h"
#include "vec.h"

namespace lathe {
namespace {

// Where keys or values come from and where their pages are; strides in bytes. In pages of the layout `lanes` a stride of
// tokens is that of LANES tokens.
struct Side {
  const char* from;
  char* pages;
  int64_t from_token, from_head, page, head, token, dim;
};

struct WriteKV {
  const char *k, *v;
  char *k_pages, *v_pages;
  const int64_t* slot_mapping;
  int64_t k_from_token, k_from_head, k_page, k_head, k_token, dim_k;
  int64_t v_from_token, v_from_head, v_page, v_head, v_token, dim_v;
  int64_t tokens, heads, block_size, size, lanes, rounded;

  Side keys() const { return {k, k_pages, k_from_token, k_from_head, k_page, k_head, k_token, dim_k}; }
  Side values() const { return {v, v_pages, v_from_token, v_from_head, v_page, v_head, v_token, dim_v}; }
};

// Rows of up to so many elements are rounded to int8.
constexpr long LONGEST = 1024;

// A row and its scale, as `kernels.pages.quantise` has them.
template <class E>
struct Rounded {
  int8_t bytes[LONGEST + 4];
  Rounded(const E* from, long dim) {
    float row[LONGEST + W];
    vf most{};
    for (long i = 0; i < dim; i += W) {
      const vf x = dim - i >= W ? read(from + i) : read(from + i, dim - i);
      store(row + i, x);
      most = max(most, (vf)((vi)x & 0x7fffffff));
    }
    const float greatest_one = greatest(most), scale = greatest_one / 127.f;
    const float inverse = greatest_one > 0 ? 127.f / greatest_one : 0.f;
    for (long i = 0; i < dim; i++) row[i] *= inverse;
    for (long i = 0; i < dim; i++) bytes[i] = static_cast<int8_t>(std::rint(row[i]));
    std::memcpy(bytes + dim, &scale, sizeof scale);
  }
};

// A key into its lane of [steps][LANES] words.
void spread_key(const char* from, long bytes, long lane, char* to) {
  for (long i = 0; i < bytes; i += 4) std::memcpy(to + i * LANES + lane * 4, from + i, 4);
}

// A value into its place in words that neighbouring tokens share.
template <class E>
void spread_value(const E* from, long count, long lane, E* to) {
  constexpr long per_step = 4 / sizeof(E);
  to += lane / per_step * count * per_step + lane % per_step;
  for (long i = 0; i < count; i++) to[i * per_step] = from[i];
}

void write_key(const WriteKV& a, const char* from, long bytes, long lane, char* to) {
  if (a.lanes) spread_key(from, bytes, lane, to);
  else std::memcpy(to, from, bytes);
}

void write_value(const WriteKV& a, const char* from, long bytes, long size, long lane, char* to) {
  if (!a.lanes) std::memcpy(to, from, bytes);
  else if (size == 4) spread_value(reinterpret_cast<const uint32_t*>(from), bytes / 4, lane, reinterpret_cast<uint32_t*>(to));
  else if (size == 2) spread_value(reinterpret_cast<const uint16_t*>(from), bytes / 2, lane, reinterpret_cast<uint16_t*>(to));
  else spread_value(from, bytes, lane, to);
}

template <class E>
void write_rounded(const WriteKV& a, const char* key, char* to_key, const char* value, char* to_value, long lane) {
  const Rounded<E> k(reinterpret_cast<const E*>(key), a.dim_k), v(reinterpret_cast<const E*>(value), a.dim_v);
  write_key(a, reinterpret_cast<const char*>(k.bytes), a.dim_k + 4, lane, to_key);
  write_value(a, reinterpret_cast<const char*>(v.bytes), a.dim_v + 4, 1, lane, to_value);
}

struct Place {
  const char* from;
  char* to;
};

Place place(const WriteKV& a, const Side& side, long token, long head) {
  const long slot = a.slot_mapping[token], inside = slot % a.block_size;
  return {side.from + token * side.from_token + head * side.from_head,
          side.pages + slot / a.block_size * side.page + head * side.head + (a.lanes ? inside / LANES : inside) * side.token};
}

}  // namespace

// Every LANES slots of a head have one thread: what is shared between neighbours is written by one of them at a time.
LATHE_API void write_kv(const WriteKV* given) {
  const WriteKV& a = *given;
  const Side keys = a.keys(), values = a.values();
  const long threads = omp_get_num_threads(), rank = omp_get_thread_num();
  for (long t = 0; t < a.tokens; t++) {
    const long lane = a.slot_mapping[t] % LANES, owner = a.slot_mapping[t] / LANES * a.heads % threads;
    for (long h = (rank - owner + threads) % threads; h < a.heads; h += threads) {
      const Place key = place(a, keys, t, h), value = place(a, values, t, h);
      if (a.rounded) {
        if (a.size == 2) write_rounded<bf16>(a, key.from, key.to, value.from, value.to, lane);
        else write_rounded<float>(a, key.from, key.to, value.from, value.to, lane);
      } else {
        write_key(a, key.from, a.dim_k * a.size, lane, key.to);
        write_value(a, value.from, a.dim_v * a.size, a.size, lane, value.to);
      }
    }
  }
}

}  // namespace lathe
