// Sampled softmax over a mixture of logits on a CPU, float32, value and gradients at once: see naive.py. A row's pairs
// stay in the cache from their products to their gradients. What the pairs of a chunk of rows add to their items is
// written down, and added up by threads that each own a range of items, in the order of the rows; weights are summed for
// PARTS fixed ranges of rows. So no number depends on which thread did what.
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "simd.h"

namespace {

using louder::made_contiguous;
using louder::empty;
using louder::LANES;
using louder::Optional;
using louder::Tensor;
using louder::Vec;
using louder::zeros;

constexpr int64_t CHUNK = 256;  // rows
constexpr int64_t PARTS = 16;   // of a chunk
constexpr float EPS = 1e-6f;

struct Sizes {
  int64_t of_query, of_item, width, logits, hidden, negatives;
  int64_t query() const { return of_query * width + logits; }
  int64_t item() const { return of_item * width + logits; }
};

// The cross gate, and each of its matrices the other way round
struct Cross {
  const std::vector<Tensor> kept;             // what the pointers point to
  const float *w1, *b1, *w2, *b2, *w1_t, *w2_t;  // [H, L] [H] [L, H] [L] [L, H] [H, L]
  Cross(const Tensor& w1_, const Tensor& b1_, const Tensor& w2_, const Tensor& b2_)
      : kept{made_contiguous(w1_), made_contiguous(b1_),         made_contiguous(w2_),
             made_contiguous(b2_), louder::transposed(w1_), louder::transposed(w2_)} {
    const float** pointers[] = {&w1, &b1, &w2, &b2, &w1_t, &w2_t};
    for (size_t n = 0; n < kept.size(); ++n) *pointers[n] = louder::numbers<float>(kept[n]);
  }
};

// Gradients of the cross gate's weights: [L, H] [H] [H, L] [L], end to end
struct CrossSum {
  std::vector<float> all;
  float *w1_t, *b1, *w2_t, *b2;
  explicit CrossSum(const Sizes& s) : all(2 * s.logits * s.hidden + s.hidden + s.logits) {
    w1_t = all.data(), b1 = w1_t + s.logits * s.hidden, w2_t = b1 + s.hidden, b2 = w2_t + s.hidden * s.logits;
  }
};

inline void add_rows(const float* rows, int64_t count, int64_t width, float* sum) {
  for (int64_t w = 0; w < width; w += LANES) {
    Vec total = louder::load(sum + w);
    for (int64_t n = 0; n < count; ++n) total += louder::load(rows + n * width + w);
    louder::store(sum + w, total);
  }
}

inline float largest_of(const float* x, int64_t count) {
  float largest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : largest)
  for (int64_t n = 0; n < count; ++n) largest = std::max(largest, x[n]);
  return largest;
}

inline Vec silu_slope(Vec x, Vec sigmoid) { return sigmoid + x * sigmoid * (1.0f - sigmoid); }

// One row's query beside its R negatives
class Row {
 public:
  Row(const Sizes& sizes, const Cross& cross, const louder::Dropout& dropout, float temperature)
      : s(sizes), cross(cross), dropout(dropout), scale(1.0f / temperature), lanes(louder::round_up(s.of_query)) {
    const int64_t R = s.negatives, L = s.logits;
    for (auto* x : {&logits, &inputs, &weights, &probabilities}) x->resize(R * L);
    for (auto* x : {&before, &after, &d_before}) x->resize(R * s.hidden);
    gathered.resize(R * s.of_item * s.width), products.resize(R * s.of_item * lanes);
    f_t.resize(s.width * lanes), phi.resize(R), left.resize(R), kept.resize(L);
  }

