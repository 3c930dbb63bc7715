// The Python face of nearest.hpp, diverse.hpp and max_sim.hpp.

#include "astromesh/nearest.hpp"

#include <pybind11/stl.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "astromesh/coded_rows.hpp"
#include "astromesh/diverse.hpp"
#include "astromesh/max_sim.hpp"
#include "astromesh/parts.hpp"
#include "bindings.hpp"

using astromesh::Half;
using astromesh::Hit;
using astromesh::Metric;

using Hits = std::vector<std::vector<Hit>>;

static std::size_t wanted(py::ssize_t k) {
  if (k < 1) throw py::value_error("k: " + std::to_string(k) + " is less than 1");
  return static_cast<std::size_t>(k);
}

static std::size_t workers(py::ssize_t threads) {
  if (threads < 1) throw py::value_error("threads: " + std::to_string(threads) + " is less than 1");
  return static_cast<std::size_t>(threads);
}

static Metric metric_of(const std::string& name) {
  if (name == "cosine") return Metric::cosine;
  if (name == "dot") return Metric::dot;
  if (name == "l2") return Metric::l2;
  throw py::value_error("metric: '" + name + "' is none of cosine, dot, l2");
}

static astromesh::Queries queries_of(const Floats& queries, const py::array& rows) {
  if (queries.ndim() != 2 || queries.shape(1) == 0 || !rows_fit(rows, queries.shape(1)))
    throw py::value_error("need queries of shape (b, d) and rows of shape (n, d), d > 0");
  if (!are_finite(view(queries))) throw py::value_error("a query holds a NaN or an infinity");
  return {queries.data(), static_cast<std::size_t>(queries.shape(0)),
          static_cast<std::size_t>(queries.shape(1))};
}

// Rows and scores as two arrays; every query has as many.
static py::tuple arrays_of(const Hits& hits, std::size_t size, Metric metric) {
  Array<std::int64_t> rows({hits.size(), size});
  Array<double> scores({hits.size(), size});
  std::int64_t* row = rows.mutable_data();
  double* score = scores.mutable_data();
  for (const auto& some : hits)
    for (const Hit& hit : some) {
      *row++ = static_cast<std::int64_t>(hit.row);
      *score++ = metric == Metric::l2 ? std::sqrt(-hit.score) : hit.score;
    }
  return py::make_tuple(std::move(rows), std::move(scores));
}

// Calls `work` with the rows as float16 where they are that, as float32 otherwise. The arrays
// that it gets the memory of live as long as the call.
template <typename Work>
static auto with_rows(const py::object& given, const Work& work) {
  const py::object numpy = py::module_::import("numpy");
  const py::array array = numpy.attr("asarray")(given);
  if (array.dtype().kind() == 'f' && array.itemsize() == sizeof(Half)) {
    const py::array halves = numpy.attr("require")(array, py::none(), "CA");
    return work(halves, static_cast<const Half*>(halves.data()));
  }
  const Floats rows = floats(array);
  return work(rows, rows.data());
}

static py::tuple top_k(const py::object& queries, const py::object& rows, py::ssize_t k,
                       const std::string& metric_name, py::ssize_t threads) {
  const std::size_t most = wanted(k), at_work = workers(threads);
  const Metric metric = metric_of(metric_name);
  const Floats query_array = floats(queries);
  return with_rows(rows, [&]<typename Row>(const py::array& array, const Row* data) {
    const auto q = queries_of(query_array, array);
    const auto count = static_cast<std::size_t>(array.shape(0));
    Hits hits;
    {
      py::gil_scoped_release unlocked;  // the arrays keep the memory alive
      const astromesh::PlainRows<Row> plain{q, data, count, astromesh::best_tiles<Row>()};
      hits = astromesh::nearest(plain, q.count, most, metric, at_work);
    }
    return arrays_of(hits, std::min(most, count), metric);
  });
}

static py::tuple code_top_k(const py::object& queries, const py::object& codes,
                            const py::object& scales, const py::object& squares,
                            const py::object& sums, py::ssize_t k,
                            const std::string& metric_name, py::ssize_t threads) {
  const std::size_t most = wanted(k), at_work = workers(threads);
  const Metric metric = metric_of(metric_name);
  const Floats query_array = floats(queries), scale_array = floats(scales);
  const auto code_array = array_of<std::int8_t>(codes, "int8");
  const auto square_array = array_of<double>(squares, "float64");
  const auto sum_array = array_of<std::int32_t>(sums, "int32");
  const auto q = queries_of(query_array, code_array);
  const py::ssize_t count = code_array.shape(0);
  if (q.size > astromesh::kMostCodes || scale_array.size() != count ||
      square_array.size() != count || sum_array.size() != count)
    throw py::value_error("codes, scales, squares and sums are not those that quantise gives");
  const astromesh::Codes rows{code_array.data(), scale_array.data(), square_array.data(),
                              sum_array.data(), static_cast<std::size_t>(count)};
  Hits hits;
  {
    py::gil_scoped_release unlocked;
    const astromesh::CodedRows coded{q, rows, astromesh::best_code_kernels()};
    hits = astromesh::nearest(coded, q.count, most, metric, at_work);
  }
  return arrays_of(hits, std::min(most, rows.count), metric);
}

