// Attention over pages as they lie: blocks of keys and values are multiplied like weights, with the softmax taken block
// by block (Milakov and Gimelshein, 2018, https://arxiv.org/abs/1805.02867).

#include "attend.h"

#include <omp.h>

#include <cmath>

#include "api.h"
#include "interleave.h"
#include "pages.h"
#include "products.h"
#include "scratch.h"
#include "sums.h"
#include "team.h"

namespace lathe {
namespace {

// Rows cut into pieces of nearly equal size, at most as many as one product takes.
template <class T>
struct Pieces {
  long rows, count;
  explicit Pieces(long rows) : rows(rows), count((rows + most_rows<T>() - 1) / most_rows<T>()) {}
  long start(long piece) const { return piece * rows / count; }
  int size(long piece) const { return static_cast<int>(start(piece + 1) - start(piece)); }
};

// What one thread works with. `E` is the type of queries and outputs.
template <class T, class E>
class Worker {
 public:
  // `rows`: the most that a tile has over all its heads.
  Worker(const Attend& a, long rows, Scratch& memory)
      : a_(a), steps_(Pages<T>::steps(a)), row_words_(steps_ * T::planes * T::words), width_((a.dim_v + LANES - 1) / LANES * LANES),
        pages_(a, memory.room<uint32_t>(Pages<T>::words(a) + rows * (row_words_ + 2) + ROWS * (2 * BLOCK + 1) + BLOCK + 2 * Sums::words(rows, width_))) {
    uint32_t* at = memory.room<uint32_t>(0) + Pages<T>::words(a);
    queries_ = at, at += rows * row_words_;
    scores_ = reinterpret_cast<float*>(at), at += ROWS * BLOCK;
    weights_ = at, at += ROWS * BLOCK;
    unit_ = reinterpret_cast<float*>(at), at += ROWS;
    value_scales_ = reinterpret_cast<float*>(at), at += BLOCK;
    query_scales_ = reinterpret_cast<float*>(at), at += rows;
    offset_ = reinterpret_cast<int32_t*>(at), at += rows;
    part_ = reinterpret_cast<float*>(at);
    all_ = reinterpret_cast<float*>(at) + Sums::words(rows, width_);
  }

  long width() const { return width_; }

  void begin(const Tile& tile) {
    tile_ = tile;
    pages_.begin(tile);
    const Pieces<T> pieces(tile.rows);
    for (long head = 0; head < tile.heads; head++)
      for (long piece = 0; piece < pieces.count; piece++) take(head, pieces.start(piece), pieces.size(piece));
  }

  // All parts of the tile, with what comes of them.
  void run(const Tile& tile) {
    begin(tile);
    const long rows = tile.heads * tile.rows;
    Sums part(part_, rows, width_), all(all_, rows, width_);
    if (tile.parts() == 1) {
      add_part(0, part);
      return finish(part);
    }
    all.clear(rows);
    for (long index = 0; index < tile.parts(); index++) {
      add_part(index, part);
      all.merge(part, rows);
    }
    finish(all);
  }

  // The sums over part number `index` of the keys.
  void add_part(long index, Sums& sums) {
    sums.clear(tile_.heads * tile_.rows);
    const long start = (tile_.begin / PART + index) * PART, end = std::min(start + PART, tile_.end);
    for (long at = std::max(start, tile_.begin / BLOCK * BLOCK); at < end; at += BLOCK) {
      pages_.seek(at);
      for (long head = 0; head < tile_.heads; head++) block(head, at, sums.from(head * tile_.rows));
    }
  }

  void merge(const Tile& tile, const Unit* units, float* memory) {
    tile_ = tile;
    const long rows = tile.heads * tile.rows;
    Sums all(all_, rows, width_);
    all.clear(rows);
    for (long part = 0; part < tile.parts(); part++) all.merge(sums_of(memory, units[part].sums, rows), rows);
    finish(all);
  }

  Sums sums_of(float* memory, long first, long rows) const { return Sums(memory + Sums::words(first, width_), rows, width_); }

 private:
  long token(long row) const { return a_.query_start[tile_.request] + (tile_.row + row) / a_.group(); }
  long head_of(long head, long row) const { return (tile_.head + head) * a_.group() + (tile_.row + row) % a_.group(); }

  const E* query(long head, long row) const {
    return static_cast<const E*>(a_.q) + token(row) * a_.q_token + head_of(head, row) * a_.q_head;
  }

