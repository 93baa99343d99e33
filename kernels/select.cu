// Selecting the significant ones of many scores (refinement.md 4.8, engine.md 3).
// Twin: mpiapp.model.posterior.significance_threshold. Scores lie in segments, one an image.
//
// The threshold is the lower edge of a histogram bin of 1/41 nat, so a few states just below the exact one pass too.
#include "common.cuh"
using namespace mpiapp;

namespace {
constexpr int kBins = 1024;
constexpr float kCutoff = 25.0f;  // nats below the best: a million such states weigh less than 1e-4
constexpr float kPerNat = kBins / kCutoff;

__device__ __forceinline__ unsigned ordered(float x) {
    const unsigned bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float disordered(unsigned x) {
    return __uint_as_float(x & 0x80000000u ? x ^ 0x80000000u : ~x);
}
}  // namespace

// Log weights at psi and psi + 180 degrees, in place, from the products of the real and of the imaginary parts.
//   scores (n_img, 2, n_row, n_dir): real products, imaginary products; n_row = n_psi n_trans;
//   power (n_img, n_psi, n_dir) H; log_direction (n_dir), of all directions of class after class, per_class of each;
//   log_shift (n_img, n_centre, n_trans), one centre for all classes or one for each;
//   only (n_img): the class that an image is compared with, or null for all of them.
// Grid: (n_dir / 256 rounded up, rows that blocks take turns with, n_img).
extern "C" __global__ void combine_halves(float* __restrict__ scores, const float* __restrict__ power,
                                          const float* __restrict__ log_direction,
                                          const float* __restrict__ log_shift, int n_dir, int per_class,
                                          int n_centre, int n_psi, int n_trans, const int* __restrict__ only,
                                          int correlate) {
    const int d = blockIdx.x * blockDim.x + threadIdx.x;
    if (d >= n_dir) return;
    const int i = blockIdx.z, n_row = n_psi * n_trans, of_class = d / per_class;
    for (int row = blockIdx.y; row < n_row; row += gridDim.y) {
        const int j = row / n_trans;
        float* even = scores + (static_cast<long long>(i) * 2 * n_row + row) * n_dir + d;
        float* odd = even + static_cast<long long>(n_row) * n_dir;
        const float h = power[(static_cast<long long>(i) * n_psi + j) * n_dir + d];
        const float plus = *even + *odd, minus = *even - *odd;
        if (only && only[i] != of_class) {
            *even = *odd = -3.0e38f;
        } else if (correlate) {
            const float norm = rsqrtf(h + 1e-30f);
            *even = plus * norm;
            *odd = minus * norm;
        } else {
            const int centre = i * n_centre + (n_centre > 1 ? of_class : 0);
            const float prior = log_direction[d] + log_shift[centre * n_trans + row - j * n_trans] - 0.5f * h;
            *even = plus + prior;
            *odd = minus + prior;
        }
    }
}

// Best score of every segment and where it is: ordered score in the upper half, inverted position in the lower.
//   start (n_segment + 1); best (n_segment) must be 0 before. Grid: (chunks, n_segment).
extern "C" __global__ void segment_best(const float* __restrict__ scores, const long long* __restrict__ start,
                                        unsigned long long* __restrict__ best) {
    const int s = blockIdx.y;
    const long long first = start[s], last = start[s + 1];
    unsigned long long mine = 0;
    for (long long k = first + blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x; k < last;
         k += static_cast<long long>(gridDim.x) * blockDim.x) {
        const unsigned long long packed =
            (static_cast<unsigned long long>(ordered(scores[k])) << 32) | (0xffffffffu - static_cast<unsigned>(k - first));
        mine = packed > mine ? packed : mine;
    }
    for (int offset = 16; offset; offset >>= 1) {
        const unsigned long long other = __shfl_down_sync(0xffffffffu, mine, offset);
        mine = other > mine ? other : mine;
    }
    if ((threadIdx.x & 31) == 0 && mine) atomicMax(best + s, mine);
}

// Histogram of the weights of every segment. Grid: (chunks, n_segment); weight_of, number_of (n_segment, 1024), 0 before.
extern "C" __global__ void segment_histogram(const float* __restrict__ scores, const long long* __restrict__ start,
                                             const unsigned long long* __restrict__ best,
                                             float* __restrict__ weight_of, int* __restrict__ number_of) {
    __shared__ float weight[kBins];
    __shared__ int number[kBins];
    for (int b = threadIdx.x; b < kBins; b += blockDim.x) {
        weight[b] = 0.0f;
        number[b] = 0;
    }
    __syncthreads();
    const int s = blockIdx.y;
    const long long first = start[s], last = start[s + 1];
    const float top = disordered(static_cast<unsigned>(best[s] >> 32));
    for (long long k = first + blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x; k < last;
         k += static_cast<long long>(gridDim.x) * blockDim.x) {
        const float below = top - scores[k];
        if (below < kCutoff) {
            const int b = min(static_cast<int>(below * kPerNat), kBins - 1);
            atomicAdd(weight + b, __expf(-below));
            atomicAdd(number + b, 1);
        }
    }
    __syncthreads();
    for (int b = threadIdx.x; b < kBins; b += blockDim.x) {
        if (number[b]) {
            atomicAdd(weight_of + static_cast<long long>(s) * kBins + b, weight[b]);
            atomicAdd(number_of + static_cast<long long>(s) * kBins + b, number[b]);
        }
    }
}

// Where each segment's significant scores end. Grid: (n_segment), blocks of 256.
//   last_bin, count, total, top (n_segment), written: last accepted bin, accepted scores, sum of exp(score - best), best.
extern "C" __global__ void segment_threshold(const float* __restrict__ weight_of, const int* __restrict__ number_of,
                                             const unsigned long long* __restrict__ best, float fraction,
                                             int maximum, int only_best, int* __restrict__ last_bin,
                                             long long* __restrict__ count, double* __restrict__ total,
                                             float* __restrict__ top, long long* __restrict__ position) {
    __shared__ float weight[kBins];
    __shared__ int number[kBins];
    const int s = blockIdx.x;
    for (int b = threadIdx.x; b < kBins; b += blockDim.x) {
        weight[b] = weight_of[static_cast<long long>(s) * kBins + b];
        number[b] = number_of[static_cast<long long>(s) * kBins + b];
    }
    __syncthreads();
    if (threadIdx.x) return;
    double sum = 0.0;
    for (int b = 0; b < kBins; ++b) sum += weight[b];
    const double target = fraction * sum;
    double reached = 0.0;
    long long accepted = 0;
    int b = 0;
    for (; b < kBins; ++b) {
        reached += weight[b];
        accepted += number[b];
        if (reached > target || (maximum > 0 && accepted >= maximum)) break;
    }
    const bool empty = best[s] == 0;
    last_bin[s] = empty ? -1 : only_best ? 0 : min(b, kBins - 1);
    count[s] = empty ? 0 : only_best ? 1 : accepted;
    total[s] = only_best || empty ? 1.0 : sum;
    top[s] = empty ? -3.0e38f : disordered(static_cast<unsigned>(best[s] >> 32));
    position[s] = empty ? -1 : static_cast<long long>(0xffffffffu - static_cast<unsigned>(best[s]));
}

// Positions of the accepted scores. Grid: (chunks, n_segment); cursor (n_segment), the first place of each on entry.
extern "C" __global__ void segment_fill(const float* __restrict__ scores, const long long* __restrict__ start,
                                        const float* __restrict__ top, const int* __restrict__ last_bin,
                                        unsigned long long* __restrict__ cursor, long long* __restrict__ found) {
    const int s = blockIdx.y;
    const long long first = start[s], last = start[s + 1];
    const int limit = last_bin[s];
    for (long long k = first + blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x; k < last;
         k += static_cast<long long>(gridDim.x) * blockDim.x) {
        const float below = top[s] - scores[k];
        if (below < kCutoff && min(static_cast<int>(below * kPerNat), kBins - 1) <= limit)
            found[atomicAdd(cursor + s, 1ull)] = k;
    }
}
