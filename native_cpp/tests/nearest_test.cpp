// What tiles.hpp, terms.hpp, codes.hpp, nearest.hpp and diverse.hpp promise, for every kernel that this
// processor can run. Meant for the sanitizers: rows end where their buffer ends.

#include "astromesh/nearest.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "astromesh/coded_rows.hpp"
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
  std::vector<CodeKernels> found{{0, code_dots_portable, code_rows_portable, nullptr, nullptr}};
#if ASTROMESH_X86
  if (has_avx2()) found.push_back({0, code_dots_avx2, code_rows_avx2, nullptr, nullptr});
  if (has_vnni()) found.push_back({0x80, code_dots_vnni, code_rows_vnni, nullptr, nullptr});
  if (has_vnni())
    found.push_back({0x80, code_dots_vnni, code_rows_vnni, code_many_vnni, code_spread_vnni});
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

template <typename Row>
std::vector<Exact<Row>> exact_kernels() {
  std::vector<Exact<Row>> found{exact_terms<Row>};
#if ASTROMESH_X86
  if (has_f16c()) found.push_back(exact_terms_avx2<Row>);
#endif
  return found;
}

template <typename Row>
void what_counts_is_the_same_on_every_processor() {
  std::mt19937 dice{4};
  for (const std::size_t size : kSizes) {
    std::vector<float> query(size);
    std::vector<Row> row(size);
    random_rows(query, dice);
    random_rows(row, dice);
    const Terms first = exact_terms(query.data(), row.data(), size);
    for (const auto& each : exact_kernels<Row>()) {
      const Terms terms = each(query.data(), row.data(), size);
      check(terms.dot == first.dot && terms.squares == first.squares &&
                terms.difference == first.difference,
            "bit by bit");
    }
  }
}

void rows_below_the_bar_are_passed_by() {
  std::mt19937 dice{5};
  std::uniform_real_distribution<float> number{-1, 1};
  std::vector<Reaching> kernels{reaching_portable};
#if ASTROMESH_X86
  if (has_avx512()) kernels.push_back(reaching_avx512);
#endif
  for (const std::size_t some : {1, 7, 8, 9, 31, 40})
    for (int round = 0; round < 50; ++round) {
      Block block{40, 1};
      for (std::size_t j = 0; j < some; ++j) {
        block.dots[j] = number(dice);
        block.squares[j] = 1;
        block.lengths[j] = dice() % 9 == 0 ? std::nan("") : 1;
      }
      const Bar bar{0.8, 1, round % 2 ? Metric::dot : Metric::l2, 1e-6};
      std::size_t first = 0;
      while (first < some && bar.misses(block, block.dots.data(), first)) ++first;
      for (const auto& each : kernels)
        check(each(bar, block, block.dots.data(), 0, some) == first, "the first that reaches it");
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
      for (std::size_t count = 1; count <= 4; ++count)
        for (std::size_t i = 0; i < 4; ++i) {
          std::vector<std::int32_t> row_dots(count);
          const std::size_t first = 4 - count;  // the last one ends where the buffer does
          each.rows(q[i], r[first], count, sums + first, size, row_dots.data());
          check(std::equal(row_dots.begin(), row_dots.end(), exact + 4 * i + first),
                "products of a query with rows are exact");
        }
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

void every_kernel_gives_the_same_answer_by_codes() {
  std::mt19937 dice{6};
  constexpr std::size_t size = 70, count = 600, most = 18;
  std::vector<float> queries(most * size), scales(count);
  std::vector<std::int8_t> codes(count * size);
  std::vector<double> squares(count);
  std::vector<std::int32_t> sums(count);
  random_rows(queries, dice);
  for (auto& x : codes) x = static_cast<std::int8_t>(static_cast<int>(dice() % 255) - 127);
  for (std::size_t row = 5; row < count; row += 5)  // so that ties happen
    std::copy_n(codes.data(), size, codes.data() + row * size);
  for (std::size_t row = 0; row < count; ++row) {
    scales[row] = row % 97 == 3 ? std::nanf("") : 0.5F;
    for (std::size_t at = 0; at < size; ++at) {
      const int code = codes[row * size + at];
      sums[row] += code;
      squares[row] += 0.25 * code * code;
    }
  }
  const Codes rows{codes.data(), scales.data(), squares.data(), sums.data(), count};
  for (const Metric metric : {Metric::cosine, Metric::dot, Metric::l2})
    for (const std::size_t asked : {std::size_t{1}, std::size_t{3}, std::size_t{5}, most}) {
      const auto found = [&](const CodeKernels& kernels) {
        const CodedRows coded{{queries.data(), asked, size}, rows, kernels};
        return nearest(coded, asked, 20, metric);
      };
      const auto first = found(code_kernels().front());
      for (const auto& each : code_kernels()) check(same(found(each), first), "by codes");
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
  what_counts_is_the_same_on_every_processor<float>();
  what_counts_is_the_same_on_every_processor<Half>();
  rows_below_the_bar_are_passed_by();
  products_of_codes_are_exact();
  every_kernel_gives_the_same_answer<float>();
  every_kernel_gives_the_same_answer<Half>();
  every_kernel_gives_the_same_answer_by_codes();
  rows_that_are_different_come_before_those_that_repeat();
  std::puts("nearest: ok");
}
