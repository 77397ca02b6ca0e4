// What is known of some queries' softmax after some of their keys: per row the greatest score, the sum of the weights
// relative to it, and the weighted sum of the values.
#pragma once

#include <cmath>

#include "vec.h"

namespace lathe {

class Sums {
 public:
  Sums() = default;
  // `width`: elements of a value, filled up to whole vectors.
  Sums(float* memory, long rows, long width)
      : values_(memory), total_(memory + rows * width), greatest_(total_ + rows * W), factor_(greatest_ + rows), width_(width) {}
  static long words(long rows, long width) { return rows * (width + 2 * W); }

  // These rows from `row` on.
  Sums from(long row) const {
    Sums part = *this;
    part.values_ += row * width_, part.total_ += row * W, part.greatest_ += row, part.factor_ += row;
    return part;
  }

  void clear(long rows) {
    for (long row = 0; row < rows; row++) greatest_[row] = -INFINITY, factor_[row] = 1;
    std::memset(total_, 0, rows * W * sizeof(float));
    std::memset(values_, 0, rows * width_ * sizeof(float));
  }

  // Scores up to `score` come: what was summed so far counts relative to them. Answers the greatest of all.
  float raise(long row, float score) {
    const float most = std::fmax(greatest_[row], score);
    factor_[row] = most == greatest_[row] ? 1.f : std::exp(greatest_[row] - most);
    return greatest_[row] = most;
  }

  // Weights relative to that come in; each lane has a total of its own.
  void weigh(long row, vf weights) { store(total_ + row * W, load<vf>(total_ + row * W) * factor_[row] + weights); }

  float* values(long row) { return values_ + row * width_; }
  long width() const { return width_; }
  float factor(long row) const { return factor_[row]; }

  // Takes the sums over further keys into these (Ye et al., 2024, https://arxiv.org/abs/2501.01005, section 2.2).
  __attribute__((noinline)) void merge(const Sums& other, long rows) {
    for (long row = 0; row < rows; row++) {
      const float before = greatest_[row];
      const float most = raise(row, other.greatest_[row]);
      if (other.greatest_[row] == -INFINITY) continue;
      const float theirs = other.greatest_[row] == most ? 1.f : std::exp(other.greatest_[row] - most);
      const float ours = before == -INFINITY ? 0.f : factor_[row];
      add(total_ + row * W, ours, other.total_ + row * W, theirs, W);
      add(values_ + row * width_, ours, other.values_ + row * width_, theirs, width_);
    }
  }

  // Writes the values over the total, a sink's share included, and answers the logarithm of the total.
  template <class E>
  float finish(long row, const float* sink, E* to, long dim) const {
    const float most = sink ? std::fmax(greatest_[row], *sink) : greatest_[row];
    const float factor = greatest_[row] == -INFINITY ? 0.f : std::exp(greatest_[row] - most);
    const float total = sum(load<vf>(total_ + row * W)) * factor + (sink ? std::exp(*sink - most) : 0.f);
    const float share = total > 0 ? factor / total : 0.f;
    for (long i = 0; i < dim; i += W) {
      const vf value = load<vf>(values_ + row * width_ + i) * share;
      if (dim - i >= W) write(to + i, value);
      else write(to + i, value, dim - i);
    }
    return total > 0 ? most + std::log(total) : -INFINITY;
  }

 private:
  static void add(float* to, float ours, const float* from, float theirs, long count) {
    for (long i = 0; i < count; i += W) store(to + i, load<vf>(to + i) * ours + load<vf>(from + i) * theirs);
  }

  float *values_ = nullptr, *total_ = nullptr, *greatest_ = nullptr, *factor_ = nullptr;
  long width_ = 0;
};

}  // namespace lathe
