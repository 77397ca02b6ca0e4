// Attention over paged keys and values: what is asked for, and how the work is cut.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace lathe {

// Keys that lie side by side in pages of the layout `lanes`.
constexpr long LANES = 16;
// Keys that are multiplied, and whose softmax is taken, at once.
constexpr long BLOCK = 64;
constexpr long BLOCK_TILES = BLOCK / LANES;
// Keys that are summed up on their own before the sums of all parts are merged, in order. Parts begin at multiples of
// this, whoever computes them: what a query gets depends on nothing but its own keys.
constexpr long PART = 256;
// Query rows that share keys in one piece of work, and how many are so few that it takes all heads of its pages.
constexpr long ROWS = 48;
constexpr long FEW_ROWS = 16;
// Pieces of work for each thread, so that all are done at about the same time.
constexpr long UNITS_PER_THREAD = 4;

// Strides are in elements; `window` and `soft_cap` are 0 for none, `lse` and `sinks` null. In pages of the layout
// `lanes` the strides of tokens are those of LANES tokens.
struct Attend {
  const void *q, *k, *v;
  void* out;             // [tokens, heads, dim_v]
  float* lse;            // [tokens, heads]
  const float* sinks;    // [heads]
  const int32_t *query_start, *seq_lens, *block_table;
  int64_t q_token, q_head, k_page, k_head, k_token, v_page, v_head, v_token, table_row;
  int64_t requests, heads, kv_heads, dim_k, dim_v, block_size, lanes, causal, window;
  double scale, soft_cap;

  long group() const { return heads / kv_heads; }
};

// Some queries of one request, with all query heads of some key heads: for each of these rows `row` to `row + rows` of
// [queries, group], flattened; and the keys, `begin` to `end`, that any of them sees.
struct Tile {
  long request, head, heads, row, rows, begin, end;

  long parts() const { return end > begin ? (end - 1) / PART - begin / PART + 1 : 0; }
};

// Some parts of a tile's keys. Where those are not all, their sums lie at `sums`, counted in rows of sums.
struct Unit {
  long tile, part, parts, sums;
};

// Positions that one row sees: `first` to `last`, both included.
struct Sight {
  long first, last;
};

inline Sight sight(const Attend& a, long request, long row) {
  const long queries = a.query_start[request + 1] - a.query_start[request], length = a.seq_lens[request];
  const long last = a.causal ? length - queries + row / a.group() : length - 1;
  return {a.window ? std::max<long>(0, last - a.window + 1) : 0, last};
}

// The work of a step: units with most work first, so that no thread begins a long one at the end. Those of a tile that
// is shared out follow one another in `split`, in the order in which their sums are merged.
struct Work {
  std::vector<Tile> tiles;
  std::vector<Unit> units, split;
  long most_rows, sums;

  void cut(const Attend& a, long threads) {
    tiles.clear(), units.clear(), split.clear();
    most_rows = sums = 0;
    const long heads = heads_of_few(a, threads);
    for (long request = 0; request < a.requests; request++) {
      const long rows = rows_of(a, request);
      if (rows <= FEW_ROWS) {
        for (long head = 0; rows && head < a.kv_heads; head += heads)
          add(a, request, head, std::min(heads, a.kv_heads - head), 0, rows);
      } else {
        for (long row = 0; row < rows; row += ROWS)
          for (long head = 0; head < a.kv_heads; head++) add(a, request, head, 1, row, std::min(ROWS, rows - row));
      }
    }
    const bool scarce = static_cast<long>(tiles.size()) < UNITS_PER_THREAD * threads;
    for (long t = 0; t < static_cast<long>(tiles.size()); t++) share_out(t, threads > 1 && (scarce || tiles[t].rows <= FEW_ROWS));
    std::stable_sort(units.begin(), units.end(), [this](const Unit& one, const Unit& other) { return cost(one) > cost(other); });
  }

 private:
  static long rows_of(const Attend& a, long request) {
    return (a.query_start[request + 1] - a.query_start[request]) * a.group();
  }

  // Key heads that requests of few queries take at once: all of them, unless that would leave threads idle.
  static long heads_of_few(const Attend& a, long threads) {
    long parts = 0;
    for (long request = 0; request < a.requests && parts < UNITS_PER_THREAD * threads; request++) {
      const long rows = rows_of(a, request);
      if (rows && rows <= FEW_ROWS)
        parts += (a.seq_lens[request] - 1) / PART - sight(a, request, 0).first / PART + 1;
    }
    return threads == 1 ? a.kv_heads : std::clamp(a.kv_heads * parts / (UNITS_PER_THREAD * threads), 1l, static_cast<long>(a.kv_heads));
  }

  void add(const Attend& a, long request, long head, long heads, long row, long rows) {
    tiles.push_back({request, head, heads, row, rows, sight(a, request, row).first, sight(a, request, row + rows - 1).last + 1});
    most_rows = std::max(most_rows, heads * rows);
  }

  void share_out(long t, bool parts) {
    const Tile& tile = tiles[t];
    if (!parts || tile.parts() < 2) return units.push_back({t, 0, tile.parts(), 0});
    for (long part = 0; part < tile.parts(); part++, sums += tile.heads * tile.rows) {
      units.push_back({t, part, 1, sums});
      split.push_back(units.back());
    }
  }

  long cost(const Unit& unit) const {
    const Tile& tile = tiles[unit.tile];
    return tile.heads * tile.rows * std::min(unit.parts * PART, tile.end - tile.begin);
  }
};

}  // namespace lathe
