// Ids -> places by open addressing: an index of P places, -1 where it is empty, and the key of each place apart. What naive.py
// does, to the bit, the index included. A batch is looked up in blocks, whose memory is asked for before it is read.
#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor.h"

namespace {

using louder::Tensor;

constexpr int64_t BLOCK = 64;           // look-ups whose cache lines are fetched together
constexpr int64_t MOST_HALVINGS = 126;  // 2^-126 is the smallest normal float

template <typename T>
T* memory(const Tensor& x) {
  louder::check(x.is_contiguous(), "expected a contiguous tensor");
  if constexpr (std::is_same_v<T, int32_t>)
    louder::check(louder::dtype_of(x) == aoti_torch_dtype_int32(), "expected int32");
  else
    louder::check_type<T>(x);
  return static_cast<T*>(x.mutable_data_ptr());
}

// MurmurHash3's finalizer (public domain): every bit of a hash depends on every bit of an id.
uint64_t hashed(int64_t id) {
  uint64_t x = static_cast<uint64_t>(id);
  x = (x ^ x >> 33) * 0xFF51AFD7ED558CCDull;
  x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53ull;
  return x ^ x >> 33;
}

// An entry of the index is a place and, in the bits that are left of 31, the end of its key's hash: so a search that passes
// other keys seldom has to read them.
struct Index {
  int32_t* entries;
  int64_t size;
  const int64_t* keys;
  int place_bits = 1;

  Index(const Tensor& index, const Tensor& keys_)
      : entries(memory<int32_t>(index)), size(index.numel()), keys(memory<int64_t>(keys_)) {
    while ((int64_t{1} << place_bits) < keys_.numel()) ++place_bits;
  }

  int64_t home(uint64_t hash) const { return static_cast<int64_t>((hash >> 32) * static_cast<uint64_t>(size) >> 32); }
  int32_t tag(uint64_t hash) const { return static_cast<int32_t>(hash & ((uint64_t{1} << (31 - place_bits)) - 1)); }
  int32_t entry(uint64_t hash, int64_t place) const { return tag(hash) << place_bits | static_cast<int32_t>(place); }
  int32_t place(int64_t at) const { return entries[at] < 0 ? -1 : entries[at] & ((int32_t{1} << place_bits) - 1); }
  int64_t after(int64_t at) const { return at + 1 == size ? 0 : at + 1; }
  int64_t distance(int64_t from, int64_t to) const { return to >= from ? to - from : to - from + size; }

  // The next entry, from `at` on, with this tag, or an empty one
  int64_t next(int32_t tag, int64_t at) const {
    while (entries[at] >= 0 && entries[at] >> place_bits != tag) at = after(at);
    return at;
  }
  // Where an id stands, or the empty entry that ends the search
  int64_t where(int64_t id, int32_t tag, int64_t at) const {
    for (at = next(tag, at); entries[at] >= 0 && keys[place(at)] != id;) at = next(tag, after(at));
    return at;
  }
  int64_t where(int64_t id) const {
    const uint64_t hash = hashed(id);
    return where(id, tag(hash), home(hash));
  }

