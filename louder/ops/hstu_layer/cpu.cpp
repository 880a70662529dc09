// What an HSTU layer does to its rows before and after attention, float32. The maths is in rows.py. For narrow layers
// the products are fused with what comes before and after them, a tile of rows at a time, so that memory is passed over
// once; for wide ones a BLAS product is faster, and what is left is here, one pass each.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>
#include <vector>

#include "simd.h"

namespace {

using louder::LANES;
using louder::round_up;
using louder::Vec;

constexpr int64_t GRAIN = 64;  // rows of a task
constexpr float EPS = 1e-6f;   // of the norms: rows.NORM_EPS

// [rows, width] floats of a tensor whose rows are contiguous
struct Matrix {
  float* data;
  int64_t rows, width, stride;
  explicit Matrix(const at::Tensor& x)
      : data(static_cast<float*>(x.data_ptr())), rows(x.size(0)), width(x.size(1)), stride(x.stride(0)) {
    TORCH_CHECK(x.scalar_type() == at::kFloat && (x.stride(1) == 1 || x.size(1) == 1), "rows must be contiguous floats");
  }
  float* operator[](int64_t row) const { return data + row * stride; }
  void prefetch(int64_t row) const {
    if (row + louder::AHEAD < rows) louder::prefetch(data + (row + louder::AHEAD) * stride, width * sizeof(float));
  }
};

struct Moments {
  float mean, inverse_deviation;
};

// Sum of function(a[n], ...) over n < count
template <typename Function, typename... Inputs>
float sum_of(int64_t count, const Function& function, const Inputs*... inputs) {
  Vec total = {};
  int64_t n = 0;
  for (; n + LANES <= count; n += LANES) total += function(louder::load(inputs + n)...);
  float rest = 0;
  if (n < count) {
    const Vec last = function(louder::load(inputs + n, count - n)...);
    for (int64_t lane = 0; lane < count - n; ++lane) rest += last[lane];
  }
  return louder::sum(total) + rest;
}

Moments moments(const float* x, int64_t width) {
  const float mean = sum_of(width, [](Vec x) { return x; }, x) / width;
  const float squares = sum_of(width, [mean](Vec x) { return (x - mean) * (x - mean); }, x);
  return {mean, 1.0f / std::sqrt(squares / width + EPS)};
}

void norm_row(const float* x, const Moments& of_x, int64_t width, float* out) {
  const auto [mean, inverse] = of_x;
  louder::map(width, out, [mean = mean, inverse = inverse](Vec x) { return (x - mean) * inverse; }, x);
}

// out = add + the gradient of x, for the gradient d of its norm
void norm_backward_row(const float* x, const Moments& of_x, const float* d, const float* add, int64_t width,
                       float* out) {
  const float mean = of_x.mean, inverse = of_x.inverse_deviation;
  const float shift = sum_of(width, [](Vec d) { return d; }, d) / width;
  const float product = sum_of(width, [mean](Vec d, Vec x) { return d * (x - mean); }, d, x);
  const float along = product * inverse * inverse / width;
  const auto gradient = [=](Vec d, Vec x) { return (d - shift - (x - mean) * along) * inverse; };
  if (add)
    louder::map(width, out, [&](Vec d, Vec x, Vec add) { return add + gradient(d, x); }, d, x, add);
  else
    louder::map(width, out, gradient, d, x);
}

// Calls work(row) for all rows.
template <typename Work>
void for_rows(int64_t rows, const Work& work) {
  at::parallel_for(0, rows, GRAIN, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) work(row);
  });
}

at::Tensor norm(const at::Tensor& x_) {
  const auto out_ = at::empty({x_.size(0), x_.size(1)}, x_.options());
  const Matrix x(x_), out(out_);
  for_rows(x.rows, [&](int64_t row) { norm_row(x[row], moments(x[row], x.width), x.width, out[row]); });
  return out_;
}

at::Tensor norm_backward(const at::Tensor& x_, const at::Tensor& d_, const at::Tensor& add_) {
  const auto out_ = at::empty({x_.size(0), x_.size(1)}, x_.options());
  const Matrix x(x_), d(d_), add(add_), out(out_);
  for_rows(x.rows, [&](int64_t row) {
    norm_backward_row(x[row], moments(x[row], x.width), d[row], add[row], x.width, out[row]);
  });
  return out_;
}

at::Tensor silu(const at::Tensor& x_) {
  const auto out_ = at::empty_like(x_);
  const float* x = x_.const_data_ptr<float>();
  float* out = out_.mutable_data_ptr<float>();
  TORCH_CHECK(x_.is_contiguous());
  at::parallel_for(0, x_.numel(), 4096, [&](int64_t first, int64_t last) {
    louder::map(last - first, out + first, [](Vec x) { return x * louder::sigmoid(x); }, x + first);
  });
  return out_;
}

