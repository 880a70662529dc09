// What the CPU kernels share: vectors of floats, a small matrix product, exp, and dropout, and a fair way to hand out work.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__SSE__)
#include <immintrin.h>
#endif

#include "tensor.h"

namespace louder {

#if defined(__AVX512F__)
constexpr int64_t LANES = 16;
#elif defined(__AVX__)
constexpr int64_t LANES = 8;
#else
constexpr int64_t LANES = 4;
#endif
typedef float Vec __attribute__((vector_size(LANES * sizeof(float))));  // + - * work on all lanes at once

inline Vec load(const float* from) {
  Vec x;
  std::memcpy(&x, from, sizeof x);  // one unaligned load
  return x;
}
inline void store(float* to, Vec x) { std::memcpy(to, &x, sizeof x); }

inline Vec multiply_add(float a, Vec b, Vec total) { return total + a * b; }

#if defined(__AVX512BF16__)
// Two bfloat16 side by side: processors that multiply bfloat16 add two products at a time to a float32.
struct Pair {
  uint16_t first, second;
};
typedef __m512i PairVec;

inline PairVec load(const Pair* from) { return _mm512_loadu_si512(from); }
inline Vec multiply_add(Pair a, PairVec b, Vec total) {
  int32_t bits;
  std::memcpy(&bits, &a, sizeof bits);
  return _mm512_dpbf16_ps(total, reinterpret_cast<__m512bh>(_mm512_set1_epi32(bits)), reinterpret_cast<__m512bh>(b));
}

// 32 floats, rounded -> 16 pairs of neighbours
inline void store_neighbours(Pair* to, const float* from) {
  _mm512_storeu_si512(to, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(load(from + LANES), load(from))));
}

// 16 floats of each of two rows, rounded -> 16 pairs with one of each
inline void store_across(Pair* to, Vec first, Vec second) {
  const auto wide = [](Vec x) { return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x))); };
  _mm512_storeu_si512(to, _mm512_or_si512(wide(first), _mm512_slli_epi32(wide(second), 16)));
}
#endif

inline float sum(Vec x) {
  typedef float Four __attribute__((vector_size(16)));
  Four parts[LANES / 4];
  std::memcpy(parts, &x, sizeof x);
  for (int64_t n = 1; n < LANES / 4; ++n) parts[0] += parts[n];
  return (parts[0][0] + parts[0][2]) + (parts[0][1] + parts[0][3]);
}

inline int64_t round_up(int64_t x) { return (x + LANES - 1) / LANES * LANES; }

// [rows, width], the tensor itself if its rows are contiguous and fill whole vectors, else a copy padded with zeros.
inline Tensor padded(const Tensor& x) {
  const int64_t rows = x.size(0), width = x.size(1), wide = round_up(width);
  if (wide == width && x.stride(1) == 1) return x;
  const Tensor out = zeros({rows, wide}, x), own = strided(out, rows, width, wide, 1);
  TORCH_ERROR_CODE_CHECK(aoti_torch_copy_(own.get(), x.get(), 0));
  return out;
}

// The first or last numbers of a row that does not fill its last vector: the rest is zero, or is left alone.
inline Vec load(const float* from, int64_t count) {
  Vec x = {};
  std::memcpy(&x, from, count * sizeof(float));
  return x;
}
inline void store(float* to, Vec x, int64_t count) { std::memcpy(to, &x, count * sizeof(float)); }

// out[n] = function(a[n], ...) for n < count, a vector at a time; out may be one of the inputs.
template <typename Function, typename... Inputs>
inline void map(int64_t count, float* out, const Function& function, const Inputs*... inputs) {
  int64_t n = 0;
  for (; n + LANES <= count; n += LANES) store(out + n, function(load(inputs + n)...));
  if (n < count) store(out + n, function(load(inputs + n, count - n)...), count - n);
}

