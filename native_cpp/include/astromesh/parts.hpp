#pragma once
// A search whose rows are shared out among threads. Knows nothing of Python.

#include <algorithm>
#include <cstddef>
#include <future>
#include <utility>
#include <vector>

#include "astromesh/nearest.hpp"

namespace astromesh {

inline constexpr std::size_t kLeastPart = std::size_t{1} << 20;  // bytes that are worth a thread

// The k rows nearest to each query, best first; of equals the lower row comes first. `threads`
// is how many may work at most, this one among them: the answer is the same with any number.
template <typename Rows>
std::vector<std::vector<Hit>> nearest(const Rows& rows, std::size_t queries, std::size_t k,
                                      Metric metric, std::size_t threads = 1,
                                      std::size_t least_part = kLeastPart) {
  std::vector<std::vector<Hit>> out(queries);
  const std::size_t count = rows.count();
  k = std::min(k, count);
  if (k == 0 || queries == 0) return out;

  const std::size_t worth = count * rows.bytes() / least_part;
  const std::size_t parts = std::clamp<std::size_t>(std::min(threads, worth), 1, count);
  const auto part = [&](std::size_t i) {
    return nearest_of(rows, count * i / parts, count * (i + 1) / parts, queries, k, metric);
  };
  // Where no thread can be had, its part is done here, when it is asked for.
  std::vector<std::future<std::vector<Best>>> others;
  for (std::size_t i = 1; i < parts; ++i)
    others.push_back(std::async(std::launch::async | std::launch::deferred, part, i));

  const auto take = [&](std::vector<Best> found) {
    for (std::size_t i = 0; i < queries; ++i) {
      const std::vector<Hit> best = std::move(found[i]).in_order();
      out[i].insert(out[i].end(), best.begin(), best.end());
    }
  };
  take(part(0));
  for (auto& each : others) take(each.get());
  if (parts == 1) return out;
  for (std::vector<Hit>& hits : out) {
    std::ranges::sort(hits, comes_first);
    hits.resize(k);
  }
  return out;
}

}  // namespace astromesh