  // `count` query rows from `first` on, step by step side by side.
  void take(long head, long first, int count) {
    uint32_t* to = queries_ + (head * tile_.rows + first) * row_words_;
    if constexpr (T::scaled) {
      for (int row = 0; row < count; row++)
        take_scaled(query(head, first + row), head * tile_.rows + first + row, row, count, to);
    } else {
      interleave<T>([&](int row) { return query(head, first + row); }, a_.dim_k, count, to);
    }
  }

  // One row for keys in int8, the `at`-th of `count`.
  void take_scaled(const E* from, long row, long at, int count, uint32_t* to) {
    if constexpr (T::planes == 2) {
      halve(from, row, to + 2 * at, 2 * count);
    } else {
      for (long step = 0; step < steps_; step++)
        for (long i = 0; i < T::per_step; i++)
          store(to + (step * count + at) * T::words + i, single(from[step * T::per_step + i]));
    }
  }

  // A row as whole numbers of two bytes, the high ones before the low ones, `stride` words from step to step.
  void halve(const E* from, long row, uint32_t* to, long stride) {
    float most = 0;
    for (long i = 0; i < a_.dim_k; i++) most = std::fmax(most, std::fabs(single(from[i])));
    const float limit = 127 * T::HIGH, inverse = most > 0 ? limit / most : 0.f;
    int32_t total = 0;
    for (long step = 0; step < steps_; step++, to += stride) {
      int8_t high[T::per_step], low[T::per_step];
      for (int i = 0; i < T::per_step; i++) {
        const int whole = static_cast<int>(std::rint(single(from[step * T::per_step + i]) * inverse));
        const int above = (whole + T::HIGH / 2) >> 7;
        high[i] = static_cast<int8_t>(above), low[i] = static_cast<int8_t>(whole - above * T::HIGH);
        total += whole;
      }
      std::memcpy(to, high, 4), std::memcpy(to + 1, low, 4);
    }
    query_scales_[row] = most / limit;
    offset_[row] = total * 128;
  }

  static float single(float x) { return x; }
  static float single(bf16 x) {
    const uint32_t bits = static_cast<uint32_t>(x) << 16;
    return load<float>(&bits);
  }

  void block(long head, long at, Sums sums) {
    Block keys, values;
    pages_.block(tile_.head + head, keys, values);
    const Pieces<T> pieces(tile_.rows);
    constexpr auto rows = std::make_integer_sequence<int, most_rows<T>()>{};
    for (long p = 0; p < pieces.count; p++) {
      const long first = pieces.start(p);
      score_rows<T>(pieces.size(p), queries_ + (head * tile_.rows + first) * row_words_, keys, steps_,
                    offset_ + head * tile_.rows + first, scores_ + first * BLOCK, rows);
      keys.fetched();
    }
    if constexpr (T::scaled)
      for (long i = values.first * 4; i < values.end * 4; i++)
        scales_of_four(values.at[i / 4] + i % 4 * Pages<T>::value_stride(a_) + a_.dim_v, value_scales_ + 4 * i);
    for (long row = 0; row < tile_.rows; row++) soften(head, row, at, keys, sums);
    for (long p = 0; p < pieces.count; p++) {
      const long first = pieces.start(p);
      mix_rows<T>(pieces.size(p), weights_ + first * T::planes * T::weight_words, values, Pages<T>::value_stride(a_),
                  sums.from(first), unit_ + first, rows);
      values.fetched();
    }
  }

