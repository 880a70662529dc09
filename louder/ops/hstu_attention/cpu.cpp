// Jagged HSTU attention on a CPU. The maths is in naive.py; this computes it in tiles of some queries by some keys, of
// those pairs only that see each other, and recomputes the scores in the backward pass. float32 or bfloat16 comes in
// and goes out; sums are float32. Products of bfloat16 are made of pairs of numbers where the processor has them (then
// weights and gradients of scores are rounded before they are multiplied), elsewhere of float32.
#include <torch/headeronly/util/BFloat16.h>

#include <limits>
#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#include "simd.h"
#include "time_buckets.h"

namespace {

using louder::made_contiguous;
using louder::LANES;
using louder::multiply;
using louder::Optional;
using louder::round_up;
using louder::Tensor;
using louder::Vec;
using torch::headeronly::BFloat16;

constexpr int64_t ROWS = 48, COLUMNS = LANES == 16 ? 96 : 48;  // of a tile
constexpr int64_t PARTIAL_ROWS = 24;        // of a tile with pairs that do not see each other: less is computed in vain
constexpr int64_t TASK_ROWS = 5 * ROWS;     // queries of a forward task: longer users are shared out
constexpr int64_t SHARES = 8;               // a user with more than one in so many of all pairs is shared out by heads
constexpr int64_t CHUNKS = 32;              // partial sums of the tables' gradients, for any number of threads

// [L, H, width], the tensor itself if its rows are contiguous, else a copy
template <typename T>
struct Jagged {
  const Tensor kept;
  T* data;
  int64_t row, head, width;
  explicit Jagged(const Tensor& x)
      : kept(x.stride(2) == 1 ? x : made_contiguous(x)), data(static_cast<T*>(kept.data_ptr())), row(kept.stride(0)),
        head(kept.stride(1)), width(kept.size(2)) {}
  T* at(int64_t i, int64_t h) const { return data + i * row + h * head; }
};

// What the two sides of a product are made of: units of so many numbers, neighbours in the direction of its sum.
template <typename T>
struct UnitOf {
  using Type = float;
};
template <typename Unit>
constexpr int64_t NUMBERS = 1;
#if defined(__AVX512BF16__)
template <>
struct UnitOf<BFloat16> {
  using Type = louder::Pair;
};
template <>
constexpr int64_t NUMBERS<louder::Pair> = 2;
#endif

template <typename Unit>
constexpr int64_t units(int64_t numbers) {
  return (numbers + NUMBERS<Unit> - 1) / NUMBERS<Unit>;
}

template <typename Unit, typename T>
inline Unit unit_of(T first, T second) {
  if constexpr (NUMBERS<Unit> == 1)
    return first;
  else
    return {first.x, second.x};
}

// rows i .. i + count of head h -> out [count, stride]: each row is units of neighbours, zeros right of the width
template <typename T, typename Unit>
void pack(const Jagged<T>& x, int64_t i, int64_t count, int64_t h, int64_t stride, Unit* out) {
  const int64_t whole = x.width / NUMBERS<Unit>;
  for (int64_t r = 0; r < count; ++r, out += stride) {
    const T* from = x.at(i + r, h);
    if (r + louder::AHEAD < count) louder::prefetch(x.at(i + r + louder::AHEAD, h), x.width * sizeof(T));
    for (int64_t c = 0; c < whole; ++c) out[c] = unit_of<Unit>(from[c * NUMBERS<Unit>], from[(c + 1) * NUMBERS<Unit> - 1]);
    for (int64_t c = whole; c < stride; ++c) out[c] = {};
    if (whole * NUMBERS<Unit> < x.width) out[whole] = unit_of<Unit>(from[x.width - 1], T(0));
  }
}

// The same rows -> out [units of rows, stride]: a unit has the numbers of neighbouring rows in one column.
template <typename T, typename Unit>
void pack_across(const Jagged<T>& x, int64_t i, int64_t count, int64_t h, int64_t stride, Unit* out) {
  if constexpr (NUMBERS<Unit> == 1) {
    pack(x, i, count, h, stride, out);
  } else {
    const std::vector<T> nothing(count % 2 ? x.width : 0, T(0));
    for (int64_t r = 0; r < count; r += 2, out += stride) {
      const T *first = x.at(i + r, h), *second = r + 1 < count ? x.at(i + r + 1, h) : nothing.data();
      for (int64_t c = 0; c < x.width; ++c) out[c] = unit_of<Unit>(first[c], second[c]);
      for (int64_t c = x.width; c < stride; ++c) out[c] = {};
    }
  }
}

// keys j .. j + count of head h -> out [units of the width, COLUMNS], zeros right of count
template <typename T, typename Unit>
void pack_transposed(const Jagged<T>& x, int64_t j, int64_t count, int64_t h, Unit* out) {
  const int64_t depth = units<Unit>(x.width);
  Unit row[depth];
  for (int64_t c = 0; c < count; ++c) {
    if (c + louder::AHEAD < count) louder::prefetch(x.at(j + c + louder::AHEAD, h), x.width * sizeof(T));
    pack(x, j + c, 1, h, depth, row);
    for (int64_t d = 0; d < depth; ++d) out[d * COLUMNS + c] = row[d];
  }
  for (int64_t d = 0; d < depth; ++d) std::fill(out + d * COLUMNS + count, out + (d + 1) * COLUMNS, Unit{});
}

// out [rows, N] += tile [rows, COLUMNS] right [depth, N]: of each row of the tile its first `depth` numbers
void add_product(int64_t rows, int64_t N, int64_t depth, const float* tile, const float* right, int64_t right_row,
                 float* out) {
  multiply<true>(rows, N, depth, tile, COLUMNS, 1, right, right_row, out, N);
}

// out [columns, N] += the tile's first `columns` columns, transposed, times right [rows, N]
void add_transposed_product(int64_t columns, int64_t N, int64_t rows, const float* tile, const float* right,
                            int64_t right_row, float* out) {
  multiply<true>(columns, N, rows, tile, 1, COLUMNS, right, right_row, out, N);
}

#if defined(__AVX512BF16__)
static_assert(COLUMNS % (2 * LANES) == 0 && ROWS % 2 == 0 && PARTIAL_ROWS % 2 == 0);

void add_product(int64_t rows, int64_t N, int64_t depth, const float* tile, const louder::Pair* right,
                 int64_t right_row, float* out) {
  alignas(64) louder::Pair left[ROWS * COLUMNS / 2];
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < depth; c += 2 * LANES)
      louder::store_neighbours(left + (r * COLUMNS + c) / 2, tile + r * COLUMNS + c);
  multiply<true>(rows, N, units<louder::Pair>(depth), left, COLUMNS / 2, 1, right, right_row, out, N);
}

