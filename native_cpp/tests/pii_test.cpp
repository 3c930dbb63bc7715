// What pii.hpp promises. Meant for the sanitizers: every text lies in a buffer of exactly its size.

#include "astromesh/pii.hpp"

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

using namespace astromesh;

namespace {

void check(bool holds, const char* promise, const std::string& text) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s: %s\n", promise, text.c_str());
  std::exit(1);
}

template <typename Char>
PiiScan scanned(const std::string& text, std::size_t begin = 0, bool is_final = true) {
  const std::vector<Char> exact(text.begin(), text.end());
  return pii_scan(std::span<const Char>{exact}, begin, is_final);
}

bool same(const std::vector<PiiSpan>& a, const std::vector<PiiSpan>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const PiiSpan& x, const PiiSpan& y) {
    return x.start == y.start && x.end == y.end && x.kind == y.kind;
  });
}

const std::vector<std::pair<std::string, Pii>> kKnown{
    {"ada@example.com", Pii::email},         {"DE89 3704 0044 0532 0130 00", Pii::iban},
    {"4111 1111 1111 1111", Pii::credit_card}, {"123-45-6789", Pii::ssn},
    {"192.168.100.200", Pii::ip},            {"+1 (555) 123-4567", Pii::phone},
    {"(030) 123456", Pii::phone},            {"06 12 34 56 78", Pii::phone},
};

void each_kind_is_found() {
  for (const auto& [text, kind] : kKnown) {
    const auto spans = scanned<std::uint8_t>(text).spans;
    check(spans.size() == 1 && spans[0].start == 0 && spans[0].end == text.size() &&
              spans[0].kind == kind,
          "found by itself", text);
  }
}

// Every beginning and every end of every known text, so that each look-ahead meets the edge.
void the_edges_are_never_crossed() {
  for (const auto& [text, kind] : kKnown)
    for (std::size_t from = 0; from <= text.size(); ++from)
      for (std::size_t size = 0; size <= text.size() - from; ++size)
        for (std::size_t begin = 0; begin <= size + 1; ++begin)
          for (bool is_final : {true, false}) {
            const auto scan = scanned<std::uint8_t>(text.substr(from, size), begin, is_final);
            check(scan.held <= size, "held lies in the text", text);
          }
}

std::string random_text(std::mt19937& dice) {
  static constexpr std::string_view letters = "0123456789 -./()+@aZ:,_DE8";
  std::uniform_int_distribution<std::size_t> pick{0, letters.size() - 1}, sizes{0, 80};
  if (sizes(dice) == 0) {  // a chain
    std::string chain;
    for (std::size_t i = 0; i < 60; ++i) chain += pick(dice) ? "4111 1111 1111 1111 " : "1";
    return chain;
  }
  std::uniform_int_distribution<std::size_t> known{0, kKnown.size() * 3};
  std::string text;
  for (std::size_t left = sizes(dice); left > 0; --left)
    if (const auto k = known(dice); k < kKnown.size() && left % 9 == 0)
      text += kKnown[k].first;
    else
      text += letters[pick(dice)];
  return text;
}

void a_stream_finds_what_the_whole_has(std::mt19937& dice) {
  const std::string text = random_text(dice);
  const auto whole = scanned<std::uint16_t>(text);
  check(same(whole.spans, scanned<std::uint32_t>(text).spans), "every width the same", text);
  std::vector<PiiSpan> spans;
  std::size_t begin = 0, end = 0, last = 0;
  while (end < text.size()) {
    end = std::min(text.size(), end + std::uniform_int_distribution<std::size_t>{1, 9}(dice));
    // Two characters before are all that may be looked back at.
    const std::size_t from = begin < 2 ? 0 : begin - 2;
    auto scan = scanned<std::uint8_t>(text.substr(from, end - from), begin - from,
                                      end == text.size());
    for (auto& span : scan.spans) {
      span.start = std::max(span.start + from, last), span.end += from;
      if (span.start >= span.end) continue;  // it was covered before
      last = span.end;
      spans.push_back(span);
    }
    check(scan.held + from >= begin, "what was let go is not held again", text);
    begin = scan.held + from;
  }
  check(same(spans, whole.spans), "a stream finds what the whole has", text);
}

}  // namespace

int main() {
  each_kind_is_found();
  the_edges_are_never_crossed();
  std::mt19937 dice{1};
  for (int i = 0; i < 20'000; ++i) a_stream_finds_what_the_whole_has(dice);
  std::printf("pii: ok\n");
}
