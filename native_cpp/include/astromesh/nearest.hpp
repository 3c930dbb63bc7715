#pragma once
// The rows nearest to each of several queries, by cosine, dot product or Euclidean distance.
// Knows nothing of Python. Meaning: servers/kernel/native/nearest.py.
//
// Rows are read once for all queries, and most are passed by after a product that is only near.
// Those that may be among the best are done again in double: what counts is never the kernel's.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "astromesh/codes.hpp"
#include "astromesh/rank.hpp"
#include "astromesh/tiles.hpp"

namespace astromesh {

inline constexpr std::size_t kMostRows = 256;  // that are looked at together

enum class Metric { cosine, dot, l2 };

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The more the better: of a distance its square, negative.
struct Terms {
  double dot = 0;
  double squares = 0;     // of the row
  double difference = 0;  // of the two, squared
};

// A row that isn't finite has no direction, and is far from everything.
inline double score(const Terms& terms, double length, Metric metric) {
  const bool is_finite = std::isfinite(terms.squares);
  if (metric == Metric::dot) return is_finite ? terms.dot : -kInfinity;
  if (metric == Metric::l2) return is_finite ? -terms.difference : -kInfinity;
  const double norms = is_finite ? length * std::sqrt(terms.squares) : 0;
  return norms == 0 ? 0 : std::clamp(terms.dot / norms, -1.0, 1.0);
}

template <typename Row>
Terms exact_terms(const float* query, const Row* row, std::size_t size) {
  double dot = 0, squares = 0, difference = 0;
#pragma omp simd reduction(+ : dot, squares, difference)
  for (std::size_t i = 0; i < size; ++i) {
    const double q = double{query[i]}, r = double{number(row[i])};
    dot += q * r;
    squares += r * r;
    difference += (q - r) * (q - r);
  }
  return {dot, squares, difference};
}

struct Queries {
  const float* data;
  std::size_t count;
  std::size_t size;  // at least 1; all numbers are finite

  const float* operator[](std::size_t i) const { return data + i * size; }
};

// What of some rows in a row all queries share. Where a length is NaN, products mean nothing.
struct Block {
  // `rows` must be a multiple of four.
  Block(std::size_t rows, std::size_t queries)
      : lengths(rows), squares(rows), dots(queries * rows) {}

  std::vector<double> lengths, squares;
  std::vector<float> dots;  // of as many queries as are done at once, one after the other
};

inline double safe_length(double squares) {
  return is_safe(squares) ? std::sqrt(squares) : std::numeric_limits<double>::quiet_NaN();
}

template <typename Row>
class PlainRows {
 public:
  static constexpr double error = kSumsTolerance;

  PlainRows(Queries queries, const Row* rows, std::size_t count, Tiles<Row> tiles)
      : queries_(queries), rows_(rows), count_(count), tiles_(tiles) {
    for (std::size_t i = 0; i < queries.count; ++i)
      squares_.push_back(sums_double(queries[i], queries[i], queries.size).squares);
  }

  std::size_t count() const { return count_; }
  std::size_t bytes() const { return queries_.size * sizeof(Row); }
  std::size_t at_once() const { return 4; }
  double squares(std::size_t query) const { return squares_[query]; }

  // In order, as memory likes it; what follows finds the rows in the cache.
  void measure(std::size_t first, std::size_t rows, Block& block) const {
    const float* query = queries_[0];
    for (std::size_t j = 0; j < rows; ++j) {
      const Sums sums = tiles_.sums(query, row(first + j), queries_.size);
      block.dots[j] = static_cast<float>(sums.dot);
      block.squares[j] = sums.squares;
      block.lengths[j] = safe_length(sums.squares);
    }
  }

  void multiply(std::size_t query, std::size_t first, std::size_t rows, Block& block) const {
    const float* queries[4];
    for (std::size_t i = 0; i < 4; ++i)
      queries[i] = queries_[std::min(query + i, queries_.count - 1)];
    for (std::size_t j = 0; j < rows; j += 4) {
      const Row* some[4];
      for (std::size_t i = 0; i < 4; ++i) some[i] = row(first + std::min(j + i, rows - 1));
      float dots[16];
      tiles_.dots(queries, some, queries_.size, dots);
      for (std::size_t i = 0; i < 4; ++i)
        std::copy_n(dots + 4 * i, 4, block.dots.data() + i * block.squares.size() + j);
    }
  }

  double score(std::size_t query, std::size_t row_index, Metric metric) const {
    return astromesh::score(exact_terms(queries_[query], row(row_index), queries_.size),
                            std::sqrt(squares_[query]), metric);
  }