void add_transposed_product(int64_t columns, int64_t N, int64_t rows, const float* tile, const louder::Pair* right,
                            int64_t right_row, float* out) {
  alignas(64) louder::Pair left[ROWS / 2 * COLUMNS];
  for (int64_t r = 0; r < rows; r += 2)
    for (int64_t c = 0; c < columns; c += LANES) {
      const float* from = tile + r * COLUMNS + c;
      const Vec second = r + 1 < rows ? louder::load(from + COLUMNS) : Vec{};
      louder::store_across(left + r / 2 * COLUMNS + c, louder::load(from), second);
    }
  multiply<true>(columns, N, units<louder::Pair>(rows), left, 1, COLUMNS, right, right_row, out, N);
}
#endif

template <typename T>
void unpack(const float* from, int64_t stride, int64_t count, const Jagged<T>& out, int64_t i, int64_t h) {
  for (int64_t r = 0; r < count; ++r, from += stride) {
    T* to = out.at(i + r, h);
    for (int64_t c = 0; c < out.width; ++c) to[c] = from[c];
  }
}

// Who is whose, when it happened and who sees whom: see layout.py.
struct Layout {
  Tensor offsets, query_offsets;
  Optional prefix_lengths, query_times, key_times;
  int64_t window, global_prefix;  // 0 for no window; then there is no global prefix either

  Layout(const Tensor& offsets_, const Optional& prefix_lengths_, const Optional& query_offsets_,
         const Optional& query_times_, const Optional& key_times_, std::optional<int64_t> window_, int64_t global_prefix_)
      : offsets(made_contiguous(offsets_)),
        query_offsets(query_offsets_ ? made_contiguous(*query_offsets_) : offsets),
        prefix_lengths(made_contiguous(prefix_lengths_)),
        query_times(made_contiguous(query_times_)),
        key_times(made_contiguous(key_times_)),
        window(window_.value_or(0)),
        global_prefix(window > 0 ? global_prefix_ : 0) {}
};

// One user's M queries, the last of its N keys. Rows and keys are counted from the user's first key.
struct User {
  int64_t first_key, keys, first_query, queries;
  const int64_t* prefix_lengths;  // of its keys; or null, where each is the key's own index
  int64_t regular;                // so many first keys have their own index for a prefix length
  int64_t last_prefix;            // that of its last key, where there are any
  int64_t window, global_prefix;

  int64_t first_row() const { return keys - queries; }
  int64_t prefix(int64_t i) const { return prefix_lengths ? prefix_lengths[i] : i; }

  // Row i sees the keys from .. to, those before the end of the global prefix and to, and itself if it is none of them:
  // then it is `alone`. Rows of the last prefix always are, the first of them too: if they are candidates, the bits of
  // one do not depend on its place among them.
  int64_t from(int64_t i) const {
    if (window == 0) return 0;
    const int64_t first = prefix(i) - window;
    return first <= global_prefix ? 0 : first;
  }
  int64_t to(int64_t i) const {
    const int64_t p = prefix(i);
    return p == i && p != last_prefix ? i + 1 : p;
  }
  bool alone(int64_t i) const { return i >= to(i); }
  int64_t first_alone() const { return std::min(regular, last_prefix); }  // none before it is

