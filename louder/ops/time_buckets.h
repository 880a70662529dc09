// Which bucket of a time bias a distance in seconds falls into: naive.time_buckets, without its logarithm.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "tensor.h"

namespace louder {

struct TimeBuckets {
  std::vector<float> starts;   // the first second of each bucket, and of the one after the last: never
  std::vector<int32_t> cells;  // a cell is an eighth of an octave of seconds -> the bucket of its first second

  TimeBuckets() = default;
  // bucket_starts [T]: the shortest time difference of each bucket, as the float32 that naive.py takes the log of
  explicit TimeBuckets(const Tensor& bucket_starts) : cells(64 * 8) {
    const float* first = numbers<float>(bucket_starts);
    starts.assign(first, first + bucket_starts.numel());
    starts.push_back(std::numeric_limits<float>::infinity());
    for (int64_t cell = 0, bucket = 0; cell < 64 * 8; ++cell) {
      const int32_t bits = (cell + (127 << 3)) << 20;  // 2^(cell / 8) times 1, 1 1/8 ... 1 7/8
      float second;
      std::memcpy(&second, &bits, sizeof second);
      while (starts[bucket + 1] <= second) ++bucket;
      cells[cell] = bucket;
    }
  }

  // A bucket spans a factor of 1.35 and a cell 1.125 at most: the answer is the cell's first bucket or the next.
  int32_t operator()(int64_t seconds) const {
    const float distance = std::max<int64_t>(std::abs(seconds), 1);
    int32_t bits;
    std::memcpy(&bits, &distance, sizeof bits);
    const int32_t guess = cells[(bits >> 20) - (127 << 3)];
    return guess + (distance >= starts[guess + 1]);
  }
};

}  // namespace louder
