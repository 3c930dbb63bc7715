#pragma once
// What needs rows compared with one another: maximal marginal relevance, and neighbours. Knows
// nothing of Python. Meaning: servers/kernel/native/diverse.py.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "astromesh/rank.hpp"
#include "astromesh/sums.hpp"

namespace astromesh {

inline double length_of(const float* row, std::size_t size, Kernel kernel) {
  const double squares = kernel(row, row, size).squares;
  return std::sqrt(is_safe(squares) ? squares : sums_double(row, row, size).squares);
}

// Of two rows, of which one's length is known. A row that isn't finite is like nothing.
inline double cosine_of(const float* a, double length, const float* b, std::size_t size,
                        Kernel kernel) {
  if (!std::isfinite(length)) return 0;
  return cosine(a, length, b, size, is_safe(length * length) ? kernel : sums_double);
}

// Up to k rows, each the one that is most like the query and least like those before it:
// trade * cosine with the query - (1 - trade) * the largest cosine with one of those. Of equals
// the lower row comes first. Scores are the cosines with the query, which must be finite.
inline std::vector<Hit> mmr(std::span<const float> query, std::span<const float> rows,
                            std::size_t k, double trade, Kernel kernel = best_kernel()) {
  const std::size_t size = query.size(), count = rows.size() / size;
  const auto row = [&](std::size_t i) { return rows.data() + i * size; };
  std::vector<double> like, nearest(count, -std::numeric_limits<double>::infinity());
  std::vector<bool> is_taken(count);
  const double length = length_of(query.data(), size, kernel);
  for (std::size_t i = 0; i < count; ++i)
    like.push_back(cosine_of(query.data(), length, row(i), size, kernel));
  std::vector<Hit> out;
  while (out.size() < std::min(k, count)) {
    std::size_t best = count;
    double most = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (is_taken[i]) continue;
      const double repeats = out.empty() ? 0 : nearest[i];
      const double gain = trade * like[i] - (1 - trade) * repeats;
      if (best == count || gain > most) {
        best = i;
        most = gain;
      }
    }
    is_taken[best] = true;
    out.push_back({best, like[best]});
    const double own = length_of(row(best), size, kernel);
    for (std::size_t i = 0; i < count; ++i)
      if (!is_taken[i])
        nearest[i] = std::max(nearest[i], cosine_of(row(best), own, row(i), size, kernel));
  }
  return out;
}

// The cosine of each row with the next.
inline std::vector<double> neighbours(std::span<const float> rows, std::size_t size,
                                      Kernel kernel = best_kernel()) {
  std::vector<double> out;
  for (std::size_t at = 0; at + 2 * size <= rows.size(); at += size)
    out.push_back(cosine_of(rows.data() + at, length_of(rows.data() + at, size, kernel),
                            rows.data() + at + size, size, kernel));
  return out;
}

}  // namespace astromesh
