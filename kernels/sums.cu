// Weighted sums over the accepted states of each image (refinement.md 4.9, engine.md 5).
// Twins: mpiapp.model.posterior.add_residual, back_project.
//
// Entries are accepted states with their weights, those of one image together and in it those of one orientation
// together. All threads of a block walk through the same entries, each thread for a pixel of its own.
// instances: reference_sums<half>; reference_sums<float>; reference_sums<double>
#include "optics.cuh"
using namespace mpiapp;

struct Entry {
    int row;       // of the table
    int base;      // row of turned images: image and in-plane angle
    float weight;
    float x, y;    // shift in the turned frame, cycles per pixel of the model plane
    float still_x, still_y;  // the same shift in the frame of the image, cycles per pixel of the image
    int image;
};

// Decode accepted scores.
//   found (n_entry): positions in the scores; out_start (n_group + 1), parents' lists as in grouped_scores;
//   top (n_segment) best score and total (n_segment) sum of weights of each image; weights are exp(score - top) / total.
//   direction (n_row, 9) matrices of the table's rows in object coordinates of the map that is made.
//   orientation (n_entry, 6), written: first two rows of back_turn^T Rz(psi) D.
//   parent_direction (n_entry) list index of the coarse direction; shift (n_entry) number of the shift.
extern "C" __global__ void decode_entries(
    const long long* __restrict__ found, int n_entry, const long long* __restrict__ out_start, int n_group,
    int family_psi, int family_rows, int family_shifts, const int* __restrict__ image_of,
    const int* __restrict__ psi_of, const int* __restrict__ d_start, const int* __restrict__ t_start,
    const int* __restrict__ n_t, const int* __restrict__ rows, const int* __restrict__ shifts,
    const float* __restrict__ scores, const float* __restrict__ top, const double* __restrict__ total,
    const int* __restrict__ group, const Optics* __restrict__ optics, const StillOptics* __restrict__ still,
    const float* __restrict__ cosine, const float* __restrict__ sine, const float2* __restrict__ shift_A,
    const float* __restrict__ direction, Entry* __restrict__ entries, float* __restrict__ orientation,
    int* __restrict__ parent_direction, int* __restrict__ child, int* __restrict__ shift) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= n_entry) return;
    const int g = segment_of(out_start, n_group, found[e]), parent = g / family_psi;
    const long long place = found[e] - out_start[g];
    const int count_t = n_t[parent] * family_shifts;
    const int d = static_cast<int>(place / count_t), t = static_cast<int>(place % count_t);
    const int listed = d_start[parent] + d / family_rows;
    const int number = shifts[t_start[parent] + t / family_shifts] * family_shifts + t % family_shifts;
    const int i = image_of[g], j = psi_of[g];
    const StillOptics& s = still[group[i]];
    const float c = cosine[j], sn = sine[j];
    const float2 turned = turned_shift(optics[group[i]], c, sn, shift_A[number]);
    Entry entry;
    entry.row = rows[listed] + d % family_rows;
    entry.base = g;
    entry.weight = static_cast<float>(exp(static_cast<double>(scores[found[e]] - top[i])) / total[i]);
    entry.x = turned.x;
    entry.y = turned.y;
    entry.still_x = shift_A[number].x * s.cycles;
    entry.still_y = shift_A[number].y * s.cycles;
    entry.image = i;
    entries[e] = entry;
    const float* m = direction + 9 * static_cast<long long>(entry.row);
    for (int k = 0; k < 3; ++k) {
        const float a = c * m[k] + sn * m[3 + k], b = c * m[3 + k] - sn * m[k];
        orientation[6 * static_cast<long long>(e) + k] = s.back_turn[0] * a + s.back_turn[2] * b;
        orientation[6 * static_cast<long long>(e) + 3 + k] = s.back_turn[1] * a + s.back_turn[3] * b;
    }
    parent_direction[e] = listed;
    child[e] = (d % family_rows) * family_psi + g % family_psi;
    shift[e] = number;
}