  // phi [R] of the negatives
  void forward(int64_t row, const float* query, const float* items, const int64_t* ids) {
    const int64_t R = s.negatives, L = s.logits, K = s.width, H = s.hidden, of_items = s.of_item * K;
    for (int64_t n = 0; n < R; ++n) {
      if (n + louder::AHEAD < R) louder::prefetch(items + ids[n + louder::AHEAD] * s.item(), s.item() * sizeof(float));
      std::memcpy(&gathered[n * of_items], items + ids[n] * s.item(), of_items * sizeof(float));
    }
    std::fill(f_t.begin(), f_t.end(), 0.0f);
    for (int64_t i = 0; i < s.of_query; ++i)
      for (int64_t k = 0; k < K; ++k) f_t[k * lanes + i] = query[i * K + k] * scale;
    louder::multiply<false>(R * s.of_item, lanes, K, gathered.data(), K, 1, f_t.data(), lanes, products.data(), lanes);
    for (int64_t n = 0; n < R * s.of_item; ++n)
      std::memcpy(&logits[n * s.of_query], &products[n * lanes], s.of_query * sizeof(float));

    louder::multiply<false>(R, H, L, logits.data(), L, 1, cross.w1_t, H, before.data(), H);
    for (int64_t n = 0; n < R; ++n) {
      float *x = &before[n * H], *y = &after[n * H];
      for (int64_t h = 0; h < H; h += LANES) {
        const Vec value = louder::load(x + h) + louder::load(cross.b1 + h);
        const Vec sigmoid = louder::sigmoid(value);
        louder::store(x + h, silu_slope(value, sigmoid));  // all that the backward pass needs
        louder::store(y + h, value * sigmoid);
      }
    }
    louder::multiply<false>(R, L, H, after.data(), H, 1, cross.w2_t, L, inputs.data(), L);
    const float* query_gate = query + s.of_query * K;
    for (int64_t n = 0; n < R; ++n) {
      const float* item_gate = items + ids[n] * s.item() + of_items;
      float *x = &inputs[n * L], *weight = &weights[n * L], *pi = &probabilities[n * L];
      const float* logit = &logits[n * L];
      for (int64_t l = 0; l < L; l += LANES) {
        const Vec gates = louder::load(query_gate + l) * louder::load(item_gate + l);
        const Vec value = louder::load(x + l) + louder::load(cross.b2 + l) + gates, sigmoid = louder::sigmoid(value);
        louder::store(x + l, silu_slope(value, sigmoid));
        louder::store(weight + l, value * sigmoid);
      }
      const float largest = largest_of(weight, L);
      Vec total = {};
      for (int64_t l = 0; l < L; l += LANES) {
        const Vec e = louder::exp(louder::load(weight + l) - largest);
        louder::store(weight + l, e);
        total += e;
      }
      const float inverse = 1.0f / louder::sum(total);
      dropout.row(row * R + n, L, kept.data());
      Vec left_over = {}, sum = {};
      for (int64_t l = 0; l < L; l += LANES) {
        const Vec w = louder::load(weight + l) * inverse, probability = w * louder::load(kept.data() + l);
        louder::store(weight + l, w), louder::store(pi + l, probability);
        left_over += probability, sum += probability * louder::load(logit + l);
      }
      left[n] = louder::sum(left_over);
      const float rescale = dropout.dropped ? 1.0f / std::max(left[n], EPS) : 1.0f;
      if (dropout.dropped) louder::map(L, pi, [rescale](Vec x) { return x * rescale; }, pi);
      phi[n] = louder::sum(sum) * rescale;
    }
  }