 private:
  const Row* row(std::size_t i) const { return rows_ + i * queries_.size; }

  Queries queries_;
  const Row* rows_;
  std::size_t count_;
  Tiles<Row> tiles_;
  std::vector<double> squares_;
};

// Rows as codes: row i is about scales[i] * codes[i]; a scale is NaN where a row wasn't finite.
struct Codes {
  const std::int8_t* codes;
  const float* scales;
  const double* squares;     // of the row itself
  const std::int32_t* sums;  // of the codes
  std::size_t count;
};

class CodedRows {
 public:
  static constexpr double error = 1e-6;

  CodedRows(Queries queries, const Codes& rows, CodeKernels kernels)
      : size_(queries.size), rows_(rows), kernels_(kernels), codes_(queries.count * queries.size) {
    for (std::size_t i = 0; i < queries.count; ++i) {
      const float* query = queries[i];
      squares_.push_back(sums_double(query, query, size_).squares);
      float most = 0;
      for (std::size_t at = 0; at < size_; ++at) most = std::max(most, std::abs(query[at]));
      const float scale = most / 127;
      scales_.push_back(scale);
      for (std::size_t at = 0; at < size_; ++at) {
        const float code = scale == 0 ? 0 : std::nearbyint(query[at] / scale);
        codes_[i * size_ + at] = static_cast<std::int8_t>(
            static_cast<int>(std::clamp(code, -127.0F, 127.0F)) ^ kernels.turn);
      }
    }
    if (!kernels.many || queries.count <= 4) return;
    for (std::size_t i = 0; i < queries.count; i += kManyQueries)
      packed_.push_back(packed(codes_.data() + i * size_, std::min(kManyQueries, queries.count - i), size_));
  }

  std::size_t count() const { return rows_.count; }
  std::size_t bytes() const { return size_; }
  std::size_t at_once() const { return packed_.empty() ? 4 : kManyQueries; }
  double squares(std::size_t query) const { return squares_[query]; }

  void measure(std::size_t first, std::size_t rows, Block& block) const {
    for (std::size_t j = 0; j < rows; ++j) {
      block.squares[j] = rows_.squares[first + j];
      block.lengths[j] = safe_length(block.squares[j]);
    }
    if (scales_.size() > 1) return;
    for (std::size_t j = 0; j < rows; ++j)
      block.dots[j] = static_cast<float>(product(0, first + j, dot(0, first + j)));
  }

  // `query` must be a multiple of `at_once`.
  void multiply(std::size_t query, std::size_t first, std::size_t rows, Block& block) const {
    packed_.empty() ? four(query, first, rows, block) : many(query, first, rows, block);
  }
  double score(std::size_t query, std::size_t row, Metric metric) const {
    const double squares = std::isnan(rows_.scales[row]) ? kInfinity : rows_.squares[row];
    const double dot = product(query, row, this->dot(query, row));
    const double difference = std::max(squares_[query] + squares - 2 * dot, 0.0);
    return astromesh::score({dot, squares, difference}, std::sqrt(squares_[query]), metric);
  }

 private:
  void four(std::size_t query, std::size_t first, std::size_t rows, Block& block) const {
    const std::int8_t* queries[4];
    for (std::size_t i = 0; i < 4; ++i)
      queries[i] = codes_.data() + std::min(query + i, scales_.size() - 1) * size_;
    for (std::size_t j = 0; j < rows; j += 4) {
      const std::int8_t* some[4];
      std::int32_t sums[4], dots[16];
      float scales[4];
      for (std::size_t i = 0; i < 4; ++i) {
        const std::size_t row = first + std::min(j + i, rows - 1);
        some[i] = rows_.codes + row * size_;
        sums[i] = rows_.sums[row];
        scales[i] = rows_.scales[row];
      }
      kernels_.dots(queries, some, sums, size_, dots);
      for (std::size_t i = 0; i < std::min<std::size_t>(4, scales_.size() - query); ++i) {
        float* out = block.dots.data() + i * block.squares.size() + j;
        const float scale = scales_[query + i];
        for (std::size_t c = 0; c < 4; ++c)  // blocks have room for four
          out[c] = static_cast<float>(dots[4 * i + c]) * scales[c] * scale;
      }
    }
  }