// low <= x <= high in each lane; NaN stays NaN
inline Vec clamp(Vec x, float low, float high) {
  const Vec lows = Vec{} + low, highs = Vec{} + high;
#if defined(__AVX512F__)
  return _mm512_min_ps(highs, _mm512_max_ps(lows, x));  // of two operands, the second is taken if either is NaN
#elif defined(__AVX__)
  return _mm256_min_ps(highs, _mm256_max_ps(lows, x));
#elif defined(__SSE__)
  return _mm_min_ps(highs, _mm_max_ps(lows, x));
#else
  x = x < lows ? lows : x;
  return x > highs ? highs : x;
#endif
}

// exp within 2 units in the last place, for x up to 88; below -87 it stays at exp(-87), 1.6e-38. NaN stays NaN.
inline Vec exp(Vec x) {
  typedef uint32_t Bits __attribute__((vector_size(LANES * sizeof(float))));
  constexpr float MAGIC = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, kept in the low bits
  x = clamp(x, -87.0f, 88.0f);
  const Vec shifted = x * 1.44269504f + MAGIC, n = shifted - MAGIC;
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, to lose no digits
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.0f);
  return reinterpret_cast<Vec>(reinterpret_cast<Bits>(p) + (reinterpret_cast<Bits>(shifted) << 23));  // times 2^n
}

inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp(-x)); }
inline float exp(float x) { return exp(Vec{} + x)[0]; }
inline float sigmoid(float x) { return sigmoid(Vec{} + x)[0]; }

// C [M, N vectors] = (ADD ? start : 0) + A [M, depth] B [depth, N vectors], held in registers. Units of A and B are
// floats, or pairs; then a unit of B has the numbers of two rows in one column.
template <bool ADD, int M, int N, typename Unit>
inline void multiply_block(int64_t depth, const Unit* a, int64_t a_row, int64_t a_column, const Unit* b,
                           int64_t b_row, float* c, int64_t c_row, const float* start, int64_t start_row) {
  Vec total[M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) total[m][n] = ADD ? load(start + m * start_row + n * LANES) : Vec{};
  for (int64_t d = 0; d < depth; ++d) {
    decltype(load(b)) right[N];
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) right[n] = load(b + d * b_row + n * LANES);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
      for (int n = 0; n < N; ++n) total[m][n] = multiply_add(a[m * a_row + d * a_column], right[n], total[m][n]);
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) store(c + m * c_row + n * LANES, total[m][n]);
}

constexpr int BLOCK = LANES == 16 ? 12 : 6;  // rows: BLOCK times 2 vectors of C, 2 of B and one of A fill the registers

template <bool ADD, int N, typename Unit>
inline void multiply_columns(int64_t rows, int64_t depth, const Unit* a, int64_t a_row, int64_t a_column,
                             const Unit* b, int64_t b_row, float* c, int64_t c_row, const float* start,
                             int64_t start_row) {
  int64_t m = 0;
  for (; m + BLOCK <= rows; m += BLOCK)
    multiply_block<ADD, BLOCK, N>(depth, a + m * a_row, a_row, a_column, b, b_row, c + m * c_row, c_row,
                               start + m * start_row, start_row);
  for (; m + 4 <= rows; m += 4)
    multiply_block<ADD, 4, N>(depth, a + m * a_row, a_row, a_column, b, b_row, c + m * c_row, c_row,
                               start + m * start_row, start_row);
  for (; m + 2 <= rows; m += 2)
    multiply_block<ADD, 2, N>(depth, a + m * a_row, a_row, a_column, b, b_row, c + m * c_row, c_row,
                               start + m * start_row, start_row);
  if (m < rows)
    multiply_block<ADD, 1, N>(depth, a + m * a_row, a_row, a_column, b, b_row, c + m * c_row, c_row,
                              start + m * start_row, start_row);
}

