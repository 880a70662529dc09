// What the CPU kernels ask of torch: its stable ABI and no more, so that a library compiled against one torch serves all
// later ones, and older ones back to TORCH_TARGET_VERSION (see build.FLAGS).
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace louder {

using torch::stable::Tensor;
using Optional = std::optional<Tensor>;
using Sizes = std::vector<int64_t>;

// Raises RuntimeError with these parts for its message.
template <typename... Parts>
inline void check(bool fine, const Parts&... parts) {
  if (fine) [[likely]]
    return;
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

inline int32_t dtype_of(const Tensor& x) {
  int32_t dtype;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(x.get(), &dtype));
  return dtype;
}
inline bool is_float(const Tensor& x) { return dtype_of(x) == aoti_torch_dtype_float32(); }

// A tensor's numbers, which must be of this type. torch::stable asks for their type as well, but compares it with all
// there are, a call for each.
template <typename T>
inline void check_type(const Tensor& x) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, int64_t> || std::is_same_v<T, bool>);
  if constexpr (std::is_same_v<T, float>)
    check(is_float(x), "expected float32");
  else if constexpr (std::is_same_v<T, int64_t>)
    check(dtype_of(x) == aoti_torch_dtype_int64(), "expected int64");
  else
    check(dtype_of(x) == aoti_torch_dtype_bool(), "expected bool");
}
template <typename T>
inline const T* numbers(const Tensor& x) {
  check_type<T>(x);
  return static_cast<const T*>(x.const_data_ptr());
}
// to write to
template <typename T = float>
inline T* new_numbers(const Tensor& x) {
  check_type<T>(x);
  return static_cast<T*>(x.mutable_data_ptr());
}

// A contiguous tensor on the CPU, of `like`'s dtype. Asked of the ABI's own function: torch::stable::new_empty looks an op
// up by its name in each call.
inline Tensor empty(const Sizes& sizes, const Tensor& like) {
  Sizes strides(sizes.size());
  int64_t stride = 1;
  for (size_t n = sizes.size(); n-- > 0; stride *= sizes[n]) strides[n] = stride;
  AtenTensorHandle made;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(sizes.size(), sizes.data(), strides.data(), dtype_of(like),
                                                         aoti_torch_device_type_cpu(), 0, &made));
  return Tensor(made);
}
inline Tensor zeros(const Sizes& sizes, const Tensor& like) {
  const Tensor x = empty(sizes, like);
  TORCH_ERROR_CODE_CHECK(aoti_torch_zero_(x.get()));
  return x;
}
inline Tensor new_like(const Tensor& x) {
  const auto sizes = x.sizes();
  return empty(Sizes(sizes.begin(), sizes.end()), x);
}

inline Tensor made_contiguous(const Tensor& x) { return x.is_contiguous() ? x : torch::stable::contiguous(x); }
inline Optional made_contiguous(const Optional& x) { return x ? Optional(made_contiguous(*x)) : std::nullopt; }
inline Tensor floats(const Tensor& x) {
  return made_contiguous(is_float(x) ? x : torch::stable::to(x, torch::headeronly::ScalarType::Float));
}

// Contiguous, and of its own memory
inline Tensor copy(const Tensor& x) {
  const Tensor out = new_like(x);
  TORCH_ERROR_CODE_CHECK(aoti_torch_copy_(out.get(), x.get(), 0));
  return out;
}
// [rows, columns] of a matrix's numbers, without a copy
inline Tensor strided(const Tensor& x, int64_t rows, int64_t columns, int64_t row, int64_t column) {
  const int64_t sizes[] = {rows, columns}, strides[] = {row, column};
  AtenTensorHandle view;
  TORCH_ERROR_CODE_CHECK(aoti_torch_as_strided(x.get(), sizes, strides, &view));
  return Tensor(view);
}
inline Tensor transposed(const Tensor& x) {
  return copy(strided(x, x.size(1), x.size(0), x.stride(1), x.stride(0)));
}

inline int64_t threads() { return torch::stable::get_num_threads(); }

// work(first, last) for stretches of from .. to, in torch's threads. What one of them throws is thrown here: an exception
// does not pass through the ABI.
template <typename Work>
void parallel_for(int64_t from, int64_t to, int64_t grain, const Work& work) {
  struct Call {
    const Work& work;
    std::atomic_flag failed;
    std::exception_ptr error;
  } call{work, {}, nullptr};
  const auto run = [](int64_t first, int64_t last, void* given) {
    auto& call = *static_cast<Call*>(given);
    try {
      call.work(first, last);
    } catch (...) {
      if (!call.failed.test_and_set()) call.error = std::current_exception();
    }
  };
  TORCH_ERROR_CODE_CHECK(torch_parallel_for(from, to, grain, run, &call));
  if (call.error) std::rethrow_exception(call.error);
}

}  // namespace louder
