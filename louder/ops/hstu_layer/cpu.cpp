// The parts of an HSTU layer between its matrix products and its attention, float32, one pass over memory each.
// The maths is in rows.py.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <tuple>
#include <vector>

#include "dropout.h"
#include "simd.h"

namespace {

constexpr int64_t GRAIN = 64;  // rows of a task

// [rows, width] floats of a tensor whose rows are contiguous
struct Matrix {
  float* data;
  int64_t rows, width, stride;
  explicit Matrix(const at::Tensor& x)
      : data(static_cast<float*>(x.data_ptr())), rows(x.size(0)), width(x.size(1)), stride(x.stride(0)) {
    TORCH_CHECK(x.scalar_type() == at::kFloat && (x.stride(1) == 1 || x.size(1) == 1), "rows must be contiguous floats");
  }
  float* operator[](int64_t row) const { return data + row * stride; }
};

struct Moments {
  float mean, inverse_deviation;
};

Moments moments(const float* x, int64_t width, float eps) {
  float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < width; ++c) sum += x[c];
  const float mean = sum / width;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < width; ++c) squares += (x[c] - mean) * (x[c] - mean);
  return {mean, 1.0f / std::sqrt(squares / width + eps)};
}

// out = add + the gradient of x, for the gradient d of its norm
void norm_backward_row(const float* x, const float* d, const float* add, int64_t width, float eps, float* out) {
  const auto [mean, inverse] = moments(x, width, eps);
  float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
  for (int64_t c = 0; c < width; ++c) sum += d[c], product += d[c] * (x[c] - mean);
  const float shift = sum / width, slope = product * inverse * inverse / width;
#pragma omp simd
  for (int64_t c = 0; c < width; ++c)
    out[c] = (add ? add[c] : 0.0f) + inverse * (d[c] - shift - (x[c] - mean) * slope);
}

at::Tensor norm(const at::Tensor& x_, double eps) {
  const auto out_ = at::empty({x_.size(0), x_.size(1)}, x_.options());
  const Matrix x(x_), out(out_);
  at::parallel_for(0, x.rows, GRAIN, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const auto [mean, inverse] = moments(x[row], x.width, eps);
      const float* from = x[row];
      float* to = out[row];
#pragma omp simd
      for (int64_t c = 0; c < x.width; ++c) to[c] = (from[c] - mean) * inverse;
    }
  });
  return out_;
}

at::Tensor norm_backward(const at::Tensor& x_, const at::Tensor& d_, const at::Tensor& add_, double eps) {
  const auto out_ = at::empty({x_.size(0), x_.size(1)}, x_.options());
  const Matrix x(x_), d(d_), add(add_), out(out_);
  at::parallel_for(0, x.rows, GRAIN, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) norm_backward_row(x[row], d[row], add[row], x.width, eps, out[row]);
  });
  return out_;
}

at::Tensor silu(const at::Tensor& x_) {
  const auto out_ = at::empty_like(x_);
  const float* x = x_.const_data_ptr<float>();
  float* out = out_.mutable_data_ptr<float>();
  TORCH_CHECK(x_.is_contiguous());
  at::parallel_for(0, x_.numel(), 4096, [&](int64_t first, int64_t last) {
#pragma omp simd
    for (int64_t n = first; n < last; ++n) out[n] = x[n] * louder::sigmoid(x[n]);
  });
  return out_;
}

at::Tensor gate(const at::Tensor& a_, const at::Tensor& u_, int64_t dropped, double kept_scale, int64_t seed,
                double eps) {
  const auto out_ = at::empty({a_.size(0), a_.size(1)}, a_.options());
  const Matrix a(a_), u(u_), out(out_);
  const louder::Dropout dropout{static_cast<uint32_t>(dropped), static_cast<float>(kept_scale), static_cast<uint64_t>(seed)};
  at::parallel_for(0, a.rows, GRAIN, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const auto [mean, inverse] = moments(a[row], a.width, eps);
      const float *from = a[row], *by = u[row];
      float* to = out[row];
      dropout.row(row, a.width, to);
#pragma omp simd
      for (int64_t c = 0; c < a.width; ++c) to[c] *= (from[c] - mean) * inverse * by[c];
    }
  });
  return out_;
}

// Gradients of a and u
std::tuple<at::Tensor, at::Tensor> gate_backward(const at::Tensor& d_, const at::Tensor& a_, const at::Tensor& u_,
                                                 int64_t dropped, double kept_scale, int64_t seed, double eps) {
  const auto da_ = at::empty({a_.size(0), a_.size(1)}, a_.options()), du_ = at::empty_like(da_);
  const Matrix d(d_), a(a_), u(u_), da(da_), du(du_);
  const louder::Dropout dropout{static_cast<uint32_t>(dropped), static_cast<float>(kept_scale), static_cast<uint64_t>(seed)};
  at::parallel_for(0, a.rows, GRAIN, [&](int64_t first, int64_t last) {
    std::vector<float> d_norm(a.width);
    for (int64_t row = first; row < last; ++row) {
      const auto [mean, inverse] = moments(a[row], a.width, eps);
      const float *from = a[row], *by = u[row], *grad = d[row];
      float *d_gate = du[row], *d_normed = d_norm.data();
      dropout.row(row, a.width, d_gate);
#pragma omp simd
      for (int64_t c = 0; c < a.width; ++c) {
        const float kept = grad[c] * d_gate[c];
        d_gate[c] = kept * (from[c] - mean) * inverse;
        d_normed[c] = kept * by[c];
      }
      norm_backward_row(from, d_normed, nullptr, a.width, eps, da[row]);
    }
  });
  return {da_, du_};
}

// The gradient of `projected`, for the gradients of the u, v, q and k that silu made of it, side by side
at::Tensor silu_backward(const at::Tensor& projected_, const at::Tensor& du_, const at::Tensor& dv_,
                         const at::Tensor& dq_, const at::Tensor& dk_) {
  const auto out_ = at::empty({projected_.size(0), projected_.size(1)}, projected_.options());
  const Matrix projected(projected_), out(out_);
  const Matrix parts[] = {Matrix(du_), Matrix(dv_), Matrix(dq_), Matrix(dk_)};
  at::parallel_for(0, out.rows, GRAIN, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const float* x = projected[row];
      float* to = out[row];
      for (const Matrix& part : parts) {
        const float* d = part[row];
#pragma omp simd
        for (int64_t c = 0; c < part.width; ++c) {
          const float sigmoid = louder::sigmoid(x[c]);
          to[c] = d[c] * (sigmoid + x[c] * sigmoid * (1.0f - sigmoid));
        }
        x += part.width, to += part.width;
      }
    }
  });
  return out_;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(louder_cpu, library) {
  library.def("hstu_layer_norm", &norm);
  library.def("hstu_layer_norm_backward", &norm_backward);
  library.def("hstu_layer_silu", &silu);
  library.def("hstu_layer_gate", &gate);
  library.def("hstu_layer_gate_backward", &gate_backward);
  library.def("hstu_layer_silu_backward", &silu_backward);
}
