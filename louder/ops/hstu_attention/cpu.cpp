// Jagged HSTU attention on a CPU, float32. The maths is in naive.py; this computes it in tiles of 32 queries by
// 64 keys, on and under the diagonal only, and recomputes the scores in the backward pass.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <limits>
#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#include "simd.h"

namespace {

using louder::LANES;
using louder::multiply;

constexpr int64_t ROWS = 32, COLUMNS = 64;  // of a tile; COLUMNS is a multiple of ROWS and of LANES
constexpr int64_t TASK_ROWS = 256;          // queries per forward task: only longer users are split
constexpr int64_t CHUNKS = 32;              // partial sums of the tables' gradients, for any number of threads

// A view of [L, H, width] floats.
struct Jagged {
  float* data;
  int64_t row, head;
  explicit Jagged(const at::Tensor& x)
      : data(const_cast<float*>(x.const_data_ptr<float>())), row(x.stride(0)), head(x.stride(1)) {}
  float* at(int64_t i, int64_t h) const { return data + i * row + h * head; }
};

// position_bias[i - j] + time_bias[bucket(query_times[i] - key_times[j])], a tile at a time.
struct Bias {
  at::Tensor position_bias, time_bias, query_times_L, key_times_L;  // keep what the pointers point to
  const float *position = nullptr, *time = nullptr;
  const int64_t *query_times, *key_times;
  int64_t distances = 0, buckets = 0;
  std::vector<float> starts;   // the first second of each bucket, and of the one after the last: never
  std::vector<int32_t> cells;  // a cell is an eighth of an octave of seconds -> the bucket of its first second

  // bucket_starts [T]: the shortest time difference of each bucket, as the float32 that naive.py takes the log of
  Bias(const std::optional<at::Tensor>& position_, const std::optional<at::Tensor>& time_,
       const at::Tensor& query_times_, const at::Tensor& key_times_, const at::Tensor& bucket_starts)
      : query_times_L(query_times_.contiguous()),
        key_times_L(key_times_.contiguous()),
        query_times(query_times_L.const_data_ptr<int64_t>()),
        key_times(key_times_L.const_data_ptr<int64_t>()) {
    if (position_) {
      position_bias = position_->contiguous();
      position = position_bias.const_data_ptr<float>(), distances = position_bias.numel();
    }
    if (time_) {
      time_bias = time_->contiguous();
      time = time_bias.const_data_ptr<float>(), buckets = time_bias.numel();
      starts.assign(bucket_starts.const_data_ptr<float>(), bucket_starts.const_data_ptr<float>() + buckets);
      starts.push_back(std::numeric_limits<float>::infinity());
      cells.resize(64 * 8);
      for (int64_t cell = 0, bucket = 0; cell < 64 * 8; ++cell) {
        const float first = std::ldexp(1.0f + (cell % 8) / 8.0f, cell / 8);
        while (starts[bucket + 1] <= first) ++bucket;
        cells[cell] = bucket;
      }
    }
  }

  int64_t distance(int64_t i, int64_t j) const { return std::min(std::max<int64_t>(i - j, 0), distances - 1); }

  // A bucket spans a factor of 1.35 and a cell 1.125 at most: the answer is the cell's first bucket or the next.
  int32_t bucket(int64_t i, int64_t j) const {
    const float seconds = std::max<int64_t>(std::abs(query_times[i] - key_times[j]), 1);
    int32_t bits;
    std::memcpy(&bits, &seconds, sizeof bits);
    const int32_t guess = cells[(bits >> 20) - (127 << 3)];
    return guess + (seconds >= starts[guess + 1]);
  }

  // tile and bucket_tile: [rows, COLUMNS]; rows i.., keys j..
  void fill(int64_t i, int64_t rows, int64_t j, int64_t columns, float* tile, int32_t* bucket_tile) const {
    std::fill(tile, tile + rows * COLUMNS, 0.0f);
    for (int64_t r = 0; r < rows; ++r, tile += COLUMNS, bucket_tile += COLUMNS) {
      if (position)
        for (int64_t c = 0; c < columns; ++c) tile[c] = position[distance(i + r, j + c)];
      if (time)
        for (int64_t c = 0; c < columns; ++c) tile[c] += time[bucket_tile[c] = bucket(i + r, j + c)];
    }
  }

  // Adds a tile of gradients to position's and time's.
  void scatter(int64_t i, int64_t rows, int64_t j, int64_t columns, const float* grad, const int32_t* bucket_tile,
               double* d_position, double* d_time) const {
    for (int64_t r = 0; r < rows; ++r, grad += COLUMNS, bucket_tile += COLUMNS) {
      const int64_t seen = std::min(columns, i + r - j + 1);
      if (position)
        for (int64_t c = 0; c < seen; ++c) d_position[distance(i + r, j + c)] += grad[c];
      if (time)
        for (int64_t c = 0; c < seen; ++c) d_time[bucket_tile[c]] += grad[c];
    }
  }
};

// to [width, COLUMNS] = the transpose of `columns` rows of x, with zeros in the columns that are left.
void transpose(const Jagged& x, int64_t row, int64_t head, int64_t columns, int64_t width, float* to) {
  std::fill(to, to + width * COLUMNS, 0.0f);
  for (int64_t c = 0; c < columns; ++c) {
    const float* from = x.at(row + c, head);
    for (int64_t d = 0; d < width; ++d) to[d * COLUMNS + c] = from[d];
  }
}

std::vector<int64_t> longest_first(const int64_t* bounds, int64_t users) {
  std::vector<int64_t> order(users);
  std::iota(order.begin(), order.end(), 0);
  const auto length = [&](int64_t user) { return bounds[user + 1] - bounds[user]; };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return length(a) > length(b); });
  return order;
}

