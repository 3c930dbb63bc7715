#pragma once
// Where the tokenizers of OpenAI cut a text before they look for tokens. Knows nothing of Python.
// Meaning: servers/kernel/native/pretokens.py, which is this code in the same order.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace astromesh {

// What kind of character a code point is. All from `upper` to `mark` may stand in a word of
// o200k_base; a mark is no letter for cl100k_base.
enum class Kind : std::uint8_t { sign, space, line, number, upper, lower, both, mark };

inline constexpr std::size_t kCodePoints = 0x110000;

enum class Pattern { cl100k, o200k };

// `Char` is any unsigned type that holds code points; `kinds` has a Kind for each there is.
template <typename Char, Pattern pattern>
class Pretokens {
 public:
  Pretokens(std::span<const Char> text, const std::uint8_t* kinds)
      : text_(text.data()), size_(text.size()), kinds_(kinds) {}

  // The end of the piece that begins at `at`, which must be before the end of the text.
  std::size_t end_of(std::size_t at) const {
    const Kind first = kind(at);
    if constexpr (pattern == Pattern::cl100k)
      if (const std::size_t end = contraction(at); end > at) return end;
    if (const std::size_t end = word(at, first); end > at) return end;
    if (first == Kind::number) return number(at);
    if (is_sign(first)) return signs(at);
    if (text_[at] == ' ' && at + 1 < size_ && is_sign(kind(at + 1))) return signs(at + 1);
    return blanks(at);
  }

 private:
  Kind kind(std::size_t at) const { return static_cast<Kind>(kinds_[text_[at]]); }

  static bool is_letter(Kind kind) { return kind >= Kind::upper && kind <= Kind::both; }
  static bool is_sign(Kind kind) { return kind == Kind::sign || kind == Kind::mark; }
  static bool is_blank(Kind kind) { return kind == Kind::space || kind == Kind::line; }
  static bool is_upper(Kind kind) { return kind >= Kind::upper && kind != Kind::lower; }
  static bool is_lower(Kind kind) { return kind >= Kind::lower; }
  static bool may_lead(Kind kind) { return is_sign(kind) || kind == Kind::space; }

  // The end of those from `at` on of which `is` holds.
  template <typename Is>
  std::size_t run(std::size_t at, const Is& is) const {
    while (at < size_ && is(kind(at))) ++at;
    return at;
  }

  // One character that is no letter, number or line break may stand before the letters.
  std::size_t word(std::size_t at, Kind first) const {
    if constexpr (pattern == Pattern::cl100k) {
      const std::size_t start = at + may_lead(first);
      const std::size_t end = run(start, is_letter);
      return end > start ? end : at;
    } else {
      if (!may_lead(first) && first < Kind::upper) return at;
      const std::size_t start = at + may_lead(first);
      if (const std::size_t end = ending_low(start); end > start) return contracted(end);
      if (first == Kind::mark)
        if (const std::size_t end = ending_low(at); end > at) return contracted(end);
      const std::size_t end = run(start, is_upper);
      return end > start ? contracted(end) : at;
    }
  }

  // Capitals, then at least one small letter. What is neither counts as the one or the other.
  std::size_t ending_low(std::size_t start) const {
    const std::size_t capitals = run(start, is_upper);
    if (const std::size_t end = run(capitals, is_lower); end > capitals) return end;
    for (std::size_t end = capitals; end > start; --end)
      if (is_lower(kind(end - 1))) return end;
    return start;
  }

  std::size_t contracted(std::size_t at) const { return at < size_ ? contraction(at) : at; }

  // The end of an 's, 't, 'd, 'm, 'll, 've or 're at `at`; `at` where there is none.
  std::size_t contraction(std::size_t at) const {
    if (text_[at] != '\'' || at + 1 == size_) return at;
    const std::uint32_t a = text_[at + 1], low = a | 0x20;
    if (a < 0x80 ? low == 's' || low == 't' || low == 'd' || low == 'm' : a == 0x17f)
      return at + 2;  // U+017F is another small s
    if (a >= 0x80 || at + 2 == size_) return at;
    const std::uint32_t b = text_[at + 2];
    if (b >= 0x80) return at;
    const bool is_one = (low == 'l' && (b | 0x20) == 'l') ||
                        ((low == 'v' || low == 'r') && (b | 0x20) == 'e');
    return is_one ? at + 3 : at;
  }

  std::size_t number(std::size_t at) const {
    const std::size_t most = std::min(size_, at + 3);
    while (at < most && kind(at) == Kind::number) ++at;
    return at;
  }

  std::size_t signs(std::size_t at) const {
    at = run(at, is_sign);
    while (at < size_ && (kind(at) == Kind::line || (pattern == Pattern::o200k && text_[at] == '/')))
      ++at;
    return at;
  }

  // Up to the last line break; else all but the last, which goes with the word that follows.
  std::size_t blanks(std::size_t at) const {
    const std::size_t end = run(at, is_blank);
    if (pattern == Pattern::cl100k && end == size_) return end;
    for (std::size_t last = end; last > at; --last)
      if (kind(last - 1) == Kind::line) return last;
    return end == size_ || end == at + 1 ? end : end - 1;
  }

  const Char* text_;
  std::size_t size_;
  const std::uint8_t* kinds_;
};

}  // namespace astromesh
