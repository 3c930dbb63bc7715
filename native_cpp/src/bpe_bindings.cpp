// The Python face of bpe.hpp.

#include "astromesh/bpe.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "bindings.hpp"

using astromesh::Bpe;

static std::vector<std::string> checked(const py::sequence& tokens) {
  std::vector<std::string> out;
  std::array<bool, 256> there{};
  for (const py::handle each : tokens) {
    out.push_back(py::cast<std::string>(py::cast<py::bytes>(each)));
    if (out.back().size() == 1) there[static_cast<unsigned char>(out.back()[0])] = true;
  }
  if (std::ranges::count(there, true) != 256)
    throw py::value_error("tokens: not every single byte is one");
  return out;
}

static std::unique_ptr<Bpe> made(const py::sequence& tokens, const py::bytes& kinds,
                                 const std::string& pattern) {
  if (pattern != "o200k" && pattern != "cl100k")
    throw py::value_error("pattern: '" + pattern + "' is neither o200k nor cl100k");
  const auto view = static_cast<std::string_view>(kinds);
  if (view.size() != astromesh::kCodePoints)
    throw py::value_error("kinds: there is not one for each code point");
  return std::make_unique<Bpe>(
      checked(tokens), std::vector<std::uint8_t>(view.begin(), view.end()),
      pattern == "o200k" ? astromesh::Pattern::o200k : astromesh::Pattern::cl100k);
}

static std::size_t found(std::optional<std::size_t> number) {
  if (!number) throw py::value_error("text: half of a character is in it");
  return *number;
}

void add_bpe(py::module_& m) {
  py::class_<Bpe>(m, "Bpe", "See servers.kernel.native.bpe.Bpe.")
      .def(py::init(&made), py::arg("tokens"), py::arg("kinds"), py::arg("pattern"))
      .def("count",
           [](const Bpe& bpe, const py::str& text) {
             return found(with_characters(text, [&](auto view) { return bpe.count(view); }));
           },
           py::arg("text"))
      .def("fitting",
           [](const Bpe& bpe, const py::str& text, py::ssize_t most) {
             const auto limit = static_cast<std::size_t>(std::max<py::ssize_t>(most, 0));
             return found(
                 with_characters(text, [&](auto view) { return bpe.fitting(view, limit); }));
           },
           py::arg("text"), py::arg("most"));
}
