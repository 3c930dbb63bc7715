#pragma once
// Ranking of vectors by cosine similarity. Knows nothing of Python.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "astromesh/sums.hpp"

namespace astromesh {

struct Hit {
  std::size_t row;
  double score;
};

// The order of an answer: the higher score first; of equals the lower row.
inline bool comes_first(const Hit& a, const Hit& b) {
  return a.score != b.score ? a.score > b.score : a.row < b.row;
}

// The best `k` of the hits shown to it. A heap with the worst kept hit on top, so that most
// hits cost one comparison and memory never exceeds k.
class Best {
 public:
  // `k` must not be 0.
  explicit Best(std::size_t k) : k_(k) { kept_.reserve(k); }

  // Hits must come in the order of their rows: that is what lets a tie be dropped at once.
  void show(const Hit& hit) {
    if (kept_.size() == k_) {
      if (hit.score <= kept_.front().score) return;
      std::pop_heap(kept_.begin(), kept_.end(), comes_first);
      kept_.back() = hit;
    } else {
      kept_.push_back(hit);
    }
    std::push_heap(kept_.begin(), kept_.end(), comes_first);
  }

  // A score that no better hit may fall short of.
  double worst() const {
    return kept_.size() == k_ ? kept_.front().score : -std::numeric_limits<double>::infinity();
  }

  std::vector<Hit> in_order() && {
    std::sort_heap(kept_.begin(), kept_.end(), comes_first);
    return std::move(kept_);
  }

 private:
  std::size_t k_;
  std::vector<Hit> kept_;
};

// The cosine within [-1, 1]; 0 for a row without a direction (all zeros, or a NaN or an
// infinity in it). `length` is that of `query`, which must be finite.
inline double cosine(const float* query, double length, const float* row, std::size_t size,
                     Kernel kernel) {
  Sums sums = kernel(query, row, size);
  // Rare: a very long or very short row, zeros, NaN. Done again where floats don't suffice.
  if (!is_safe(sums.squares)) sums = sums_double(query, row, size);
  if (!std::isfinite(sums.squares)) return 0;
  const double norms = length * std::sqrt(sums.squares);
  return norms == 0 ? 0 : std::clamp(sums.dot / norms, -1.0, 1.0);
}

// The k rows most like `query`, best first; of equals the lower row comes first.
// Requires rows.size() to be a multiple of query.size(), and query not empty and finite.
inline std::vector<Hit> rank(std::span<const float> query, std::span<const float> rows,
                             std::size_t k, Kernel kernel = best_kernel()) {
  const std::size_t size = query.size();
  const std::size_t count = rows.size() / size;
  k = std::min(k, count);
  if (k == 0) return {};

  const double squares = sums_double(query.data(), query.data(), size).squares;
  if (!is_safe(squares)) kernel = sums_double;
  const double length = std::sqrt(squares);
  Best best{k};
  for (std::size_t row = 0; row < count; ++row)
    best.show({row, cosine(query.data(), length, rows.data() + row * size, size, kernel)});
  return std::move(best).in_order();
}

}  // namespace astromesh