  int64_t cost() const { return queries * (keys + 1); }
};

// A stretch of rows, and the keys that one of them sees, and that all of them see, besides the global prefix.
struct Rows {
  int64_t first, count, any_from, any_to, all_from, all_to, global_prefix;
  Rows(const User& user, int64_t first_, int64_t last)
      : first(first_), count(last - first_), global_prefix(user.global_prefix) {
    if (last <= user.first_alone()) {  // then neither falls from row to row
      any_from = user.from(first), all_from = user.from(last - 1), any_to = user.to(last - 1), all_to = user.to(first);
      return;
    }
    any_from = all_to = std::numeric_limits<int64_t>::max();
    any_to = all_from = 0;
    for (int64_t i = first; i < last; ++i) {
      const int64_t from = user.from(i), to = user.to(i);
      any_from = std::min(any_from, from), all_from = std::max(all_from, from);
      any_to = std::max(any_to, to), all_to = std::min(all_to, to);
    }
  }

  // Of the keys j .. j + COLUMNS: how many, from the first, are worth a look, and whether all rows see all of them.
  int64_t columns(int64_t j) const {
    const int64_t end = any_from < j + COLUMNS ? any_to : std::min(any_to, global_prefix);
    return std::clamp<int64_t>(end - j, 0, COLUMNS);
  }
  bool whole(int64_t j) const {
    return all_to >= j + COLUMNS && (all_from <= j || global_prefix >= j + COLUMNS);
  }
  int64_t first_tile() const { return global_prefix > 0 ? 0 : any_from / COLUMNS * COLUMNS; }
  int64_t next_tile(int64_t j) const {
    j += COLUMNS;
    return j < global_prefix ? j : std::max(j, any_from / COLUMNS * COLUMNS);
  }
};

std::vector<User> users_of(const Layout& layout) {
  const auto *bounds = louder::numbers<int64_t>(layout.offsets), *query_bounds = louder::numbers<int64_t>(layout.query_offsets);
  const auto* prefix_lengths = layout.prefix_lengths ? louder::numbers<int64_t>(*layout.prefix_lengths) : nullptr;
  std::vector<User> users(layout.offsets.numel() - 1);
  for (size_t b = 0; b < users.size(); ++b) {
    const int64_t keys = bounds[b + 1] - bounds[b], queries = query_bounds[b + 1] - query_bounds[b];
    const int64_t* own = prefix_lengths ? prefix_lengths + bounds[b] : nullptr;
    int64_t regular = own ? 0 : keys;
    while (regular < keys && own[regular] == regular) ++regular;
    const int64_t last_prefix = own && keys > 0 ? own[keys - 1] : keys;
    users[b] = {bounds[b], keys,        query_bounds[b], queries, own,
                regular,   last_prefix, layout.window,   layout.global_prefix};
  }
  std::stable_sort(users.begin(), users.end(), [](const User& a, const User& b) { return a.cost() > b.cost(); });
  return users;  // from the most expensive on: the last tasks are small, and threads end together
}

// position_bias[prefix(i) - prefix(j)] + time_bias[bucket(query_times[i] - key_times[j])].
struct Bias {
  const int64_t *query_times = nullptr, *key_times = nullptr;  // of the layout, which must live as long
  int64_t distances = 0, buckets = 0, longest = 0;
  std::vector<float> by_offset;  // entry j - i + longest: position_bias, clamped, so that a row of a tile is one piece
  std::vector<float> time;
  louder::TimeBuckets buckets_of;

  Bias(const Optional& position, const Optional& time_, const Layout& layout, const Tensor& bucket_starts,
       const std::vector<User>& users) {
    if (position) {
      for (const User& user : users) longest = std::max(longest, user.keys);
      distances = position->numel();
      const auto table = louder::floats(*position);
      by_offset.resize(2 * longest + COLUMNS);
      for (size_t n = 0; n < by_offset.size(); ++n) by_offset[n] = louder::numbers<float>(table)[distance(n)];
    }
    if (time_) {
      query_times = louder::numbers<int64_t>(*layout.query_times);
      key_times = louder::numbers<int64_t>(*layout.key_times);
      buckets = time_->numel();
      const auto table = louder::floats(*time_);
      time.assign(louder::numbers<float>(table), louder::numbers<float>(table) + buckets);
      buckets_of = louder::TimeBuckets(bucket_starts);
    }
  }

  // entry of position_bias behind an entry of by_offset
  int64_t distance(int64_t entry) const { return std::clamp<int64_t>(longest - entry, 0, distances - 1); }
  // for a row and a key of these prefix lengths
  int64_t entry(int64_t row, int64_t key) const { return key - row + longest; }
  bool none() const { return distances + buckets == 0; }

  int32_t bucket(int64_t seconds) const { return buckets_of(seconds); }
};