static py::tuple rescore(const py::object& queries, const py::object& rows,
                         const py::object& candidates, py::ssize_t k,
                         const std::string& metric_name) {
  const std::size_t most = wanted(k);
  const Metric metric = metric_of(metric_name);
  const Floats query_array = floats(queries);
  const auto named = array_of<std::int64_t>(candidates, "int64");
  return with_rows(rows, [&]<typename Row>(const py::array& array, const Row* data) {
    const auto q = queries_of(query_array, array);
    const auto count = static_cast<std::size_t>(array.shape(0));
    if (named.ndim() != 2 || named.shape(0) != query_array.shape(0))
      throw py::value_error("rescore: need candidates of shape (queries, some)");
    std::vector<std::int64_t> some(view(named).begin(), view(named).end());
    if (!std::ranges::all_of(some, [&](std::int64_t row) {
          return row >= 0 && static_cast<std::size_t>(row) < count;
        }))
      throw py::value_error("rescore: a candidate is none of the " + std::to_string(count) +
                            " rows");
    const auto width = static_cast<std::size_t>(named.shape(1));
    Hits hits;
    {
      py::gil_scoped_release unlocked;
      const astromesh::PlainRows<Row> plain{q, data, count, astromesh::best_tiles<Row>()};
      for (std::size_t i = 0; i < q.count; ++i) {
        const std::span<std::int64_t> own{some.data() + i * width, width};
        std::ranges::sort(own);
        hits.push_back(astromesh::best_of(plain, i, own, most, metric));
      }
    }
    return arrays_of(hits, std::min(most, width), metric);
  });
}

static std::vector<std::size_t> mmr(const py::object& relevance, const py::object& rows,
                                    py::ssize_t k, double trade) {
  const std::size_t most = wanted(k);
  if (!(trade >= 0 && trade <= 1))
    throw py::value_error(py::str("trade: {:g} is not from 0 to 1").format(trade).cast<std::string>());
  const auto scores = array_of<double>(relevance, "float64");
  const Floats row_array = floats(rows);
  const bool is_empty = row_array.ndim() > 0 && row_array.shape(0) == 0;
  const bool has_rows = is_empty || (row_array.ndim() == 2 && row_array.shape(1) > 0);
  if (scores.ndim() != 1 || !has_rows || scores.shape(0) != row_array.shape(0))
    throw py::value_error("mmr: need relevance of shape (n,) and rows of shape (n, d), d > 0");
  if (!std::ranges::all_of(view(scores), [](double x) { return std::isfinite(x); }))
    throw py::value_error("mmr: the relevance of a row is a NaN or an infinity");
  py::gil_scoped_release unlocked;
  return astromesh::mmr(view(scores), view(row_array), most, trade);
}

static std::vector<double> neighbours(const py::object& rows) {
  const Floats array = floats(rows);
  if (array.ndim() > 0 && array.shape(0) == 0) return {};
  if (array.ndim() != 2 || array.shape(1) == 0)
    throw py::value_error("neighbours: need rows of shape (n, d), d > 0");
  py::gil_scoped_release unlocked;
  return astromesh::neighbours(view(array), static_cast<std::size_t>(array.shape(1)));
}

static Array<float> max_sim(const py::object& query, const py::object& rows) {
  const Floats query_array = floats(query), row_array = floats(rows);
  if (query_array.ndim() != 2 || query_array.shape(1) == 0 ||
      !rows_fit(row_array, query_array.shape(1)))
    throw py::value_error("max_sim: need a query of shape (m, d) and rows of shape (n, d), d > 0");
  if (!are_finite(view(query_array)))
    throw py::value_error("max_sim: the query holds a NaN or an infinity");
  const astromesh::Queries queries{query_array.data(),
                                   static_cast<std::size_t>(query_array.shape(0)),
                                   static_cast<std::size_t>(query_array.shape(1))};
  std::vector<float> best;
  {
    py::gil_scoped_release unlocked;
    best = astromesh::max_sim(queries, view(row_array));
  }
  return Array<float>(static_cast<py::ssize_t>(best.size()), best.data());
}

void add_nearest(py::module_& m) {
  m.def("top_k", &top_k, py::arg("queries"), py::arg("rows"), py::arg("k"),
        py::arg("metric") = "cosine", py::arg("threads") = 1,
        "See servers.kernel.native.nearest.top_k. The arrays must not be written to meanwhile.");
  m.def("code_top_k", &code_top_k, py::arg("queries"), py::arg("codes"), py::arg("scales"),
        py::arg("squares"), py::arg("sums"), py::arg("k"), py::arg("metric") = "cosine",
        py::arg("threads") = 1, "See servers.kernel.native.nearest.code_top_k.");
  m.def("rescore", &rescore, py::arg("queries"), py::arg("rows"), py::arg("candidates"),
        py::arg("k"), py::arg("metric") = "cosine", "See servers.kernel.native.nearest.rescore.");
  m.def("mmr", &mmr, py::arg("relevance"), py::arg("rows"), py::arg("k"),
        py::arg("trade") = 0.5, "See servers.kernel.native.diverse.mmr.");
  m.def("max_sim", &max_sim, py::arg("query"), py::arg("rows"),
        "See servers.kernel.native.late_interaction.max_sim.");
  m.def("neighbours", &neighbours, py::arg("rows"),
        "See servers.kernel.native.diverse.neighbours.");
}
