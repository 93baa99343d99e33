// Images turned in their plane, weighted and shifted: the image side of the score product (engine.md 2).
// Twins: mpiapp.model.interpolation.sample_plane, mpiapp.model.ctf, mpiapp.model.scores.
// instances: shift_rows<half>; shift_rows<float>; shift_rows<double>
#include "optics.cuh"
using namespace mpiapp;

__device__ __forceinline__ float polynomial(const float* c, float f) {
    float value = c[0];
#pragma unroll
    for (int i = 1; i < 8; ++i) value = value * f + c[i];
    return value;
}

// Kaiser-Bessel reading of a padded transform at k: rows k_y = -R .. R, columns k_x = -2 .. R.
__device__ __forceinline__ float2 read_plane(const float2* __restrict__ plane, int radius, const float* window,
                                             float kx, float ky) {
    float ux = 2.0f * kx, uy = 2.0f * ky;
    const float sign = ux >= 0.0f ? 1.0f : -1.0f;
    ux *= sign;
    uy *= sign;
    const float x0 = floorf(ux), y0 = floorf(uy), fx = ux - x0, fy = uy - y0;
    const float* outer = window;
    const float* inner = window + 8;
    const float wx[4] = {polynomial(outer, fx), polynomial(inner, fx), polynomial(inner, 1.0f - fx),
                         polynomial(outer, 1.0f - fx)};
    const float wy[4] = {polynomial(outer, fy), polynomial(inner, fy), polynomial(inner, 1.0f - fy),
                         polynomial(outer, 1.0f - fy)};
    const float2* at = plane + (static_cast<int>(y0) + radius - 1) * (radius + 3) + static_cast<int>(x0) + 1;
    float2 sum = make_float2(0.0f, 0.0f);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        float2 row = make_float2(0.0f, 0.0f);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float2 v = __ldg(at + i);
            row.x += wx[i] * v.x;
            row.y += wx[i] * v.y;
        }
        sum.x += wy[j] * row.x;
        sum.y += wy[j] * row.y;
        at += radius + 3;
    }
    sum.y *= sign;
    return sum;
}

// Masked images at some in-plane angles, weighted for the scores, and the weight of |P|^2.
//   image_of, psi_of (n_group): image of the batch and index of the angle of each row.
//   planes (n_img, plane_size) float2; ctf (n_img, 8); scale (n_img); group (n_img) optics group;
//   score_weight (n_optics, stride) density / sigma2, 0 at the origin; gamma_even (n_optics, n_psi, stride) or null;
//   balance (n_pix); window (16) Kaiser-Bessel polynomials.
//   base (n_group, pitch) float2 and power (n_group, pitch) float, written, 0 from n_pix on.
// Grid: (pitch / 256 rounded up, n_group).
extern "C" __global__ void turn_rows(const int* __restrict__ image_of, const int* __restrict__ psi_of, int n_group,
                                     const float2* __restrict__ planes, long long plane_size, int plane_radius,
                                     const float* __restrict__ ctf, const float* __restrict__ scale,
                                     const int* __restrict__ group, const Optics* __restrict__ optics,
                                     const float* __restrict__ score_weight, int stride,
                                     const float* __restrict__ gamma_even, int n_psi,
                                     const float* __restrict__ cosine, const float* __restrict__ sine,
                                     const float* __restrict__ qx, const float* __restrict__ qy, float unit,
                                     const float* __restrict__ balance, const float* __restrict__ window, int n_pix,
                                     int pitch, float2* __restrict__ base, float* __restrict__ power) {
    const int p = blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= pitch) return;
    for (int g = blockIdx.y; g < n_group; g += gridDim.y) {
        const long long at = static_cast<long long>(g) * pitch + p;
        if (p >= n_pix) {
            base[at] = make_float2(0.0f, 0.0f);
            power[at] = 0.0f;
            continue;
        }
        const int i = image_of[g], j = psi_of[g], o = group[i];
        const float c = cosine[j], s = sine[j];
        const float* m = optics[o].turn;
        const float x = qx[p], y = qy[p];
        const float kx = (m[0] * c - m[1] * s) * x + (m[0] * s + m[1] * c) * y;
        const float ky = (m[2] * c - m[3] * s) * x + (m[2] * s + m[3] * c) * y;
        const float2 value = read_plane(planes + i * plane_size, plane_radius, window, kx, ky);
        const float even = gamma_even ? gamma_even[(static_cast<long long>(o) * n_psi + j) * stride + p] : 0.0f;
        float f = contrast(ctf + 8 * i, unit * (c * x + s * y), unit * (c * y - s * x), even);
        if (optics[o].premultiplied != 0.0f) f *= f;
        const float w = scale[i] * f * score_weight[static_cast<long long>(o) * stride + p] * balance[p];
        base[at] = make_float2(w * value.x, w * value.y);
        power[at] = scale[i] * f * balance[p] * w;
    }
}

// Rows shifted by all translations, real and imaginary parts in planes of their own: both sides of a GEMM.
//   base (n_group, base_pitch) float2; shift_A (n_trans) float2; real, imaginary (n_group, n_trans, pitch) T.
// Grid: (pitch / 256 rounded up, n_group).
template <typename T>
__global__ void shift_rows(const int* __restrict__ image_of, const int* __restrict__ psi_of, int n_group,
                           const int* __restrict__ group, const Optics* __restrict__ optics,
                           const float* __restrict__ cosine, const float* __restrict__ sine,
                           const float2* __restrict__ shift_A, int n_trans, const float* __restrict__ qx,
                           const float* __restrict__ qy, int n_pix, const float2* __restrict__ base, int base_pitch,
                           int pitch, T* __restrict__ real, T* __restrict__ imaginary) {
    const int p = blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= pitch) return;
    for (int g = blockIdx.y; g < n_group; g += gridDim.y) {
        const int j = psi_of[g];
        const Optics& o = optics[group[image_of[g]]];
        const float c = cosine[j], s = sine[j];
        const float2 value = p < n_pix ? base[static_cast<long long>(g) * base_pitch + p] : make_float2(0.0f, 0.0f);
        const float x = p < n_pix ? qx[p] : 0.0f, y = p < n_pix ? qy[p] : 0.0f;
        for (int t = 0; t < n_trans; ++t) {
            const float2 shift = turned_shift(o, c, s, shift_A[t]);
            const float2 moved = times(value, phase(x * shift.x + y * shift.y));
            const long long at = (static_cast<long long>(g) * n_trans + t) * pitch + p;
            real[at] = narrow<T>(moved.x);
            imaginary[at] = narrow<T>(moved.y);
        }
    }
}
