// What max_sim.hpp promises, for every kernel that this processor can run. Meant for the
// sanitizers: rows end where their buffer ends.

#include "astromesh/max_sim.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

using namespace astromesh;

namespace {

void check(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", promise);
  std::exit(1);
}

std::vector<MaxSimKernels> kernels() {
  std::vector<MaxSimKernels> found{{best_products_portable, nullptr}};
#if ASTROMESH_X86
  if (has_avx2()) found.push_back({best_products_avx2, nullptr});
  if (has_avx512()) found.push_back({best_products_avx512<1>, nullptr});
  if (has_avx512()) found.push_back({best_products_avx512<1>, best_products_avx512<2>});
#endif
  return found;
}

std::vector<float> exact(Queries queries, const std::vector<float>& rows) {
  std::vector<float> best(queries.count, -1.0F);
  for (std::size_t i = 0; i < queries.count; ++i) {
    const double length = std::sqrt(sums_double(queries[i], queries[i], queries.size).squares);
    for (std::size_t at = 0; at < rows.size(); at += queries.size) {
      const double found = cosine(queries[i], length, rows.data() + at, queries.size, sums_double);
      best[i] = std::max(best[i], static_cast<float>(found));
    }
  }
  return best;
}

void best_cosines_are_near_the_exact_ones() {
  std::mt19937 dice{1};
  std::normal_distribution<float> normal;
  for (const std::size_t size : {1, 5, 16, 129, 384, 1500})
    for (const std::size_t asked : {1, 15, 16, 17, 33, 70})
      for (const std::size_t count : {0, 1, 5, 6, 8, 13}) {
        std::vector<float> query(asked * size), rows(count * size);
        for (float& x : query) x = normal(dice);
        for (float& x : rows) x = 3 * normal(dice);
        const Queries queries{query.data(), asked, size};
        const auto wanted = exact(queries, rows);
        for (const auto& each : kernels()) {
          const auto found = max_sim(queries, rows, each);
          check(found.size() == asked, "one for each");
          for (std::size_t i = 0; i < asked; ++i)
            check(std::abs(found[i] - wanted[i]) <= kSumsTolerance, "it is near");
        }
      }
}

void rows_without_a_direction_are_like_nothing() {
  const std::vector<float> query{1, 0, 0, 0};  // the second has no direction
  const Queries queries{query.data(), 2, 2};
  for (const float odd : {0.0F, std::nanf(""), std::numeric_limits<float>::infinity()})
    for (const auto& each : kernels()) {
      check(max_sim(queries, std::vector<float>{odd, odd, -3, 0}, each)[0] == 0, "nothing is");
      check(max_sim(queries, std::vector<float>{odd, odd, 2, 0}, each)[0] == 1, "others are");
      check(max_sim(queries, std::vector<float>{-3, 0}, each)[1] == 0, "nor is a query");
    }
  for (const float length : {1e-42F, 1e-30F, 1e30F, 3e38F})
    check(max_sim(queries, std::vector<float>{length, 0})[0] == 1, "however long it is");
}

}  // namespace

int main() {
  best_cosines_are_near_the_exact_ones();
  rows_without_a_direction_are_like_nothing();
  std::puts("max_sim: ok");
}
