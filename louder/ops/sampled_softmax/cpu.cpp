// Sampled softmax on a CPU, float32: see naive.py. The forward keeps a logsumexp per row; the backward computes the
// logits again. The gradient of the table is gathered item by item from the (row, item) pairs, sorted by item, so each
// number is summed in the order of the rows whatever the threads do.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "simd.h"

namespace {

using louder::LANES;
using louder::Vec;

constexpr int64_t ROWS = 64;  // of a task

// The inputs, and the logits of one row.
struct Rows {
  at::Tensor states_LD, table_ID, targets_L, negatives_LR, log_weights_I;  // keep what the pointers point to
  const float *states, *table, *log_weights = nullptr;
  const int64_t *targets, *negatives;
  int64_t rows, items, count, width, state_row, table_row;  // count = 1 positive + R negatives
  float inverse_temperature;

  Rows(const at::Tensor& states_, const at::Tensor& table_, const at::Tensor& targets_, const at::Tensor& negatives_,
       double temperature, const std::optional<at::Tensor>& log_weights_)
      : states_LD(louder::padded(states_)),
        table_ID(louder::padded(table_)),
        targets_L(targets_.contiguous()),
        negatives_LR(negatives_.contiguous()),
        inverse_temperature(1.0 / temperature) {
    states = states_LD.const_data_ptr<float>(), table = table_ID.const_data_ptr<float>();
    targets = targets_L.const_data_ptr<int64_t>(), negatives = negatives_LR.const_data_ptr<int64_t>();
    rows = states_LD.size(0), items = table_ID.size(0), count = 1 + negatives_LR.size(1), width = table_ID.size(1);
    state_row = states_LD.stride(0), table_row = table_ID.stride(0);
    if (log_weights_) {
      log_weights_I = log_weights_->contiguous();
      log_weights = log_weights_I.const_data_ptr<float>();
    }
  }

  int64_t id(int64_t row, int64_t n) const { return n == 0 ? targets[row] : negatives[row * (count - 1) + n - 1]; }

  // products[0 .. N) = state · table rows of N ids
  template <int N>
  void products(const float* state, const int64_t* ids, float* products) const {
    Vec total[N] = {};
    for (int64_t d = 0; d < width; d += LANES) {
      const Vec x = louder::load(state + d);
      for (int n = 0; n < N; ++n) total[n] += x * louder::load(table + ids[n] * table_row + d);
    }
    for (int n = 0; n < N; ++n) products[n] = louder::sum(total[n]);
  }

  // ids and scores [count], the positive first; a negative that is the target scores -inf
  void score(int64_t row, int64_t* ids, float* scores) const {
    for (int64_t n = 0; n < count; ++n) {
      ids[n] = id(row, n);
      TORCH_CHECK(ids[n] >= 0 && ids[n] < items, n == 0 ? "target " : "negative ", ids[n], " of row ", row,
                  " is not one of the ", items, " items of the table");
    }
    int64_t n = 0;
    for (; n + 8 <= count; n += 8) products<8>(states + row * state_row, ids + n, scores + n);
    for (; n < count; ++n) products<1>(states + row * state_row, ids + n, scores + n);
    for (n = 0; n < count; ++n) scores[n] *= inverse_temperature;
    if (log_weights)
      for (n = 0; n < count; ++n) scores[n] -= log_weights[ids[n]];
    for (n = 1; n < count; ++n)
      if (ids[n] == ids[0]) scores[n] = -std::numeric_limits<float>::infinity();
  }
};

std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& states, const at::Tensor& table,
                                           const at::Tensor& targets, const at::Tensor& negatives, double temperature,
                                           const std::optional<at::Tensor>& log_weights) {
  const Rows in(states, table, targets, negatives, temperature, log_weights);
  auto loss_L = at::zeros({in.rows}, states.options()), logsumexp_L = at::zeros({in.rows}, states.options());
  float *loss = loss_L.mutable_data_ptr<float>(), *logsumexp = logsumexp_L.mutable_data_ptr<float>();
  at::parallel_for(0, in.rows, ROWS, [&](int64_t first, int64_t last) {
    std::vector<int64_t> ids(in.count);
    std::vector<float> scores(in.count);
    for (int64_t row = first; row < last; ++row) {
      if (in.targets[row] == -1) continue;
      in.score(row, ids.data(), scores.data());
      float largest = scores[0], total = 0;
      for (const float score : scores) largest = std::max(largest, score);
      const float* score = scores.data();
#pragma omp simd reduction(+ : total)
      for (int64_t n = 0; n < in.count; ++n) total += louder::exp(score[n] - largest);
      logsumexp[row] = largest + std::log(total);
      loss[row] = logsumexp[row] - scores[0];
    }
  });
  return {loss_L, logsumexp_L};
}

