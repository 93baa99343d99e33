// Scores of groups: all shifts of a group against all directions of it, as small matrix products (engine.md 4).
// Twin: mpiapp.model.scores.log_weights.
//
// A group is an image at one in-plane angle with a list of shifts and a list of directions. In the fine pass the lists
// hold parents and every parent stands for its children; pairs whose parents were not accepted are left out by a prior
// of minus infinity.
// instances: grouped_scores<half, half>; grouped_scores<float, Split>; grouped_scores<float, float>
// instances: grouped_scores<double, double>
#include "optics.cuh"
#if __CUDA_ARCH__ >= 700
#include <mma.h>
#endif
using namespace mpiapp;

// Products of float numbers on tensor cores: each number as the sum of two of half precision, the product of the two
// small parts left out. As good as single precision (2^-22), for three times the products of half.
struct Split {
    half high, low;
};

namespace {

constexpr int kTile = 32;      // shifts and directions of a tile
constexpr int kThreads = 128;  // four warps, a quarter of the tile each

// Pixels of one step, and the length of a row in shared memory: real parts, imaginary parts, padding against conflicts.
template <typename T> struct Step {
    static constexpr int pixels = 32, row = 2 * pixels + 4;
};
template <> struct Step<half> {
    static constexpr int pixels = 64, row = 2 * pixels + 8;
};
template <> struct Step<Split> {
    static constexpr int pixels = 32, row = 2 * (2 * pixels + 8);  // high parts, then low parts
};
template <typename T> struct Sum { using type = float; };
template <> struct Sum<double> { using type = double; };

template <typename T> __device__ __forceinline__ double square(T re, T im) { return double(re) * re + double(im) * im; }
template <> __device__ __forceinline__ double square<half>(half re, half im) {
    const float a = __half2float(re), b = __half2float(im);
    return a * a + b * b;
}

// What a row in shared memory is made of, and writing a number into it.
template <typename P> struct Cell {
    using type = P;
    __device__ static void put(P* row, int k, float value) { row[k] = narrow<P>(value); }
};
template <> struct Cell<Split> {
    using type = half;
    __device__ static void put(half* row, int k, float value) {
        const half high = __float2half_rn(value);
        row[k] = high;
        row[Step<Split>::row / 2 + k] = __float2half_rn(value - __half2float(high));
    }
};

// Accumulates a tile of products D . T^T over the pixels of one step; the sums end in shared memory.
template <typename T> struct Product {
    using A = typename Sum<T>::type;
    A sum[8] = {};
    __device__ void step(const T* d, const T* t) {
        const int row = threadIdx.x >> 2, first = (threadIdx.x & 3) * 8;
        for (int k = 0; k < 2 * Step<T>::pixels; ++k) {
            const A x = d[row * Step<T>::row + k];
#pragma unroll
            for (int c = 0; c < 8; ++c) sum[c] += x * t[(first + c) * Step<T>::row + k];
        }
    }
    __device__ void store(float* out) const {
        const int row = threadIdx.x >> 2, first = (threadIdx.x & 3) * 8;
#pragma unroll
        for (int c = 0; c < 8; ++c) out[row * kTile + first + c] = static_cast<float>(sum[c]);
    }
};

#if __CUDA_ARCH__ >= 700
template <> struct Product<half> {
    nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> sum;
    __device__ Product() { nvcuda::wmma::fill_fragment(sum, 0.0f); }
    __device__ void step(const half* d, const half* t) {
        using namespace nvcuda::wmma;
        const int warp = threadIdx.x >> 5;
        fragment<matrix_a, 16, 16, 16, half, row_major> a;
        fragment<matrix_b, 16, 16, 16, half, col_major> b;
        fragment<accumulator, 16, 16, 16, float> part;
        fill_fragment(part, 0.0f);
#pragma unroll
        for (int k = 0; k < 2 * Step<half>::pixels; k += 16) {
            load_matrix_sync(a, d + (warp >> 1) * 16 * Step<half>::row + k, Step<half>::row);
            load_matrix_sync(b, t + (warp & 1) * 16 * Step<half>::row + k, Step<half>::row);
            mma_sync(part, a, b, part);
        }
        gather(part);
    }
    // Tensor cores cut off what does not fit when they add, a bias that grows with the sum; so they add a step only.
    __device__ void gather(const nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>& part) {
#pragma unroll
        for (int i = 0; i < part.num_elements; ++i) sum.x[i] += part.x[i];
    }
    __device__ void store(float* out) const {
        const int warp = threadIdx.x >> 5;
        nvcuda::wmma::store_matrix_sync(out + (warp >> 1) * 16 * kTile + (warp & 1) * 16, sum, kTile,
                                        nvcuda::wmma::mem_row_major);
    }
};

template <> struct Product<Split> : Product<half> {
    __device__ void step(const half* d, const half* t) {
        using namespace nvcuda::wmma;
        constexpr int row = Step<Split>::row, low = row / 2;
        const int warp = threadIdx.x >> 5;
        const half *my_d = d + (warp >> 1) * 16 * row, *my_t = t + (warp & 1) * 16 * row;
        fragment<matrix_a, 16, 16, 16, half, row_major> a;
        fragment<matrix_b, 16, 16, 16, half, col_major> b;
        fragment<accumulator, 16, 16, 16, float> part;
        fill_fragment(part, 0.0f);
#pragma unroll
        for (int k = 0; k < 2 * Step<Split>::pixels; k += 16) {
            load_matrix_sync(a, my_d + low + k, row);
            load_matrix_sync(b, my_t + k, row);
            mma_sync(part, a, b, part);
            load_matrix_sync(a, my_d + k, row);
            mma_sync(part, a, b, part);
            load_matrix_sync(b, my_t + low + k, row);
            mma_sync(part, a, b, part);
        }
        gather(part);
    }
};
#endif

}  // namespace

