// What an HSTU layer does to its rows before and after attention, float32. The maths is in rows.py. For narrow layers
// the products are fused with what comes before and after them, a tile of rows at a time, so that memory is passed over
// once; for wide ones a BLAS product is faster, and what is left is here, one pass each.
#include <tuple>
#include <vector>

#include "simd.h"

namespace {

using louder::empty;
using louder::new_like;
using louder::LANES;
using louder::round_up;
using louder::Tensor;
using louder::Vec;

constexpr int64_t GRAIN = 64;  // rows of a task
constexpr float EPS = 1e-6f;   // of the norms: rows.NORM_EPS

// [rows, width] floats of a tensor whose rows are contiguous
struct Matrix {
  float* data;
  int64_t rows, width, stride;
  explicit Matrix(const Tensor& x)
      : data(static_cast<float*>(x.data_ptr())), rows(x.size(0)), width(x.size(1)), stride(x.stride(0)) {
    louder::check(louder::is_float(x) && (x.stride(1) == 1 || x.size(1) == 1), "rows must be contiguous floats");
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
  louder::parallel_for(0, rows, GRAIN, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) work(row);
  });
}

Tensor norm(const Tensor& x_) {
  const auto out_ = empty({x_.size(0), x_.size(1)}, x_);
  const Matrix x(x_), out(out_);
  for_rows(x.rows, [&](int64_t row) { norm_row(x[row], moments(x[row], x.width), x.width, out[row]); });
  return out_;
}

Tensor norm_backward(const Tensor& x_, const Tensor& d_, const Tensor& add_) {
  const auto out_ = empty({x_.size(0), x_.size(1)}, x_);
  const Matrix x(x_), d(d_), add(add_), out(out_);
  for_rows(x.rows, [&](int64_t row) {
    norm_backward_row(x[row], moments(x[row], x.width), d[row], add[row], x.width, out[row]);
  });
  return out_;
}

