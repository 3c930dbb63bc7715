#pragma once
// Cuts a text into chunks at separators. Knows nothing of Python. Meaning:
// servers/kernel/native/chunks.py, which is this code in the same order.

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "astromesh/finding.hpp"
#include "astromesh/letters.hpp"

namespace astromesh {

struct Stretch {
  std::size_t start;
  std::size_t end;
};

// Chunk i consists of the stretches from firsts[i] up to firsts[i + 1], or to the end.
struct Chunks {
  std::vector<Stretch> stretches;
  std::vector<std::size_t> firsts;
};

enum class Keep { start, end, none };

struct Cutting {
  std::size_t size;     // at least 1
  std::size_t overlap;  // less than size
  Keep keep = Keep::start;
  bool strip = true;
};

using Separators = std::span<const std::u32string>;

// `Char` is any unsigned type that holds code points: the three widths of Python's texts.
template <typename Char>
class Recursive {
 public:
  Recursive(std::span<const Char> text, const Cutting& how, Chunks& out)
      : text_(text), how_(how), out_(out) {}

  // Adds the chunks of what lies in `within`. `separators` must not be empty.
  void cut(Stretch within, Separators separators) {
    for (std::size_t i = 0; i < separators.size(); ++i) {
      if (separators[i].empty()) return anywhere(within);
      Finder<Char> finder{text_, separators[i], within.start, within.end};
      const std::size_t found = finder.next(within.start);
      if (found < within.end)
        return at(finder, found, within, separators[i].size(), separators.subspan(i + 1));
    }
    piece(within, separators.back().size(), {});
    merge(separators.back().size());
  }

 private:
  // Cuts at a separator of that size, which `finder` found first at `found`.
  void at(Finder<Char>& finder, std::size_t found, Stretch within, std::size_t separator,
          Separators rest) {
    std::size_t start = within.start;
    while (found < within.end) {
      const std::size_t after = found + separator;
      piece({start, how_.keep == Keep::end ? after : found}, separator, rest);
      start = how_.keep == Keep::start ? found : after;
      found = finder.next(after);
    }
    piece({start, within.end}, separator, rest);
    merge(separator);
  }

  void piece(Stretch each, std::size_t separator, Separators rest) {
    if (each.start == each.end) return;
    if (each.end - each.start < how_.size) return small_.push_back(each);
    merge(separator);
    rest.empty() ? whole(each) : cut(each, rest);
  }

  void anywhere(Stretch within) {
    if (how_.size > 1) return windows(within);
    for (std::size_t i = within.start; i < within.end; ++i) whole({i, i + 1});
  }

  // What `merge` makes of single characters, without looking at each.
  void windows(Stretch within) {
    for (std::size_t start = within.start;; start += how_.size - how_.overlap) {
      const std::size_t end = std::min(within.end, start + how_.size);
      add({start, end});
      if (end == within.end) return;
    }
  }

  // Adds chunks of as many pieces as fit, each beginning with some of the one before.
  void merge(std::size_t separator) {
    const std::span<const Stretch> pieces = small_;
    const std::size_t between = how_.keep == Keep::none ? separator : 0;
    std::size_t first = 0, total = 0;
    for (std::size_t at = 0; at < pieces.size(); ++at) {
      const std::size_t length = pieces[at].end - pieces[at].start;
      if (first < at && total + length + between > how_.size) {
        add(pieces.subspan(first, at - first), between);
        while (total > how_.overlap ||
               (total > 0 && total + length + (first < at ? between : 0) > how_.size)) {
          total -= pieces[first].end - pieces[first].start + (at - first > 1 ? between : 0);
          ++first;
        }
      }
      total += length + (first < at ? between : 0);
    }
    add(pieces.subspan(first), between);
    small_.clear();
  }

  void add(std::span<const Stretch> pieces, std::size_t between) {
    if (pieces.empty()) return;
    if (between == 0) return add({pieces.front().start, pieces.back().end});
    const std::size_t begin = out_.stretches.size();
    auto& all = out_.stretches;
    for (const Stretch& each : pieces) {
      if (all.size() > begin && each.start <= all.back().end + between) {
        all.back().end = each.end;
        continue;
      }
      if (all.size() > begin) all.back().end += between;  // one of the separators in between
      all.push_back(each);
    }
    if (how_.strip) strip(begin);
    if (all.size() > begin) out_.firsts.push_back(begin);
  }

  void add(Stretch chunk) {
    if (how_.strip) chunk = stripped(chunk);
    if (chunk.start < chunk.end) whole(chunk);
  }

  void whole(Stretch chunk) {
    out_.firsts.push_back(out_.stretches.size());
    out_.stretches.push_back(chunk);
  }

  void strip(std::size_t begin) {
    auto& all = out_.stretches;
    std::size_t first = begin;
    const auto is_blank = [&](Stretch each) {
      each = stripped(each);
      return each.start == each.end;
    };
    while (first < all.size() && is_blank(all[first])) ++first;
    all.erase(all.begin() + static_cast<std::ptrdiff_t>(begin),
              all.begin() + static_cast<std::ptrdiff_t>(first));
    while (all.size() > begin && is_blank(all.back())) all.pop_back();
    if (all.size() == begin) return;
    all[begin].start = stripped(all[begin]).start;
    all.back().end = stripped(all.back()).end;
  }

  Stretch stripped(Stretch each) const {
    while (each.start < each.end && is_space(text_[each.start])) ++each.start;
    while (each.start < each.end && is_space(text_[each.end - 1])) --each.end;
    return each;
  }

  std::span<const Char> text_;
  Cutting how_;
  Chunks& out_;
  std::vector<Stretch> small_;  // pieces that wait for `merge`; none while `cut` is called
};

template <typename Char>
Chunks recursive_chunks(std::span<const Char> text, const Cutting& how, Separators separators) {
  Chunks out;
  Recursive<Char>{text, how, out}.cut({0, text.size()}, separators);
  return out;
}

// Windows over so many characters, each beginning with `overlap` of the one before.
inline std::vector<Stretch> fixed_chunks(std::size_t length, std::size_t size,
                                         std::size_t overlap) {
  std::vector<Stretch> out;
  for (std::size_t start = 0, end = 0; end < length; start += size - overlap) {
    end = length - start > size ? start + size : length;
    out.push_back({start, end});
  }
  return out;
}

}  // namespace astromesh
