// All layers of an HSTU for rows that each come right after a user's cached tokens, float32: they see these and themselves,
// never each other. A row is carried through all layers while it lies in the cache of the processor, and what the rows of
// a user share is done once for all of them: packing keys and values, and the bias, since all ask at one time from one
// place. The maths is that of HSTULayer.extend (louder/models/hstu.py).
#include <optional>
#include <vector>

#include "simd.h"
#include "time_buckets.h"

namespace {

using louder::LANES;
using louder::Optional;
using louder::round_up;
using louder::Sizes;
using louder::Tensor;
using louder::Vec;

using Tensors = std::vector<Tensor>;

constexpr int64_t ROWS = 48, COLUMNS = 96;  // of a tile
constexpr int64_t TASK_TILES = 5;           // of rows, in a task
constexpr int64_t BLOCK = 32;               // columns of a packed weight that lie close together: hstu_branch.packed
constexpr float EPS = 1e-6f;                // of the norms: rows.NORM_EPS

// The weights of all layers. uvqk [layers, blocks, D, BLOCK], out [layers, blocks, W, BLOCK], out_bias [layers, D], and
// the tables [layers, ...] where there are some
struct Model {
  int64_t layers, heads, K, V, D, W, N, uvqk_wide, out_wide, window, global_prefix;
  float scale;
  const float *uvqk, *out, *out_bias, *position = nullptr, *time = nullptr;
  int64_t distances = 0, buckets = 0;
  louder::TimeBuckets bucket;
};

// One user's rows, and the tokens that they see
struct User {
  const float *keys, *values;  // [layers, room, H, ...]
  int64_t key_layer, key_row, value_layer, value_row;
  const int64_t *times, *prefix_lengths;
  int64_t seen, first, rows, own_time, query_time;
};

struct Span {
  int64_t from, to;
};

// a row sees the last `window` of its tokens, and the first `global_prefix`
std::vector<Span> spans_of(const Model& model, int64_t seen) {
  if (model.window == 0 || seen - model.window <= model.global_prefix) return {{0, seen}};
  return {{0, model.global_prefix}, {seen - model.window, seen}};
}

void norm_row(const float* x, int64_t width, float* out) {
  float mean = 0, squares = 0;
#pragma omp simd reduction(+ : mean)
  for (int64_t c = 0; c < width; ++c) mean += x[c];
  mean /= width;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < width; ++c) squares += (x[c] - mean) * (x[c] - mean);
  const float inverse = 1.0f / std::sqrt(squares / width + EPS);
  for (int64_t c = 0; c < width; ++c) out[c] = (x[c] - mean) * inverse;
}

// out [rows, wide] = rows of a [rows, depth] times a packed weight [wide / BLOCK, depth, BLOCK]
void times_packed(int64_t rows, int64_t depth, const float* a, const float* weight, int64_t wide, float* out) {
  for (int64_t n = 0; n < wide; n += BLOCK)
    louder::multiply<false>(rows, BLOCK, depth, a, depth, 1, weight + n * depth, BLOCK, out + n, wide);
}

float dot(const float* a, const float* b, int64_t width) {
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t d = 0; d < width; ++d) total += a[d] * b[d];
  return total;
}

inline Vec silu(Vec x) { return x / (1.0f + louder::exp(-x)); }

// What one thread needs for the rows of one user at a time.
struct Worker {
  const Model& model;
  const int64_t wide_V;
  std::vector<float> normed, projected, totals, gated, product, keys, values, bias, scores;
  std::vector<int32_t> bucket, distance;
  alignas(64) float tile[ROWS * COLUMNS];

  explicit Worker(const Model& model_) : model(model_), wide_V(round_up(model_.V)) {
    normed.resize(ROWS * std::max(model.D, model.W));
    product.resize(ROWS * model.out_wide);
    keys.resize(model.heads * model.K * COLUMNS);
    values.resize(model.heads * COLUMNS * wide_V);
    bias.resize(COLUMNS);
  }