// out [width] = dropout(norm(a) * u)
void gate_row(const float* a, const float* u, int64_t row, int64_t width, const louder::Dropout& dropout, float* out) {
  const auto [mean, inverse] = moments(a, width);
  const auto gate = [mean = mean, inverse = inverse](Vec keep, Vec a, Vec u) { return keep * (a - mean) * inverse * u; };
  dropout.row(row, width, out);
  louder::map(width, out, gate, out, a, u);
}

// Gradients of a and u for that of the gated row; scratch [width]
void gate_backward_row(const float* grad, const float* a, const float* u, int64_t row, int64_t width,
                       const louder::Dropout& dropout, float* scratch, float* da, float* du) {
  const Moments of_a = moments(a, width);
  dropout.row(row, width, du);
  louder::map(width, scratch, [](Vec grad, Vec keep, Vec u) { return grad * keep * u; }, grad, du, u);
  const auto times_norm = [mean = of_a.mean, inverse = of_a.inverse_deviation](Vec grad, Vec keep, Vec a) {
    return grad * keep * (a - mean) * inverse;
  };
  louder::map(width, du, times_norm, grad, du, a);
  norm_backward_row(a, of_a, scratch, nullptr, width, da);
}

// The gradient of one row x, for those of the parts that silu made of it, side by side
template <typename Parts>
void silu_backward_row(const float* x, const Parts& parts, int64_t row, float* out) {
  const auto gradient = [](Vec x, Vec grad) {
    const Vec sigmoid = louder::sigmoid(x);
    return grad * (sigmoid + x * sigmoid * (1.0f - sigmoid));
  };
  for (const Matrix& part : parts) {
    louder::map(part.width, out, gradient, x, part[row]);
    x += part.width, out += part.width;
  }
}

at::Tensor gate(const at::Tensor& a_, const at::Tensor& u_, int64_t dropped, double kept_scale, int64_t seed) {
  const auto out_ = at::empty({a_.size(0), a_.size(1)}, a_.options());
  const Matrix a(a_), u(u_), out(out_);
  const louder::Dropout dropout(dropped, kept_scale, seed);
  for_rows(a.rows, [&](int64_t row) { gate_row(a[row], u[row], row, a.width, dropout, out[row]); });
  return out_;
}

// Gradients of a and u
std::tuple<at::Tensor, at::Tensor> gate_backward(const at::Tensor& d_, const at::Tensor& a_, const at::Tensor& u_,
                                                 int64_t dropped, double kept_scale, int64_t seed) {
  const auto da_ = at::empty({a_.size(0), a_.size(1)}, a_.options()), du_ = at::empty_like(da_);
  const Matrix d(d_), a(a_), u(u_), da(da_), du(du_);
  const louder::Dropout dropout(dropped, kept_scale, seed);
  at::parallel_for(0, a.rows, GRAIN, [&](int64_t first, int64_t last) {
    std::vector<float> scratch(a.width);
    for (int64_t row = first; row < last; ++row)
      gate_backward_row(d[row], a[row], u[row], row, a.width, dropout, scratch.data(), da[row], du[row]);
  });
  return {da_, du_};
}

at::Tensor silu_backward(const at::Tensor& projected_, const at::Tensor& du_, const at::Tensor& dv_,
                         const at::Tensor& dq_, const at::Tensor& dk_) {
  const auto out_ = at::empty({projected_.size(0), projected_.size(1)}, projected_.options());
  const Matrix projected(projected_), out(out_);
  const Matrix parts[] = {Matrix(du_), Matrix(dv_), Matrix(dq_), Matrix(dk_)};
  for_rows(out.rows, [&](int64_t row) { silu_backward_row(projected[row], parts, row, out[row]); });
  return out_;
}

// --- fused with the products -----------------------------------------------------------------------------------------

constexpr int64_t TILE = 48;    // rows whose numbers stay in the cache between one step and the next
constexpr int64_t CHUNKS = 32;  // partial sums of the weights' gradients, for any number of threads

// The right side of a product, [depth, columns], as blocks of two vectors of columns that lie close together.
struct Right {
  int64_t depth, columns;
  std::vector<float> blocks;

  // weight [depth, columns], or transposed: [columns, depth]
  Right(const at::Tensor& weight_, bool transposed)
      : depth(weight_.size(transposed ? 1 : 0)), columns(weight_.size(transposed ? 0 : 1)) {
    const at::Tensor weight = weight_.contiguous();
    const float* from = weight.const_data_ptr<float>();
    const int64_t row = transposed ? 1 : columns, column = transposed ? depth : 1;
    blocks.resize(round_up(columns) * depth);
    for (int64_t n = 0; n < columns; ++n)
      for (int64_t d = 0; d < depth; ++d) *at(d, n) = from[d * row + n * column];
  }