std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor& grad, const at::Tensor& logsumexp_,
                                            const at::Tensor& states, const at::Tensor& table,
                                            const at::Tensor& targets, const at::Tensor& negatives,
                                            double temperature, const std::optional<at::Tensor>& log_weights) {
  const Rows in(states, table, targets, negatives, temperature, log_weights);
  const float *d_loss = grad.const_data_ptr<float>(), *logsumexp = logsumexp_.const_data_ptr<float>();
  TORCH_CHECK(in.rows < std::numeric_limits<int32_t>::max(), "too many rows: ", in.rows);
  auto d_states_LD = at::zeros(in.states_LD.sizes(), states.options());
  auto d_table_ID = at::zeros(in.table_ID.sizes(), table.options());
  auto d_scores_LC = at::empty({in.rows, in.count}, states.options());
  float *d_states = d_states_LD.mutable_data_ptr<float>(), *d_table = d_table_ID.mutable_data_ptr<float>();
  float* d_scores = d_scores_LC.mutable_data_ptr<float>();

  // the rows are dealt out in `parts`; starts[part * items + item] counts that part's pairs of an item, and then
  // becomes where the part writes its first one. Part by part is row by row, so the sorted order is the same for
  // any number of parts.
  const int64_t parts = std::min<int64_t>(at::get_num_threads(), 8), items = in.items;
  std::vector<int64_t> starts((parts + 1) * items);
  const auto rows_of = [&](int64_t part) { return part * in.rows / parts; };

  at::parallel_for(0, parts, 1, [&](int64_t first_part, int64_t last_part) {
    std::vector<int64_t> ids(in.count);
    for (int64_t part = first_part; part < last_part; ++part)
      for (int64_t row = rows_of(part); row < rows_of(part + 1); ++row) {
        if (in.targets[row] == -1) continue;
        float *d_score = d_scores + row * in.count, *d_state = d_states + row * in.width;
        in.score(row, ids.data(), d_score);
        const float scale = d_loss[row] * in.inverse_temperature, shift = logsumexp[row];
        for (int64_t n = 0; n < in.count; ++n) d_score[n] = scale * louder::exp(d_score[n] - shift);
        d_score[0] -= scale;
        for (int64_t n = 0; n < in.count; ++n) ++starts[part * items + ids[n]];
        louder::weighted_sum(
            in.count, in.width, [&](int64_t n) { return d_score[n]; },
            [&](int64_t n) { return in.table + ids[n] * in.table_row; }, d_state);
      }
  });

  int64_t pairs = 0;
  for (int64_t item = 0; item < items; ++item) {
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t here = starts[part * items + item];
      starts[part * items + item] = pairs;
      pairs += here;
    }
    starts[parts * items + item] = pairs;  // the end of the item
  }
  struct Pair {
    int32_t row;
    float d_score;
  };
  std::vector<Pair> sorted(pairs);
  at::parallel_for(0, parts, 1, [&](int64_t first_part, int64_t last_part) {
    for (int64_t part = first_part; part < last_part; ++part)
      for (int64_t row = rows_of(part); row < rows_of(part + 1); ++row) {
        if (in.targets[row] == -1) continue;
        for (int64_t n = 0; n < in.count; ++n)
          sorted[starts[part * items + in.id(row, n)]++] = {static_cast<int32_t>(row), d_scores[row * in.count + n]};
      }
  });

  // threads share the pairs evenly, not the items: a few items can have most of the pairs
  const int64_t* ends = starts.data() + parts * items;
  at::parallel_for(0, pairs, 4096, [&](int64_t first, int64_t last) {
    // an item belongs to the thread that has its last pair
    int64_t item = std::upper_bound(ends, ends + items, first) - ends;
    for (; item < items && ends[item] <= last; ++item) {
      const int64_t begin = item == 0 ? 0 : ends[item - 1];
      const Pair* pair = sorted.data() + begin;
      louder::weighted_sum(
          ends[item] - begin, in.width, [&](int64_t n) { return pair[n].d_score; },
          [&](int64_t n) { return in.states + pair[n].row * in.state_row; }, d_table + item * in.width);
    }
  });
  return {d_states_LD.narrow(1, 0, states.size(1)).contiguous(), d_table_ID.narrow(1, 0, states.size(1)).contiguous()};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(louder_cpu, library) {
  library.def("sampled_softmax", &forward);
  library.def("sampled_softmax_backward", &backward);
}
