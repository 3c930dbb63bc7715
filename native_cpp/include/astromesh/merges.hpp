#pragma once
// Byte-pair encoding of one piece of text: of all neighbours that together are a token, the one
// of the lowest rank is merged first, and the left one of equals. Knows nothing of Python.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <queue>
#include <string_view>
#include <vector>

#include "astromesh/vocabulary.hpp"

namespace astromesh {

class Merges {
 public:
  explicit Merges(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {}

  // Where each token ends; valid until the next call. Every byte must be a
  // token, and kPadding bytes must follow the piece.
  const std::vector<std::uint32_t>& ends(std::string_view piece) {
    ends_.clear();
    piece.size() <= kFew ? few(piece) : many(piece);
    return ends_;
  }

 private:
  static constexpr std::size_t kFew = 96;  // up to here looking at all of them is the fastest

  std::uint32_t rank(std::string_view piece, std::size_t start, std::size_t end) const {
    return vocabulary_.rank(piece.substr(start, end - start));
  }

  void few(std::string_view piece) {
    std::uint32_t starts[kFew + 2], ranks[kFew + 2];
    std::size_t count = piece.size();
    for (std::size_t i = 0; i <= count; ++i) starts[i] = static_cast<std::uint32_t>(i);
    for (std::size_t i = 0; i < count; ++i)
      ranks[i] = i + 1 < count ? vocabulary_.rank_of_two(piece.data() + i) : kNoToken;
    const auto pair = [&](std::size_t i) {
      return i + 2 <= count ? rank(piece, starts[i], starts[i + 2]) : kNoToken;
    };
    while (true) {
      std::uint32_t lowest = kNoToken;
      std::size_t at = 0;
      for (std::size_t i = 0; i + 1 < count; ++i)
        if (ranks[i] < lowest) lowest = ranks[at = i];
      if (lowest == kNoToken) break;
      for (std::size_t i = at + 1; i < count; ++i) {
        starts[i] = starts[i + 1];
        ranks[i] = ranks[i + 1];
      }
      --count;
      ranks[at] = pair(at);
      if (at > 0) ranks[at - 1] = pair(at - 1);
    }
    ends_.assign(starts + 1, starts + count + 1);
  }

  // With a queue: twice as many bytes take about twice as long.
  void many(std::string_view piece) {
    const auto size = static_cast<std::uint32_t>(piece.size());
    before_.resize(size + 1);
    after_.resize(size + 1);
    ranks_.assign(size + 1, kNoToken);
    std::priority_queue<std::uint64_t, std::vector<std::uint64_t>, std::greater<>> queue;
    const auto show = [&](std::uint32_t at) {
      const std::uint32_t next = after_[at];
      ranks_[at] = next < size ? rank(piece, at, after_[next]) : kNoToken;
      if (ranks_[at] != kNoToken) queue.push(std::uint64_t{ranks_[at]} << 32 | at);
    };
    for (std::uint32_t i = 0; i <= size; ++i) {
      before_[i] = i == 0 ? 0 : i - 1;
      after_[i] = i + 1;
    }
    for (std::uint32_t i = 0; i < size; ++i) show(i);
    while (!queue.empty()) {
      const auto at = static_cast<std::uint32_t>(queue.top());
      const auto seen = static_cast<std::uint32_t>(queue.top() >> 32);
      queue.pop();
      if (ranks_[at] != seen) continue;  // has been merged since
      const std::uint32_t gone = after_[at];
      ranks_[gone] = kNoToken;
      after_[at] = after_[gone];
      before_[after_[at]] = at;
      show(at);
      if (at > 0) show(before_[at]);
    }
    for (std::uint32_t at = 0; at < size; at = after_[at]) ends_.push_back(after_[at]);
  }

  const Vocabulary& vocabulary_;
  std::vector<std::uint32_t> ends_, before_, after_, ranks_;
};

}  // namespace astromesh