  int64_t block_width(int64_t n) const { return std::min(2 * LANES, round_up(columns) - n / (2 * LANES) * 2 * LANES); }
  float* at(int64_t d, int64_t n) {
    const int64_t first = n / (2 * LANES) * 2 * LANES;
    return &blocks[first * depth + d * block_width(n) + n - first];
  }

  // c [rows, round_up(columns)] = (ADD ? c : 0) + a [rows, depth] times this
  template <bool ADD>
  void multiply(int64_t rows, const float* a, int64_t a_row, float* c, int64_t c_row) const {
    for (int64_t n = 0; n < columns; n += 2 * LANES)
      louder::multiply<ADD>(rows, block_width(n), depth, a, a_row, 1, &blocks[n * depth], block_width(n), c + n, c_row);
  }
};

// Calls tile(first, count, scratch) for all rows, TILE at a time; scratch is `floats` zeros at first.
template <typename Tile>
void for_row_tiles(int64_t rows, int64_t floats, const Tile& tile) {
  louder::share_tasks((rows + TILE - 1) / TILE, [&](const auto& next) {
    std::vector<float> scratch(floats);
    for (int64_t task; (task = next()) >= 0;) tile(task * TILE, std::min(TILE, rows - task * TILE), scratch.data());
  });
}

// The same, with a sum [height, width] to add to. Chunk c of the rows adds to its own; returns the sum of all.
template <typename Tile>
at::Tensor sum_over_row_tiles(int64_t rows, int64_t floats, int64_t height, int64_t width, const at::Tensor& like,
                              const Tile& tile) {
  const int64_t tiles = (rows + TILE - 1) / TILE, wide = round_up(width), chunks = std::min(CHUNKS, tiles);
  const auto sums_ = at::zeros({std::max<int64_t>(chunks, 1), height, wide}, like.options());
  float* sums = sums_.mutable_data_ptr<float>();
  louder::share_tasks(chunks, [&](const auto& next) {
    std::vector<float> scratch(floats);
    for (int64_t chunk; (chunk = next()) >= 0;)
      for (int64_t index = chunk * tiles / chunks; index < (chunk + 1) * tiles / chunks; ++index)
        tile(index * TILE, std::min(TILE, rows - index * TILE), scratch.data(), sums + chunk * height * wide);
  });
  float* total = sums;
  for (int64_t chunk = 1; chunk < chunks; ++chunk)
    for (int64_t n = 0; n < height * wide; ++n) total[n] += sums[chunk * height * wide + n];
  return sums_[0].narrow(1, 0, width).contiguous();
}

// norm(x) weightᵀ, and silu of it; weight [N, D]
std::tuple<at::Tensor, at::Tensor> project(const at::Tensor& x_, const at::Tensor& weight) {
  const Right right(weight, true);
  const int64_t N = right.columns, D = right.depth, wide = round_up(N);
  const auto projected_ = at::empty({x_.size(0), N}, x_.options()), activated_ = at::empty_like(projected_);
  const Matrix x(x_), projected(projected_), activated(activated_);
  for_row_tiles(x.rows, TILE * (D + wide), [&](int64_t first, int64_t count, float* scratch) {
    float *normed = scratch, *product = scratch + TILE * D;
    for (int64_t r = 0; r < count; ++r) norm_row(x[first + r], moments(x[first + r], D), D, normed + r * D);
    right.multiply<false>(count, normed, D, product, wide);
    for (int64_t r = 0; r < count; ++r) {
      const float* from = product + r * wide;
      std::copy_n(from, N, projected[first + r]);
      louder::map(N, activated[first + r], [](Vec x) { return x * louder::sigmoid(x); }, from);
    }
  });
  return {projected_, activated_};
}

// x + dropout(norm(a) * u) weightᵀ + bias; weight [D, W]
at::Tensor output(const at::Tensor& x_, const at::Tensor& a_, const at::Tensor& u_, const at::Tensor& weight,
                  const at::Tensor& bias_, int64_t dropped, double kept_scale, int64_t seed) {
  const Right right(weight, true);
  const int64_t W = right.depth, D = right.columns, wide = round_up(D);
  const auto out_ = at::empty({x_.size(0), D}, x_.options()), bias_D = bias_.contiguous();
  const Matrix x(x_), a(a_), u(u_), out(out_);
  const float* bias = bias_D.const_data_ptr<float>();
  const louder::Dropout dropout(dropped, kept_scale, seed);
  for_row_tiles(x.rows, TILE * (W + wide), [&](int64_t first, int64_t count, float* scratch) {
    float *gated = scratch, *product = scratch + TILE * W;
    for (int64_t r = 0; r < count; ++r) {
      u.prefetch(first + r), a.prefetch(first + r);
      gate_row(a[first + r], u[first + r], first + r, W, dropout, gated + r * W);
    }
    right.multiply<false>(count, gated, W, product, wide);
    for (int64_t r = 0; r < count; ++r) {
      const auto add = [](Vec product, Vec x, Vec bias) { return product + x + bias; };
      louder::map(D, out[first + r], add, product + r * wide, x[first + r], bias);
    }
  });
  return out_;
}

