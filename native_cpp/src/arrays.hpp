#pragma once
// Arrays of numpy as the algorithms want them: contiguous, aligned, of one type.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;
using Floats = Array<float>;

// The same memory where it is such an array already, a copy otherwise.
template <typename T>
Array<T> array_of(const py::object& given, const char* type) {
  if (Array<T>::check_(given)) {
    auto array = py::reinterpret_borrow<Array<T>>(given);
    if (reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) == 0) return array;
  }
  return py::module_::import("numpy").attr("require")(given, type, "CA").template cast<Array<T>>();
}

inline Floats floats(const py::object& given) { return array_of<float>(given, "float32"); }

template <typename T>
std::span<const T> view(const Array<T>& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}

inline bool are_finite(std::span<const float> numbers) {
  return std::ranges::all_of(numbers, [](float x) { return std::isfinite(x); });
}

// Whether rows have that many numbers each; no rows at all have any.
inline bool rows_fit(const py::array& rows, py::ssize_t size) {
  if (rows.ndim() > 0 && rows.shape(0) == 0) return true;
  return rows.ndim() == 2 && rows.shape(1) == size;
}
