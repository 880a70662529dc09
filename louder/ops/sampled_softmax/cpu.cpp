// Sampled softmax on a CPU, float32: see naive.py. The forward pass has each row's items at hand, so it computes the
// gradient of the row's state as well; the backward pass adds up the gradient of the table. Each number of that is
// summed in the order of the rows, whatever the threads do: every thread owns a range of items and passes over all rows.
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "simd.h"

namespace {

using louder::LANES;
using louder::Optional;
using louder::Tensor;
using louder::Vec;

constexpr int64_t ROWS = 64;  // of a task

// The ids that a row is compared with: its target, then its negatives, given or drawn here.
struct Candidates {
  Tensor targets_L;  // keeps, as the next, what the pointers point to
  Optional negatives_LR;
  const int64_t *targets, *negatives = nullptr;
  int64_t count, items;  // count = 1 positive + R negatives
  uint64_t seed;

  Candidates(const Tensor& targets_, const Optional& negatives_, int64_t num_negatives,
             int64_t seed_, int64_t items_)
      : targets_L(louder::made_contiguous(targets_)),
        negatives_LR(louder::made_contiguous(negatives_)),
        targets(louder::numbers<int64_t>(targets_L)),
        count(1 + num_negatives),
        items(items_),
        seed(seed_) {
    if (negatives_LR) negatives = louder::numbers<int64_t>(*negatives_LR);
    louder::check(items <= std::numeric_limits<int32_t>::max(), "too many items: ", items);
  }

  // ids [count]
  void of_row(int64_t row, int32_t* ids) const {
    check(targets[row], "target ", row);
    ids[0] = targets[row];
    const int64_t rest = count - 1;
    if (negatives) {
      for (int64_t n = 0; n < rest; ++n) {
        check(negatives[row * rest + n], "negative ", row);
        ids[n + 1] = negatives[row * rest + n];
      }
      return;
    }
    const uint32_t first = row * rest, last = rest;
    const uint64_t own_seed = seed, own_items = items;
#pragma omp simd
    for (uint32_t n = 0; n < last; ++n) ids[n + 1] = louder::random_bits(own_seed, first + n) * own_items >> 32;
  }