// C [rows, columns] = (ADD ? start : 0) + A [rows, depth] B [depth, columns]; columns is a multiple of LANES.
// A's two strides are free, so the same function multiplies by A transposed. Fast if B's rows lie close together.
// Each number of C is summed in the order of depth, whatever the sizes: a row's bits do not depend on its neighbours.
template <bool ADD, typename Unit>
inline void multiply_from(int64_t rows, int64_t columns, int64_t depth, const Unit* a, int64_t a_row, int64_t a_column,
                          const Unit* b, int64_t b_row, float* c, int64_t c_row, const float* start,
                          int64_t start_row) {
  int64_t n = 0;
  for (; n + 2 * LANES <= columns; n += 2 * LANES)
    multiply_columns<ADD, 2>(rows, depth, a, a_row, a_column, b + n, b_row, c + n, c_row, start + n, start_row);
  if (n < columns)
    multiply_columns<ADD, 1>(rows, depth, a, a_row, a_column, b + n, b_row, c + n, c_row, start + n, start_row);
}

// The same, with C itself to start from
template <bool ADD, typename Unit>
inline void multiply(int64_t rows, int64_t columns, int64_t depth, const Unit* a, int64_t a_row, int64_t a_column,
                     const Unit* b, int64_t b_row, float* c, int64_t c_row) {
  multiply_from<ADD>(rows, columns, depth, a, a_row, a_column, b, b_row, c, c_row, c, c_row);
}

// out [width] = sum over n < count of weight(n) * row(n) [width], N vectors of it in registers at a time.
template <int N = 8, typename Weight, typename Row>
inline void weighted_sum(int64_t count, int64_t width, const Weight& weight, const Row& row, float* out,
                         int64_t done = 0) {
  for (; done + N * LANES <= width; done += N * LANES) {
    Vec total[N] = {};
    for (int64_t n = 0; n < count; ++n) {
      const float w = weight(n);
      const float* from = row(n) + done;
      for (int m = 0; m < N; ++m) total[m] += w * load(from + m * LANES);
    }
    for (int m = 0; m < N; ++m) store(out + done + m * LANES, total[m]);
  }
  if constexpr (N > 1) weighted_sum<N - 1>(count, width, weight, row, out, done);
}

constexpr int64_t AHEAD = 8;  // rows

// Asks for `bytes` of memory before they are needed: rows that lie far apart are not foreseen by the processor.
inline void prefetch(const void* from, int64_t bytes) {
  for (int64_t n = 0; n < bytes; n += 64) __builtin_prefetch(static_cast<const char*>(from) + n);
}

// 32 random bits of a seed and a counter: see random_bits.py.
inline uint32_t mix(uint32_t x) {
  x ^= x >> 16, x *= 0x7FEB352Du;
  x ^= x >> 15, x *= 0x846CA68Bu;
  return x ^ (x >> 16);
}
inline uint32_t random_bits(uint64_t seed, uint64_t counter) {
  return mix(mix(static_cast<uint32_t>(counter) ^ static_cast<uint32_t>(seed >> 32)) ^ static_cast<uint32_t>(seed));
}

// Which elements dropout keeps: see random_bits.keep_factors.
struct Dropout {
  uint32_t dropped;
  float kept_scale;
  uint64_t seed;

  Dropout(int64_t dropped_, double kept_scale_, int64_t seed_) : dropped(dropped_), kept_scale(kept_scale_), seed(seed_) {}

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
      const uint32_t bits = random_bits(own_seed, counter + (element >> 1)) >> (16 * (element & 1)) & 0xFFFF;
      factors[c] = bits >= limit ? scale : 0.0f;
    }
  }
};

// Runs work(next) on every thread; next() gives the tasks 0, 1, ... to whichever thread is free, then -1.
// Each task must write its own memory only: then the result does not depend on who did what.
template <typename Work>
void share_tasks(int64_t tasks, const Work& work) {
  std::atomic<int64_t> given{0};
  const auto next = [&]() -> int64_t {
    const int64_t task = given++;
    return task < tasks ? task : -1;
  };
  const int64_t workers = std::min<int64_t>(tasks, threads());
  parallel_for(0, workers, 1, [&](int64_t, int64_t) { work(next); });
}

}  // namespace louder