  // u, v, q and k of a row, side by side
  float* u(int64_t r) { return &projected[r * model.uvqk_wide]; }
  float* v(int64_t r, int64_t h) { return u(r) + model.W + h * model.V; }
  float* q(int64_t r, int64_t h) { return u(r) + 2 * model.W + h * model.K; }
  float* k(int64_t r, int64_t h) { return u(r) + 2 * model.W + (model.heads + h) * model.K; }

  Vec weigh(Vec score) const { return model.scale * silu(score); }

  // x [count, D], rows of the user, in and out. With `keep` it is one row, whose keys and values are written after those
  // that it sees.
  void run(const User& user, float* x, int64_t count, bool keep) {
    projected.resize(count * model.uvqk_wide);
    totals.resize(model.heads * count * wide_V);
    look_up(user);
    for (int64_t layer = 0; layer < model.layers; ++layer) {
      project(layer, x, count);
      if (keep) write(user, layer);
      own(layer, user, count);
      for (const Span& span : spans_of(model, user.seen)) {
        if (keep) {
          attend_alone(user, layer, span);
          continue;
        }
        for (int64_t j = span.from; j < span.to; j += COLUMNS) attend(user, layer, j, std::min(COLUMNS, span.to - j), count);
      }
      output(layer, x, count);
    }
  }

  // Distance and bucket of each token that is seen: the same for all rows and layers.
  void look_up(const User& user) {
    distance.resize(user.seen), bucket.resize(user.seen);
    if (model.distances)
      for (int64_t j = 0; j < user.seen; ++j)
        distance[j] = std::min(user.seen - user.prefix_lengths[j], model.distances - 1);
    if (model.buckets)
      for (int64_t j = 0; j < user.seen; ++j) bucket[j] = model.bucket(user.query_time - user.times[j]);
  }

  void fill_bias(int64_t layer, int64_t j, int64_t count, float* out) const {
    std::fill_n(out, count, 0.0f);
    if (model.distances)
      for (int64_t c = 0; c < count; ++c) out[c] = model.position[layer * model.distances + distance[j + c]];
    if (model.buckets)
      for (int64_t c = 0; c < count; ++c) out[c] += model.time[layer * model.buckets + bucket[j + c]];
  }

  void project(int64_t layer, const float* x, int64_t count) {
    const float* weight = model.uvqk + layer * model.uvqk_wide * model.D;
    for (int64_t first = 0; first < count; first += ROWS) {
      const int64_t rows = std::min(ROWS, count - first);
      for (int64_t r = 0; r < rows; ++r) norm_row(x + (first + r) * model.D, model.D, &normed[r * model.D]);
      times_packed(rows, model.D, normed.data(), weight, model.uvqk_wide, u(first));
      louder::map(rows * model.uvqk_wide, u(first), silu, u(first));
    }
  }

  void write(const User& user, int64_t layer) {
    std::copy_n(k(0, 0), model.heads * model.K,
                const_cast<float*>(user.keys) + layer * user.key_layer + user.seen * user.key_row);
    std::copy_n(v(0, 0), model.W, const_cast<float*>(user.values) + layer * user.value_layer + user.seen * user.value_row);
  }

  // what a row sees of itself begins its total
  void own(int64_t layer, const User& user, int64_t count) {
    float shift = 0;
    if (model.distances) shift += model.position[layer * model.distances];
    if (model.buckets)
      shift += model.time[layer * model.buckets + model.bucket(user.query_time - user.own_time)];
    for (int64_t h = 0; h < model.heads; ++h)
      for (int64_t r = 0; r < count; ++r) {
        const float score = dot(q(r, h), k(r, h), model.K) + shift, weight = score * model.scale * louder::sigmoid(score);
        float* total = &totals[(h * count + r) * wide_V];
        const float* own = v(r, h);
        for (int64_t c = 0; c < model.V; ++c) total[c] = weight * own[c];
        std::fill(total + model.V, total + wide_V, 0.0f);
      }
  }

