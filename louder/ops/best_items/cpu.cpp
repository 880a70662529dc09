// The items with the largest inner products with a query, float32. Products are made in tiles and looked at while they lie
// in the cache; of each query only a short list is kept. A product is summed in the order of its terms, whatever the tile:
// it depends on its two vectors alone, to the bit.
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "simd.h"

namespace {

using louder::LANES;
using louder::Optional;
using louder::Tensor;
using louder::Vec;

constexpr int64_t COLUMNS = 96, QUERIES = 48;  // of a tile; COLUMNS is BLOCK of __init__.py
constexpr int64_t MARGIN = 512;                // a list is as long as what is asked for, and this, before it is cut
constexpr float NEVER = -std::numeric_limits<float>::infinity();

// A score and an id as one number: the smaller, the better, and of equal scores the lower id.
int64_t key_of(float score, int64_t id) {
  int32_t bits;
  score += 0.0f;  // -0 is 0
  std::memcpy(&bits, &score, sizeof bits);
  return static_cast<int64_t>(~(bits < 0 ? bits ^ 0x7FFFFFFF : bits)) << 32 | id;
}

float score_of(int64_t key) {
  int32_t bits = ~static_cast<int32_t>(key >> 32);
  bits = bits < 0 ? bits ^ 0x7FFFFFFF : bits;
  float score;
  std::memcpy(&score, &bits, sizeof score);
  return score;
}

const float* floats(const Tensor& x) {
  louder::check(x.is_contiguous() && louder::is_float(x), "vectors must be contiguous floats");
  return louder::numbers<float>(x);
}

// The best of what was offered so far.
struct List {
  std::vector<int64_t> keys;
  float floor = NEVER;  // what is no better is not among them

