#pragma once
// Where sentences end, and chunks of whole ones. Knows nothing of Python. Meaning:
// servers/kernel/native/sentences.py, which is this code in the same order.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "astromesh/chunks.hpp"
#include "astromesh/letters.hpp"

namespace astromesh {

// Sorted, as they are searched.
inline constexpr std::array<std::string_view, 22> kTitles{
    "al", "approx", "capt", "cf", "col", "dr", "eds", "gen", "hon", "jr", "lt", "mlle", "mme",
    "mr", "mrs", "ms", "prof", "rev", "sgt", "sr", "st", "vs"};
inline constexpr std::array<std::string_view, 22> kNumbered{
    "apr", "art", "aug", "bd", "dec", "eq", "feb", "fig", "figs", "jan", "jul", "jun", "mar",
    "no", "nov", "nr", "oct", "pp", "sec", "sep", "sept", "vol"};

inline bool is_stop(std::uint32_t c) { return c == '.' || c == '!' || c == '?' || c == 0x2026; }

// A bit for each of those among the first 64 characters after which a sentence may end.
inline constexpr std::uint64_t kMayEnd =
    std::uint64_t{1} << '.' | std::uint64_t{1} << '!' | std::uint64_t{1} << '?' | 1U << '\n';

inline bool is_full_stop(std::uint32_t c) {
  return c == 0x3002 || c == 0xff01 || c == 0xff1f || c == 0xff61;
}

inline bool is_closing(std::uint32_t c) {
  return c == '"' || c == '\'' || c == ')' || c == ']' || c == '}' || c == 0xbb || c == 0x2019 ||
         c == 0x201d;
}

inline bool is_full_closing(std::uint32_t c) {
  return is_closing(c) || c == 0x300d || c == 0x300f || c == 0xff09 || c == 0x3011;
}

template <typename Char>
class Sentences {
 public:
  explicit Sentences(std::span<const Char> text) : text_(text) {}

  std::vector<Stretch> found() && {
    start_ = after_space(0);
    std::size_t i = start_;
    while (i < text_.size()) {
      const std::uint32_t c = text_[i];
      if (c < 0x2026 && !(c < 0x40 && kMayEnd >> c & 1)) {
        ++i;
      } else if (is_stop(c)) {
        i = stop(i);
      } else if (is_full_stop(c)) {
        i = full_stop(i);
      } else if (c == '\n') {
        i = line(i);
      } else {
        ++i;
      }
    }
    if (start_ < text_.size()) add(text_.size());
    return std::move(spans_);
  }

 private:
  // Each of these gets a place where a sentence may end, and gives that to go on from.
  std::size_t stop(std::size_t i) {
    const std::size_t point = i;
    while (i < text_.size() && is_stop(text_[i])) ++i;
    const std::size_t run = i;
    while (i < text_.size() && is_closing(text_[i])) ++i;
    if (i < text_.size() && !is_space(text_[i])) return run;
    const std::size_t after = after_space(i);
    const bool is_point = i == point + 1 && text_[point] == '.';
    if ((after < text_.size() && is_lower(text_[after])) || (is_point && abbreviates(point, after)))
      return i;
    return ends(i, after);
  }

  std::size_t full_stop(std::size_t i) {
    while (i < text_.size() && is_full_stop(text_[i])) ++i;
    while (i < text_.size() && is_full_closing(text_[i])) ++i;
    return ends(i, after_space(i));
  }

  std::size_t line(std::size_t i) {
    std::size_t j = i + 1;
    while (j < text_.size() && text_[j] != '\n' && is_space(text_[j])) ++j;
    return j < text_.size() && text_[j] == '\n' ? ends(j + 1, after_space(j + 1)) : j;
  }

  std::size_t ends(std::size_t end, std::size_t after) {
    add(end);
    return start_ = after;
  }

  void add(std::size_t end) {
    while (end > start_ && is_space(text_[end - 1])) --end;
    spans_.push_back({start_, end});
  }

  bool abbreviates(std::size_t point, std::size_t after) const {
    constexpr std::size_t longest_word = 8, longest_number = 9;
    std::size_t word = point;
    while (word > start_ && point - word <= longest_number && is_digit(text_[word - 1])) --word;
    if (word == start_ && word < point && point - word <= longest_number) return true;
    std::array<char, longest_word> name{};
    std::size_t begin = longest_word;
    word = point;
    for (; word > start_ && begin > 0 && is_ascii_letter(text_[word - 1]); --word)
      name[--begin] = static_cast<char>(text_[word - 1] | 0x20);
    if (word == point || (word > start_ && is_letter_or_digit(text_[word - 1]))) return false;
    if (point - word == 1) return true;
    const std::string_view known{name.data() + begin, longest_word - begin};
    return std::ranges::binary_search(kTitles, known) ||
           (after < text_.size() && is_digit(text_[after]) &&
            std::ranges::binary_search(kNumbered, known));
  }

  std::size_t after_space(std::size_t i) const {
    while (i < text_.size() && is_space(text_[i])) ++i;
    return i;
  }

  std::span<const Char> text_;
  std::size_t start_ = 0;
  std::vector<Stretch> spans_;
};

template <typename Char>
std::vector<Stretch> sentence_spans(std::span<const Char> text) {
  return Sentences<Char>{text}.found();
}

// `size` must be at least 1, `overlap` less.
template <typename Char>
Chunks sentence_chunks(std::span<const Char> text, std::size_t size, std::size_t overlap) {
  static const std::u32string separators[] = {U"\n", U" ", U""};
  const auto sentences = sentence_spans(text);
  Chunks out;
  Recursive<Char> cutter{text, {size, 0}, out};
  const auto measure = [&](std::size_t a, std::size_t b) {
    return sentences[b].end - sentences[a].start;
  };
  const auto add = [&](std::size_t a, std::size_t b) {
    out.firsts.push_back(out.stretches.size());
    out.stretches.push_back({sentences[a].start, sentences[b].end});
  };
  std::size_t first = 0;
  for (std::size_t at = 0; at < sentences.size(); ++at) {
    if (measure(at, at) > size) {
      if (first < at) add(first, at - 1);
      cutter.cut(sentences[at], separators);
      first = at + 1;
    } else if (first < at && measure(first, at) > size) {
      add(first, at - 1);
      // Never all of them: with this one they were too many.
      const std::size_t floor = first;
      first = at;
      while (first > floor && measure(first - 1, at - 1) <= overlap &&
             measure(first - 1, at) <= size)
        --first;
    }
  }
  if (first < sentences.size()) add(first, sentences.size() - 1);
  return out;
}

}  // namespace astromesh
