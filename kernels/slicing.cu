// Central slices of a padded transform (refinement.md 2.3). Twin: mpiapp.model.projection.slice_volume.
// instances: slice_directions<half>; slice_directions<float>; slice_directions<double>
// instances: slice_power<half>; slice_power<float>; slice_power<double>
#include "common.cuh"
using namespace mpiapp;

// Slices at psi = 0 of many directions, real parts in the first plane of `out`, imaginary parts in the second.
//   volumes (n_class, 2R+1, 2R+1, R+1) float2; of_class (n_row) volume of each row, or null: the first;
//   matrices (n_row, 9) object to image coordinates; kx, ky (n_pix) pixels;
//   inverse_balance (n_pix) factor that brings a slice near 1; out (2, n_row, pitch) T, zero from n_pix on.
// Grid: (pitch / 256 rounded up, n_row).
template <typename T>
__global__ void slice_directions(const float2* __restrict__ volumes, const int* __restrict__ of_class, int radius,
                                 float padding,
                                 const float* __restrict__ matrices, const float* __restrict__ kx,
                                 const float* __restrict__ ky, const float* __restrict__ inverse_balance, int n_pix,
                                 int pitch, long long n_row, T* __restrict__ out) {
    const int p = blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= pitch) return;
    const long long row = static_cast<long long>(blockIdx.z) * gridDim.y + blockIdx.y;
    if (row >= n_row) return;
    float2 value = make_float2(0.0f, 0.0f);
    if (p < n_pix) {
        const float* m = matrices + 9 * row;
        const long long size = static_cast<long long>(2 * radius + 1) * (2 * radius + 1) * (radius + 1);
        const float2* volume = volumes + (of_class ? of_class[row] * size : 0);
        const float x = padding * kx[p], y = padding * ky[p];
        value = read_volume(volume, radius, m[0] * x + m[3] * y, m[1] * x + m[4] * y, m[2] * x + m[5] * y);
        value.x *= inverse_balance[p];
        value.y *= inverse_balance[p];
    }
    out[row * pitch + p] = narrow<T>(value.x);
    out[(n_row + row) * pitch + p] = narrow<T>(value.y);
}

// |P|^2 of slices in single precision: the reference side of H (engine.md 2).
//   table (2, n_row, pitch) T; power (n_row, pitch) float.
template <typename T>
__global__ void slice_power(const T* __restrict__ table, long long n, float* __restrict__ power) {
    const long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float re = widen(table[i]), im = widen(table[n + i]);
    power[i] = re * re + im * im;
}
