// Preparing particle images: shift by whole pixels, mask, and what comes before and after their transforms
// (refinement.md 4.2, engine.md 6). Twin: mpiapp.backend.prepare on the CPU.
// instances: place_images<signed char>; place_images<short>; place_images<unsigned short>; place_images<half>
// instances: place_images<float>
#include "common.cuh"
using namespace mpiapp;

namespace {

// Pixel of an image moved by a whole number of pixels; what enters is 0.
__device__ __forceinline__ float moved(const float* image, int box, int y, int x, int2 shift) {
    const int from_y = y - shift.y, from_x = x - shift.x;
    const bool inside = from_y >= 0 && from_y < box && from_x >= 0 && from_x < box;
    return inside ? image[static_cast<long long>(from_y) * box + from_x] : 0.0f;
}

__device__ __forceinline__ float block_sum(float value) {
    __shared__ float part[32];
    for (int offset = 16; offset; offset >>= 1) value += __shfl_down_sync(0xffffffffu, value, offset);
    if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = value;
    __syncthreads();
    float total = 0.0f;
    for (int w = 0; w < static_cast<int>(blockDim.x) >> 5; ++w) total += part[w];
    __syncthreads();
    return total;
}

__device__ __forceinline__ float real(half x) { return __half2float(x); }
template <typename T> __device__ __forceinline__ float real(T x) { return static_cast<float>(x); }

}  // namespace

// Images as their stack stores them, to their places in a store. Grid: (n_img size / 256 rounded up).
//   from (any, size) T, of image i from_slot[i], or i itself where that is null; to_slot (n_img); to (any, size), written.
template <typename T>
__global__ void place_images(const T* __restrict__ from, const long long* __restrict__ from_slot,
                             const long long* __restrict__ to_slot, int size, long long n, float* __restrict__ to) {
    const long long k = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (k >= n) return;
    const long long i = k / size, pixel = k % size;
    to[to_slot[i] * size + pixel] = real(from[(from_slot ? from_slot[i] : i) * size + pixel]);
}

// Mean outside two masks, and whether an image holds NaN or infinity. Grid: (n_img).
//   raw (n_slot, box, box); slot (n_img); shift (n_img) int2; circle, corners (box, box) masks of the inside;
//   mean (n_img, 2), bad (n_img), written.
extern "C" __global__ void background(const float* __restrict__ raw, const long long* __restrict__ slot,
                                      const int2* __restrict__ shift, const float* __restrict__ circle,
                                      const float* __restrict__ corners, int box, float* __restrict__ mean,
                                      int* __restrict__ bad) {
    const int i = blockIdx.x, n = box * box;
    const float* image = raw + slot[i] * n;
    float sums[2] = {0.0f, 0.0f}, weights[2] = {0.0f, 0.0f}, wrong = 0.0f;
    for (int k = threadIdx.x; k < n; k += blockDim.x) {
        if (!isfinite(image[k])) wrong = 1.0f;
        const float value = moved(image, box, k / box, k % box, shift[i]);
        const float outside[2] = {1.0f - circle[k], 1.0f - corners[k]};
        for (int m = 0; m < 2; ++m) {
            sums[m] += outside[m] * value;
            weights[m] += outside[m];
        }
    }
    for (int m = 0; m < 2; ++m) {
        const float sum = block_sum(sums[m]), weight = block_sum(weights[m]);
        if (threadIdx.x == 0) mean[2 * i + m] = weight > 0.0f ? sum / weight : 0.0f;
    }
    wrong = block_sum(wrong);
    if (threadIdx.x == 0) bad[i] = wrong > 0.0f;
}

// The moved and scaled image inside a circle and with its corners taken away; a bad image becomes 0.
//   gain (n_img); fill (n_img, box, box) noise for the outside of the circle, or null for the mean;
//   masked, unmasked (n_img, box, box), written; masked may be null. Grid: (box * box / 256 rounded up, n_img).
extern "C" __global__ void mask_images(const float* __restrict__ raw, const long long* __restrict__ slot,
                                       const int2* __restrict__ shift, const float* __restrict__ gain,
                                       const float* __restrict__ circle, const float* __restrict__ corners,
                                       const float* __restrict__ mean, const int* __restrict__ bad,
                                       const float* __restrict__ fill, int box, float* __restrict__ masked,
                                       float* __restrict__ unmasked) {
    const int k = blockIdx.x * blockDim.x + threadIdx.x, n = box * box;
    if (k >= n) return;
    const int i = blockIdx.y;
    const long long at = static_cast<long long>(i) * n + k;
    if (bad[i]) {
        if (masked) masked[at] = 0.0f;
        unmasked[at] = 0.0f;
        return;
    }
    const float value = gain[i] * moved(raw + slot[i] * n, box, k / box, k % box, shift[i]);
    const float outside = fill ? fill[at] : gain[i] * mean[2 * i], corner = gain[i] * mean[2 * i + 1];
    if (masked) masked[at] = (value - outside) * circle[k] + outside;
    unmasked[at] = (value - corner) * corners[k] + corner;
}