  // d [R] the gradient of phi. d_logits and d_gates [R, L] are of the products and of the gate inputs; adds to sum.
  void backward(const float* d, const float* query, const float* items, const int64_t* ids, float* d_query,
                float* d_logits, float* d_gates, CrossSum& sum) {
    const int64_t R = s.negatives, L = s.logits, K = s.width, H = s.hidden;
    float* d_query_gate = d_query + s.of_query * K;
    std::fill(d_query_gate, d_query_gate + L, 0.0f);
    for (int64_t n = 0; n < R; ++n) {
      const float* item_gate = items + ids[n] * s.item() + s.of_item * K;
      const bool clamped = dropout.dropped && left[n] < EPS;  // then the probabilities do not sum to 1
      const float centre = clamped ? 0.0f : phi[n], shift = clamped ? phi[n] : 0.0f, d_phi = d[n];
      for (int64_t l = 0; l < L; l += LANES) {
        const int64_t at = n * L + l;
        const Vec pi = louder::load(&probabilities[at]);
        const Vec of_weight = pi * (louder::load(&logits[at]) - centre) - louder::load(&weights[at]) * shift;
        const Vec of_input = d_phi * of_weight * louder::load(&inputs[at]);
        louder::store(d_gates + at, of_input);
        louder::store(d_logits + at, d_phi * pi);
        louder::store(d_query_gate + l, louder::load(d_query_gate + l) + of_input * louder::load(item_gate + l));
      }
    }
    louder::multiply<true>(H, L, R, after.data(), 1, H, d_gates, L, sum.w2_t, L);
    add_rows(d_gates, R, L, sum.b2);
    louder::multiply<false>(R, H, L, d_gates, L, 1, cross.w2, H, d_before.data(), H);
    louder::map(R * H, d_before.data(), [](Vec d, Vec slope) { return d * slope; }, d_before.data(), before.data());
    louder::multiply<true>(L, H, R, logits.data(), 1, L, d_before.data(), H, sum.w1_t, H);
    add_rows(d_before.data(), R, H, sum.b1);
    louder::multiply<true>(R, L, H, d_before.data(), H, 1, cross.w1, L, d_logits, L);
    louder::map(R * L, d_logits, [scale = scale](Vec x) { return x * scale; }, d_logits);
    louder::multiply<false>(s.of_query, K, R * s.of_item, d_logits, 1, s.of_query, gathered.data(), K, d_query, K);
  }

  std::vector<float> phi;

 private:
  const Sizes& s;
  const Cross& cross;
  const louder::Dropout& dropout;
  const float scale;
  const int64_t lanes;
  std::vector<float> gathered, products, f_t, logits, inputs, weights, probabilities, before, after, d_before, left, kept;
};

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                             Tensor>;