Tensor silu(const Tensor& x_) {
  const auto out_ = new_like(x_);
  const float* x = louder::numbers<float>(x_);
  float* out = louder::new_numbers(out_);
  louder::check(x_.is_contiguous(), "x must be contiguous");
  louder::parallel_for(0, x_.numel(), 4096, [&](int64_t first, int64_t last) {
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

Tensor gate(const Tensor& a_, const Tensor& u_, int64_t dropped, double kept_scale, int64_t seed) {
  const auto out_ = empty({a_.size(0), a_.size(1)}, a_);
  const Matrix a(a_), u(u_), out(out_);
  const louder::Dropout dropout(dropped, kept_scale, seed);
  for_rows(a.rows, [&](int64_t row) { gate_row(a[row], u[row], row, a.width, dropout, out[row]); });
  return out_;
}

// Gradients of a and u
std::tuple<Tensor, Tensor> gate_backward(const Tensor& d_, const Tensor& a_, const Tensor& u_,
                                                 int64_t dropped, double kept_scale, int64_t seed) {
  const auto da_ = empty({a_.size(0), a_.size(1)}, a_), du_ = new_like(da_);
  const Matrix d(d_), a(a_), u(u_), da(da_), du(du_);
  const louder::Dropout dropout(dropped, kept_scale, seed);
  louder::parallel_for(0, a.rows, GRAIN, [&](int64_t first, int64_t last) {
    std::vector<float> scratch(a.width);
    for (int64_t row = first; row < last; ++row)
      gate_backward_row(d[row], a[row], u[row], row, a.width, dropout, scratch.data(), da[row], du[row]);
  });
  return {da_, du_};
}

Tensor silu_backward(const Tensor& projected_, const Tensor& du_, const Tensor& dv_,
                         const Tensor& dq_, const Tensor& dk_) {
  const auto out_ = empty({projected_.size(0), projected_.size(1)}, projected_);
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
  Right(const Tensor& weight_, bool transposed)
      : depth(weight_.size(transposed ? 1 : 0)), columns(weight_.size(transposed ? 0 : 1)) {
    const Tensor weight = louder::made_contiguous(weight_);
    const float* from = louder::numbers<float>(weight);
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
Tensor sum_over_row_tiles(int64_t rows, int64_t floats, int64_t height, int64_t width, const Tensor& like,
                              const Tile& tile) {
  const int64_t tiles = (rows + TILE - 1) / TILE, wide = round_up(width), chunks = std::min(CHUNKS, tiles);
  const auto sums_ = louder::zeros({std::max<int64_t>(chunks, 1) * height, wide}, like);
  float* sums = louder::new_numbers(sums_);
  louder::share_tasks(chunks, [&](const auto& next) {
    std::vector<float> scratch(floats);
    for (int64_t chunk; (chunk = next()) >= 0;)
      for (int64_t index = chunk * tiles / chunks; index < (chunk + 1) * tiles / chunks; ++index)
        tile(index * TILE, std::min(TILE, rows - index * TILE), scratch.data(), sums + chunk * height * wide);
  });
  float* total = sums;
  for (int64_t chunk = 1; chunk < chunks; ++chunk)
    for (int64_t n = 0; n < height * wide; ++n) total[n] += sums[chunk * height * wide + n];
  return louder::copy(louder::strided(sums_, height, width, wide, 1));
}

// norm(x) weightᵀ, and silu of it; weight [N, D]
std::tuple<Tensor, Tensor> project(const Tensor& x_, const Tensor& weight) {
  const Right right(weight, true);
  const int64_t N = right.columns, D = right.depth, wide = round_up(N);
  const auto projected_ = empty({x_.size(0), N}, x_), activated_ = new_like(projected_);
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
Tensor output(const Tensor& x_, const Tensor& a_, const Tensor& u_, const Tensor& weight,
                  const Tensor& bias_, int64_t dropped, double kept_scale, int64_t seed) {
  const Right right(weight, true);
  const int64_t W = right.depth, D = right.columns, wide = round_up(D);
  const auto out_ = empty({x_.size(0), D}, x_), bias_D = louder::made_contiguous(bias_);
  const Matrix x(x_), a(a_), u(u_), out(out_);
  const float* bias = louder::numbers<float>(bias_D);
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
std::tuple<Tensor, Tensor, Tensor> output_backward(const Tensor& grad_, const Tensor& a_,
                                                               const Tensor& u_, const Tensor& weight,
                                                               int64_t dropped, double kept_scale, int64_t seed) {
  const Right right(weight, false);
  const int64_t D = right.depth, W = right.columns, wide = round_up(W);
  const auto da_ = empty({a_.size(0), W}, a_), du_ = new_like(da_);
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
std::tuple<Tensor, Tensor> project_backward(const Tensor& x_, const Tensor& projected_,
                                                    const Tensor& du_, const Tensor& dv_,
                                                    const Tensor& dq_, const Tensor& dk_,
                                                    const Tensor& weight, const Tensor& add_) {
  const Right right(weight, false);
  const int64_t N = right.depth, D = right.columns, wide = round_up(D);
  const auto dx_ = empty({x_.size(0), D}, x_);
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

STABLE_TORCH_LIBRARY_FRAGMENT(louder_cpu, library) {
  library.def("hstu_layer_norm(Tensor x) -> Tensor");
  library.def("hstu_layer_norm_backward(Tensor x, Tensor d, Tensor add) -> Tensor");
  library.def("hstu_layer_silu(Tensor x) -> Tensor");
  library.def("hstu_layer_gate(Tensor a, Tensor u, int dropped, float kept_scale, int seed) -> Tensor");
  library.def(
      "hstu_layer_gate_backward(Tensor d, Tensor a, Tensor u, int dropped, float kept_scale, int seed) "
      "-> (Tensor, Tensor)");
  library.def("hstu_layer_silu_backward(Tensor projected, Tensor du, Tensor dv, Tensor dq, Tensor dk) -> Tensor");
  library.def("hstu_layer_project(Tensor x, Tensor weight) -> (Tensor, Tensor)");
  library.def(
      "hstu_layer_output(Tensor x, Tensor a, Tensor u, Tensor weight, Tensor bias, int dropped, float kept_scale, "
      "int seed) -> Tensor");
  library.def(
      "hstu_layer_output_backward(Tensor grad, Tensor a, Tensor u, Tensor weight, int dropped, float kept_scale, "
      "int seed) -> (Tensor, Tensor, Tensor)");
  library.def(
      "hstu_layer_project_backward(Tensor x, Tensor projected, Tensor du, Tensor dv, Tensor dq, Tensor dk, "
      "Tensor weight, Tensor add) -> (Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(louder_cpu, CompositeImplicitAutograd, library) {
  library.impl("hstu_layer_norm", TORCH_BOX(&norm));
  library.impl("hstu_layer_norm_backward", TORCH_BOX(&norm_backward));
  library.impl("hstu_layer_silu", TORCH_BOX(&silu));
  library.impl("hstu_layer_gate", TORCH_BOX(&gate));
  library.impl("hstu_layer_gate_backward", TORCH_BOX(&gate_backward));
  library.impl("hstu_layer_silu_backward", TORCH_BOX(&silu_backward));
  library.impl("hstu_layer_project", TORCH_BOX(&project));
  library.impl("hstu_layer_output", TORCH_BOX(&output));
  library.impl("hstu_layer_output_backward", TORCH_BOX(&output_backward));
  library.impl("hstu_layer_project_backward", TORCH_BOX(&project_backward));
}