  // all rows, and the keys j .. j + columns
  void attend(const User& user, int64_t layer, int64_t j, int64_t columns, int64_t count) {
    const int64_t wide = round_up(columns);
    bias.assign(COLUMNS, 0.0f);
    fill_bias(layer, j, columns, bias.data());
    for (int64_t h = 0; h < model.heads; ++h) {
      float* key = &keys[h * model.K * COLUMNS];
      const float* from = user.keys + layer * user.key_layer + j * user.key_row + h * model.K;
      for (int64_t c = 0; c < columns; ++c, from += user.key_row)
        for (int64_t d = 0; d < model.K; ++d) key[d * COLUMNS + c] = from[d];
      for (int64_t d = 0; d < model.K; ++d) std::fill(key + d * COLUMNS + columns, key + d * COLUMNS + wide, 0.0f);
      float* value = &values[h * COLUMNS * wide_V];
      const float* own = user.values + layer * user.value_layer + j * user.value_row + h * model.V;
      for (int64_t c = 0; c < columns; ++c, own += user.value_row, value += wide_V) {
        std::copy_n(own, model.V, value);
        std::fill(value + model.V, value + wide_V, 0.0f);
      }
    }
    for (int64_t first = 0; first < count; first += ROWS) {
      const int64_t rows = std::min(ROWS, count - first);
      for (int64_t h = 0; h < model.heads; ++h) {
        louder::multiply_from<true>(rows, wide, model.K, q(first, h), model.uvqk_wide, 1, &keys[h * model.K * COLUMNS],
                                    COLUMNS, tile, COLUMNS, bias.data(), 0);  // of all rows the same
        for (int64_t r = 0; r < rows; ++r)
          louder::map(wide, tile + r * COLUMNS, [this](Vec x) { return weigh(x); }, tile + r * COLUMNS);
        louder::multiply<true>(rows, wide_V, columns, tile, COLUMNS, 1, &values[h * COLUMNS * wide_V], wide_V,
                               &totals[(h * count + first) * wide_V], wide_V);
      }
    }
  }

  // one row: packing would be more work than what is packed for
  void attend_alone(const User& user, int64_t layer, const Span& span) {
    const int64_t count = span.to - span.from;
    scores.resize(round_up(count));
    bias.resize(std::max<int64_t>(COLUMNS, count));
    fill_bias(layer, span.from, count, bias.data());
    for (int64_t h = 0; h < model.heads; ++h) {
      const float* key = user.keys + layer * user.key_layer + span.from * user.key_row + h * model.K;
      for (int64_t c = 0; c < count; ++c) scores[c] = dot(q(0, h), key + c * user.key_row, model.K) + bias[c];
      louder::map(count, scores.data(), [this](Vec x) { return weigh(x); }, scores.data());
      const float* value = user.values + layer * user.value_layer + span.from * user.value_row + h * model.V;
      float* total = &totals[h * wide_V];
      for (int64_t c = 0; c < count; ++c, value += user.value_row)
        for (int64_t d = 0; d < model.V; ++d) total[d] += scores[c] * value[d];
    }
  }

  void output(int64_t layer, float* x, int64_t count) {
    const float* weight = model.out + layer * model.out_wide * model.W;
    const float* shift = model.out_bias + layer * model.D;
    gated.resize(model.W);
    for (int64_t first = 0; first < count; first += ROWS) {
      const int64_t rows = std::min(ROWS, count - first);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t h = 0; h < model.heads; ++h)
          std::copy_n(&totals[(h * count + first + r) * wide_V], model.V, &gated[h * model.V]);
        float* to = &normed[r * model.W];
        norm_row(gated.data(), model.W, to);
        const float* gate = u(first + r);
        for (int64_t c = 0; c < model.W; ++c) to[c] *= gate[c];
      }
      times_packed(rows, model.W, normed.data(), weight, model.out_wide, product.data());
      for (int64_t r = 0; r < rows; ++r) {
        float* to = x + (first + r) * model.D;
        const float* add = &product[r * model.out_wide];
        for (int64_t c = 0; c < model.D; ++c) to[c] += add[c] + shift[c];
      }
    }
  }
};

