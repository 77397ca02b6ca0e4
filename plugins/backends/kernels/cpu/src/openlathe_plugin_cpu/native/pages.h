// Blocks of keys and values out of their pages, as products.h takes them: where they lie in pages of the layout `lanes`,
// packed from all others.
#pragma once

#include "products.h"
#include "transpose.h"

namespace lathe {

// The first `bytes` of a vector, zeros behind them.
inline vu load_part(const void* from, long bytes) {
  if (bytes >= 4 * W) return load<vu>(from);
  vu value{};
  if (bytes > 0) std::memcpy(&value, from, bytes);
  return value;
}

// LANES keys of `dim` elements, or null for those that count as zeros -> [steps][LANES]. Those of `next`, or null, are
// fetched meanwhile.
template <class T>
void pack_keys(const typename T::element* const* rows, const typename T::element* const* next, long dim, uint32_t* to) {
  const long steps = (dim + T::per_step - 1) / T::per_step;
  for (long first = 0; first < LANES; first += W) {
    for (long step = 0; step < steps; step += W) {
      vu block[W];
      const long at = step * T::per_step, bytes = (dim - at) * static_cast<long>(sizeof(typename T::element));
#pragma GCC unroll 16
      for (int lane = 0; lane < W; lane++) block[lane] = rows[first + lane] ? load_part(rows[first + lane] + at, bytes) : vu{};
      for (int lane = 0; lane < W; lane++) __builtin_prefetch(next[first + lane] + at);
      transpose(block);
      uint32_t* lanes = to + step * LANES + first;
      const int written = static_cast<int>(std::min<long>(W, steps - step));
      if (written == W) {
#pragma GCC unroll 16
        for (int i = 0; i < W; i++) store(lanes + i * LANES, block[i]);
      } else {
        for (int i = 0; i < written; i++) store(lanes + i * LANES, block[i]);
      }
    }
  }
}

// W elements of a row from `at` on, each in a lane of its own; zeros for what is not there.
inline vu lanes_of(const float* row, long at, long dim) {
  return row ? load_part(row + at, 4 * (dim - at)) : vu{};
}
inline vu lanes_of(const bf16* row, long at, long dim) {
  if (!row) return vu{};
  if (dim - at >= W) return __builtin_convertvector(load<vh>(row + at), vu);
  vh part{};
  if (dim > at) std::memcpy(&part, row + at, 2 * (dim - at));
  return __builtin_convertvector(part, vu);
}

// LANES values, or null -> [LANES / per_step][width].
template <class T>
void pack_values(const typename T::element* const* rows, const typename T::element* const* next, long dim, long width, uint32_t* to) {
  for (long step = 0; step < LANES / T::per_step; step++, to += width)
    for (long at = 0; at < width; at += W) {
      for (int i = 0; i < T::per_step; i++) __builtin_prefetch(next[step * T::per_step + i] + at);
      vu value = lanes_of(rows[step * T::per_step], at, dim);
      if constexpr (T::per_step == 2) value |= lanes_of(rows[step * 2 + 1], at, dim) << 16;
      store(to + at, value);
    }
}

// LANES values as they lie, zeros in place of those before `begin` and from `end` on.
template <class T>
void copy_values(const uint32_t* from, long begin, long end, long stride, uint32_t* to) {
  for (long step = 0; step < LANES / T::per_step; step++, from += stride, to += stride) {
    uint32_t kept = 0;
    for (int i = 0; i < T::per_step; i++) {
      const long lane = step * T::per_step + i;
      if (begin <= lane && lane < end) kept |= (T::per_step == 1 ? ~0u : (1u << 32 / T::per_step) - 1) << 32 / T::per_step * i % 32;
    }
    for (long i = 0; i < stride; i++) to[i] = from[i] & kept;
  }
}

// Where one request's keys and values of a tile are found.
template <class T>
class Pages {
  using E = typename T::element;

 public:
  // Words from one step of values to the next.
  static long value_stride(const Attend& a) {
    return a.lanes ? a.v_token / LANES : (a.dim_v + LANES - 1) / LANES * LANES;
  }
  static long steps(const Attend& a) { return (a.dim_k + T::per_step - 1) / T::per_step; }
  static long words(const Attend& a) { return BLOCK * (steps(a) + value_stride(a) / T::per_step); }

  Pages(const Attend& a, uint32_t* memory) : a_(a), keys_(memory), values_(memory + BLOCK * steps(a)) {}

  void begin(const Tile& tile) { tile_ = tile; }

  // Moves to the block from position `at` on, a multiple of BLOCK.
  void seek(long at) {
    at_ = at;
    here_ = find(at);
    next_ = at + BLOCK < tile_.end ? find(at + BLOCK) : here_;
  }