// The bias of one tile, and where its gradient goes.
struct BiasTile {
  const Bias& bias;
  alignas(64) float values[ROWS * COLUMNS];
  int32_t buckets[ROWS * COLUMNS];
  bool uniform[ROWS * COLUMNS / LANES];  // all lanes of a vector have the same bucket
  bool in_order = false;                 // the user's key times never fall: then equal ends mean an equal middle
  const User* user = nullptr;

  explicit BiasTile(const Bias& bias_) : bias(bias_) {}

  void start(const User& user_) {
    user = &user_;
    const int64_t* times = bias.key_times + user->first_key;
    in_order = bias.buckets > 0 && std::is_sorted(times, times + user->keys);
  }

  int64_t query_time(int64_t i) const { return bias.query_times[user->first_query + i - user->first_row()]; }
  int64_t key_time(int64_t j) const { return bias.key_times[user->first_key + j]; }

  void fill(int64_t i, int64_t rows, int64_t j, int64_t columns) {
    if (bias.none()) return;
    const bool regular = j + columns <= user->regular;
    for (int64_t r = 0; r < rows; ++r) {
      float* value = values + r * COLUMNS;
      if (bias.distances && !regular)
        copy_by_prefix(user->prefix(i + r), j, columns, value);
      else if (bias.distances)
        std::copy_n(&bias.by_offset[bias.entry(user->prefix(i + r), j)], COLUMNS, value);
      else
        std::fill_n(value, COLUMNS, 0.0f);
      if (bias.buckets) add_time(r, query_time(i + r), j, columns);
    }
  }

  // scores [rows, COLUMNS] = left [rows, depth] keys [depth, COLUMNS], and the bias: the first `wide` of each row
  template <typename Unit>
  void scores(int64_t rows, int64_t wide, int64_t depth, const Unit* left, int64_t left_row, const Unit* keys,
              float* scores) const {
    if (bias.none()) {
      multiply<false>(rows, wide, depth, left, left_row, 1, keys, COLUMNS, scores, COLUMNS);
    } else {
      std::copy_n(values, rows * COLUMNS, scores);
      multiply<true>(rows, wide, depth, left, left_row, 1, keys, COLUMNS, scores, COLUMNS);
    }
  }

  void copy_by_prefix(int64_t prefix, int64_t j, int64_t columns, float* value) {
    const float* from = &bias.by_offset[bias.entry(prefix, 0)];
    const int64_t* prefix_lengths = user->prefix_lengths + j;
    for (int64_t c = 0; c < columns; ++c) value[c] = from[prefix_lengths[c]];
    std::fill(value + columns, value + COLUMNS, 0.0f);
  }

  void add_time(int64_t r, int64_t now, int64_t j, int64_t columns) {
    const int64_t* then = bias.key_times + user->first_key + j;
    float* value = values + r * COLUMNS;
    int32_t* bucket = buckets + r * COLUMNS;
    bool* same = uniform + r * COLUMNS / LANES;
    const auto ends_equal = [&](int64_t c, int64_t count) {
      return in_order && now >= then[c + count - 1] &&
             (bucket[c] = bias.bucket(now - then[c])) == bias.bucket(now - then[c + count - 1]);
    };
    const bool row_same = columns > LANES && ends_equal(0, columns);
    for (int64_t c = 0; c < columns; c += LANES, ++same) {
      const int64_t count = std::min(LANES, columns - c);
      if (row_same) bucket[c] = bucket[0];
      *same = row_same || ends_equal(c, count);
      if (*same) {
        const float shift = bias.time[bucket[c]];
        for (int64_t lane = 0; lane < LANES; ++lane) value[c + lane] += shift;
      } else {
        for (int64_t lane = 0; lane < LANES; ++lane) {
          bucket[c + lane] = lane < count ? bias.bucket(now - then[c + lane]) : 0;
          value[c + lane] += bias.time[bucket[c + lane]];
        }
      }
    }
  }

  // of row i and itself
  float alone(int64_t i) const {
    float value = 0;
    if (bias.distances) value += bias.by_offset[bias.entry(0, 0)];
    if (bias.buckets) value += bias.time[bias.bucket(query_time(i) - key_time(i))];
    return value;
  }
};

// Gradients of the two tables. What a tile adds is kept in float for a while, in the layout that it comes in, and is
// then added up in double.
struct BiasGradient {
  const Bias& bias;
  std::vector<float> by_offset, by_bucket;  // as Bias::by_offset; [buckets, LANES]

  explicit BiasGradient(const Bias& bias_)
      : bias(bias_), by_offset(bias_.by_offset.size()), by_bucket(bias_.buckets * LANES) {}

