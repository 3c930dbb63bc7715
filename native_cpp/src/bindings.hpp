#pragma once
// What the parts of the module share. Each part adds its functions.

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace py = pybind11;

void add_bpe(py::module_& m);
void add_chunks(py::module_& m);
void add_nearest(py::module_& m);

// Shorter texts are done sooner than the lock would be had again from a busy thread.
inline constexpr std::size_t kShort = 2048;

// Calls `work` with the characters of `text`, in the width in which Python keeps them, and
// without the lock where that pays: a text never changes, and the caller holds it.
template <typename Work>
auto with_characters(const py::str& text, const Work& work) {
  const auto run = [&]<typename Char>(const Char* data) {
    const std::span<const Char> view{data,
                                     static_cast<std::size_t>(PyUnicode_GET_LENGTH(text.ptr()))};
    if (view.size() < kShort) return work(view);
    py::gil_scoped_release unlocked;
    return work(view);
  };
  const void* data = PyUnicode_DATA(text.ptr());
  switch (PyUnicode_KIND(text.ptr())) {
    case PyUnicode_1BYTE_KIND: return run(static_cast<const Py_UCS1*>(data));
    case PyUnicode_2BYTE_KIND: return run(static_cast<const Py_UCS2*>(data));
    default: return run(static_cast<const Py_UCS4*>(data));
  }
}
