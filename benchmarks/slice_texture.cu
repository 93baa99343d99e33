// Central slices as kernels/slicing.cu makes them, with the transform in a three-dimensional texture: the other way of
// benchmarks/gpu_slicing.py. Filtered: one fetch, the texture unit interpolates with fractions of eight bits. Otherwise
// eight fetches of neighbours, interpolated in single precision.
// instances: slice_texture<half, true>; slice_texture<half, false>; slice_texture<float, true>; slice_texture<float, false>
#include "common.cuh"
using namespace mpiapp;

// Arguments as of slice_directions; volume: texture of float2, x fastest, coordinates in elements.
// Grid: (pitch / 256 rounded up, rows at a time).
template <typename T, bool filtered>
__global__ void slice_texture(cudaTextureObject_t volume, int radius, float padding, const float* __restrict__ matrices,
                              const float* __restrict__ kx, const float* __restrict__ ky,
                              const float* __restrict__ inverse_balance, int n_pix, int pitch, long long n_row,
                              T* __restrict__ out) {
    const int p = blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= pitch) return;
    const long long row = static_cast<long long>(blockIdx.z) * gridDim.y + blockIdx.y;
    if (row >= n_row) return;
    float2 value = make_float2(0.0f, 0.0f);
    if (p < n_pix) {
        const float* m = matrices + 9 * row;
        const float px = padding * kx[p], py = padding * ky[p];
        float x = m[0] * px + m[3] * py, y = m[1] * px + m[4] * py, z = m[2] * px + m[5] * py;
        const float sign = x >= 0.0f ? 1.0f : -1.0f;
        // elements have their centres at halves
        x = sign * x + 0.5f;
        y = sign * y + radius + 0.5f;
        z = sign * z + radius + 0.5f;
        if (filtered) {
            value = tex3D<float2>(volume, x, y, z);
        } else {
            const float x0 = floorf(x - 0.5f), y0 = floorf(y - 0.5f), z0 = floorf(z - 0.5f);
            const float fx = x - 0.5f - x0, fy = y - 0.5f - y0, fz = z - 0.5f - z0;
#pragma unroll
            for (int corner = 0; corner < 8; ++corner) {
                const int dx = corner & 1, dy = (corner >> 1) & 1, dz = corner >> 2;
                const float w = (dx ? fx : 1.0f - fx) * (dy ? fy : 1.0f - fy) * (dz ? fz : 1.0f - fz);
                const float2 v = tex3D<float2>(volume, x0 + dx + 0.5f, y0 + dy + 0.5f, z0 + dz + 0.5f);
                value.x += w * v.x;
                value.y += w * v.y;
            }
        }
        value.x *= inverse_balance[p];
        value.y *= sign * inverse_balance[p];
    }
    out[row * pitch + p] = narrow<T>(value.x);
    out[(n_row + row) * pitch + p] = narrow<T>(value.y);
}