// Sums of |Ref|^2 / sigma2 and Re(conj(Ref) X) / sigma2 of every image by shell.
//   entry_start (n_img + 1); table, base, power as in grouped_scores; shell (n_pix);
//   cross, reference (n_img, n_shell) float, added to.
// Grid: (n_pix / 128 rounded up, n_img).
template <typename T>
__global__ void reference_sums(const int* __restrict__ entry_start, const Entry* __restrict__ entries,
                               const T* __restrict__ table, long long n_row, int pitch,
                               const float2* __restrict__ base, const float* __restrict__ power,
                               const float* __restrict__ qx, const float* __restrict__ qy,
                               const int* __restrict__ shell, int n_pix, int n_shell, float* __restrict__ cross,
                               float* __restrict__ reference) {
    extern __shared__ float sums[];
    const int i = blockIdx.y, p = blockIdx.x * blockDim.x + threadIdx.x;
    const int first = entry_start[i], last = entry_start[i + 1];
    if (first == last) return;
    // the pixels of a block lie in a few neighbouring shells
    const int low = shell[min(static_cast<int>(blockIdx.x * blockDim.x), n_pix - 1)];
    const int high = shell[min(static_cast<int>((blockIdx.x + 1) * blockDim.x) - 1, n_pix - 1)];
    for (int s = threadIdx.x; s < 2 * (high - low + 1); s += blockDim.x) sums[s] = 0.0f;
    __syncthreads();
    if (p < n_pix) {
        const float x = qx[p], y = qy[p];
        float2 value = make_float2(0.0f, 0.0f), mean = value;
        float weight = 0.0f, part = 0.0f, product = 0.0f, square = 0.0f;
        int row = -1, turned = -1;
        for (int e = first; e <= last; ++e) {
            const bool end = e == last;
            if (end || entries[e].row != row || entries[e].base != turned) {
                if (row >= 0) {
                    const long long at = static_cast<long long>(row) * pitch + p;
                    const float re = widen(table[at]), im = widen(table[n_row * pitch + at]);
                    product += re * mean.x + im * mean.y;
                    square += weight * part * (re * re + im * im);
                }
                if (end) break;
                row = entries[e].row;
                if (entries[e].base != turned) {
                    turned = entries[e].base;
                    value = base[static_cast<long long>(turned) * pitch + p];
                    part = power[static_cast<long long>(turned) * pitch + p];
                }
                mean = make_float2(0.0f, 0.0f);
                weight = 0.0f;
            }
            const float w = entries[e].weight;
            const float2 moved = times(value, phase(x * entries[e].x + y * entries[e].y));
            mean.x += w * moved.x;
            mean.y += w * moved.y;
            weight += w;
        }
        atomicAdd(sums + 2 * (shell[p] - low), product);
        atomicAdd(sums + 2 * (shell[p] - low) + 1, square);
    }
    __syncthreads();
    for (int s = threadIdx.x; s < high - low + 1; s += blockDim.x) {
        if (low + s < n_shell) {
            atomicAdd(cross + static_cast<long long>(i) * n_shell + low + s, sums[2 * s]);
            atomicAdd(reference + static_cast<long long>(i) * n_shell + low + s, sums[2 * s + 1]);
        }
    }
}

namespace {

// Add one pixel of a slice to the eight voxels around its place (refinement.md 2.4).
//   m: first two rows of the orientation; value: real, imaginary, weight.
__device__ __forceinline__ void insert_pixel(const float* m, float x, float y, float4 value, int radius,
                                             float4* __restrict__ grid) {
    const Place at = place(m[0] * x + m[3] * y, m[1] * x + m[4] * y, m[2] * x + m[5] * y, radius);
    const long long ny = radius + 1, nz = static_cast<long long>(2 * radius + 1) * (radius + 1);
    value.y *= at.sign;
#pragma unroll
    for (int corner = 0; corner < 8; ++corner) {
        const int dx = corner & 1, dy = (corner >> 1) & 1, dz = corner >> 2;
        const float share = (dx ? at.x : 1.0f - at.x) * (dy ? at.y : 1.0f - at.y) * (dz ? at.z : 1.0f - at.z);
        add(grid + at.index + dx + dy * ny + dz * nz,
            make_float4(share * value.x, share * value.y, share * value.z, 0.0f));
    }
}

// As insert_pixel, for a grid of class averages (2R+1, R+1): four elements.
__device__ __forceinline__ void insert_in_plane(const float* m, float x, float y, float4 value, int radius,
                                                float4* __restrict__ grid) {
    float u = m[0] * x + m[3] * y, v = m[1] * x + m[4] * y;
    const float sign = u >= 0.0f ? 1.0f : -1.0f;
    u *= sign;
    v *= sign;
    const float x0 = floorf(u), y0 = floorf(v), fx = u - x0, fy = v - y0;
    value.y *= sign;
    grid += static_cast<long long>(static_cast<int>(y0) + radius) * (radius + 1) + static_cast<int>(x0);
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
        const int dx = corner & 1, dy = corner >> 1;
        const float share = (dx ? fx : 1.0f - fx) * (dy ? fy : 1.0f - fy);
        add(grid + dx + dy * (radius + 1), make_float4(share * value.x, share * value.y, share * value.z, 0.0f));
    }
}

// Elements of the grid of one class.
__device__ __forceinline__ long long grid_size(int radius, int planar) {
    const long long plane = static_cast<long long>(2 * radius + 1) * (radius + 1);
    return planar ? plane : plane * (2 * radius + 1);
}

}  // namespace

