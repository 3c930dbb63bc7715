#pragma once
// Makes values of stretches of a text: instances of a Python class with `text`, `start` and `end`.

#include <pybind11/pybind11.h>

#include <array>
#include <cstddef>
#include <span>

#include "astromesh/chunks.hpp"

namespace py = pybind11;

// Where the class keeps the three in slots (`__slots__`) they are set there, without a call of
// Python's code: making a value would take longer than finding the chunk.
class Values {
 public:
  Values(const py::type& kind, const py::str& text) : kind_(kind), text_(text) {
    constexpr const char* names[] = {"text", "start", "end"};
    for (std::size_t i = 0; i < 3; ++i) {
      slots_[i] = py::getattr(kind, names[i], py::none());
      has_slots_ = has_slots_ && Py_IS_TYPE(slots_[i].ptr(), &PyMemberDescr_Type);
    }
  }

  py::object of(std::span<const astromesh::Stretch> stretches) const {
    const std::array<py::object, 3> fields{said(stretches), number(stretches.front().start),
                                           number(stretches.back().end)};
    if (!has_slots_) return kind_(fields[0], fields[1], fields[2]);
    auto* type = reinterpret_cast<PyTypeObject*>(kind_.ptr());
    auto value = py::reinterpret_steal<py::object>(type->tp_alloc(type, 0));
    if (!value) throw py::error_already_set();
    for (std::size_t i = 0; i < 3; ++i)
      if (PyMemberDescr_Type.tp_descr_set(slots_[i].ptr(), value.ptr(), fields[i].ptr()) < 0)
        throw py::error_already_set();
    return value;
  }

 private:
  static py::object checked(PyObject* made) {
    if (!made) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(made);
  }
  static py::object number(std::size_t n) { return checked(PyLong_FromSize_t(n)); }

  py::object part(const astromesh::Stretch& each) const {
    return checked(PyUnicode_Substring(text_.ptr(), static_cast<py::ssize_t>(each.start),
                                       static_cast<py::ssize_t>(each.end)));
  }

  py::object said(std::span<const astromesh::Stretch> stretches) const {
    if (stretches.size() == 1) return part(stretches[0]);
    py::list parts;
    for (const auto& each : stretches) parts.append(part(each));
    return checked(PyUnicode_Join(py::str("").ptr(), parts.ptr()));
  }

  py::type kind_;
  py::str text_;
  std::array<py::object, 3> slots_;
  bool has_slots_ = true;
};
