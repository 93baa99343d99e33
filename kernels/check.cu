// Some scores once more in double precision: how far rounding moves them (engine.md 2).
// Twin: mpiapp.model.scores.log_weights.
#include "optics.cuh"
using namespace mpiapp;

namespace {

__device__ double window_at(const float* c, double f) {
    double value = c[0];
    for (int i = 1; i < 8; ++i) value = value * f + c[i];
    return value;
}

__device__ double2 plane_at(const float2* plane, int radius, const float* window, double kx, double ky) {
    double ux = 2.0 * kx, uy = 2.0 * ky;
    const double sign = ux >= 0.0 ? 1.0 : -1.0;
    ux *= sign;
    uy *= sign;
    const double x0 = floor(ux), y0 = floor(uy), fx = ux - x0, fy = uy - y0;
    const float *outer = window, *inner = window + 8;
    const double wx[4] = {window_at(outer, fx), window_at(inner, fx), window_at(inner, 1.0 - fx), window_at(outer, 1.0 - fx)};
    const double wy[4] = {window_at(outer, fy), window_at(inner, fy), window_at(inner, 1.0 - fy), window_at(outer, 1.0 - fy)};
    const float2* at = plane + (static_cast<int>(y0) + radius - 1) * (radius + 3) + static_cast<int>(x0) + 1;
    double2 sum = make_double2(0.0, 0.0);
    for (int j = 0; j < 4; ++j, at += radius + 3)
        for (int i = 0; i < 4; ++i) {
            sum.x += wy[j] * wx[i] * at[i].x;
            sum.y += wy[j] * wx[i] * at[i].y;
        }
    sum.y *= sign;
    return sum;
}

// An average at a whole frequency, x >= 0.
__device__ double2 average_at(const float2* plane, int radius, float x, float y) {
    const float2 v = plane[(static_cast<int>(y) + radius) * (radius + 1) + static_cast<int>(x)];
    return make_double2(v.x, v.y);
}

__device__ double2 volume_at(const float2* volume, int radius, double x, double y, double z) {
    const double sign = x >= 0.0 ? 1.0 : -1.0;
    x *= sign;
    y *= sign;
    z *= sign;
    const double x0 = floor(x), y0 = floor(y), z0 = floor(z), fx = x - x0, fy = y - y0, fz = z - z0;
    const long long ny = radius + 1, nz = static_cast<long long>(2 * radius + 1) * (radius + 1);
    const float2* at = volume + (static_cast<long long>(z0) + radius) * nz + (static_cast<long long>(y0) + radius) * ny +
                       static_cast<long long>(x0);
    double2 sum = make_double2(0.0, 0.0);
    for (int corner = 0; corner < 8; ++corner) {
        const int dx = corner & 1, dy = (corner >> 1) & 1, dz = corner >> 2;
        const double w = (dx ? fx : 1.0 - fx) * (dy ? fy : 1.0 - fy) * (dz ? fz : 1.0 - fz);
        const float2 v = at[dx + dy * ny + dz * nz];
        sum.x += w * v.x;
        sum.y += w * v.y;
    }
    sum.y *= sign;
    return sum;
}

__device__ double contrast_at(const float* c, double x, double y, double even) {
    if (c[6] == 0.0f) return 1.0;
    const double s2 = x * x + y * y;
    return -c[6] * sin(c[0] * x * x + c[1] * x * y + c[2] * y * y + c[3] * s2 * s2 - c[4] + even) * exp(c[5] * s2);
}

}  // namespace

// Log weights without priors, of states given one by one. Grid: (n), blocks of 256.
//   image, psi, of_class (n) int; shift (n) float2 in A; matrix (n, 9) directions as the reference is read;
//   references (n_class, size) float2, volumes or, where planar, averages; others as in turn_rows.
//   score (n) double, written.
extern "C" __global__ void exact_scores(const int* __restrict__ image, const int* __restrict__ psi,
                                        const float2* __restrict__ shift, const float* __restrict__ matrix,
                                        const int* __restrict__ of_class, const float2* __restrict__ references,
                                        long long size, int planar, int radius, float padding,
                                        const float2* __restrict__ planes, long long plane_size, int plane_radius,
                                        const float* __restrict__ ctf, const float* __restrict__ scale,
                                        const int* __restrict__ group, const Optics* __restrict__ optics,
                                        const float* __restrict__ score_weight, int stride,
                                        const float* __restrict__ gamma_even, int n_psi,
                                        const float* __restrict__ cosine, const float* __restrict__ sine,
                                        const float* __restrict__ qx, const float* __restrict__ qy, float unit,
                                        const float* __restrict__ window, int n_pix, double* __restrict__ score) {
    __shared__ double part[256];
    const int n = blockIdx.x, i = image[n], j = psi[n], o = group[i];
    const double c = cosine[j], s = sine[j];
    const float* m = optics[o].turn;
    const float* d = matrix + 9 * n;
    const double cycles = optics[o].cycles, x_A = shift[n].x * cycles, y_A = shift[n].y * cycles;
    double sum = 0.0;
    for (int p = threadIdx.x; p < n_pix; p += blockDim.x) {
        const double x = qx[p], y = qy[p];
        const double kx = (m[0] * c - m[1] * s) * x + (m[0] * s + m[1] * c) * y;
        const double ky = (m[2] * c - m[3] * s) * x + (m[2] * s + m[3] * c) * y;
        const double2 v = plane_at(planes + i * plane_size, plane_radius, window, kx, ky);
        const double even = gamma_even ? gamma_even[(static_cast<long long>(o) * n_psi + j) * stride + p] : 0.0;
        double f = contrast_at(ctf + 8 * i, unit * (c * x + s * y), unit * (c * y - s * x), even);
        if (optics[o].premultiplied != 0.0f) f *= f;
        f *= scale[i];
        double sine_k, cosine_k;
        sincospi(-2.0 * (kx * x_A + ky * y_A), &sine_k, &cosine_k);
        const double re = v.x * cosine_k - v.y * sine_k, im = v.x * sine_k + v.y * cosine_k;
        const double px = padding * x, py = padding * y;
        const float2* reference = references + of_class[n] * size;
        const double2 r = planar ? average_at(reference, radius, qx[p], qy[p])
                                 : volume_at(reference, radius, d[0] * px + d[3] * py, d[1] * px + d[4] * py,
                                             d[2] * px + d[5] * py);
        const double w = score_weight[static_cast<long long>(o) * stride + p];
        sum += w * (f * (r.x * re + r.y * im) - 0.5 * f * f * (r.x * r.x + r.y * r.y));
    }
    part[threadIdx.x] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half; half >>= 1) {
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) score[n] = part[0];
}