const float* floats(const Tensor& x) {
  louder::check(x.is_contiguous() && louder::is_float(x), "weights and rows must be contiguous floats");
  return louder::numbers<float>(x);
}

Tensor hstu_branch(const Tensor& x, const Tensor& uvqk, const Tensor& out, const Tensor& out_bias,
                       const Optional& position, const Optional& time, const Tensor& bucket_starts, int64_t heads,
                       int64_t qk_width, double scale, std::optional<int64_t> window, int64_t global_prefix,
                       const Tensors& keys, const Tensors& values, const Tensors& times, const Tensors& prefix_lengths,
                       const Sizes& seen, const Sizes& rows, const Sizes& own_times,
                       const Sizes& query_times, bool keep) {
  Model model;
  model.layers = uvqk.size(0), model.heads = heads, model.K = qk_width, model.D = x.size(1), model.W = out.size(2);
  model.V = model.W / heads, model.N = 2 * heads * (model.K + model.V);
  model.uvqk_wide = uvqk.size(1) * BLOCK, model.out_wide = out.size(1) * BLOCK;
  model.window = window.value_or(0), model.global_prefix = model.window > 0 ? global_prefix : 0;
  model.scale = scale;
  model.uvqk = floats(uvqk), model.out = floats(out), model.out_bias = floats(out_bias);
  if (position) model.position = floats(*position), model.distances = position->size(1);
  if (time) model.time = floats(*time), model.buckets = time->size(1), model.bucket = louder::TimeBuckets(bucket_starts);

  std::vector<User> users(seen.size());
  struct Task {
    const User* user;
    int64_t first, count;
  };
  std::vector<Task> tasks;
  int64_t first = 0;
  for (size_t b = 0; b < users.size(); first += rows[b], ++b) {
    louder::check(keys[b].size(1) >= seen[b] + keep && times[b].size(0) >= seen[b], "a cache is smaller than what is seen");
    users[b] = {floats(keys[b]), floats(values[b]), keys[b].stride(0), keys[b].stride(1), values[b].stride(0),
                values[b].stride(1), louder::numbers<int64_t>(times[b]), louder::numbers<int64_t>(prefix_lengths[b]),
                seen[b], first, rows[b], own_times[b], query_times[b]};
    // whole tiles, but for the last: what is packed serves many rows, and a lone one is as dear as several
    const int64_t tiles = (rows[b] + ROWS - 1) / ROWS, parts = std::max<int64_t>((tiles + 1) / TASK_TILES, 1);
    for (int64_t part = 0; part < parts && rows[b] > 0; ++part) {
      const int64_t from = tiles * part / parts * ROWS, to = std::min(tiles * (part + 1) / parts * ROWS, rows[b]);
      tasks.push_back({&users[b], first + from, to - from});
    }
  }
  louder::check(first == x.size(0) && (!keep || tasks.size() == users.size()), "the rows do not add up");

  const auto states = louder::copy(x);
  float* state = louder::new_numbers(states);
  louder::share_tasks(tasks.size(), [&](const auto& next) {
    Worker worker(model);
    for (int64_t index; (index = next()) >= 0;) {
      const auto [user, start, count] = tasks[index];
      worker.run(*user, state + start * model.D, count, keep);
    }
  });
  return states;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(louder_cpu, library) {
  library.def(
      "hstu_branch(Tensor x, Tensor uvqk, Tensor out, Tensor out_bias, Tensor? position, Tensor? time, "
      "Tensor bucket_starts, int heads, int qk_width, float scale, int? window, int global_prefix, Tensor[] keys, "
      "Tensor[] values, Tensor[] times, Tensor[] prefix_lengths, int[] seen, int[] rows, int[] own_times, "
      "int[] query_times, bool keep) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(louder_cpu, CompositeImplicitAutograd, library) {
  library.impl("hstu_branch", TORCH_BOX(&hstu_branch));
}