  // grad [rows, COLUMNS], 0 where a row does not see a key; tile.fill was called for the same rows and keys
  void add(const BiasTile& tile, int64_t i, int64_t rows, int64_t j, int64_t columns, const float* grad) {
    const bool regular = j + columns <= tile.user->regular;
    const int64_t* prefix_lengths = regular ? nullptr : tile.user->prefix_lengths + j;
    for (int64_t r = 0; r < rows; ++r, grad += COLUMNS) {
      if (bias.distances) {
        float* to = &by_offset[bias.entry(tile.user->prefix(i + r), regular ? j : 0)];
        if (!regular)
          for (int64_t c = 0; c < columns; ++c) to[prefix_lengths[c]] += grad[c];
        else
          for (int64_t c = 0; c < round_up(columns); ++c) to[c] += grad[c];
      }
      if (!bias.buckets) continue;
      const int32_t* bucket = tile.buckets + r * COLUMNS;
      const bool* same = tile.uniform + r * COLUMNS / LANES;
      for (int64_t c = 0; c < columns; c += LANES, ++same) {
        if (*same) {
          float* to = &by_bucket[bucket[c] * LANES];
          louder::store(to, louder::load(to) + louder::load(grad + c));
        } else {
          for (int64_t lane = 0; lane < LANES; ++lane) by_bucket[bucket[c + lane] * LANES + lane] += grad[c + lane];
        }
      }
    }
  }

  void add_alone(const BiasTile& tile, int64_t i, float grad) {
    if (bias.distances) by_offset[bias.entry(0, 0)] += grad;
    if (bias.buckets) by_bucket[bias.bucket(tile.query_time(i) - tile.key_time(i)) * LANES] += grad;
  }

  // position and time: [distances], [buckets]
  void flush(double* position, double* time) {
    for (size_t n = 0; n < by_offset.size(); ++n) position[bias.distance(n)] += by_offset[n];
    for (size_t n = 0; n < by_bucket.size(); ++n) time[n / LANES] += by_bucket[n];
    std::fill(by_offset.begin(), by_offset.end(), 0.0f);
    std::fill(by_bucket.begin(), by_bucket.end(), 0.0f);
  }
};

// Zero what row i does not see of its COLUMNS numbers from key j on.
void hide(const User& user, int64_t i, int64_t j, float* row) {
  const int64_t to = std::clamp<int64_t>(user.to(i) - j, 0, COLUMNS);
  std::fill(row + to, row + COLUMNS, 0.0f);
  if (user.window == 0) return;
  const int64_t from = std::clamp<int64_t>(user.from(i) - j, 0, to);
  std::fill(row + std::clamp<int64_t>(user.global_prefix - j, 0, from), row + from, 0.0f);
}

// Calls tile(i, rows, columns, whole) for the tiles of keys j .. j + COLUMNS and the rows first .. last.
template <typename Tile>
void for_tiles(const User& user, int64_t first, int64_t last, int64_t j, const Tile& tile) {
  for (int64_t i = first; i < last;) {
    Rows rows(user, i, std::min(i + ROWS, last));
    if (!rows.whole(j)) rows = Rows(user, i, std::min(i + PARTIAL_ROWS, last));
    if (const int64_t columns = rows.columns(j); columns > 0) tile(i, rows.count, columns, rows.whole(j));
    i += rows.count;
  }
}

// scores -> scale * silu(score), and gradients of that -> gradients of the scores; count fills whole vectors
void weigh_backward(int64_t count, float scale, float* scores, float* grads) {
  for (int64_t n = 0; n < count; n += LANES) {
    const Vec score = louder::load(scores + n), sigmoid = louder::sigmoid(score), silu = score * sigmoid;
    louder::store(grads + n, louder::load(grads + n) * scale * (sigmoid + silu * (1.0f - sigmoid)));
    louder::store(scores + n, silu * scale);
  }
}

float dot(const float* a, const float* b, int64_t width) {
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t d = 0; d < width; ++d) total += a[d] * b[d];
  return total;
}

