// What tiles.hpp, codes.hpp, nearest.hpp and diverse.hpp promise, for every kernel that this
// processor can run. Meant for the sanitizers: rows end where their buffer ends.

#include "astromesh/nearest.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "astromesh/diverse.hpp"
#include "astromesh/parts.hpp"

using namespace astromesh;

namespace {

void check(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", promise);
  std::exit(1);
}

template <typename Row>
std::vector<Tiles<Row>> tiles() {
  std::vector<Tiles<Row>> found{{dots_portable<Row>, sums_near<Row>}};
#if ASTROMESH_X86
  if (has_f16c()) found.push_back({dots_avx2<Row>, near_avx2});
  if (has_avx512()) found.push_back({dots_avx512<Row>, near_avx2});
#endif
  return found;
}

std::vector<CodeKernels> code_kernels() {
  std::vector<CodeKernels> found{{0, code_dots_portable, code_dot_portable, nullptr}};
#if ASTROMESH_X86
  if (has_avx2()) found.push_back({0, code_dots_avx2, code_dot_avx2, nullptr});
  if (has_vnni()) found.push_back({0x80, code_dots_vnni, code_dot_vnni, nullptr});
  if (has_vnni()) found.push_back({0x80, code_dots_vnni, code_dot_vnni, code_many_vnni});
#endif
  return found;
}

void random_rows(std::vector<float>& out, std::mt19937& dice) {
  std::normal_distribution<float> normal;
  for (float& x : out) x = normal(dice);
}

void random_rows(std::vector<Half>& out, std::mt19937& dice) {
  // All signs, exponents from 2^-8 to 2^7.
  for (Half& x : out)
    x.bits = static_cast<std::uint16_t>((dice() & 0x83ffU) | (7 + dice() % 16) << 10);
}

const std::size_t kSizes[] = {1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 384, 1025, 2049, 5000};

template <typename Row>
void products_are_near_the_exact_ones() {
  std::mt19937 dice{1};
  for (const std::size_t size : kSizes) {
    std::vector<float> queries(4 * size);
    std::vector<Row> rows(4 * size);
    random_rows(queries, dice);
    random_rows(rows, dice);
    const float* q[4];
    const Row* r[4];
    for (std::size_t i = 0; i < 4; ++i) {
      q[i] = queries.data() + i * size;
      r[i] = rows.data() + i * size;
    }
    for (const auto& each : tiles<Row>()) {
      float dots[16];
      each.dots(q, r, size, dots);
      for (std::size_t i = 0; i < 16; ++i) {
        const Terms exact = exact_terms(q[i / 4], r[i % 4], size);
        const Sums sums = each.sums(q[i / 4], r[i % 4], size);
        const double lengths = std::sqrt(exact_terms(q[i / 4], q[i / 4], size).squares) *
                               std::sqrt(exact.squares);
        check(std::abs(double{dots[i]} - exact.dot) <= kSumsTolerance * lengths, "a tile is near");
        check(std::abs(sums.dot - exact.dot) <= kSumsTolerance * lengths, "a product is near");
        check(std::abs(sums.squares - exact.squares) <= kSumsTolerance * exact.squares,
              "a length is near");
      }
    }
  }
}

void products_of_codes_are_exact() {
  std::mt19937 dice{2};
  for (const std::size_t size : kSizes) {
    std::vector<std::int8_t> codes(8 * size);
    for (auto& x : codes) x = static_cast<std::int8_t>(static_cast<int>(dice() % 255) - 127);
    const std::int8_t *q[4], *r[4];
    std::int32_t sums[4] = {};
    for (std::size_t i = 0; i < 4; ++i) {
      r[i] = codes.data() + (4 + i) * size;  // the last one ends where the buffer does
      q[i] = codes.data() + i * size;
      for (std::size_t at = 0; at < size; ++at) sums[i] += r[i][at];
    }
    std::int32_t dots[16], exact[16];
    code_dots_portable(q, r, sums, size, exact);
    for (const auto& each : code_kernels()) {
      std::vector<std::int8_t> turned(4 * size);
      for (std::size_t i = 0; i < turned.size(); ++i)
        turned[i] = static_cast<std::int8_t>(codes[i] ^ each.turn);
      for (std::size_t i = 0; i < 4; ++i) q[i] = turned.data() + i * size;
      each.dots(q, r, sums, size, dots);
      check(std::equal(dots, dots + 16, exact), "a tile of codes is exact");
      for (std::size_t i = 0; i < 16; ++i)
        check(each.dot(q[i / 4], r[i % 4], sums[i % 4], size) == exact[i], "codes are exact");
      if (!each.many) continue;
      std::int32_t all[4 * kManyQueries];
      each.many(packed(turned.data(), 4, size).data(), r[0], 4, sums, size, all);
      for (std::size_t i = 0; i < 16; ++i)
        check(all[kManyQueries * (i % 4) + i / 4] == exact[i], "many products of codes are exact");
    }
  }
}

bool same(const std::vector<std::vector<Hit>>& a, const std::vector<std::vector<Hit>>& b) {
  return std::ranges::equal(a, b, [](const auto& x, const auto& y) {
    return std::ranges::equal(
        x, y, [](const Hit& g, const Hit& h) { return g.row == h.row && g.score == h.score; });
  });
}

template <typename Row>
void every_kernel_gives_the_same_answer() {
  std::mt19937 dice{3};
  constexpr std::size_t size = 21, count = 700;
  std::vector<float> queries(9 * size);
  std::vector<Row> rows(count * size);
  random_rows(queries, dice);
  random_rows(rows, dice);
  for (std::size_t row = 7; row < count; row += 7)  // so that ties happen
    std::copy_n(rows.data(), size, rows.data() + row * size);
  for (const Metric metric : {Metric::cosine, Metric::dot, Metric::l2})
    for (const std::size_t asked : {1, 2, 4, 9})
      for (const std::size_t k : {0, 1, 10, 699, 5000}) {
        const auto found = [&](const Tiles<Row>& kernel) {
          const PlainRows<Row> plain{{queries.data(), asked, size}, rows.data(), count, kernel};
          return nearest(plain, asked, k, metric);
        };
        const auto first = found(tiles<Row>().front());
        for (const auto& kernel : tiles<Row>()) check(same(found(kernel), first), "one answer");
        const PlainRows<Row> plain{
            {queries.data(), asked, size}, rows.data(), count, tiles<Row>().front()};
        for (const std::size_t threads : {2, 3, 5000})
          check(same(nearest(plain, asked, k, metric, threads, 1024), first), "by any number");
        for (const auto& hits : first) {
          check(hits.size() == std::min(k, count), "as many as there are");
          check(std::ranges::is_sorted(hits, comes_first), "best first, then by row");
        }
      }
}

void rows_that_are_different_come_before_those_that_repeat() {
  const std::vector<float> rows{10, 1, 10, 1, 5, -5, -1, 0};
  const std::vector<double> relevance{0.99, 0.99, 0.7, -1};
  const auto chosen = mmr(relevance, rows, 3, 0.5);
  check(chosen.size() == 3 && chosen[0] == 0 && chosen[1] == 2, "unlike one another");
  check(mmr({}, {}, 3, 0.5).empty(), "none of none");
  check(neighbours(rows, 2).size() == 3 && neighbours(rows, 2)[0] > 0.999, "neighbours");
}

}  // namespace

int main() {
  products_are_near_the_exact_ones<float>();
  products_are_near_the_exact_ones<Half>();
  products_of_codes_are_exact();
  every_kernel_gives_the_same_answer<float>();
  every_kernel_gives_the_same_answer<Half>();
  rows_that_are_different_come_before_those_that_repeat();
  std::puts("nearest: ok");
}
