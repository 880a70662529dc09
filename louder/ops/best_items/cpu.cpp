// The items with the largest inner products with a query, float32. Products are made in tiles and looked at while they lie
// in the cache; of each query only a short list is kept. A product is summed in the order of its terms, whatever the tile:
// it depends on its two vectors alone, to the bit.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <torch/library.h>

#include <limits>
#include <optional>
#include <vector>

#include "simd.h"

namespace {

using louder::LANES;
using louder::Vec;

constexpr int64_t COLUMNS = 96, QUERIES = 48;  // of a tile
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

const float* floats(const at::Tensor& x) {
  TORCH_CHECK(x.is_contiguous() && x.scalar_type() == at::kFloat, "vectors must be contiguous floats");
  return x.const_data_ptr<float>();
}

// Products of some queries with some items, which are packed so that one number of each lies beside the others'.
struct Tile {
  const float* vectors;
  int64_t width;
  std::vector<float> packed = std::vector<float>(width * COLUMNS);
  alignas(64) float products[QUERIES * COLUMNS];

  void pack(int64_t column, int64_t item) {
    const float* from = vectors + item * width;
    for (int64_t d = 0; d < width; ++d) packed[d * COLUMNS + column] = from[d];
  }

  // the first `count` columns; those that fill the last vector are nobody's
  void multiply(const float* queries, int64_t rows, int64_t count) {
    louder::multiply<false>(rows, louder::round_up(count), width, queries, width, 1, packed.data(), COLUMNS, products, COLUMNS);
  }
};

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

// queries [B, D], vectors [I, D], excluded [B, E] ids that a query must not get, numbers [M] the ids that anybody may get,
// ascending, or all -> ids [B, k], scores [B, k]
std::tuple<at::Tensor, at::Tensor> best_items(const at::Tensor& queries, const at::Tensor& vectors, int64_t k,
                                              const at::Tensor& excluded, const std::optional<at::Tensor>& numbers) {
  const int64_t rows = queries.size(0), width = queries.size(1), count = numbers ? numbers->numel() : vectors.size(0);
  const int64_t* number = numbers ? numbers->const_data_ptr<int64_t>() : nullptr;
  const float *query = floats(queries), *vector = floats(vectors);
  TORCH_CHECK(excluded.is_contiguous() && excluded.size(0) == rows && (!number || numbers->is_contiguous()));
  std::vector<std::vector<int64_t>> left_out(rows);
  for (int64_t b = 0; b < rows; ++b) {
    const int64_t *from = excluded.const_data_ptr<int64_t>() + b * excluded.size(1), *end = from + excluded.size(1);
    std::copy_if(from, end, std::back_inserter(left_out[b]), [](int64_t id) { return id >= 0; });
    std::sort(left_out[b].begin(), left_out[b].end());
  }

  const auto ids = at::full({rows, k}, -1, excluded.options()), scores = at::full({rows, k}, NEVER, queries.options());
  louder::share_tasks((rows + QUERIES - 1) / QUERIES, [&](const auto& next) {
    Tile tile{vector, width};
    for (int64_t task; (task = next()) >= 0;) {
      const int64_t first = task * QUERIES, own = std::min(QUERIES, rows - first);
      std::vector<List> lists(own);
      for (int64_t from = 0; from < count; from += COLUMNS) {
        const int64_t columns = std::min(COLUMNS, count - from);
        const auto id = [=](int64_t c) { return number ? number[from + c] : from + c; };
        for (int64_t c = 0; c < columns; ++c) tile.pack(c, id(c));
        tile.multiply(query + first * width, own, columns);
        for (int64_t r = 0; r < own; ++r) {
          float* product = tile.products + r * COLUMNS;
          const auto& out = left_out[first + r];
          auto skip = std::lower_bound(out.begin(), out.end(), id(0));
          for (int64_t c = 0; c < columns && skip != out.end(); ++c) {
            while (skip != out.end() && *skip < id(c)) ++skip;
            if (skip != out.end() && *skip == id(c)) product[c] = NEVER;
          }
          if (largest(product, columns) > lists[r].floor)
            for (int64_t c = 0; c < columns; ++c) lists[r].offer(product[c], id(c), k);
        }
      }
      for (int64_t r = 0; r < own; ++r) {
        auto& keys = lists[r].keys;
        lists[r].cut(k);
        std::sort(keys.begin(), keys.end());
        int64_t* id = ids.mutable_data_ptr<int64_t>() + (first + r) * k;
        float* score = scores.mutable_data_ptr<float>() + (first + r) * k;
        for (const int64_t key : keys) *id++ = key & 0xFFFFFFFF, *score++ = score_of(key);
      }
    }
  });
  return {ids, scores};
}

// queries [B, D], vectors [I, D], ids [B, K] -> [B, K]; -inf where an id is below 0
at::Tensor pair_scores(const at::Tensor& queries, const at::Tensor& vectors, const at::Tensor& ids) {
  const int64_t rows = ids.size(0), count = ids.size(1), width = queries.size(1);
  const float *query = floats(queries), *vector = floats(vectors);
  TORCH_CHECK(ids.is_contiguous() && queries.size(0) == rows);
  const auto scores = at::empty({rows, count}, queries.options());
  louder::share_tasks(rows, [&](const auto& next) {
    Tile tile{vector, width};
    for (int64_t b; (b = next()) >= 0;) {
      const int64_t* id = ids.const_data_ptr<int64_t>() + b * count;
      float* score = scores.mutable_data_ptr<float>() + b * count;
      for (int64_t from = 0; from < count; from += COLUMNS) {
        const int64_t columns = std::min(COLUMNS, count - from);
        for (int64_t c = 0; c < columns; ++c) tile.pack(c, std::max<int64_t>(id[from + c], 0));
        tile.multiply(query + b * width, 1, columns);
        for (int64_t c = 0; c < columns; ++c) score[from + c] = id[from + c] < 0 ? NEVER : tile.products[c];
      }
    }
  });
  return scores;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(louder_cpu, library) {
  library.def("best_items", &best_items);
  library.def("pair_scores", &pair_scores);
}