template <typename T>
void forward(const Tensor& q_, const Tensor& k_, const Tensor& v_, const Tensor& out_, float scale,
             const std::vector<User>& users, const Bias& bias) {
  using Unit = typename UnitOf<T>::Type;
  const Jagged<T> q(q_), k(k_), v(v_), out(out_);
  const int64_t heads = q_.size(1), K = units<Unit>(q.width), V = round_up(v.width);
  struct Task {
    const User* user;
    int64_t first, last;  // rows
  };
  std::vector<Task> tasks;
  for (const User& user : users)
    for (int64_t last = user.keys; last > user.first_row();) {
      const int64_t first = std::max(last - TASK_ROWS, user.first_row());
      tasks.push_back({&user, first, last});
      last = first;
    }

  const auto weigh = [scale](Vec score) { return score * scale * louder::sigmoid(score); };
  louder::share_tasks(tasks.size(), [&](const auto& next) {
    BiasTile bias_tile(bias);
    alignas(64) float tile[ROWS * COLUMNS];
    std::vector<Unit> queries(heads * TASK_ROWS * K), keys(heads * K * COLUMNS);
    std::vector<Unit> values(heads * V * units<Unit>(COLUMNS));
    std::vector<float> totals(heads * TASK_ROWS * V), own(2 * q.width + v.width);
    for (int64_t index; (index = next()) >= 0;) {
      const auto [user_, first, last] = tasks[index];
      const User& user = *user_;
      const Rows all(user, first, last);
      const int64_t query = user.first_query + first - user.first_row();
      bias_tile.start(user);
      for (int64_t h = 0; h < heads; ++h) pack(q, query, all.count, h, K, &queries[h * TASK_ROWS * K]);
      std::fill(totals.begin(), totals.end(), 0.0f);

      for (int64_t j = all.first_tile(); j < all.any_to; j = all.next_tile(j)) {
        const int64_t width = std::min(COLUMNS, all.any_to - j);
        for (int64_t h = 0; h < heads; ++h) {
          pack_transposed(k, user.first_key + j, width, h, &keys[h * K * COLUMNS]);
          pack_across(v, user.first_key + j, width, h, V, &values[h * V * units<Unit>(COLUMNS)]);
        }
        for_tiles(user, first, last, j, [&](int64_t i, int64_t rows, int64_t columns, bool whole) {
          bias_tile.fill(i, rows, j, columns);
          for (int64_t h = 0; h < heads; ++h) {
            const int64_t wide = round_up(columns);
            bias_tile.scores(rows, wide, K, &queries[(h * TASK_ROWS + i - first) * K], K, &keys[h * K * COLUMNS], tile);
            for (int64_t r = 0; r < rows; ++r) {
              louder::map(wide, tile + r * COLUMNS, weigh, tile + r * COLUMNS);
              if (!whole) hide(user, i + r, j, tile + r * COLUMNS);
            }
            add_product(rows, V, columns, tile, &values[h * V * units<Unit>(COLUMNS)], V,
                        &totals[(h * TASK_ROWS + i - first) * V]);
          }
        });
      }

      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = std::max(first, user.first_alone()); i < last; ++i) {
          if (!user.alone(i)) continue;
          float *own_q = own.data(), *own_k = own_q + q.width, *own_v = own_k + q.width;
          pack(q, query + i - first, 1, h, q.width, own_q);
          pack(k, user.first_key + i, 1, h, q.width, own_k);
          pack(v, user.first_key + i, 1, h, v.width, own_v);
          const float score = dot(own_q, own_k, q.width) + bias_tile.alone(i);
          const float weight = scale * score * louder::sigmoid(score);
          float* total = &totals[(h * TASK_ROWS + i - first) * V];
          for (int64_t c = 0; c < v.width; ++c) total[c] += weight * own_v[c];
        }
        unpack(&totals[h * TASK_ROWS * V], V, all.count, out, query, h);
      }
    }
  });
}

// Some heads of one user.
struct Share {
  const User* user;
  int64_t first_head, heads;
};

std::vector<Share> shares_of(const std::vector<User>& users, int64_t heads) {
  int64_t total = 0;
  for (const User& user : users) total += user.cost();
  std::vector<Share> shares;
  for (const User& user : users) {
    if (user.keys == 0) continue;
    const int64_t groups = std::clamp<int64_t>(user.cost() * SHARES / std::max<int64_t>(total, 1), 1, heads);
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t first = heads * group / groups;
      shares.push_back({&user, first, heads * (group + 1) / groups - first});
    }
  }
  return shares;
}

// Some rows of every head, as the left side of a product and, summed over rows, as the right side. With floats the two
// are the same.
template <typename T>
struct BothSides {
  using Unit = typename UnitOf<T>::Type;
  static constexpr bool SAME = NUMBERS<Unit> == 1;
  int64_t rows = 0, left_row, right_row;
  std::vector<Unit> lefts, rights;

  explicit BothSides(int64_t width)
      : left_row(SAME ? round_up(width) : units<Unit>(width)), right_row(round_up(width)) {}

  void pack_rows(const Jagged<T>& x, int64_t i, int64_t count, int64_t first_head, int64_t heads) {
    rows = count;
    lefts.resize(heads * rows * left_row);
    if (!SAME) rights.resize(heads * units<Unit>(rows) * right_row);
    for (int64_t h = 0; h < heads; ++h) {
      pack(x, i, count, first_head + h, left_row, &lefts[h * rows * left_row]);
      if (!SAME) pack_across(x, i, count, first_head + h, right_row, &rights[h * units<Unit>(rows) * right_row]);
    }
  }
  const Unit* left(int64_t h, int64_t row) const { return &lefts[(h * rows + row) * left_row]; }
  // from a row on that begins a unit
  const Unit* right(int64_t h, int64_t row) const {
    if (SAME) return left(h, row);
    return &rights[(h * units<Unit>(rows) + row / NUMBERS<Unit>) * right_row];
  }
};

