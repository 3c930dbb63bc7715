// The Python face of native_cpp: check, release the GIL, call, convert. No algorithms here.

#include <pybind11/stl.h>

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "astromesh/pii.hpp"
#include "astromesh/rank.hpp"
#include "bindings.hpp"

static std::vector<std::pair<std::size_t, double>> rank(const py::object& query,
                                                        const py::object& rows, py::ssize_t k) {
  const Floats query_array = floats(query), row_array = floats(rows);
  if (query_array.ndim() != 1 || query_array.size() == 0 ||
      !rows_fit(row_array, query_array.size()))
    throw py::value_error("rank: need query of shape (d,) and rows of shape (n, d), d > 0");
  const auto q = view(query_array), r = view(row_array);
  if (!are_finite(q))
    throw py::value_error("rank: the query holds a NaN or an infinity");
  if (k <= 0) return {};

  std::vector<astromesh::Hit> hits;
  {
    py::gil_scoped_release unlocked;  // the two arrays above keep the memory alive
    hits = astromesh::rank(q, r, static_cast<std::size_t>(k));
  }
  std::vector<std::pair<std::size_t, double>> out;
  out.reserve(hits.size());
  for (const auto& hit : hits) out.emplace_back(hit.row, hit.score);
  return out;
}

static std::pair<std::vector<std::tuple<std::size_t, std::size_t, int>>, std::size_t> pii_scan(
    const py::str& text, py::ssize_t begin, bool is_final, unsigned kinds) {
  const auto from = static_cast<std::size_t>(std::max<py::ssize_t>(begin, 0));
  const auto scan = with_characters(
      text, [&](auto view) { return astromesh::pii_scan(view, from, is_final, kinds); });
  std::vector<std::tuple<std::size_t, std::size_t, int>> spans;
  spans.reserve(scan.spans.size());
  for (const auto& each : scan.spans)
    spans.emplace_back(each.start, each.end, static_cast<int>(each.kind));
  return {std::move(spans), scan.held};
}

PYBIND11_MODULE(_speedups, m, py::mod_gil_not_used()) {
  m.doc() = "Compiled twins of the functions in servers.kernel.native.";
  m.def("rank", &rank, py::arg("query"), py::arg("rows"), py::arg("k"),
        "See servers.kernel.native.reference.rank. The arrays must not be written to meanwhile.");
  m.def("pii_scan", &pii_scan, py::arg("text"), py::arg("begin") = 0, py::arg("final") = true,
        py::arg("kinds") = astromesh::kAllPii, "See servers.kernel.native.pii.pii_scan.");
  add_bpe(m);
  add_chunks(m);
  add_nearest(m);
}
