// What the memory gives to readers: GB/s of THREADS threads that sum 1 GiB, the median of nine passes.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <thread>
#include <vector>

constexpr size_t kBytes = size_t{1} << 30, kLanes = 64, kPasses = 9;

static uint64_t sum(const uint64_t* data, size_t count) {
  uint64_t lanes[kLanes] = {};
  for (size_t i = 0; i < count; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += data[i + lane];
  uint64_t total = 0;
  for (uint64_t lane : lanes) total += lane;
  return total;
}

int main(int, char** argv) {
  const size_t threads = std::strtoul(argv[1], nullptr, 10), words = kBytes / sizeof(uint64_t);
  auto* data = static_cast<uint64_t*>(std::aligned_alloc(size_t{1} << 21, kBytes));
  madvise(data, kBytes, MADV_HUGEPAGE);
  std::fill_n(data, words, uint64_t{1});
  std::vector<double> rates;
  volatile uint64_t sink = 0;
  for (size_t pass = 0; pass < kPasses; ++pass) {
    const auto started = std::chrono::steady_clock::now();
    std::vector<uint64_t> totals(threads);
    std::vector<std::thread> readers;
    const size_t share = words / threads / kLanes * kLanes;
    for (size_t i = 0; i < threads; ++i)
      readers.emplace_back([&, i] { totals[i] = sum(data + i * share, share); });
    for (auto& reader : readers) reader.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
    for (uint64_t total : totals) sink = sink + total;
    rates.push_back(double(threads * share * sizeof(uint64_t)) / seconds.count() / 1e9);
  }
  std::sort(rates.begin(), rates.end());
  std::printf("%.2f\n", rates[kPasses / 2]);
}