// Gradients of a, u and weight, for that of the output
std::tuple<at::Tensor, at::Tensor, at::Tensor> output_backward(const at::Tensor& grad_, const at::Tensor& a_,
                                                               const at::Tensor& u_, const at::Tensor& weight,
                                                               int64_t dropped, double kept_scale, int64_t seed) {
  const Right right(weight, false);
  const int64_t D = right.depth, W = right.columns, wide = round_up(W);
  const auto da_ = at::empty({a_.size(0), W}, a_.options()), du_ = at::empty_like(da_);
  const Matrix grad(grad_), a(a_), u(u_), da(da_), du(du_);
  const louder::Dropout dropout(dropped, kept_scale, seed);
  auto d_weight = sum_over_row_tiles(
      a.rows, TILE * 2 * wide + W, D, W, grad_, [&](int64_t first, int64_t count, float* scratch, float* sum) {
        float *d_gated = scratch, *gated = scratch + TILE * wide, *row = gated + TILE * wide;
        right.multiply<false>(count, grad[first], grad.stride, d_gated, wide);
        for (int64_t r = 0; r < count; ++r) {
          u.prefetch(first + r), a.prefetch(first + r);
          gate_row(a[first + r], u[first + r], first + r, W, dropout, gated + r * wide);
        }
        louder::multiply<true>(D, wide, count, grad[first], 1, grad.stride, gated, wide, sum, wide);
        for (int64_t r = 0; r < count; ++r)
          gate_backward_row(d_gated + r * wide, a[first + r], u[first + r], first + r, W, dropout, row,
                            da[first + r], du[first + r]);
      });
  return {da_, du_, d_weight};
}

// Gradients of x and weight, for those of u, v, q and k, and of what x is added to
std::tuple<at::Tensor, at::Tensor> project_backward(const at::Tensor& x_, const at::Tensor& projected_,
                                                    const at::Tensor& du_, const at::Tensor& dv_,
                                                    const at::Tensor& dq_, const at::Tensor& dk_,
                                                    const at::Tensor& weight, const at::Tensor& add_) {
  const Right right(weight, false);
  const int64_t N = right.depth, D = right.columns, wide = round_up(D);
  const auto dx_ = at::empty({x_.size(0), D}, x_.options());
  const Matrix x(x_), projected(projected_), add(add_), dx(dx_);
  const Matrix parts[] = {Matrix(du_), Matrix(dv_), Matrix(dq_), Matrix(dk_)};
  auto d_weight = sum_over_row_tiles(
      x.rows, TILE * (N + 2 * wide), N, D, x_, [&](int64_t first, int64_t count, float* scratch, float* sum) {
        float *d_projected = scratch, *normed = scratch + TILE * N, *d_normed = normed + TILE * wide;
        Moments of_x[TILE];
        for (int64_t r = 0; r < count; ++r) {
          silu_backward_row(projected[first + r], parts, first + r, d_projected + r * N);
          of_x[r] = moments(x[first + r], D);
          norm_row(x[first + r], of_x[r], D, normed + r * wide);
        }
        right.multiply<false>(count, d_projected, N, d_normed, wide);
        louder::multiply<true>(N, wide, count, d_projected, 1, N, normed, wide, sum, wide);
        for (int64_t r = 0; r < count; ++r)
          norm_backward_row(x[first + r], of_x[r], d_normed + r * wide, add[first + r], D, dx[first + r]);
      });
  return {dx_, d_weight};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(louder_cpu, library) {
  library.def("hstu_layer_norm", &norm);
  library.def("hstu_layer_norm_backward", &norm_backward);
  library.def("hstu_layer_silu", &silu);
  library.def("hstu_layer_gate", &gate);
  library.def("hstu_layer_gate_backward", &gate_backward);
  library.def("hstu_layer_silu_backward", &silu_backward);
  library.def("hstu_layer_project", &project);
  library.def("hstu_layer_output", &output);
  library.def("hstu_layer_output_backward", &output_backward);
  library.def("hstu_layer_project_backward", &project_backward);
}
