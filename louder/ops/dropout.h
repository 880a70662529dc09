// What dropout keeps, for the kernels that have it inside.
#pragma once

#include "simd.h"

namespace louder {

// Which elements dropout keeps: see random_bits.keep_factors.
struct Dropout {
  uint32_t dropped;
  float kept_scale;
  uint64_t seed;

  // factors [width] of one row
  void row(int64_t index, int64_t width, float* factors) const {
    if (dropped == 0) return std::fill(factors, factors + width, 1.0f);
    const uint64_t first = static_cast<uint64_t>(index) * width;
    const uint32_t counter = first >> 1, odd = first & 1, columns = width, limit = dropped;
    const uint64_t own_seed = seed;  // copies: the compiler must know that `factors` does not change them
    const float scale = kept_scale;
#pragma omp simd
    for (uint32_t c = 0; c < columns; ++c) {
      const uint32_t element = c + odd;
      const uint32_t bits = louder::random_bits(own_seed, counter + (element >> 1)) >> (16 * (element & 1)) & 0xFFFF;
      factors[c] = bits >= limit ? scale : 0.0f;
    }
  }
};

}  // namespace louder
