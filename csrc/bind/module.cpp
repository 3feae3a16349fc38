// The Python module moltide._engine.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "core/env.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace py = pybind11;

// Ops are bound for the tests, one file a group.
void bind_ops_rows(py::module_& ops);
void bind_ops_matmul(py::module_& ops);
void bind_ops_int8(py::module_& ops);
void bind_ops_attention(py::module_& ops);
void bind_ops_pairs(py::module_& ops);
void bind_ops_loss(py::module_& ops);
void bind_ops_linear_attention(py::module_& ops);
void bind_model(py::module_& module);
void bind_trainer(py::module_& module);

PYBIND11_MODULE(_engine, module) {
  module.doc() = "The C++ engine of moltide; use it through the moltide package.";
  module.def("set_num_threads", &moltide::set_num_threads, py::arg("n"),
             py::call_guard<py::gil_scoped_release>(),
             "Number of threads the engine computes with (1..1024); results do not depend on it.");
  module.def("num_threads", &moltide::num_threads, "Number of threads the engine computes with.");
  module.def("set_isa", &moltide::set_isa, py::arg("name"),
             "Force an instruction set (one of available_isas()); raises ValueError otherwise.");
  module.def("active_isa", [] { return moltide::isa_name(moltide::active_isa()); });
  module.def("available_isas", [] {
    std::vector<std::string> names;
    for (auto isa : moltide::available_isas()) names.emplace_back(moltide::isa_name(isa));
    return names;
  });
  module.def("cpu_model", &moltide::cpu_model);
  module.def("available_memory", &moltide::available_memory,
             "Bytes this process can still take (machine and cgroup).");
  py::module_ ops = module.def_submodule("ops", "Single operations, for tests.");
  bind_ops_rows(ops);
  bind_ops_matmul(ops);
  bind_ops_int8(ops);
  bind_ops_attention(ops);
  bind_ops_pairs(ops);
  bind_ops_loss(ops);
  bind_ops_linear_attention(ops);
  bind_model(module);
  bind_trainer(module);
}
