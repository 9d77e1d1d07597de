/* Conversions between half precision and float, in integer and float operations that compilers vectorize. */
#ifndef ADAI_HALF_H
#define ADAI_HALF_H

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

INLINE float as_float(uint32_t bits) {
    union { uint32_t bits; float value; } u = {bits};
    return u.value;
}

INLINE uint32_t as_bits(float value) {
    union { float value; uint32_t bits; } u = {value};
    return u.bits;
}

INLINE float from_bfloat16(uint16_t x) { return as_float((uint32_t)x << 16); }

/* Rounds to nearest, ties to even; NaN stays NaN. */
INLINE uint16_t to_bfloat16(float x) {
    uint32_t bits = as_bits(x);
    uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)(x != x ? 0x7FC0u : rounded);
}

/* Shifts the exponent by a multiplication for normal numbers, and by a subtraction of 1/2 for subnormal numbers. */
INLINE float from_float16(uint16_t x) {
    uint32_t sign = (uint32_t)(x & 0x8000u) << 16;
    uint32_t twice = (uint32_t)(x & 0x7FFFu) << 1;
    float normal = as_float((twice << 12) + (0xE0u << 23)) * 0x1.0p-112f;
    float subnormal = as_float((twice >> 1) | (126u << 23)) - 0.5f;
    return as_float(sign | as_bits(twice < (1u << 11) ? subnormal : normal));
}

/* Rounds to nearest, ties to even: adds a power of two, so that float rounds at the last bit of float16. */
INLINE uint16_t to_float16(float x) {
    uint32_t bits = as_bits(x);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t twice = bits + bits;
    float overflowed = (as_float(bits & 0x7FFFFFFFu) * 0x1.0p+112f) * 0x1.0p-110f;
    uint32_t bias = twice & 0xFF000000u;
    bias = bias < 0x71000000u ? 0x71000000u : bias;
    uint32_t rounded = as_bits(as_float((bias >> 1) + 0x07800000u) + overflowed);
    uint32_t magnitude = ((rounded >> 13) & 0x7C00u) + (rounded & 0x0FFFu);
    return (uint16_t)(sign | (twice > 0xFF000000u ? 0x7E00u : magnitude));
}

#endif
