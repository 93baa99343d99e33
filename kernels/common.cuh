// Helpers shared by all kernels: narrowing, phases, the padded transform of a map, atomic sums.
#pragma once
#include <cuda_fp16.h>

namespace mpiapp {

// Number types of the score products: half (tensor cores), float, double.
template <typename T> __device__ __forceinline__ T narrow(float x);
template <> __device__ __forceinline__ half narrow<half>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ float narrow<float>(float x) { return x; }
template <> __device__ __forceinline__ double narrow<double>(float x) { return x; }

__device__ __forceinline__ float widen(half x) { return __half2float(x); }
__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(double x) { return static_cast<float>(x); }

__device__ __forceinline__ float2 times(float2 a, float2 b) {
    return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

// exp(-2 pi i cycles). The fast functions are good to 5e-7 once the argument lies within half a turn.
__device__ __forceinline__ float2 phase(float cycles) {
    float s, c;
    __sincosf(-6.283185307f * (cycles - rintf(cycles)), &s, &c);
    return make_float2(c, s);
}

// Where a point of the padded transform (half of it, x >= 0) lies: array (2 R + 1, 2 R + 1, R + 1) in z, y, x order
// with the origin at (R, R, 0), R leaving one sample of margin, so that no neighbour is ever outside.
struct Place {
    long long index;  // of the lower neighbour
    float x, y, z;    // fractions
    float sign;       // -1 where the mirrored half is meant: the conjugate
};

__device__ __forceinline__ Place place(float x, float y, float z, int radius) {
    Place p;
    p.sign = x >= 0.0f ? 1.0f : -1.0f;
    x *= p.sign;
    y *= p.sign;
    z *= p.sign;
    const float x0 = floorf(x), y0 = floorf(y), z0 = floorf(z);
    p.x = x - x0;
    p.y = y - y0;
    p.z = z - z0;
    const long long row = (static_cast<long long>(z0) + radius) * (2 * radius + 1) + static_cast<int>(y0) + radius;
    p.index = row * (radius + 1) + static_cast<int>(x0);
    return p;
}

// Trilinear reading of the padded transform.
__device__ __forceinline__ float2 read_volume(const float2* volume, int radius, float x, float y, float z) {
    const Place p = place(x, y, z, radius);
    const long long ny = radius + 1, nz = static_cast<long long>(2 * radius + 1) * (radius + 1);
    float2 sum = make_float2(0.0f, 0.0f);
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
        const int dy = corner & 1, dz = corner >> 1;
        const float w = (dz ? p.z : 1.0f - p.z) * (dy ? p.y : 1.0f - p.y);
        const float2* at = volume + p.index + dy * ny + dz * nz;
        const float2 a = __ldg(at), b = __ldg(at + 1);
        sum.x += w * (a.x + p.x * (b.x - a.x));
        sum.y += w * (a.y + p.x * (b.y - a.y));
    }
    sum.y *= p.sign;
    return sum;
}

// Add four numbers at once: one instruction from compute capability 9.0 on.
__device__ __forceinline__ void add(float4* at, float4 v) {
#if __CUDA_ARCH__ >= 900
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(at), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
                 : "memory");
#else
    atomicAdd(&at->x, v.x);
    atomicAdd(&at->y, v.y);
    atomicAdd(&at->z, v.z);
#endif
}

// Last index whose start is not above `item`: the segment of a CSR layout that an item belongs to.
__device__ __forceinline__ int segment_of(const long long* start, int n, long long item) {
    int low = 0, high = n;  // start[low] <= item < start[high]
    while (high - low > 1) {
        const int middle = (low + high) >> 1;
        if (start[middle] <= item) low = middle;
        else high = middle;
    }
    return low;
}

}  // namespace mpiapp