// Back-projection: every image, weighted over its states, into the padded grid; or into slices, one for every
// orientation of the grid, which are inserted once at the end: one addition a pixel, side by side, for eight scattered ones.
//   rows (n_img, n_still) float2 unmasked transforms at the image's own pixels; sx, sy, even, place_x, place_y, weight
//   (n_optics, n_still), even may be null; number (n_entry) of the orientation.
//   of_class (n_row) class of each row of the table;
//   grid (n_class, 2R+1, 2R+1, R+1) float4: real, imaginary, weight, unused; without the first axis of space for class
//   averages (planar); or slices (n_orientation, n_still) float4, the other one null; added to.
//   contrasts (n_img, n_still) values of the CTF where these are known already, else null.
// Grid: (n_still / 128 rounded up, n_img).
extern "C" __global__ void back_project(const int* __restrict__ entry_start, const Entry* __restrict__ entries,
                                        const float* __restrict__ orientation, const float2* __restrict__ rows,
                                        const float* __restrict__ kx, const float* __restrict__ ky,
                                        const float* __restrict__ place_x, const float* __restrict__ place_y,
                                        const float* __restrict__ sx, const float* __restrict__ sy,
                                        const float* __restrict__ even, const float* __restrict__ weight_of,
                                        int n_still, const float* __restrict__ ctf,
                                        const float* __restrict__ contrasts, const float* __restrict__ scale,
                                        const int* __restrict__ group, const StillOptics* __restrict__ optics,
                                        const int* __restrict__ of_class, int radius, float padding, int planar,
                                        float4* __restrict__ grid, const int* __restrict__ number, float4* __restrict__ slices) {
    const int i = blockIdx.y, p = blockIdx.x * blockDim.x + threadIdx.x;
    const int first = entry_start[i], last = entry_start[i + 1];
    if (p >= n_still || first == last) return;
    const int o = group[i];
    const long long at = static_cast<long long>(o) * n_still + p;
    const float inverse = weight_of[at];
    if (inverse == 0.0f) return;
    const float f = contrasts ? contrasts[static_cast<long long>(i) * n_still + p]
                              : contrast(ctf + 8 * i, sx[at], sy[at], even ? even[at] : 0.0f);
    const bool premultiplied = optics[o].premultiplied != 0.0f;
    const float factor = premultiplied ? inverse : scale[i] * f * inverse;
    const float power = premultiplied ? scale[i] * f * f * inverse : scale[i] * scale[i] * f * f * inverse;
    const float2 value = rows[static_cast<long long>(i) * n_still + p];
    const float x = kx[p], y = ky[p], px = padding * place_x[at], py = padding * place_y[at];
    float2 mean = make_float2(0.0f, 0.0f);
    float weight = 0.0f;
    for (int e = first; e < last; ++e) {
        const float2 moved = times(value, phase(x * entries[e].still_x + y * entries[e].still_y));
        mean.x += entries[e].weight * moved.x;
        mean.y += entries[e].weight * moved.y;
        weight += entries[e].weight;
        if (e + 1 < last && entries[e + 1].row == entries[e].row && entries[e + 1].base == entries[e].base) continue;
        const float4 sum = make_float4(factor * mean.x, factor * mean.y, power * weight, 0.0f);
        if (slices) add(slices + static_cast<long long>(number[e]) * n_still + p, sum);
        else {
            float4* mine = grid + of_class[entries[e].row] * grid_size(radius, planar);
            const float* m = orientation + 6 * static_cast<long long>(e);
            if (planar) insert_in_plane(m, px, py, sum, radius, mine);
            else insert_pixel(m, px, py, sum, radius, mine);
        }
        mean = make_float2(0.0f, 0.0f);
        weight = 0.0f;
    }
}

// Slices of all orientations into the padded grid, at the end of the expectation step.
//   direction (n_row, 9) matrices; slices (n_row, n_psi, n_still) float4; of_class (n_row);
//   place_x, place_y (n_still) of the one geometry.
// Grid: (n_still / 128 rounded up, rows at a time).
extern "C" __global__ void insert_slices(const float4* __restrict__ slices, const float* __restrict__ direction,
                                         const float* __restrict__ cosine, const float* __restrict__ sine, int n_row,
                                         int n_psi, const StillOptics* __restrict__ optics,
                                         const float* __restrict__ place_x, const float* __restrict__ place_y,
                                         int n_still, const int* __restrict__ of_class, int radius, float padding,
                                         int planar, float4* __restrict__ grid) {
    const int p = blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= n_still) return;
    const float* back = optics[0].back_turn;
    for (int row = blockIdx.y; row < n_row * n_psi; row += gridDim.y) {
        const float4 value = slices[static_cast<long long>(row) * n_still + p];
        if (value.z == 0.0f) continue;
        const float* d = direction + 9 * (row / n_psi);
        const float c = cosine[row % n_psi], s = sine[row % n_psi];
        float m[6];
        for (int k = 0; k < 3; ++k) {
            const float a = c * d[k] + s * d[3 + k], b = c * d[3 + k] - s * d[k];
            m[k] = back[0] * a + back[2] * b;
            m[3 + k] = back[1] * a + back[3] * b;
        }
        float4* mine = grid + of_class[row / n_psi] * grid_size(radius, planar);
        if (planar) insert_in_plane(m, padding * place_x[p], padding * place_y[p], value, radius, mine);
        else insert_pixel(m, padding * place_x[p], padding * place_y[p], value, radius, mine);
    }
}