// Images divided by the transform of the interpolation window, in a box of twice the size with the centre at element 0.
//   window (box) along each axis; padded (n_img, 2 box, 2 box), written. Grid: (4 box box / 256 rounded up, n_img).
extern "C" __global__ void pad_images(const float* __restrict__ images, const float* __restrict__ window, int box,
                                      float* __restrict__ padded) {
    const int k = blockIdx.x * blockDim.x + threadIdx.x, size = 2 * box;
    if (k >= size * size) return;
    const int y = (k / size + box / 2) % size, x = (k % size + box / 2) % size;
    float value = 0.0f;
    if (y < box && x < box)
        value = images[(static_cast<long long>(blockIdx.y) * box + y) * box + x] * window[y] * window[x];
    padded[static_cast<long long>(blockIdx.y) * size * size + k] = value;
}

// The part of a transform that turned reading needs: rows k_y = -R .. R, columns k_x = -2 .. R.
//   transform (n_img, size, size / 2 + 1); planes (n_img, 2 R + 1, R + 3), written.
// Grid: (elements of a plane / 256 rounded up, n_img).
extern "C" __global__ void assemble_planes(const float2* __restrict__ transform, int size, int radius,
                                           float2* __restrict__ planes) {
    const int k = blockIdx.x * blockDim.x + threadIdx.x, columns = radius + 3, n = (2 * radius + 1) * columns;
    if (k >= n) return;
    int ky = k / columns - radius, kx = k % columns - 2;
    bool mirror = kx < 0;
    if (mirror) {
        kx = -kx;
        ky = -ky;
    } else if (kx > size / 2) {  // beyond Nyquist the transform repeats
        mirror = true;
        kx = size - kx;
        ky = -ky;
    }
    const int row = ((ky % size) + size) % size;
    float2 value = transform[(static_cast<long long>(blockIdx.y) * size + row) * (size / 2 + 1) + kx];
    if (mirror) value.y = -value.y;
    planes[static_cast<long long>(blockIdx.y) * n + k] = value;
}

// |X|^2 of the half plane by shell 0 .. box / 2, of transforms that are not yet divided by box^2.
//   transform (n_img, box, box / 2 + 1); power (n_img, box / 2 + 1), added to. Shared memory: box / 2 + 1 floats.
// Grid: (chunks, n_img).
extern "C" __global__ void shell_power(const float2* __restrict__ transform, int box, float* __restrict__ power) {
    extern __shared__ float sums[];
    const int columns = box / 2 + 1, shells = box / 2 + 1;
    for (int s = threadIdx.x; s < shells; s += blockDim.x) sums[s] = 0.0f;
    __syncthreads();
    const float2* image = transform + static_cast<long long>(blockIdx.y) * box * columns;
    const float unit = 1.0f / (static_cast<float>(box) * box);
    for (int k = blockIdx.x * blockDim.x + threadIdx.x; k < box * columns; k += gridDim.x * blockDim.x) {
        const int kx = k % columns, row = k / columns, ky = row <= box / 2 ? row : row - box;
        if (kx == 0 && ky < 0) continue;
        const int shell = static_cast<int>(sqrtf(static_cast<float>(kx * kx + ky * ky)) + 0.5f);
        if (shell < shells) {
            const float re = unit * image[k].x, im = unit * image[k].y;
            atomicAdd(sums + shell, re * re + im * im);
        }
    }
    __syncthreads();
    for (int s = threadIdx.x; s < shells; s += blockDim.x)
        atomicAdd(power + static_cast<long long>(blockIdx.y) * shells + s, sums[s]);
}

// Unmasked transforms at the pixels of the map side.
//   index (n_pix) element of a half transform; factor (n_optics, n_pix) float2 with sign, scale and aberrations;
//   rows (n_img, n_pix), written. Grid: (n_pix / 256 rounded up, n_img).
extern "C" __global__ void gather_rows(const float2* __restrict__ transform, long long image_size,
                                       const int* __restrict__ index, const float2* __restrict__ factor,
                                       const int* __restrict__ group, int n_pix, float2* __restrict__ rows) {
    const int p = blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= n_pix) return;
    const int i = blockIdx.y;
    const float2 value = transform[i * image_size + index[p]];
    rows[static_cast<long long>(i) * n_pix + p] = times(value, factor[static_cast<long long>(group[i]) * n_pix + p]);
}
