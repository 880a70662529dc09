// Dropout on a CPU, float32: see random_bits.keep_factors.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "simd.h"

namespace {

constexpr int64_t COLUMNS = 512;  // elements drawn at a time; even, so that no pair is cut

at::Tensor dropout(const at::Tensor& x_, int64_t dropped, double kept_scale, int64_t seed) {
  const auto out_ = at::empty_like(x_);
  TORCH_CHECK(x_.is_contiguous());
  const louder::Dropout dropout(dropped, kept_scale, seed);
  const float* x = x_.const_data_ptr<float>();
  float* out = out_.mutable_data_ptr<float>();
  const int64_t total = x_.numel();
  at::parallel_for(0, (total + COLUMNS - 1) / COLUMNS, 8, [&](int64_t first, int64_t last) {
    float factors[COLUMNS];
    for (int64_t row = first; row < last; ++row) {
      const int64_t start = row * COLUMNS, count = std::min(COLUMNS, total - start);
      dropout.row(row, COLUMNS, factors);
#pragma omp simd
      for (int64_t c = 0; c < count; ++c) out[start + c] = x[start + c] * factors[c];
    }
  });
  return out_;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(louder_cpu, library) { library.def("dropout", &dropout); }
