// What bpe.hpp promises. Meant for the sanitizers: every text lies in a buffer of its size.

#include "astromesh/bpe.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

using namespace astromesh;

namespace {

void check(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", promise);
  std::exit(1);
}

std::vector<std::string> some_tokens() {
  std::vector<std::string> out;
  for (int byte = 0; byte < 256; ++byte) out.emplace_back(1, static_cast<char>(byte));
  for (const char* each : {"ab", "abc", "aa", "aaaa", " a", "  ", "\xe8\xaa", "aaaaaaaaaaaaaaaaaaaa"})
    out.emplace_back(each);
  return out;
}

std::vector<std::uint8_t> some_kinds() {
  std::vector<std::uint8_t> out(kCodePoints, static_cast<std::uint8_t>(Kind::sign));
  const auto set = [&](std::uint32_t from, std::uint32_t to, Kind kind) {
    for (; from <= to; ++from) out[from] = static_cast<std::uint8_t>(kind);
  };
  set('a', 'z', Kind::lower);
  set('A', 'Z', Kind::upper);
  set('0', '9', Kind::number);
  set(' ', ' ', Kind::space);
  set('\n', '\n', Kind::line);
  set(0x300, 0x36f, Kind::mark);
  set(0x4e00, 0x9fff, Kind::both);
  return out;
}

template <typename Char>
std::vector<Char> narrowed(const std::u32string& text) {
  std::vector<Char> out;
  for (const char32_t c : text) out.push_back(static_cast<Char>(c));
  out.shrink_to_fit();
  return out;
}

template <typename Char>
void keeps_its_promises(const Bpe& bpe, const std::vector<Char>& text) {
  const std::span<const Char> all{text};
  const std::size_t count = *bpe.count(all);
  check(count <= 4 * text.size(), "no more tokens than bytes");
  check(*bpe.fitting(all, count) == text.size(), "what fits is whole");
  for (std::size_t most = 0; most < count && most < 12; ++most) {
    const std::size_t end = *bpe.fitting(all, most);
    check(end <= text.size() && *bpe.count(all.first(end)) <= most, "a beginning fits");
  }
}

void random_texts(const Bpe& bpe) {
  const std::u32string narrow = U"aaaabcAB'sdlve01 \n-/", wide = narrow + U"\u0301\u8a9e\U0001f99c";
  std::mt19937 dice{1};
  for (int i = 0; i < 400; ++i) {
    std::uniform_int_distribution<std::size_t> size{0, i % 10 == 0 ? 400U : 40U};
    std::u32string text(size(dice), 0);
    const bool is_narrow = i % 2 == 0;
    const std::u32string& letters = is_narrow ? narrow : wide;
    for (char32_t& c : text) c = letters[dice() % letters.size()];
    keeps_its_promises(bpe, narrowed<std::uint32_t>(text));
    if (!is_narrow) continue;
    keeps_its_promises(bpe, narrowed<std::uint8_t>(text));
    check(bpe.count(std::span<const std::uint8_t>{narrowed<std::uint8_t>(text)}) ==
              bpe.count(std::span<const std::uint32_t>{narrowed<std::uint32_t>(text)}),
          "the width of characters does not count");
  }
}

void long_pieces_are_merged_as_short_ones() {
  const auto tokens = some_tokens();
  const Vocabulary vocabulary{tokens};
  Merges merges{vocabulary};
  for (std::size_t size = 1; size < 300; ++size) {
    const std::string padded = std::string(size, 'a') + std::string(kPadding, 'b');
    const auto& ends = merges.ends(std::string_view{padded}.substr(0, size));
    // Four at a time, then two, then one; all of twenty only where they are the piece.
    check(ends.size() == size / 4 + size % 4 / 2 + size % 2, "pairs are merged from the left");
  }
}

}  // namespace

int main() {
  const auto tokens = some_tokens();
  for (const Pattern pattern : {Pattern::o200k, Pattern::cl100k}) {
    const Bpe bpe{tokens, some_kinds(), pattern};
    random_texts(bpe);
    const std::uint16_t half[] = {'a', 0xd83e};
    check(!bpe.count(std::span<const std::uint16_t>{half}), "half a character is seen");
    check(!bpe.fitting(std::span<const std::uint16_t>{half}, 5), "half a character is seen");
  }
  long_pieces_are_merged_as_short_ones();
  std::puts("bpe: all promises kept");
}