template <typename T>
void backward(const Tensor& grad_, const Tensor& q_, const Tensor& k_, const Tensor& v_,
              const Tensor& dq_, const Tensor& dk_, const Tensor& dv_, float scale,
              const std::vector<User>& users, const Bias& bias, std::vector<double>& tables) {
  using Unit = typename UnitOf<T>::Type;
  const Jagged<T> grad(grad_), q(q_), k(k_), v(v_), dq(dq_), dk(dk_), dv(dv_);
  const int64_t K = round_up(q.width), V = round_up(v.width), table_size = bias.distances + bias.buckets;
  const int64_t K_units = units<Unit>(q.width), V_units = units<Unit>(v.width);
  const auto shares = shares_of(users, q_.size(1));

  // chunk c owns every CHUNKS-th share, from the most expensive: even amounts, and the same ones on every machine
  louder::share_tasks(CHUNKS, [&](const auto& next) {
    BiasTile bias_tile(bias);
    BiasGradient bias_gradient(bias);
    alignas(64) float weights[ROWS * COLUMNS], d_scores[ROWS * COLUMNS], d_bias[ROWS * COLUMNS];
    BothSides<T> queries(q.width), grads(v.width);
    std::vector<Unit> keys, keys_T, values_T;
    std::vector<float> d_queries, d_keys, d_values, own(2 * (q.width + v.width));  // [heads, M, K], ...
    for (int64_t chunk; (chunk = next()) >= 0;) {
      double *d_position = tables.data() + chunk * table_size, *d_time = d_position + bias.distances;
      for (size_t index = chunk; index < shares.size(); index += CHUNKS) {
        const auto [user_, first_head, heads] = shares[index];
        const User& user = *user_;
        const int64_t M = user.queries, first = user.first_row();
        bias_tile.start(user);
        queries.pack_rows(q, user.first_query, M, first_head, heads);
        grads.pack_rows(grad, user.first_query, M, first_head, heads);
        d_queries.assign(heads * M * K, 0.0f);
        keys.resize(heads * units<Unit>(COLUMNS) * K);
        keys_T.resize(heads * K_units * COLUMNS), values_T.resize(heads * V_units * COLUMNS);
        d_keys.resize(heads * COLUMNS * K), d_values.resize(heads * COLUMNS * V);

        for (int64_t j = 0; j < user.keys; j += COLUMNS) {
          const int64_t width = std::min(COLUMNS, user.keys - j), key = user.first_key + j;
          for (int64_t h = 0; h < heads; ++h) {
            pack_across(k, key, width, first_head + h, K, &keys[h * units<Unit>(COLUMNS) * K]);
            pack_transposed(k, key, width, first_head + h, &keys_T[h * K_units * COLUMNS]);
            pack_transposed(v, key, width, first_head + h, &values_T[h * V_units * COLUMNS]);
          }
          std::fill(d_keys.begin(), d_keys.end(), 0.0f);
          std::fill(d_values.begin(), d_values.end(), 0.0f);
          int64_t first_seeing = std::max(first, j);
          first_seeing -= (first_seeing - first) % NUMBERS<Unit>;  // a tile begins where a unit of rows does
          for_tiles(user, first_seeing, user.keys, j, [&](int64_t i, int64_t rows, int64_t columns, bool whole) {
            const int64_t wide = round_up(columns);
            bias_tile.fill(i, rows, j, columns);
            for (int64_t h = 0; h < heads; ++h) {
              bias_tile.scores(rows, wide, K_units, queries.left(h, i - first), queries.left_row,
                               &keys_T[h * K_units * COLUMNS], weights);
              multiply<false>(rows, wide, V_units, grads.left(h, i - first), grads.left_row, 1,
                              &values_T[h * V_units * COLUMNS], COLUMNS, d_scores, COLUMNS);
              for (int64_t r = 0; r < rows; ++r) {
                float *weight = weights + r * COLUMNS, *d_score = d_scores + r * COLUMNS;
                weigh_backward(wide, scale, weight, d_score);
                if (!whole) hide(user, i + r, j, weight), hide(user, i + r, j, d_score);
                float* sum = d_bias + r * COLUMNS;
                if (table_size > 0 && h == 0) std::copy_n(d_score, wide, sum);
                if (table_size > 0 && h > 0)
                  for (int64_t c = 0; c < wide; ++c) sum[c] += d_score[c];
              }
              add_product(rows, K, columns, d_scores, &keys[h * units<Unit>(COLUMNS) * K], K,
                          &d_queries[(h * M + i - first) * K]);
              add_transposed_product(columns, K, rows, d_scores, queries.right(h, i - first), queries.right_row,
                                     &d_keys[h * COLUMNS * K]);
              add_transposed_product(columns, V, rows, weights, grads.right(h, i - first), grads.right_row,
                                     &d_values[h * COLUMNS * V]);
            }
            if (table_size > 0) bias_gradient.add(bias_tile, i, rows, j, columns, d_bias);
          });
          for (int64_t h = 0; h < heads; ++h) {
            for (int64_t i = std::max({first, user.first_alone(), j}); i < j + width; ++i) {
              if (!user.alone(i)) continue;
              float *own_q = own.data(), *own_k = own_q + q.width, *own_v = own_k + q.width;
              float* own_grad = own_v + v.width;
              pack(q, user.first_query + i - first, 1, first_head + h, q.width, own_q);
              pack(k, user.first_key + i, 1, first_head + h, q.width, own_k);
              pack(v, user.first_key + i, 1, first_head + h, v.width, own_v);
              pack(grad, user.first_query + i - first, 1, first_head + h, v.width, own_grad);
              const float score = dot(own_q, own_k, q.width) + bias_tile.alone(i), sigmoid = louder::sigmoid(score);
              const float silu = score * sigmoid;
              const float d_score = dot(own_grad, own_v, v.width) * scale * (sigmoid + silu * (1.0f - sigmoid));
              float *d_query = &d_queries[(h * M + i - first) * K], *d_key = &d_keys[(h * COLUMNS + i - j) * K];
              float* d_value = &d_values[(h * COLUMNS + i - j) * V];
              for (int64_t c = 0; c < q.width; ++c) d_query[c] += d_score * own_k[c];
              for (int64_t c = 0; c < q.width; ++c) d_key[c] += d_score * own_q[c];
              for (int64_t c = 0; c < v.width; ++c) d_value[c] += scale * silu * own_grad[c];
              if (table_size > 0) bias_gradient.add_alone(bias_tile, i, d_score);
            }
            unpack(&d_keys[h * COLUMNS * K], K, width, dk, key, first_head + h);
            unpack(&d_values[h * COLUMNS * V], V, width, dv, key, first_head + h);
          }
        }

        for (int64_t h = 0; h < heads; ++h) unpack(&d_queries[h * M * K], K, M, dq, user.first_query, first_head + h);
        bias_gradient.flush(d_position, d_time);
      }
    }
  });
}

