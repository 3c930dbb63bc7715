// What chunks.hpp and sentences.hpp promise. Meant for the sanitizers: every text lies in a
// buffer of exactly its size.

#include "astromesh/chunks.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "astromesh/sentences.hpp"

using namespace astromesh;

namespace {

void check(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", promise);
  std::exit(1);
}

template <typename Char>
std::vector<Char> narrowed(const std::u32string& text) {
  std::vector<Char> out;
  for (const char32_t c : text) out.push_back(static_cast<Char>(c));
  out.shrink_to_fit();
  return out;
}

std::u32string random_text(const std::u32string& letters, std::mt19937& dice) {
  std::uniform_int_distribution<std::size_t> size{0, 120}, which{0, letters.size() - 1};
  std::u32string out(size(dice), 0);
  for (char32_t& c : out) c = letters[which(dice)];
  return out;
}

bool same(const Chunks& a, const Chunks& b) {
  return a.firsts == b.firsts &&
         std::equal(a.stretches.begin(), a.stretches.end(), b.stretches.begin(), b.stretches.end(),
                    [](Stretch x, Stretch y) { return x.start == y.start && x.end == y.end; });
}

bool are_spaces(const std::u32string& text, std::size_t from, std::size_t to) {
  for (std::size_t i = from; i < to; ++i)
    if (!is_space(text[i])) return false;
  return true;
}

// What is not white space lies in one of the chunks, and they come in order.
void nothing_is_lost(const std::u32string& text, const Chunks& chunks, std::size_t size) {
  std::size_t covered = 0;
  for (const Stretch& each : chunks.stretches) {
    check(each.start < each.end && each.end <= text.size(), "a stretch lies in the text");
    check(each.end - each.start <= size, "a chunk fits");
    check(are_spaces(text, std::min(covered, each.start), each.start), "nothing is lost");
    covered = std::max(covered, each.end);
  }
  check(are_spaces(text, covered, text.size()), "nothing is lost at the end");
}

const std::vector<std::vector<std::u32string>> kSeparators{
    {U"\n\n", U"\n", U" ", U""}, {U"aba", U"b", U""}, {U"\u8a9e", U", ", U"aa", U""}, {U""}};

template <typename Char>
void every_width_has_the_same_chunks(const std::u32string& letters) {
  std::mt19937 dice{4};
  for (int round = 0; round < 3000; ++round) {
    const auto text = random_text(letters, dice);
    const auto narrow = narrowed<Char>(text);
    const std::span<const Char> view{narrow};
    const std::span<const std::uint32_t> wide{reinterpret_cast<const std::uint32_t*>(text.data()),
                                              text.size()};
    const std::size_t size = 1 + dice() % 20, overlap = dice() % size;
    for (const auto& separators : kSeparators)
      for (const Keep keep : {Keep::start, Keep::end, Keep::none})
        for (const bool strip : {false, true}) {
          const Cutting how{size, overlap, keep, strip};
          const auto chunks = recursive_chunks(view, how, separators);
          check(same(chunks, recursive_chunks(wide, how, separators)), "one meaning");
          if (keep != Keep::none && strip) nothing_is_lost(text, chunks, size);
        }
    const auto chunks = sentence_chunks(view, size, overlap);
    check(same(chunks, sentence_chunks(wide, size, overlap)), "one meaning of sentences");
    nothing_is_lost(text, chunks, size);
  }
}

}  // namespace

int main() {
  every_width_has_the_same_chunks<std::uint8_t>(U"aab, .!\n\n \u00e9\u00a01)");
  every_width_has_the_same_chunks<std::uint16_t>(U"aab, .!\n\n \u8a9e\u3002\u2003\u2026");
  every_width_has_the_same_chunks<std::uint32_t>(U"aab, .!\n\n \u8a9e\U0001f99c\u3000\u300d");
  std::puts("chunks: ok");
}