  void many(std::size_t query, std::size_t first, std::size_t rows, Block& block) const {
    const std::size_t size = block.squares.size(), some = scales_.size() - query;
    std::int32_t dots[kManyQueries * kMostRows];
    kernels_.many(packed_[query / kManyQueries].data(), rows_.codes + first * size_, rows,
                  rows_.sums + first, size_, dots);
    for (std::size_t i = 0; i < std::min(kManyQueries, some); ++i) {
      const float scale = scales_[query + i];
      float* out = block.dots.data() + i * size;
      for (std::size_t j = 0; j < rows; ++j)
        out[j] = static_cast<float>(dots[kManyQueries * j + i]) * rows_.scales[first + j] * scale;
    }
  }

  std::int32_t dot(std::size_t query, std::size_t row) const {
    return kernels_.dot(codes_.data() + query * size_, rows_.codes + row * size_, rows_.sums[row],
                        size_);
  }

  double product(std::size_t query, std::size_t row, std::int32_t dot) const {
    return double{scales_[query]} * double{rows_.scales[row]} * dot;
  }

  std::size_t size_;
  Codes rows_;
  CodeKernels kernels_;
  std::vector<std::int8_t> codes_;  // of the queries
  std::vector<std::vector<std::int8_t>> packed_;  // the same for `many`, empty without it
  std::vector<float> scales_;
  std::vector<double> squares_;
};

// Rows whose product with a query is below this can't be among its best.
struct Bar {
  double base = -kInfinity, by_length = 0, by_squares = 0;

  // What follows from the worst score that is kept, products being near by `error`.
  Bar(double worst, double squares, Metric metric, double error) {
    if (worst == -kInfinity || (squares != 0 && !is_safe(squares))) return;
    const double length = std::sqrt(squares);
    if (metric == Metric::cosine) {
      base = 0;
      by_length = (worst - 3 * error) * length;
      return;
    }
    by_length = -2 * error * length;
    if (metric == Metric::dot) {
      base = worst;
    } else {
      base = (squares + worst) / 2 - 1e-12 * (squares - worst);
      by_squares = 0.5 - error;
    }
  }

  bool misses(const Block& block, const float* dots, std::size_t j) const {
    return dots[j] < base + by_length * block.lengths[j] + by_squares * block.squares[j];
  }

  bool any_of_eight(const Block& block, const float* dots, std::size_t j) const {
    int missed = 0;
    for (std::size_t c = 0; c < 8; ++c) missed += misses(block, dots, j + c);
    return missed < 8;
  }
};

// Of the rows from `begin` to `end` the k nearest to each query. k must be 1 or more.
template <typename Rows>
std::vector<Best> nearest_of(const Rows& rows, std::size_t begin, std::size_t end,
                             std::size_t queries, std::size_t k, Metric metric) {
  std::vector<Best> best(queries, Best{k});
  std::vector<Bar> bars;
  for (std::size_t i = 0; i < queries; ++i)
    bars.emplace_back(-kInfinity, rows.squares(i), metric, Rows::error);

  constexpr std::size_t cache = 128 * 1024;
  const std::size_t size = std::clamp<std::size_t>(cache / rows.bytes() / 4 * 4, 4, kMostRows);
  const std::size_t at_once = rows.at_once();
  Block block{size, at_once};
  for (std::size_t first = begin; first < end; first += size) {
    const std::size_t some = std::min(size, end - first);
    rows.measure(first, some, block);
    for (std::size_t query = 0; query < queries; ++query) {
      if (queries > 1 && query % at_once == 0) rows.multiply(query, first, some, block);
      const float* dots = block.dots.data() + query % at_once * size;
      Bar bar = bars[query];
      for (std::size_t j = 0; j < some; ++j) {
        // Most rows are passed by, eight at a time.
        while (j + 8 <= some && !bar.any_of_eight(block, dots, j)) j += 8;
        if (j == some || bar.misses(block, dots, j)) continue;
        best[query].show({first + j, rows.score(query, first + j, metric)});
        bar = Bar{best[query].worst(), rows.squares(query), metric, Rows::error};
      }
      bars[query] = bar;
    }
  }
  return best;
}

// The k best of some rows, which must be in order.
template <typename Rows>
std::vector<Hit> best_of(const Rows& rows, std::size_t query, std::span<const std::int64_t> some,
                         std::size_t k, Metric metric) {
  k = std::min(k, some.size());
  if (k == 0) return {};
  Best best{k};
  for (const std::int64_t row : some)
    best.show({static_cast<std::size_t>(row), rows.score(query, static_cast<std::size_t>(row),
                                                         metric)});
  return std::move(best).in_order();
}

}  // namespace astromesh
