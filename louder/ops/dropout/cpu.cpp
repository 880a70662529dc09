// Dropout on a CPU, float32: see random_bits.keep_factors.
#include "simd.h"

namespace {

using louder::Tensor;

constexpr int64_t COLUMNS = 512;  // elements drawn at a time; even, so that no pair is cut

Tensor dropout(const Tensor& x_, int64_t dropped, double kept_scale, int64_t seed) {
  const auto out_ = louder::new_like(x_);
  louder::check(x_.is_contiguous(), "x must be contiguous");
  const louder::Dropout dropout(dropped, kept_scale, seed);
  const float* x = louder::numbers<float>(x_);
  float* out = louder::new_numbers(out_);
  const int64_t total = x_.numel();
  louder::parallel_for(0, (total + COLUMNS - 1) / COLUMNS, 8, [&](int64_t first, int64_t last) {
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

STABLE_TORCH_LIBRARY_FRAGMENT(louder_cpu, library) {
  library.def("dropout(Tensor x, int dropped, float kept_scale, int seed) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(louder_cpu, CompositeImplicitAutograd, library) {
  library.impl("dropout", TORCH_BOX(&dropout));
}
