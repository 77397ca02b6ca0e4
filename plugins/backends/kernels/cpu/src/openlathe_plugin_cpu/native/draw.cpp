// Draws a token of each row from what temperature, min-p, top-k and top-p leave. A row is one thread's work.
//
// Tokens have weights, which are their probabilities in parts of the best one's, and whatever narrows the choice is a
// least weight. So nothing is sorted: the k best tokens lie in the k blocks with the best maxima, and the least weight of
// a top-p is found by halving, because floats that are not negative have the order of their bits.

#include <algorithm>
#include <cmath>
#include <limits>

#include "api.h"
#include "team.h"
#include "vec.h"

namespace lathe {

// scores are [rows, vocabulary], rows `stride` apart, elements of `bytes`; everything else has an entry a row. Top-k 0,
// top-p 1 and min-p 0 leave everything.
struct Draw {
  const void* scores;
  const float* temperature;
  const int64_t* top_k;
  const double *top_p, *min_p, *uniform;
  int64_t* tokens;
  int64_t bytes, stride, rows, vocabulary;
};

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Tokens whose greatest score is kept in mind.
constexpr long kBlock = 128;
// Weights that are summed in float32, four vectors at a time.
constexpr long kChunk = 1024;
static_assert(kBlock % W == 0 && kChunk % (4 * W) == 0);

// Those of one thread, for one row after the other.
struct Room {
  Scratch weights, tokens, maxima, ranked;
};

// Weights in the order of the vocabulary, zeros behind them up to a whole chunk. `tokens` says whose they are; null stands
// for all tokens.
struct Candidates {
  float* weights;
  const int32_t* tokens;
  long count;
  long token(long index) const { return tokens ? tokens[index] : index; }
};

inline long chunks(long count) { return (count + kChunk - 1) / kChunk; }

inline float as_float(uint32_t bits) { return load<float>(&bits); }
inline uint32_t as_bits(float value) { return load<uint32_t>(&value); }
inline float score_of(const float* from) { return *from; }
inline float score_of(const bf16* from) { return as_float(static_cast<uint32_t>(*from) << 16); }

// The greatest score of each block; returns the greatest of all. What is not a number counts as nothing.
template <class E>
float block_maxima(const E* scores, long count, float* maxima) {
  float best = -kInfinity;
  for (long begin = 0; begin < count; begin += kBlock) {
    const long end = std::min(begin + kBlock, count);
    vf most = splat(-kInfinity);
    long i = begin;
    for (; i + W <= end; i += W) {
      const vf score = read(scores + i);
      most = score > most ? score : most;
    }
    float greatest_here = greatest(most);
    for (; i < end; i++) greatest_here = std::max(greatest_here, score_of(scores + i));
    maxima[begin / kBlock] = greatest_here;
    best = std::max(best, greatest_here);
  }
  return best;
}

float kth_greatest(const float* values, long count, long k, Scratch& ranked) {
  float* copy = ranked.room<float>(count);
  std::copy(values, values + count, copy);
  std::nth_element(copy, copy + (k - 1), copy + count, [](float a, float b) { return a > b; });
  return copy[k - 1];
}

// Scores become weights.
template <class E>
void weigh(const E* scores, long count, float best, float temperature, float* weights) {
  for (long i = 0; i < count; i += W) {
    const vf score = i + W <= count ? read(scores + i) : read(scores + i, count - i);
    const vf weight = exp((score - best) / temperature);
    write(weights + i, weight == weight ? weight : vf{});
  }
  std::fill(weights + count, weights + chunks(count) * kChunk, 0.f);
}

template <class E>
Candidates all_tokens(const E* scores, long count, float best, float temperature, Room& room) {
  float* weights = room.weights.room<float>(chunks(count) * kChunk);
  weigh(scores, count, best, temperature, weights);
  return {weights, nullptr, count};
}

// The k best tokens are among these, and there are few others.
template <class E>
Candidates best_tokens(const E* scores, long count, long k, const float* maxima, float best, float temperature, Room& room) {
  const long blocks = (count + kBlock - 1) / kBlock;
  const float least_of_all = std::numeric_limits<float>::lowest();
  const float least = k <= blocks ? std::max(kth_greatest(maxima, blocks, k, room.ranked), least_of_all) : least_of_all;
  float* weights = room.weights.room<float>(chunks(count) * kChunk);
  int32_t* tokens = room.tokens.room<int32_t>(count);
  long found = 0;
  for (long block = 0; block < blocks; block++) {
    if (!(maxima[block] >= least)) continue;
    for (long i = block * kBlock; i < std::min((block + 1) * kBlock, count); i++) {
      const float score = score_of(scores + i);
      weights[found] = score, tokens[found] = static_cast<int32_t>(i);
      found += score >= least;
    }
  }
  weigh(weights, found, best, temperature, weights);
  return {weights, tokens, found};
}

// The sum of those weights of a chunk that are not below the least.
float mass_of_chunk(const float* weights, float least) {
  vf sums[4] = {};
  for (long i = 0; i < kChunk; i += 4 * W)
    for (int part = 0; part < 4; part++) {
      const vf weight = read(weights + i + part * W);
      sums[part] += weight >= least ? weight : vf{};
    }
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

double mass(const Candidates& all, float least) {
  double total = 0;
  for (long i = 0; i < all.count; i += kChunk) total += mass_of_chunk(all.weights + i, least);
  return total;
}

// The greatest weight such that weights from it upwards make up `wanted`, which those from `least` upwards do.
float reach(const Candidates& all, float least, double wanted) {
  uint32_t low = as_bits(least), high = as_bits(1.f) + 1;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    (mass(all, as_float(middle)) >= wanted ? low : high) = middle;
  }
  return as_float(low);
}

// The token at which the weights' sum passes the number's share of it.
long invert(const Candidates& all, float least, double uniform) {
  const double total = mass(all, least), target = std::min(uniform * total, std::nextafter(total, 0.));
  double passed = 0;
  long last = 0;
  for (long begin = 0; begin < all.count; begin += kChunk) {
    const double here = mass_of_chunk(all.weights + begin, least);
    if (!(passed + here > target)) {
      passed += here;
      continue;
    }
    for (long i = begin; i < std::min(begin + kChunk, all.count); i++) {
      const float weight = all.weights[i];
      if (!(weight >= least && weight > 0)) continue;
      passed += weight, last = i;
      if (passed > target) break;
    }
    break;  // where the chunk's sum was rounded up, its last token is the one
  }
  return all.token(last);
}

template <class E>
long draw_row(const Draw& a, long row, Room& room) {
  const E* scores = static_cast<const E*>(a.scores) + row * a.stride;
  const long count = a.vocabulary, k = a.top_k[row];
  const float temperature = a.temperature[row];
  float* maxima = room.maxima.room<float>((count + kBlock - 1) / kBlock);
  const float best = block_maxima(scores, count, maxima);
  if (!std::isfinite(best)) {  // nothing to choose from, or no choice
    for (long i = 0; i < count; i++)
      if (score_of(scores + i) == best) return i;
    return 0;
  }
  const Candidates all = k ? best_tokens(scores, count, k, maxima, best, temperature, room)
                           : all_tokens(scores, count, best, temperature, room);
  float least = static_cast<float>(a.min_p[row]);
  if (k && k < all.count) least = std::max(least, kth_greatest(all.weights, all.count, k, room.ranked));
  if (a.top_p[row] < 1) least = reach(all, least, a.top_p[row] * mass(all, least));
  return invert(all, least, a.uniform[row]);
}

template <class E>
void draw(const Draw& a) {
  static thread_local Room room;
#pragma omp for schedule(dynamic) nowait
  for (long row = 0; row < a.rows; row++) a.tokens[row] = draw_row<E>(a, row, room);
}

}  // namespace

LATHE_API void draw(const Draw* a) {
  if (a->bytes == sizeof(float)) draw<float>(*a);
  else draw<bf16>(*a);
}

}  // namespace lathe
