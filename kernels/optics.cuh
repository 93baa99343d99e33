// What the images of one optics group share: geometry, shifts, the CTF (refinement.md 1.7, 3).
#pragma once
#include "common.cuh"

namespace mpiapp {

struct Optics {
    float turn[4];  // box ratio and inverse magnification: k = turn Rz(psi) q
    float cycles;   // cycles per pixel of a shift of 1 A
    float premultiplied;
};

// The same for images on their own pixels.
struct StillOptics {
    float back_turn[4];  // model-plane frequency of an image frequency
    float cycles;
    float premultiplied;
};

// A shift in A seen in the frame of an image turned by psi: cycles per pixel of the model plane.
__device__ __forceinline__ float2 turned_shift(const Optics& optics, float c, float s, float2 shift_A) {
    const float x = shift_A.x * optics.cycles, y = shift_A.y * optics.cycles;
    const float* m = optics.turn;
    const float mx = m[0] * x + m[2] * y, my = m[1] * x + m[3] * y;
    return make_float2(c * mx - s * my, s * mx + c * my);
}

// CTF of one image at a frequency in 1/A (refinement.md 3.1); 1 where the scale is 0 (no correction).
__device__ __forceinline__ float contrast(const float* c, float x, float y, float even) {
    if (c[6] == 0.0f) return 1.0f;
    const float s2 = x * x + y * y;
    const float value = -c[6] * sinf(c[0] * x * x + c[1] * x * y + c[2] * y * y + c[3] * s2 * s2 - c[4] + even);
    return c[5] == 0.0f ? value : value * expf(c[5] * s2);
}

}  // namespace mpiapp
