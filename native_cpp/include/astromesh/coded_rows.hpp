#pragma once
// Rows of 8-bit numbers as nearest.hpp wants rows. Knows nothing of Python.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "astromesh/blocks.hpp"
#include "astromesh/codes.hpp"
#include "astromesh/terms.hpp"

namespace astromesh {

// Rows as codes: row i is about scales[i] * codes[i]; a scale is NaN where a row wasn't finite.
struct Codes {
  const std::int8_t* codes;
  const float* scales;
  const double* squares;     // of the row itself
  const std::int32_t* sums;  // of the codes
  std::size_t count;
};

// The scale with which a vector becomes codes. `turn` as CodeKernels has it.
inline float quantised(const float* numbers, std::size_t size, int turn, std::int8_t* codes) {
  float most = 0;
#pragma omp simd reduction(max : most)
  for (std::size_t at = 0; at < size; ++at) most = std::max(most, std::abs(numbers[at]));
  const float scale = most / 127;
  if (scale == 0) {
    std::fill_n(codes, size, static_cast<std::int8_t>(turn));
    return scale;
  }
  constexpr float rounding = 0x1.8p23F;  // added and taken away again it rounds to even
  for (std::size_t at = 0; at < size; ++at) {
    const float near = numbers[at] / scale + rounding - rounding;
    codes[at] = static_cast<std::int8_t>(static_cast<int>(std::clamp(near, -127.0F, 127.0F)) ^ turn);
  }
  return scale;
}

class CodedRows {
 public:
  static constexpr double error = 1e-6;

  CodedRows(Queries queries, const Codes& rows, CodeKernels kernels)
      : size_(queries.size), rows_(rows), kernels_(kernels), codes_(queries.count * queries.size) {
    const Exact<float> exact = best_exact<float>();
    for (std::size_t i = 0; i < queries.count; ++i) {
      squares_.push_back(exact(queries[i], queries[i], size_).squares);
      scales_.push_back(quantised(queries[i], size_, kernels.turn, codes_.data() + i * size_));
    }
    if (!kernels.many || queries.count <= 4) return;
    for (std::size_t i = 0; i < queries.count; i += kManyQueries)
      packed_.push_back(packed(codes_.data() + i * size_, std::min(kManyQueries, queries.count - i), size_));
  }

  std::size_t count() const { return rows_.count; }
  std::size_t bytes() const { return size_; }
  std::size_t at_once() const {
    if (scales_.size() == 1) return 1;
    return packed_.empty() ? 4 : kManyQueries;
  }
  double squares(std::size_t query) const { return squares_[query]; }

  void measure(std::size_t first, std::size_t rows, Block& block) const {
    for (std::size_t j = 0; j < rows; ++j) {
      block.squares[j] = rows_.squares[first + j];
      block.lengths[j] = safe_length(block.squares[j]);
    }
    if (scales_.size() > 1) return;
    kernels_.rows(codes_.data(), rows_.codes + first * size_, rows, rows_.sums + first, size_,
                  block.whole.data());
    for (std::size_t j = 0; j < rows; ++j)
      block.dots[j] = static_cast<float>(block.whole[j]) * (rows_.scales[first + j] * scales_[0]);
  }

  // `query` must be a multiple of `at_once`.
  void multiply(std::size_t query, std::size_t first, std::size_t rows, Block& block) const {
    packed_.empty() ? four(query, first, rows, block) : many(query, first, rows, block);
  }

  // Of a row of the block that was measured, and multiplied where there are several queries.
  double score(std::size_t query, std::size_t first, std::size_t j, const Block& block,
               Metric metric) const {
    const std::size_t row = first + j;
    const std::int32_t whole = block.whole[j * at_once() + query % at_once()];
    const double squares = std::isnan(rows_.scales[row]) ? kInfinity : rows_.squares[row];
    const double dot = double{scales_[query]} * double{rows_.scales[row]} * whole;
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
      for (std::size_t i = 0; i < std::min<std::size_t>(4, scales_.size() - query); ++i)
        for (std::size_t c = 0; c < 4; ++c) {  // blocks have room for four
          block.whole[4 * (j + c) + i] = dots[4 * i + c];
          block.dots[i * block.squares.size() + j + c] =
              static_cast<float>(dots[4 * i + c]) * (scales[c] * scales_[query + i]);
        }
    }
  }

  void many(std::size_t query, std::size_t first, std::size_t rows, Block& block) const {
    kernels_.many(packed_[query / kManyQueries].data(), rows_.codes + first * size_, rows,
                  rows_.sums + first, size_, block.whole.data());
    kernels_.spread(block.whole.data(), rows, rows_.scales + first, scales_.data() + query,
                    std::min(kManyQueries, scales_.size() - query), block.squares.size(),
                    block.dots.data());
  }

  std::size_t size_;
  Codes rows_;
  CodeKernels kernels_;
  std::vector<std::int8_t> codes_;  // of the queries
  std::vector<std::vector<std::int8_t>> packed_;  // the same for `many`, empty without it
  std::vector<float> scales_;
  std::vector<double> squares_;
};

}  // namespace astromesh
