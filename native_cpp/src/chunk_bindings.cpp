// The Python face of chunks.hpp and sentences.hpp.

#include "astromesh/chunks.hpp"

#include <string>
#include <vector>

#include "astromesh/sentences.hpp"
#include "bindings.hpp"
#include "values.hpp"

using astromesh::Stretch;

static void check_sizes(py::ssize_t size, py::ssize_t overlap) {
  const auto said = [](py::ssize_t number) { return std::to_string(number); };
  if (size < 1) throw py::value_error("size: " + said(size) + " is less than 1");
  if (overlap < 0 || overlap >= size)
    throw py::value_error("overlap: " + said(overlap) + " is not from 0 to " + said(size - 1) +
                          ", one less than the size");
}

static std::vector<std::u32string> code_points(const py::sequence& texts) {
  std::vector<std::u32string> out;
  for (const py::handle each : texts) {
    const auto text = py::cast<py::str>(each);
    auto& points = out.emplace_back(static_cast<std::size_t>(PyUnicode_GET_LENGTH(text.ptr())), 0);
    for (std::size_t i = 0; i < points.size(); ++i)
      points[i] = PyUnicode_READ_CHAR(text.ptr(), static_cast<py::ssize_t>(i));
  }
  return out;
}

// By hand: the most of the time is spent here where chunks are short.
static PyObject* pair(const Stretch& each) {
  PyObject* out = PyTuple_New(2);
  if (!out) throw py::error_already_set();
  PyTuple_SET_ITEM(out, 0, PyLong_FromSize_t(each.start));
  PyTuple_SET_ITEM(out, 1, PyLong_FromSize_t(each.end));
  return out;
}

static py::list pairs(std::span<const Stretch> spans) {
  py::list out(spans.size());
  for (std::size_t i = 0; i < spans.size(); ++i)
    PyList_SET_ITEM(out.ptr(), static_cast<py::ssize_t>(i), pair(spans[i]));
  return out;
}

static astromesh::Chunks cut(const py::str& text, py::ssize_t size, py::ssize_t overlap,
                             const py::sequence& separators, const std::string& keep,
                             bool strip) {
  constexpr std::size_t most = 256;  // they are nested calls
  check_sizes(size, overlap);
  if (keep != "start" && keep != "end" && !keep.empty())
    throw py::value_error("keep: '" + keep + R"(' is none of "start", "end" and "")");
  const auto points = code_points(separators);
  if (points.empty() || points.size() > most)
    throw py::value_error("separators: " + std::to_string(points.size()) +
                          " are not from 1 to " + std::to_string(most));
  using astromesh::Keep;
  const astromesh::Cutting how{
      static_cast<std::size_t>(size), static_cast<std::size_t>(overlap),
      keep == "start" ? Keep::start : keep == "end" ? Keep::end : Keep::none, strip};
  return with_characters(
      text, [&](auto view) { return astromesh::recursive_chunks(view, how, points); });
}

static std::span<const Stretch> stretches_of(const astromesh::Chunks& chunks, std::size_t i) {
  const std::span<const Stretch> all = chunks.stretches;
  const std::size_t first = chunks.firsts[i];
  const std::size_t last = i + 1 < chunks.firsts.size() ? chunks.firsts[i + 1] : all.size();
  return all.subspan(first, last - first);
}

static py::list recursive_chunks(const py::str& text, py::ssize_t size, py::ssize_t overlap,
                                 const py::sequence& separators, const std::string& keep,
                                 bool strip) {
  const auto chunks = cut(text, size, overlap, separators, keep, strip);
  py::list out(chunks.firsts.size());
  for (std::size_t i = 0; i < chunks.firsts.size(); ++i) {
    const auto some = stretches_of(chunks, i);
    py::tuple chunk(some.size());
    for (std::size_t j = 0; j < some.size(); ++j)
      PyTuple_SET_ITEM(chunk.ptr(), static_cast<py::ssize_t>(j), pair(some[j]));
    PyList_SET_ITEM(out.ptr(), static_cast<py::ssize_t>(i), chunk.release().ptr());
  }
  return out;
}