  void check(int64_t id, const char* what, int64_t row) const {
    louder::check(id >= 0 && id < items, what, id, " of row ", row, " is not one of the ", items, " items of the table");
  }
};

Tensor first_columns(const Tensor& x, int64_t width) {
  if (width == x.size(1)) return x;
  return louder::copy(louder::strided(x, x.size(0), width, x.size(1), 1));
}

// products[0 .. N) = state · table rows of N ids
template <int N>
void products(const float* state, const float* table, int64_t table_row, int64_t width, const int32_t* ids,
              float* products) {
  Vec total[N] = {};
  for (int64_t d = 0; d < width; d += LANES) {
    const Vec x = louder::load(state + d);
    for (int n = 0; n < N; ++n) total[n] += x * louder::load(table + ids[n] * table_row + d);
  }
  for (int n = 0; n < N; ++n) products[n] = louder::sum(total[n]);
}

std::tuple<Tensor, Tensor, Tensor> forward(const Tensor& states_, const Tensor& table_,
                                                       const Tensor& targets,
                                                       const Optional& negatives,
                                                       int64_t num_negatives, int64_t seed, double temperature,
                                                       const Optional& log_weights_) {
  const auto states_LD = louder::padded(states_), table_ID = louder::padded(table_);
  const Candidates candidates(targets, negatives, num_negatives, seed, table_ID.size(0));
  const int64_t rows = states_LD.size(0), width = states_LD.size(1), count = candidates.count;
  const int64_t state_row = states_LD.stride(0), table_row = table_ID.stride(0);
  const float *states = louder::numbers<float>(states_LD), *table = louder::numbers<float>(table_ID);
  const auto log_weights_I = louder::made_contiguous(log_weights_);
  const float* log_weights = log_weights_I ? louder::numbers<float>(*log_weights_I) : nullptr;
  const float inverse_temperature = 1.0 / temperature;

  const auto loss_L = louder::empty({rows}, states_), grad_logits_LC = louder::empty({rows, count}, states_);
  const auto d_states_LD = louder::empty({rows, width}, states_);
  float *loss = louder::new_numbers(loss_L), *grad_logits = louder::new_numbers(grad_logits_LC);
  float* d_states = louder::new_numbers(d_states_LD);
  louder::parallel_for(0, rows, ROWS, [&](int64_t first, int64_t last) {
    std::vector<int32_t> ids(count);
    for (int64_t row = first; row < last; ++row) {
      const float* state = states + row * state_row;
      float *score = grad_logits + row * count, *d_state = d_states + row * width;
      if (candidates.targets[row] == -1) {
        loss[row] = 0;
        std::fill(score, score + count, 0.0f), std::fill(d_state, d_state + width, 0.0f);
        continue;
      }
      candidates.of_row(row, ids.data());
      int64_t n = 0;
      for (; n + 8 <= count; n += 8) products<8>(state, table, table_row, width, &ids[n], score + n);
      for (; n < count; ++n) products<1>(state, table, table_row, width, &ids[n], score + n);
      for (n = 0; n < count; ++n) score[n] *= inverse_temperature;
      if (log_weights)
        for (n = 0; n < count; ++n) score[n] -= log_weights[ids[n]];
      for (n = 1; n < count; ++n)
        if (ids[n] == ids[0]) score[n] = -std::numeric_limits<float>::infinity();

      const float positive = score[0];
      float largest = score[0], total = 0;
      for (n = 0; n < count; ++n) largest = std::max(largest, score[n]);
      const auto weight = [largest](Vec score) {
        const Vec below = score - largest;
        return below < -87.0f ? Vec{} : louder::exp(below);  // -inf and the like: exactly zero
      };
      louder::map(count, score, weight, score);
#pragma omp simd reduction(+ : total)
      for (n = 0; n < count; ++n) total += score[n];
      loss[row] = largest + std::log(total) - positive;
      const float scale = inverse_temperature / total;
      for (n = 0; n < count; ++n) score[n] *= scale;
      score[0] -= inverse_temperature;
      louder::weighted_sum(
          count, width, [&](int64_t n) { return score[n]; }, [&](int64_t n) { return table + ids[n] * table_row; },
          d_state);
    }
  });
  return {loss_L, grad_logits_LC, first_columns(d_states_LD, states_.size(1))};
}

// grad_logits [L, C] of forward: the gradient of a row's loss by its products of state and item
Tensor table_gradient(const Tensor& grad_, const Tensor& grad_logits_LC, const Tensor& states_,
                          const Tensor& targets, const Optional& negatives,
                          int64_t num_negatives, int64_t seed, int64_t items) {
  const auto states_LD = louder::padded(states_), grad_L = louder::made_contiguous(grad_);
  const Candidates candidates(targets, negatives, num_negatives, seed, items);
  const int64_t rows = states_LD.size(0), width = states_LD.size(1), count = candidates.count;
  const int64_t state_row = states_LD.stride(0);
  const float *states = louder::numbers<float>(states_LD), *grad_logits = louder::numbers<float>(grad_logits_LC);
  const float* grad = louder::numbers<float>(grad_L);
  const auto d_table_ID = louder::zeros({items, width}, states_);
  float* d_table = louder::new_numbers(d_table_ID);

  const int64_t parts = std::min<int64_t>(louder::threads(), std::max<int64_t>(items, 1));
  louder::parallel_for(0, parts, 1, [&](int64_t first_part, int64_t last_part) {
    const int64_t first_item = first_part * items / parts, last_item = last_part * items / parts;
    const uint32_t own_items = last_item - first_item;
    std::vector<int32_t> ids(count), own(count);
    for (int64_t row = 0; row < rows; ++row) {
      if (candidates.targets[row] == -1) continue;
      candidates.of_row(row, ids.data());
      int64_t found = 0;
      for (int32_t n = 0; n < count; ++n) {
        own[found] = n;
        found += static_cast<uint32_t>(ids[n] - first_item) < own_items;  // without a branch: it would be a coin toss
      }
      const float *state = states + row * state_row, *grad_logit = grad_logits + row * count;
      for (int64_t k = 0; k < found; ++k) {
        float* to = d_table + ids[own[k]] * width;
        const float weight = grad[row] * grad_logit[own[k]];
        for (int64_t d = 0; d < width; d += LANES)
          louder::store(to + d, louder::load(to + d) + weight * louder::load(state + d));
      }
    }
  });
  return first_columns(d_table_ID, states_.size(1));
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(louder_cpu, library) {
  library.def(
      "sampled_softmax(Tensor states, Tensor table, Tensor targets, Tensor? negatives, int num_negatives, int seed, "
      "float temperature, Tensor? log_weights) -> (Tensor, Tensor, Tensor)");
  library.def(
      "sampled_softmax_table_gradient(Tensor grad, Tensor grad_logits, Tensor states, Tensor targets, "
      "Tensor? negatives, int num_negatives, int seed, int items) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(louder_cpu, CompositeImplicitAutograd, library) {
  library.impl("sampled_softmax", TORCH_BOX(&forward));
  library.impl("sampled_softmax_table_gradient", TORCH_BOX(&table_gradient));
}