  void find(const int64_t* ids, int64_t count, int64_t* found) const {
    int64_t at[BLOCK];
    int32_t tags[BLOCK];
    for (int64_t first = 0; first < count; first += BLOCK) {
      const int64_t own = std::min(BLOCK, count - first);
      for (int64_t n = 0; n < own; ++n) {
        const uint64_t hash = hashed(ids[first + n]);
        at[n] = home(hash), tags[n] = tag(hash);
        __builtin_prefetch(entries + at[n]);
      }
      for (int64_t n = 0; n < own; ++n) {
        at[n] = next(tags[n], at[n]);
        if (entries[at[n]] >= 0) __builtin_prefetch(keys + place(at[n]));
      }
      for (int64_t n = 0; n < own; ++n) found[first + n] = place(where(ids[first + n], tags[n], at[n]));
    }
  }
};

Tensor found_places(const Index& index, const Tensor& ids) {
  const auto places = louder::new_like(ids);
  const int64_t* id = memory<int64_t>(ids);
  int64_t* place = memory<int64_t>(places);
  louder::parallel_for(0, ids.numel(), 1 << 14, [&](int64_t from, int64_t to) { index.find(id + from, to - from, place + from); });
  return places;
}

Tensor id_find(const Tensor& index, const Tensor& keys, const Tensor& ids) { return found_places(Index(index, keys), ids); }

int64_t period_of(int64_t time, int64_t half_life) {
  if (!half_life) return 0;
  const int64_t whole = time / half_life;
  return whole - (time % half_life < 0);
}
float halved(int64_t times) { return std::ldexp(1.0f, -static_cast<int>(std::clamp<int64_t>(times, 0, MOST_HALVINGS))); }

Tensor id_count(const Tensor& index, const Tensor& keys, const Tensor& counts_, const Tensor& lasts_, const Tensor& ids,
                const Tensor& times_, int64_t half_life) {
  const auto places = found_places(Index(index, keys), ids);
  const int64_t *place = memory<int64_t>(places), *time = memory<int64_t>(times_);
  float* counts = memory<float>(counts_);
  int64_t* lasts = memory<int64_t>(lasts_);
  const int64_t total = ids.numel();
  louder::check(times_.numel() == total, "as many times as ids");
  std::vector<int64_t> before(half_life ? total : 0), raised;  // each place's latest time as it was, and who raises it first
  for (size_t n = 0; n < before.size(); ++n) before[n] = place[n] < 0 ? 0 : lasts[place[n]];
  for (int64_t n = 0; n < total; ++n) {
    const int64_t p = place[n];
    if (p < 0 || time[n] <= lasts[p]) continue;
    if (half_life && lasts[p] == before[n]) raised.push_back(n);
    lasts[p] = time[n];
  }
  for (const int64_t n : raised)
    counts[place[n]] *= halved(period_of(lasts[place[n]], half_life) - period_of(before[n], half_life));
  for (int64_t n = 0; n < total; ++n) {
    const int64_t p = place[n];
    if (p >= 0) counts[p] += half_life ? halved(period_of(lasts[p], half_life) - period_of(time[n], half_life)) : 1.0f;
  }
  return places;
}

// The keys of these places, none of which is in the index yet, go into it.
void id_put(const Tensor& index_, const Tensor& keys, const Tensor& places) {
  Index index(index_, keys);
  const int64_t* place = memory<int64_t>(places);
  for (int64_t n = 0; n < places.numel(); ++n) {
    const int64_t id = index.keys[place[n]];
    index.entries[index.where(id)] = index.entry(hashed(id), place[n]);
  }
}

// They leave it. What was put behind one moves up, so that no search ends too soon and none passes a grave.
void id_remove(const Tensor& index_, const Tensor& keys, const Tensor& places) {
  Index index(index_, keys);
  const int64_t* place = memory<int64_t>(places);
  for (int64_t n = 0; n < places.numel(); ++n) {
    const int64_t id = index.keys[place[n]];
    int64_t hole = index.where(id);
    if (index.place(hole) != place[n]) continue;
    for (int64_t at = index.after(hole); index.entries[at] >= 0; at = index.after(at)) {
      const int64_t home = index.home(hashed(index.keys[index.place(at)]));
      if (index.distance(home, at) < index.distance(hole, at)) continue;
      index.entries[hole] = index.entries[at];
      hole = at;
    }
    index.entries[hole] = -1;
  }
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(louder_cpu, library) {
  library.def("id_find(Tensor index, Tensor keys, Tensor ids) -> Tensor");
  library.def(
      "id_count(Tensor index, Tensor keys, Tensor(a!) counts, Tensor(b!) lasts, Tensor ids, Tensor times, int half_life) "
      "-> Tensor");
  library.def("id_put(Tensor(a!) index, Tensor keys, Tensor places) -> ()");
  library.def("id_remove(Tensor(a!) index, Tensor keys, Tensor places) -> ()");
}
STABLE_TORCH_LIBRARY_IMPL(louder_cpu, CompositeImplicitAutograd, library) {
  library.impl("id_find", TORCH_BOX(&id_find));
  library.impl("id_count", TORCH_BOX(&id_count));
  library.impl("id_put", TORCH_BOX(&id_put));
  library.impl("id_remove", TORCH_BOX(&id_remove));
}