static py::list sentence_spans(const py::str& text) {
  return pairs(with_characters(text, [](auto view) { return astromesh::sentence_spans(view); }));
}

static std::vector<Stretch> cut_sentences(const py::str& text, py::ssize_t size,
                                          py::ssize_t overlap) {
  check_sizes(size, overlap);
  return with_characters(text, [&](auto view) {
           return astromesh::sentence_chunks(view, static_cast<std::size_t>(size),
                                             static_cast<std::size_t>(overlap));
         }).stretches;
}

static py::list sentence_chunks(const py::str& text, py::ssize_t size, py::ssize_t overlap) {
  return pairs(cut_sentences(text, size, overlap));
}

static py::list recursive_values(const py::type& kind, const py::str& text, py::ssize_t size,
                                 py::ssize_t overlap, const py::sequence& separators,
                                 const std::string& keep, bool strip) {
  const auto chunks = cut(text, size, overlap, separators, keep, strip);
  const Values values{kind, text};
  py::list out;
  std::size_t covered = 0;
  for (std::size_t i = 0; i < chunks.firsts.size(); ++i) {
    const auto some = stretches_of(chunks, i);
    if (some.back().end <= covered) continue;
    covered = some.back().end;
    out.append(values.of(some));
  }
  return out;
}

static py::list listed(const Values& values, std::span<const Stretch> spans) {
  py::list out(spans.size());
  for (std::size_t i = 0; i < spans.size(); ++i)
    PyList_SET_ITEM(out.ptr(), static_cast<py::ssize_t>(i),
                    values.of(spans.subspan(i, 1)).release().ptr());
  return out;
}

static py::list sentence_values(const py::type& kind, const py::str& text, py::ssize_t size,
                                py::ssize_t overlap) {
  return listed(Values{kind, text}, cut_sentences(text, size, overlap));
}

static py::list fixed_values(const py::type& kind, const py::str& text, py::ssize_t size,
                             py::ssize_t overlap) {
  check_sizes(size, overlap);
  const auto length = static_cast<std::size_t>(PyUnicode_GET_LENGTH(text.ptr()));
  return listed(Values{kind, text},
                astromesh::fixed_chunks(length, static_cast<std::size_t>(size),
                                        static_cast<std::size_t>(overlap)));
}

void add_chunks(py::module_& m) {
  m.def("recursive_chunks", &recursive_chunks, py::arg("text"), py::arg("size"),
        py::arg("overlap") = 0, py::arg("separators") = py::make_tuple("\n\n", "\n", " ", ""),
        py::arg("keep") = "start", py::arg("strip") = true,
        "See servers.kernel.native.chunks.recursive_chunks.");
  m.def("sentence_spans", &sentence_spans, py::arg("text"),
        "See servers.kernel.native.sentences.sentence_spans.");
  m.def("sentence_chunks", &sentence_chunks, py::arg("text"), py::arg("size"),
        py::arg("overlap") = 0, "See servers.kernel.native.sentences.sentence_chunks.");
  m.def("recursive_values", &recursive_values, py::arg("kind"), py::arg("text"), py::arg("size"),
        py::arg("overlap") = 0, py::arg("separators") = py::make_tuple("\n\n", "\n", " ", ""),
        py::arg("keep") = "start", py::arg("strip") = true,
        "See servers.kernel.native.values.recursive_values.");
  m.def("sentence_values", &sentence_values, py::arg("kind"), py::arg("text"), py::arg("size"),
        py::arg("overlap") = 0, "See servers.kernel.native.values.sentence_values.");
  m.def("fixed_values", &fixed_values, py::arg("kind"), py::arg("text"), py::arg("size"),
        py::arg("overlap") = 0, "See servers.kernel.native.values.fixed_values.");
}