  void offer(float score, int64_t id, int64_t k) {
    if (!(score > floor)) return;
    keys.push_back(key_of(score, id));
    if (static_cast<int64_t>(keys.size()) == k + MARGIN) cut(k);
  }
  void cut(int64_t k) {
    if (static_cast<int64_t>(keys.size()) <= k) return;
    std::nth_element(keys.begin(), keys.begin() + k - 1, keys.end());
    keys.resize(k);
    floor = score_of(keys[k - 1]);  // items come in the order of their ids, so a later one must be better
  }
};

float largest(const float* scores, int64_t count) {
  Vec most = Vec{} + NEVER;
  int64_t c = 0;
  for (; c + LANES <= count; c += LANES) {
    const Vec own = louder::load(scores + c);
    most = own > most ? own : most;
  }
  float found = NEVER;
  for (int64_t n = 0; n < LANES; ++n) found = std::max(found, most[n]);
  for (; c < count; ++c) found = std::max(found, scores[c]);
  return found;
}

// queries [B, D], packed [tiles, D, COLUMNS] of `count` items, excluded [B, E] ids that a query must not get, allowed [I] the
// items that anybody may get, or all -> ids [B, k], scores [B, k]
std::tuple<Tensor, Tensor> best_items(const Tensor& queries, const Tensor& packed, int64_t count, int64_t k,
                                      const Tensor& excluded, const Optional& allowed) {
  const int64_t rows = queries.size(0), width = queries.size(1), left_out = excluded.size(1);
  const float *query = floats(queries), *items = floats(packed);
  louder::check(packed.size(1) == width && packed.size(2) == COLUMNS && packed.size(0) * COLUMNS >= count, "not packed so");
  louder::check(excluded.is_contiguous() && excluded.size(0) == rows && (!allowed || allowed->is_contiguous()),
                "ids must be contiguous, a row for each query");
  const bool* may = allowed ? louder::numbers<bool>(*allowed) : nullptr;
  const auto ids = louder::empty({rows, k}, excluded), scores = louder::empty({rows, k}, queries);
  std::fill_n(louder::new_numbers<int64_t>(ids), rows * k, -1);
  std::fill_n(louder::new_numbers(scores), rows * k, NEVER);
  louder::share_tasks((rows + QUERIES - 1) / QUERIES, [&](const auto& next) {
    alignas(64) float products[QUERIES * COLUMNS];
    for (int64_t task; (task = next()) >= 0;) {
      const int64_t first = task * QUERIES, own = std::min(QUERIES, rows - first);
      std::vector<List> lists(own);
      std::vector<std::vector<int64_t>> skipped(own);  // in order, the next one last
      for (int64_t r = 0; r < own; ++r) {
        const int64_t* from = louder::numbers<int64_t>(excluded) + (first + r) * left_out;
        skipped[r].assign(from, from + left_out);
        std::sort(skipped[r].begin(), skipped[r].end(), std::greater<>());
      }
      for (int64_t from = 0; from < count; from += COLUMNS) {
        const int64_t columns = std::min(COLUMNS, count - from);
        louder::multiply<false>(own, COLUMNS, width, query + first * width, width, 1, items + from * width, COLUMNS, products, COLUMNS);
        for (int64_t r = 0; r < own; ++r) {
          float* product = products + r * COLUMNS;
          for (auto& skip = skipped[r]; !skip.empty() && skip.back() < from + columns; skip.pop_back())
            if (skip.back() >= from) product[skip.back() - from] = NEVER;
          if (may)
            for (int64_t c = 0; c < columns; ++c) product[c] = may[from + c] ? product[c] : NEVER;
          if (largest(product, columns) > lists[r].floor)
            for (int64_t c = 0; c < columns; ++c) lists[r].offer(product[c], from + c, k);
        }
      }
      for (int64_t r = 0; r < own; ++r) {
        auto& keys = lists[r].keys;
        lists[r].cut(k);
        std::sort(keys.begin(), keys.end());
        int64_t* id = louder::new_numbers<int64_t>(ids) + (first + r) * k;
        float* score = louder::new_numbers(scores) + (first + r) * k;
        for (const int64_t key : keys) *id++ = key & 0xFFFFFFFF, *score++ = score_of(key);
      }
    }
  });
  return {ids, scores};
}

// queries [B, D], vectors [I, D], ids [B, K] -> [B, K]; -inf where an id is below 0
Tensor pair_scores(const Tensor& queries, const Tensor& vectors, const Tensor& ids) {
  const int64_t rows = ids.size(0), count = ids.size(1), width = queries.size(1);
  const float *query = floats(queries), *vector = floats(vectors);
  louder::check(ids.is_contiguous() && queries.size(0) == rows, "ids must be contiguous, a row for each query");
  const auto scores = louder::empty({rows, count}, queries);
  louder::share_tasks(rows, [&](const auto& next) {
    std::vector<float> packed(width * COLUMNS);
    alignas(64) float products[COLUMNS];
    for (int64_t b; (b = next()) >= 0;) {
      const int64_t* id = louder::numbers<int64_t>(ids) + b * count;
      float* score = louder::new_numbers(scores) + b * count;
      for (int64_t from = 0; from < count; from += COLUMNS) {
        const int64_t columns = std::min(COLUMNS, count - from);
        for (int64_t c = 0; c < columns; ++c) {
          const float* item = vector + std::max<int64_t>(id[from + c], 0) * width;
          for (int64_t d = 0; d < width; ++d) packed[d * COLUMNS + c] = item[d];
        }
        louder::multiply<false>(1, louder::round_up(columns), width, query + b * width, width, 1, packed.data(), COLUMNS, products, COLUMNS);
        for (int64_t c = 0; c < columns; ++c) score[from + c] = id[from + c] < 0 ? NEVER : products[c];
      }
    }
  });
  return scores;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(louder_cpu, library) {
  library.def(
      "best_items(Tensor queries, Tensor packed, int count, int k, Tensor excluded, Tensor? allowed) "
      "-> (Tensor, Tensor)");
  library.def("pair_scores(Tensor queries, Tensor vectors, Tensor ids) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(louder_cpu, CompositeImplicitAutograd, library) {
  library.impl("best_items", TORCH_BOX(&best_items));
  library.impl("pair_scores", TORCH_BOX(&pair_scores));
}