  // Scores of one row at positions from `at` on -> weights, with what that does to the sums so far.
  void soften(long head, long row, long at, const Block& keys, Sums& sums) {
    const Sight seen = sight(a_, tile_.request, tile_.row + row);
    const long begin = keys.first * LANES, end = keys.end * LANES;
    float* scores = scores_ + row * BLOCK;
    const bool whole = seen.first <= at + begin && at + end - 1 <= seen.last;
    const float cap = static_cast<float>(a_.soft_cap);
    const float scale = static_cast<float>(a_.scale) * (T::planes == 2 ? query_scales_[head * tile_.rows + row] : 1.f);
    const vi lane = iota();
    vf most = splat(-INFINITY);
    for (long i = begin; i < end; i += W) {
      vf score = load<vf>(scores + i) * scale;
      if constexpr (T::scaled) score = score * load<vf>(keys.at[i / LANES] + steps_ * LANES + i % LANES);
      if (cap != 0.f) score = cap * tanh(score / cap);
      if (!whole) {
        const vi position = lane + static_cast<int>(at + i);
        score = (position >= static_cast<int>(seen.first)) & (position <= static_cast<int>(seen.last)) ? score : splat(-INFINITY);
      }
      store(scores + i, score);
      most = max(most, score);
    }
    const float reference = sums.raise(row, greatest(most));
    uint32_t* weights = weights_ + row * T::planes * T::weight_words;
    vf total{}, heaviest{};
    for (long i = begin; i < end; i += W) {
      vf weight = reference == -INFINITY ? vf{} : exp(load<vf>(scores + i) - reference);
      total += weight;
      if constexpr (T::scaled) weight = weight * load<vf>(value_scales_ + i);
      if constexpr (T::planes == 2) store(scores + i, weight), heaviest = max(heaviest, weight);
      else write(reinterpret_cast<typename T::weight*>(weights) + i, weight);
    }
    sums.weigh(row, total);
    if constexpr (T::planes == 2) unit_[row] = halve_weights(scores, begin, end, greatest(heaviest), weights);
  }

  // Weights up to `most` as whole numbers of two bytes, the high ones before the low ones; answers what one stands for.
  static float halve_weights(const float* from, long begin, long end, float most, uint32_t* to) {
    typedef uint8_t narrow __attribute__((vector_size(W)));
    uint8_t *high = reinterpret_cast<uint8_t*>(to), *low = high + BLOCK;
    const float inverse = most > 0 ? 65535.f / most : 0.f;
    for (long i = begin; i < end; i += W) {
      const vi whole = __builtin_convertvector(load<vf>(from + i) * inverse + 0.5f, vi);
      store(high + i, __builtin_convertvector(whole >> 8, narrow));
      store(low + i, __builtin_convertvector(whole & 255, narrow));
    }
    return most / 65535.f;
  }

  void finish(const Sums& sums) const {
    for (long head = 0; head < tile_.heads; head++)
      for (long row = 0; row < tile_.rows; row++) {
        const long to = head_of(head, row), at = token(row) * a_.heads + to;
        const float lse = sums.finish(head * tile_.rows + row, a_.sinks ? a_.sinks + to : nullptr,
                                      static_cast<E*>(a_.out) + at * a_.dim_v, a_.dim_v);
        if (a_.lse) a_.lse[at] = lse;
      }
  }

  const Attend& a_;
  const long steps_, row_words_, width_;
  Pages<T> pages_;
  Tile tile_{};
  uint32_t *queries_, *weights_;
  float *scores_, *unit_, *value_scales_, *query_scales_, *part_, *all_;
  int32_t* offset_;
};

template <class T, class E>
void attend(const Attend& a) {
  static thread_local Work kept;
  static thread_local Scratch memory, shared;
  Work* work;
#pragma omp single copyprivate(work)
  {
    work = &kept;
    work->cut(a, omp_get_num_threads());
  }
  Worker<T, E> worker(a, work->most_rows, memory);
  float* sums = work->split.empty() ? nullptr : shared_room<float>(shared, Sums::words(work->sums, worker.width()));
#pragma omp for schedule(dynamic, 1) nowait
  for (std::size_t u = 0; u < work->units.size(); u++) {
    const Unit& unit = work->units[u];
    const Tile& tile = work->tiles[unit.tile];
    if (unit.parts == tile.parts()) {
      worker.run(tile);
    } else {
      worker.begin(tile);
      Sums part = worker.sums_of(sums, unit.sums, tile.heads * tile.rows);
      worker.add_part(unit.part, part);
    }
  }
  if (work->split.empty()) return;
#pragma omp barrier
#pragma omp for schedule(dynamic, 1) nowait
  for (std::size_t u = 0; u < work->split.size(); u++)
    if (work->split[u].part == 0) worker.merge(work->tiles[work->split[u].tile], &work->split[u], sums);
}

}  // namespace

LATHE_API void attend_bfloat16(const Attend* a) { attend<Plain<BFloat16>, bf16>(*a); }
LATHE_API void attend_float32(const Attend* a) { attend<Plain<Float32>, float>(*a); }
LATHE_API void attend_int8_bfloat16(const Attend* a) { attend<Int8, bf16>(*a); }
LATHE_API void attend_int8_float32(const Attend* a) { attend<Int8, float>(*a); }

}  // namespace lathe
