// What rank.hpp and sums.hpp promise, for every kernel that this processor can run.
// Meant for the sanitizers: every row lies in a buffer of exactly its size.

#include "astromesh/rank.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

using namespace astromesh;

namespace {

struct Named {
  const char* name;
  Kernel kernel;
};

std::vector<Named> kernels() {
  std::vector<Named> found{{"double", sums_double}, {"portable", sums_portable}};
#if ASTROMESH_X86
  if (has_avx2()) found.push_back({"avx2", sums_avx2});
#endif
  return found;
}

void check(bool holds, const char* promise, const char* kernel) {
  if (holds) return;
  std::fprintf(stderr, "%s: broken: %s\n", kernel, promise);
  std::exit(1);
}

std::vector<float> random_floats(std::size_t count, std::mt19937& dice) {
  std::normal_distribution<float> normal;
  std::vector<float> out(count);
  for (float& x : out) x = normal(dice);
  return out;
}

bool same(const std::vector<Hit>& a, const std::vector<Hit>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Hit& x, const Hit& y) {
    return x.row == y.row && x.score == y.score;
  });
}

void sums_are_near_the_exact_ones_for_every_size(const Named& k) {
  std::mt19937 dice{1};
  for (std::size_t size = 1; size < 1100; size = size < 140 ? size + 1 : size + 97) {
    const auto query = random_floats(size, dice), row = random_floats(size, dice);
    const Sums got = k.kernel(query.data(), row.data(), size);
    const Sums exact = sums_double(query.data(), row.data(), size);
    const double lengths = std::sqrt(sums_double(query.data(), query.data(), size).squares) *
                           std::sqrt(exact.squares);
    check(std::abs(got.dot - exact.dot) <= kSumsTolerance * lengths, "dot tolerance", k.name);
    check(std::abs(got.squares - exact.squares) <= kSumsTolerance * exact.squares,
          "squares tolerance", k.name);
  }
}

void sums_of_whole_numbers_are_exact(const Named& k) {
  std::mt19937 dice{2};
  std::uniform_int_distribution<int> whole{-9, 9};
  for (std::size_t size : {1, 7, 8, 9, 31, 32, 33, 64, 65, 384, 1024, 1025, 4096}) {
    std::vector<float> query(size), row(size);
    for (float& x : query) x = static_cast<float>(whole(dice));
    for (float& x : row) x = static_cast<float>(whole(dice));
    const Sums got = k.kernel(query.data(), row.data(), size);
    const Sums exact = sums_double(query.data(), row.data(), size);
    check(got.dot == exact.dot && got.squares == exact.squares, "whole numbers", k.name);
  }
}

void the_best_k_are_the_first_k_of_all(const Named& k) {
  std::mt19937 dice{3};
  constexpr std::size_t size = 13, count = 500;
  const auto query = random_floats(size, dice);
  auto rows = random_floats(size * count, dice);
  // Some rows are equal, so that ties happen.
  for (std::size_t row = 7; row < count; row += 7)
    std::copy_n(rows.data(), size, rows.data() + row * size);
  const auto all = rank(query, rows, count, k.kernel);
  check(all.size() == count, "all rows are ranked", k.name);
  check(std::is_sorted(all.begin(), all.end(), comes_first), "best first, then by row", k.name);
  for (std::size_t best : {0, 1, 2, 10, 499, 500, 501})
    check(same(rank(query, rows, best, k.kernel),
               {all.begin(), all.begin() + static_cast<std::ptrdiff_t>(std::min(best, count))}),
          "k only cuts", k.name);
}

void rows_without_a_direction_are_like_nothing(const Named& k) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> query{1, 1}, rows{0, 0, nan, 1, inf, 1, inf, -inf, -1, -1, 3, 3};
  const auto hits = rank(query, rows, 6, k.kernel);
  const std::size_t order[] = {5, 0, 1, 2, 3, 4};
  for (std::size_t i = 0; i < 6; ++i) check(hits[i].row == order[i], "order", k.name);
  check(hits[0].score > 0.999 && hits[5].score < -0.999, "opposites", k.name);
  for (std::size_t i = 1; i < 5; ++i) check(hits[i].score == 0, "no direction", k.name);
}

void length_does_not_matter_however_extreme(const Named& k) {
  for (float length : {1e-38F, 1e-30F, 1e-12F, 1.F, 1e12F, 1e30F, 1e38F})
    for (float other : {1e-38F, 1.F, 1e38F}) {
      const std::vector<float> query{other, other}, row{length, 0};
      const double score = rank(query, row, 1, k.kernel)[0].score;
      check(std::abs(score - std::sqrt(0.5)) < kSumsTolerance, "length", k.name);
    }
}

void no_rows_have_no_best(const Named& k) {
  check(rank(std::vector<float>{1}, {}, 3, k.kernel).empty(), "no rows", k.name);
}

}  // namespace

int main() {
  for (const Named& kernel : kernels()) {
    sums_are_near_the_exact_ones_for_every_size(kernel);
    sums_of_whole_numbers_are_exact(kernel);
    the_best_k_are_the_first_k_of_all(kernel);
    rows_without_a_direction_are_like_nothing(kernel);
    length_does_not_matter_however_extreme(kernel);
    no_rows_have_no_best(kernel);
    std::printf("%s: ok\n", kernel.name);
  }
}