Tensor hstu_attention(const Tensor& q, const Tensor& k, const Tensor& v, double scale,
                          const Optional& position_bias, const Optional& time_bias, const Tensor& offsets,
                          const Optional& prefix_lengths, const Optional& query_offsets, const Optional& query_times,
                          const Optional& key_times, std::optional<int64_t> window, int64_t global_prefix,
                          const Tensor& bucket_starts) {
  const Layout layout(offsets, prefix_lengths, query_offsets, query_times, key_times, window, global_prefix);
  const auto users = users_of(layout);
  const Bias bias(position_bias, time_bias, layout, bucket_starts, users);
  const auto out = louder::empty({q.size(0), q.size(1), v.size(2)}, v);
  const auto run = louder::is_float(q) ? forward<float> : forward<BFloat16>;
  run(q, k, v, out, scale, users, bias);
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> hstu_attention_backward(
    const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, double scale,
    const Optional& position_bias, const Optional& time_bias, const Tensor& offsets, const Optional& prefix_lengths,
    const Optional& query_offsets, const Optional& query_times, const Optional& key_times, std::optional<int64_t> window,
    int64_t global_prefix, const Tensor& bucket_starts) {
  const Layout layout(offsets, prefix_lengths, query_offsets, query_times, key_times, window, global_prefix);
  const auto users = users_of(layout);
  const Bias bias(position_bias, time_bias, layout, bucket_starts, users);
  const auto dq = louder::new_like(q);
  const auto dk = louder::new_like(k), dv = louder::new_like(v);
  const int64_t table_size = bias.distances + bias.buckets;
  std::vector<double> tables(CHUNKS * table_size);
  const auto run = louder::is_float(q) ? backward<float> : backward<BFloat16>;
  run(grad, q, k, v, dq, dk, dv, scale, users, bias, tables);

  const auto part = [&](int64_t first, int64_t size, const Optional& table) {
    const auto out = louder::empty({table ? size : 0}, table ? *table : q);
    const bool wide = louder::is_float(out);
    for (int64_t n = first; n < first + size; ++n) {
      double total = 0;
      for (int64_t chunk = 0; chunk < CHUNKS; ++chunk) total += tables[chunk * table_size + n];
      if (wide)
        louder::new_numbers(out)[n - first] = total;
      else
        static_cast<BFloat16*>(out.mutable_data_ptr())[n - first] = static_cast<float>(total);
    }
    return out;
  };
  return {dq, dk, dv, part(0, bias.distances, position_bias), part(bias.distances, bias.buckets, time_bias)};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(louder_cpu, library) {
  library.def(
      "hstu_attention(Tensor q, Tensor k, Tensor v, float scale, Tensor? position_bias, Tensor? time_bias, "
      "Tensor offsets, Tensor? prefix_lengths, Tensor? query_offsets, Tensor? query_times, Tensor? key_times, "
      "int? window, int global_prefix, Tensor bucket_starts) -> Tensor");
  library.def(
      "hstu_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, float scale, Tensor? position_bias, "
      "Tensor? time_bias, Tensor offsets, Tensor? prefix_lengths, Tensor? query_offsets, Tensor? query_times, "
      "Tensor? key_times, int? window, int global_prefix, Tensor bucket_starts) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(louder_cpu, CompositeImplicitAutograd, library) {
  library.impl("hstu_attention", TORCH_BOX(&hstu_attention));
  library.impl("hstu_attention_backward", TORCH_BOX(&hstu_attention_backward));
}