at::Tensor forward(const at::Tensor& q_, const at::Tensor& k_, const at::Tensor& v_, const at::Tensor& offsets,
                   double scale_, const std::optional<at::Tensor>& position_bias,
                   const std::optional<at::Tensor>& time_bias, const at::Tensor& query_times,
                   const at::Tensor& key_times, const at::Tensor& bucket_starts) {
  const int64_t heads = q_.size(1), K = q_.size(2), V = v_.size(2);
  const float scale = scale_;
  const auto q_LHK = louder::padded(q_), k_LHK = louder::padded(k_), v_LHV = louder::padded(v_);
  const int64_t wide_V = v_LHV.size(2);
  auto out_LHV = at::zeros(v_LHV.sizes(), v_.options());
  const Jagged q(q_LHK), k(k_LHK), v(v_LHV), out(out_LHV);
  const Bias bias(position_bias, time_bias, query_times, key_times, bucket_starts);

  struct Task {
    int64_t user, first, last;  // rows of the whole batch
  };
  std::vector<Task> tasks;
  const auto offsets_B = offsets.contiguous();
  const int64_t* bounds = offsets_B.const_data_ptr<int64_t>();
  for (const int64_t user : longest_first(bounds, offsets.numel() - 1))
    for (int64_t last = bounds[user + 1]; last > bounds[user];) {
      const int64_t first = bounds[user] + (last - bounds[user] - 1) / TASK_ROWS * TASK_ROWS;
      tasks.push_back({bounds[user], first, last});
      last = first;
    }

  louder::share_tasks(tasks.size(), [&](const auto& next) {
    alignas(64) float bias_tile[ROWS * COLUMNS], tile[ROWS * COLUMNS];
    int32_t bucket_tile[ROWS * COLUMNS];
    std::vector<float> keys(heads * K * COLUMNS);
    for (int64_t index; (index = next()) >= 0;) {
      const Task task = tasks[index];
      for (int64_t j = task.user; j < task.last; j += COLUMNS) {
        const int64_t width = std::min(COLUMNS, task.last - j);
        for (int64_t h = 0; h < heads; ++h) transpose(k, j, h, width, K, &keys[h * K * COLUMNS]);
        for (int64_t i = std::max(j, task.first); i < task.last; i += ROWS) {
          const int64_t rows = std::min(ROWS, task.last - i), columns = std::min(COLUMNS, i + rows - j);
          bias.fill(i, rows, j, columns, bias_tile, bucket_tile);
          for (int64_t h = 0; h < heads; ++h) {
            std::copy(bias_tile, bias_tile + rows * COLUMNS, tile);
            multiply(rows, louder::round_up(columns), K, q.at(i, h), q.row, 1, &keys[h * K * COLUMNS], COLUMNS, tile,
                     COLUMNS);
            for (int64_t r = 0; r < rows; ++r) {
              float* weight = tile + r * COLUMNS;
              const int64_t seen = std::min(columns, i + r - j + 1);
              for (int64_t c = 0; c < seen; ++c) weight[c] *= scale / (1.0f + louder::exp(-weight[c]));
              std::fill(weight + seen, weight + std::max(seen, columns), 0.0f);
            }
            multiply(rows, wide_V, columns, tile, COLUMNS, 1, v.at(j, h), v.row, out.at(i, h), out.row);
          }
        }
      }
    }
  });
  return out_LHV.narrow(2, 0, V).contiguous();
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> backward(
    const at::Tensor& grad_, const at::Tensor& q_, const at::Tensor& k_, const at::Tensor& v_,
    const at::Tensor& offsets, double scale_, const std::optional<at::Tensor>& position_bias,
    const std::optional<at::Tensor>& time_bias, const at::Tensor& query_times, const at::Tensor& key_times,
    const at::Tensor& bucket_starts) {
  const int64_t heads = q_.size(1), K = q_.size(2), V = v_.size(2), users = offsets.numel() - 1;
  const float scale = scale_;
  const auto q_LHK = louder::padded(q_), k_LHK = louder::padded(k_), v_LHV = louder::padded(v_);
  const auto grad_LHV = louder::padded(grad_);
  const int64_t wide_K = q_LHK.size(2), wide_V = v_LHV.size(2);
  auto dq_LHK = at::zeros(q_LHK.sizes(), q_.options()), dk_LHK = at::zeros(k_LHK.sizes(), k_.options());
  auto dv_LHV = at::zeros(v_LHV.sizes(), v_.options());
  const Jagged q(q_LHK), k(k_LHK), v(v_LHV), grad(grad_LHV), dq(dq_LHK), dk(dk_LHK), dv(dv_LHV);
  const Bias bias(position_bias, time_bias, query_times, key_times, bucket_starts);

  // chunk c owns every CHUNKS-th user, from the longest: even shares, and the same ones on every machine
  const auto offsets_B = offsets.contiguous();
  const int64_t* bounds = offsets_B.const_data_ptr<int64_t>();
  const auto order = longest_first(bounds, users);
  const int64_t table_size = bias.distances + bias.buckets;
  std::vector<double> tables(CHUNKS * table_size);

  louder::share_tasks(CHUNKS, [&](const auto& next) {
    alignas(64) float bias_tile[ROWS * COLUMNS], d_bias[ROWS * COLUMNS];
    alignas(64) float weights[ROWS * COLUMNS], d_scores[ROWS * COLUMNS];
    int32_t bucket_tile[ROWS * COLUMNS];
    std::vector<float> keys(heads * K * COLUMNS), values(heads * V * COLUMNS);
    for (int64_t chunk; (chunk = next()) >= 0;) {
      double* d_position = tables.data() + chunk * table_size;
      double* d_time = d_position + bias.distances;
      for (int64_t rank = chunk; rank < users; rank += CHUNKS) {
        const int64_t end = bounds[order[rank] + 1];
        for (int64_t j = bounds[order[rank]]; j < end; j += COLUMNS) {
          const int64_t width = std::min(COLUMNS, end - j);
          for (int64_t h = 0; h < heads; ++h) {
            transpose(k, j, h, width, K, &keys[h * K * COLUMNS]);
            transpose(v, j, h, width, V, &values[h * V * COLUMNS]);
          }
          for (int64_t i = j; i < end; i += ROWS) {
            const int64_t rows = std::min(ROWS, end - i), columns = std::min(COLUMNS, i + rows - j);
            const int64_t wide = louder::round_up(columns);
            bias.fill(i, rows, j, columns, bias_tile, bucket_tile);
            std::fill(d_bias, d_bias + rows * COLUMNS, 0.0f);
            for (int64_t h = 0; h < heads; ++h) {
              std::copy(bias_tile, bias_tile + rows * COLUMNS, weights);
              std::fill(d_scores, d_scores + rows * COLUMNS, 0.0f);
              multiply(rows, wide, K, q.at(i, h), q.row, 1, &keys[h * K * COLUMNS], COLUMNS, weights, COLUMNS);
              multiply(rows, wide, V, grad.at(i, h), grad.row, 1, &values[h * V * COLUMNS], COLUMNS, d_scores, COLUMNS);
              for (int64_t r = 0; r < rows; ++r) {
                float *weight = weights + r * COLUMNS, *d_score = d_scores + r * COLUMNS, *d_b = d_bias + r * COLUMNS;
                const int64_t seen = std::min(columns, i + r - j + 1);
                for (int64_t c = 0; c < seen; ++c) {
                  const float score = weight[c], sigmoid = 1.0f / (1.0f + louder::exp(-score));
                  weight[c] = scale * score * sigmoid;
                  d_score[c] *= scale * sigmoid * (1.0f + score * (1.0f - sigmoid));
                  d_b[c] += d_score[c];
                }
                std::fill(weight + seen, weight + std::max(seen, columns), 0.0f);
                std::fill(d_score + seen, d_score + std::max(seen, columns), 0.0f);
              }
              multiply(rows, wide_K, columns, d_scores, COLUMNS, 1, k.at(j, h), k.row, dq.at(i, h), dq.row);
              multiply(columns, wide_K, rows, d_scores, 1, COLUMNS, q.at(i, h), q.row, dk.at(j, h), dk.row);
              multiply(columns, wide_V, rows, weights, 1, COLUMNS, grad.at(i, h), grad.row, dv.at(j, h), dv.row);
            }
            bias.scatter(i, rows, j, columns, d_bias, bucket_tile, d_position, d_time);
          }
        }
      }
    }
  });

  auto d_position = at::empty({bias.distances}, q_.options()), d_time = at::empty({bias.buckets}, q_.options());
  for (int64_t n = 0; n < table_size; ++n) {
    double total = 0;
    for (int64_t chunk = 0; chunk < CHUNKS; ++chunk) total += tables[chunk * table_size + n];
    (n < bias.distances ? d_position.mutable_data_ptr<float>()[n]
                        : d_time.mutable_data_ptr<float>()[n - bias.distances]) = total;
  }
  return {dq_LHK.narrow(2, 0, K).contiguous(), dk_LHK.narrow(2, 0, K).contiguous(),
          dv_LHV.narrow(2, 0, V).contiguous(), d_position, d_time};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(louder_cpu, library) {
  library.def("hstu_attention", &forward);
  library.def("hstu_attention_backward", &backward);
}
