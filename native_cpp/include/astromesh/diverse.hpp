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

// Up to k rows, each the one that is most relevant and least like those before it: trade *
// relevance - (1 - trade) * the largest cosine with one of those. Of equals the lower row comes
// first. There is a relevance for each row; all of them are finite.
inline std::vector<std::size_t> mmr(std::span<const double> relevance,
                                    std::span<const float> rows, std::size_t k, double trade,
                                    Kernel kernel = best_kernel()) {
  const std::size_t count = relevance.size();
  if (count == 0) return {};
  const std::size_t size = rows.size() / count;
  const auto row = [&](std::size_t i) { return rows.data() + i * size; };
  std::vector<double> nearest(count, -std::numeric_limits<double>::infinity());
  std::vector<bool> is_taken(count);
  std::vector<std::size_t> out;
  while (out.size() < std::min(k, count)) {
    std::size_t best = count;
    double most = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (is_taken[i]) continue;
      const double repeats = out.empty() ? 0 : nearest[i];
      const double gain = trade * relevance[i] - (1 - trade) * repeats;
      if (best == count || gain > most) {
        best = i;
        most = gain;
      }
    }
    is_taken[best] = true;
    out.push_back(best);
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
