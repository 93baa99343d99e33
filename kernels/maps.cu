// The maximization step's loops over the padded grid: point-group sums, shell sums, averages (refinement.md 2.5-2.7, 5.1).
// Twins: mpiapp.model.symmetry (tests), numpy.bincount.
// instances: bin_sums<float>; bin_sums<double>
#include "common.cuh"
using namespace mpiapp;

// Add to every element of `out` the grid read at every operator's image of the point.
//   grid, out (2R+1, 2R+1, R+1) float4; operators (n, 9) double without the identity. Grid: elements / 256 rounded up.
extern "C" __global__ void symmetrise(const float4* __restrict__ grid, int radius, const double* __restrict__ operators,
                                      int n, float4* __restrict__ out) {
    const long long ny = radius + 1, nz = static_cast<long long>(2 * radius + 1) * (radius + 1);
    const long long k = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (k >= nz * (2 * radius + 1)) return;
    const int z = static_cast<int>(k / nz) - radius, y = static_cast<int>(k % nz / ny) - radius;
    const int x = static_cast<int>(k % ny);
    if (static_cast<long long>(x) * x + y * y + z * z > static_cast<long long>(radius - 1) * (radius - 1)) return;
    float4 sum = out[k];
    for (int o = 0; o < n; ++o) {
        const double* m = operators + 9 * o;
        const Place p = place(static_cast<float>(m[0] * x + m[1] * y + m[2] * z),
                              static_cast<float>(m[3] * x + m[4] * y + m[5] * z),
                              static_cast<float>(m[6] * x + m[7] * y + m[8] * z), radius);
        for (int corner = 0; corner < 8; ++corner) {
            const int dx = corner & 1, dy = (corner >> 1) & 1, dz = corner >> 2;
            const float w = (dx ? p.x : 1.0f - p.x) * (dy ? p.y : 1.0f - p.y) * (dz ? p.z : 1.0f - p.z);
            // a neighbour of weight 0 may lie outside the array
            if (w == 0.0f) continue;
            const float4 v = grid[p.index + dx + dy * ny + dz * nz];
            sum.x += w * v.x;
            sum.y += w * v.y * p.sign;
            sum.z += w * v.z;
        }
    }
    out[k] = sum;
}

// Sums of values by bin, in double: np.bincount for few bins and many values.
//   bins (n) int; values (n) V; out (n_bin) double, added to. Grid: any, shared memory n_bin doubles.
template <typename V>
__global__ void bin_sums(const int* __restrict__ bins, const V* __restrict__ values, long long n, int n_bin,
                         double* __restrict__ out) {
    extern __shared__ double sums[];
    for (int b = threadIdx.x; b < n_bin; b += blockDim.x) sums[b] = 0.0;
    __syncthreads();
    for (long long k = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; k < n;
         k += static_cast<long long>(gridDim.x) * blockDim.x)
        if (bins[k] >= 0 && bins[k] < n_bin) atomicAdd(sums + bins[k], static_cast<double>(values[k]));
    __syncthreads();
    for (int b = threadIdx.x; b < n_bin; b += blockDim.x)
        if (sums[b] != 0.0) atomicAdd(out + b, sums[b]);
}