Gradients mixture_softmax(const Tensor& positive_, const Tensor& queries_, const Tensor& items_,
                          const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2,
                          const Tensor& targets_, const Tensor& negatives_, int64_t of_query, int64_t of_item,
                          double temperature, int64_t dropped, double kept_scale, int64_t seed,
                          const Optional& log_weights_) {
  const int64_t rows = queries_.size(0), count = items_.size(0), logits = of_query * of_item;
  const Sizes s{of_query, of_item, (queries_.size(1) - logits) / of_query, logits, w1.size(0), negatives_.size(1)};
  louder::check(s.width % LANES == 0 && s.logits % LANES == 0 && s.hidden % LANES == 0 && items_.size(1) == s.item(),
                "widths must be whole vectors");
  const auto queries_c = made_contiguous(queries_), items_c = made_contiguous(items_), positive_c = made_contiguous(positive_);
  const auto targets_c = made_contiguous(targets_), negatives_c = made_contiguous(negatives_);
  const auto log_weights_c = made_contiguous(log_weights_);
  const float *queries = louder::numbers<float>(queries_c), *items = louder::numbers<float>(items_c);
  const float* positive = louder::numbers<float>(positive_c);
  const int64_t *targets = louder::numbers<int64_t>(targets_c), *negatives = louder::numbers<int64_t>(negatives_c);
  const float* log_weights = log_weights_c ? louder::numbers<float>(*log_weights_c) : nullptr;
  const int64_t R = s.negatives, L = s.logits, K = s.width;
  for (int64_t n = 0; n < rows * R; ++n)
    louder::check(negatives[n] >= 0 && negatives[n] < count, "negative ", negatives[n], " is not one of the ", count,
                  " items");

  const Cross cross(w1, b1, w2, b2);
  const louder::Dropout dropout(dropped, kept_scale, seed);
  const auto d_positive_ = empty({rows}, queries_), d_queries_ = empty({rows, s.query()}, queries_);
  const auto d_items_ = zeros({count, s.item()}, queries_);
  float *d_positive = louder::new_numbers(d_positive_), *d_queries = louder::new_numbers(d_queries_);
  float* d_items = louder::new_numbers(d_items_);
  std::vector<double> losses(PARTS);
  std::vector<CrossSum> sums;  // each with pointers of its own
  for (int64_t part = 0; part < PARTS; ++part) sums.emplace_back(s);
  const int64_t most = std::min(rows, CHUNK);
  std::vector<float> d_logits(most * R * L), d_gates(most * R * L);

  for (int64_t first = 0; first < rows; first += CHUNK) {
    const int64_t last = std::min(rows, first + CHUNK);
    louder::share_tasks(PARTS, [&](const auto& next) {
      Row pairs(s, cross, dropout, temperature);
      std::vector<float> d_phi(R);
      for (int64_t part; (part = next()) >= 0;) {
        const int64_t begin = first + (last - first) * part / PARTS, end = first + (last - first) * (part + 1) / PARTS;
        for (int64_t row = begin; row < end; ++row) {
          const float* query = queries + row * s.query();
          const int64_t *ids = negatives + row * R, target = targets[row];
          pairs.forward(row, query, items, ids);
          const float own = positive[row] - (log_weights ? log_weights[target] : 0.0f);
          float largest = own, total = 0;
          for (int64_t n = 0; n < R; ++n) {
            d_phi[n] = ids[n] == target ? -std::numeric_limits<float>::infinity()
                                        : pairs.phi[n] - (log_weights ? log_weights[ids[n]] : 0.0f);
            largest = std::max(largest, d_phi[n]);
          }
          for (int64_t n = 0; n < R; ++n) total += d_phi[n] = ids[n] == target ? 0.0f : louder::exp(d_phi[n] - largest);
          const float of_own = louder::exp(own - largest);
          total += of_own;
          losses[part] += std::log(total) + largest - own;
          for (int64_t n = 0; n < R; ++n) d_phi[n] /= total;
          d_positive[row] = of_own / total - 1.0f;
          const int64_t at = (row - first) * R * L;
          pairs.backward(d_phi.data(), query, items, ids, d_queries + row * s.query(), &d_logits[at], &d_gates[at],
                         sums[part]);
        }
      }
    });
    const int64_t owners = std::min<int64_t>(louder::threads(), std::max<int64_t>(count, 1));
    louder::parallel_for(0, owners, 1, [&](int64_t first_owner, int64_t last_owner) {
      const int64_t low = first_owner * count / owners, high = last_owner * count / owners;
      for (int64_t row = first; row < last; ++row) {
        const float *query = queries + row * s.query(), *query_gate = query + s.of_query * K;
        for (int64_t n = 0; n < R; ++n) {
          const int64_t id = negatives[row * R + n], at = ((row - first) * R + n) * L;
          if (n + 4 < R)
            louder::prefetch(d_items + negatives[row * R + n + 4] * s.item(), s.item() * sizeof(float));
          if (id < low || id >= high) continue;
          float *to = d_items + id * s.item(), *to_gate = to + s.of_item * K;
          louder::multiply<true>(s.of_item, K, s.of_query, &d_logits[at], s.of_query, 1, query, K, to, K);
          louder::map(L, to_gate, [](Vec sum, Vec d, Vec gate) { return sum + d * gate; }, to_gate, &d_gates[at],
                      query_gate);
        }
      }
    });
  }
  double loss = 0;
  for (const double part : losses) loss += part;
  std::vector<float> all(sums[0].all.size());
  for (const auto& sum : sums)
    louder::map(all.size(), all.data(), [](Vec a, Vec b) { return a + b; }, all.data(), sum.all.data());
  const auto loss_ = empty({}, queries_);
  *louder::new_numbers(loss_) = loss;
  const auto tensor_of = [&](const float* from, const louder::Sizes& sizes) {
    const auto x = empty(sizes, queries_);
    std::copy_n(from, x.numel(), louder::new_numbers(x));
    return x;
  };
  const int64_t H = s.hidden, size = L * H;
  return {loss_,
          d_positive_,
          d_queries_,
          d_items_,
          louder::transposed(tensor_of(all.data(), {L, H})),
          tensor_of(all.data() + size, {H}),
          louder::transposed(tensor_of(all.data() + size + H, {H, L})),
          tensor_of(all.data() + 2 * size + H, {L})};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(louder_cpu, library) {
  library.def(
      "mixture_softmax(Tensor positive, Tensor queries, Tensor items, Tensor w1, Tensor b1, Tensor w2, Tensor b2, "
      "Tensor targets, Tensor negatives, int of_query, int of_item, float temperature, int dropped, float kept_scale, "
      "int seed, Tensor? log_weights) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(louder_cpu, CompositeImplicitAutograd, library) {
  library.impl("mixture_softmax", TORCH_BOX(&mixture_softmax));
}