// Log weights of all pairs of each group.
//   tile_start (n_group + 1): first tile of each group; image_of, psi_of, out_start (n_group);
//   parent_of = group / family_psi; d_start, n_d, t_start, n_t (n_parent): its lists in `rows` and `shifts`;
//   rows: row of the table of a direction's first child; shifts: number of a parent shift;
//   table (2, n_row, pitch) T; base (n_group, pitch) float2; power (n_group, pitch);
//   prior: of parent pairs, (n_d, n_t) of every parent group from prior_start on, with the prior of the shift in it;
//          or null: row_prior of each listed direction plus log_shift (n_img, n_trans).
//   n_score: pixels that count, the first of them; the sums take all.
//   out: (n_d family, n_t family) of each group from out_start on.
// Grid: number of tiles. A row of the table is read once a tile, a shifted image is made where it is used.
//   T is the type of the table, P how products are made: half, Split, float or double.
template <typename T, typename P>
__global__ void __launch_bounds__(kThreads)
    grouped_scores(const long long* __restrict__ tile_start, int n_group, int family_psi, int family_rows,
                   int family_shifts, const int* __restrict__ image_of, const int* __restrict__ psi_of,
                   const long long* __restrict__ out_start, const int* __restrict__ d_start,
                   const int* __restrict__ n_d, const int* __restrict__ t_start, const int* __restrict__ n_t,
                   const int* __restrict__ rows, const int* __restrict__ shifts, const T* __restrict__ table,
                   long long n_row, int pitch, int n_score, const float2* __restrict__ base, const float* __restrict__ power,
                   const int* __restrict__ group, const Optics* __restrict__ optics,
                   const float* __restrict__ cosine, const float* __restrict__ sine,
                   const float2* __restrict__ shift_A, int n_trans, const float* __restrict__ qx,
                   const float* __restrict__ qy, const float* __restrict__ prior,
                   const long long* __restrict__ prior_start, const float* __restrict__ row_prior,
                   const float* __restrict__ log_shift, int correlate, float* __restrict__ out) {
    using S = Step<P>;
    using C = Cell<P>;
    __shared__ __align__(32) typename C::type d_tile[kTile * S::row];
    __shared__ __align__(32) typename C::type t_tile[kTile * S::row];
    __shared__ float2 shift_of[kTile];
    __shared__ float h_of[kTile];
    __shared__ float products[kTile * kTile];
    const int g = segment_of(tile_start, n_group, blockIdx.x), parent = g / family_psi;
    const int count_d = n_d[parent] * family_rows, count_t = n_t[parent] * family_shifts;
    const int tiles_t = (count_t + kTile - 1) / kTile;
    const int tile = static_cast<int>(blockIdx.x - tile_start[g]);
    const int d0 = tile / tiles_t * kTile, t0 = tile % tiles_t * kTile;
    const int i = image_of[g], j = psi_of[g];
    if (threadIdx.x < kTile) {
        const int t = t0 + threadIdx.x;
        float2 turned = make_float2(0.0f, 0.0f);
        if (t < count_t) {
            const int number = shifts[t_start[parent] + t / family_shifts] * family_shifts + t % family_shifts;
            turned = turned_shift(optics[group[i]], cosine[j], sine[j], shift_A[number]);
        }
        shift_of[threadIdx.x] = turned;
    }
    // four threads share a row of directions, all threads a column of pixels of the shifts
    const int my_row = threadIdx.x >> 2, part = threadIdx.x & 3, d = d0 + my_row;
    const bool row_used = d < count_d;
    const long long row =
        row_used ? static_cast<long long>(rows[d_start[parent] + d / family_rows]) + d % family_rows : 0;
    const float2* my_base = base + static_cast<long long>(g) * pitch;
    const float* my_power = power + static_cast<long long>(g) * pitch;
    const int used_t = min(kTile, count_t - t0);
    Product<P> product;
    double h = 0.0;
    __syncthreads();
    for (int p0 = 0; p0 < n_score; p0 += S::pixels) {
        constexpr int each = S::pixels / 4;
        float h_step = 0.0f;
        const T* re = table + row * pitch + p0 + part * each;
        const T* im = re + n_row * pitch;
#pragma unroll
        for (int k = 0; k < each; ++k) {
            const int p = part * each + k;
            const T a = row_used ? re[k] : narrow<T>(0.0f), b = row_used ? im[k] : narrow<T>(0.0f);
            C::put(d_tile + my_row * S::row, p, widen(a));
            C::put(d_tile + my_row * S::row, S::pixels + p, widen(b));
            if (p0 + p < n_score) h_step += my_power[p0 + p] * static_cast<float>(square(a, b));
        }
        h += h_step;
        constexpr int lanes = kThreads / S::pixels;
        const int p = threadIdx.x % S::pixels;
        const float2 value = my_base[p0 + p];
        const float x = qx[p0 + p], y = qy[p0 + p];
        for (int t = threadIdx.x / S::pixels; t < kTile; t += lanes) {
            float2 moved = make_float2(0.0f, 0.0f);
            if (t < used_t && p0 + p < n_score) moved = times(value, phase(x * shift_of[t].x + y * shift_of[t].y));
            C::put(t_tile + t * S::row, p, moved.x);
            C::put(t_tile + t * S::row, S::pixels + p, moved.y);
        }
        __syncthreads();
        product.step(d_tile, t_tile);
        __syncthreads();
    }
    h += __shfl_xor_sync(0xffffffffu, h, 1);
    h += __shfl_xor_sync(0xffffffffu, h, 2);
    if (part == 0) h_of[my_row] = static_cast<float>(h);
    product.store(products);
    __syncthreads();
    for (int k = threadIdx.x; k < kTile * kTile; k += kThreads) {
        const int dd = k / kTile, tt = k % kTile;
        if (d0 + dd >= count_d || t0 + tt >= count_t) continue;
        const int listed = d_start[parent] + (d0 + dd) / family_rows, shift = (t0 + tt) / family_shifts;
        float log_prior;
        if (prior) log_prior = prior[prior_start[parent] + static_cast<long long>((d0 + dd) / family_rows) * n_t[parent] + shift];
        else log_prior = row_prior[listed] + log_shift[i * n_trans + shifts[t_start[parent] + shift]];
        float value = products[k];
        if (log_prior < -1e30f) value = -3.0e38f;
        else if (correlate) value *= rsqrtf(h_of[dd] + 1e-30f);
        else value += log_prior - 0.5f * h_of[dd];
        out[out_start[g] + static_cast<long long>(d0 + dd) * count_t + t0 + tt] = value;
    }
}