  // That block of key head `head`; valid until the next call.
  void block(long head, Block& keys, Block& values) {
    keys.first = values.first = here_.first;
    keys.end = values.end = here_.end;
    if constexpr (T::scaled) lay(head, keys, values);
    else a_.lanes ? lay(head, keys, values) : pack(head, keys, values);
  }

 private:
  struct Found {
    long first, end;                              // of the tiles of LANES that anybody looks at
    const E *keys[BLOCK_TILES], *values[BLOCK_TILES];  // of head 0
  };

  Found find(long at) const {
    Found found;
    found.first = std::max(tile_.begin - at, 0l) / LANES;
    found.end = (std::min(tile_.end - at, BLOCK) + LANES - 1) / LANES;
    if (!a_.lanes) return found;
    const int32_t* table = a_.block_table + tile_.request * a_.table_row;
    for (long i = 0; i < BLOCK_TILES; i++) {
      const long position = at + LANES * std::clamp(i, found.first, found.end - 1);
      const long page = table[position / a_.block_size], inside = position % a_.block_size / LANES;
      found.keys[i] = static_cast<const E*>(a_.k) + page * a_.k_page + inside * a_.k_token;
      found.values[i] = static_cast<const E*>(a_.v) + page * a_.v_page + inside * a_.v_token;
    }
    return found;
  }

  void lay(long head, Block& keys, Block& values) {
    const bool last = head + 1 == tile_.head + tile_.heads;
    const Found& next = last ? next_ : here_;
    const long then = last ? tile_.head : head + 1;
    for (long i = 0; i < BLOCK_TILES; i++) {
      keys.at[i] = word(here_.keys[i] + head * a_.k_head);
      values.at[i] = word(here_.values[i] + head * a_.v_head);
      keys.next[i] = word(next.keys[i] + then * a_.k_head);
      values.next[i] = word(next.values[i] + then * a_.v_head);
    }
    // A slot nobody has written may hold anything, and nothing times NaN is NaN.
    for (const long i : {here_.first, here_.end - 1}) {
      const long begin = std::max(tile_.begin - at_ - i * LANES, 0l), end = std::min(tile_.end - at_ - i * LANES, LANES);
      if (begin == 0 && end == LANES) continue;
      uint32_t* copy = values_ + i * LANES / T::per_step * value_stride(a_);
      copy_values<T>(word(here_.values[i] + head * a_.v_head), begin, end, value_stride(a_), copy);
      values.at[i] = copy;
    }
  }

  void pack(long head, Block& keys, Block& values) {
    const E *key[BLOCK] = {}, *value[BLOCK] = {}, *next_key[BLOCK] = {}, *next_value[BLOCK] = {};
    rows(at_, head, key, value);
    rows(at_ + BLOCK, head, next_key, next_value);
    const long width = value_stride(a_);
    for (long i = here_.first; i < here_.end; i++) {
      uint32_t *to_keys = keys_ + i * LANES * steps(a_), *to_values = values_ + i * LANES / T::per_step * width;
      pack_keys<T>(key + i * LANES, next_key + i * LANES, a_.dim_k, to_keys);
      pack_values<T>(value + i * LANES, next_value + i * LANES, a_.dim_v, width, to_values);
    }
    for (long i = 0; i < BLOCK_TILES; i++) {
      const long there = std::clamp(i, here_.first, here_.end - 1);
      keys.at[i] = keys.next[i] = keys_ + there * LANES * steps(a_);
      values.at[i] = values.next[i] = values_ + there * LANES / T::per_step * width;
    }
  }

  // Where each key and value of the block from `at` on lies; null where nobody looks.
  void rows(long at, long head, const E** keys, const E** values) const {
    const int32_t* page = a_.block_table + tile_.request * a_.table_row;
    for (long position = std::max(at, tile_.begin); position < std::min(at + BLOCK, tile_.end);) {
      const long start = page[position / a_.block_size], slot = position % a_.block_size;
      const E* key = static_cast<const E*>(a_.k) + start * a_.k_page + head * a_.k_head + slot * a_.k_token;
      const E* value = static_cast<const E*>(a_.v) + start * a_.v_page + head * a_.v_head + slot * a_.v_token;
      const long count = std::min({a_.block_size - slot, at + BLOCK - position, tile_.end - position});
      for (long i = 0; i < count; i++, position++, key += a_.k_token, value += a_.v_token)
        keys[position - at] = key, values[position - at] = value;
    }
  }

  static const uint32_t* word(const E* at) { return reinterpret_cast<const uint32_t*>(at); }

  const Attend& a_;
  uint32_t *keys_, *values_;
  Tile tile_{};
  long at_ = 0;
  Found here_{}, next_{};
};

}  // namespace lathe
