/* Stochastic rounding to bfloat16, as in engines/rounding.py. */
#ifndef ADAI_ROUNDING_H
#define ADAI_ROUNDING_H

#include "half.h"

/* Together with an element's place, these determine the random words of one tensor in one step. */
struct keys {
    uint32_t first, second;
};

INLINE uint32_t mixed(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    return x ^ x >> 16;
}

INLINE struct keys keys_of(uint32_t stream, double t) {
    const uint32_t step = (uint32_t)(uint64_t)t;
    const struct keys keys = {mixed(stream + step), mixed(mixed(stream) + step)};
    return keys;
}

INLINE uint32_t random_word(uint32_t place, struct keys keys) {
    uint32_t x = place ^ keys.first;
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x ^= keys.second;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    return x ^ x >> 16;
}

/* Derives another word from a random word, for a third rounding. */
INLINE uint32_t next_word(uint32_t word) { return word * 0x9E3779B1u; }

/* Rounds away from zero with a probability equal to the part that is cut off. `bits`, from 0 to 65,535, decides. */
INLINE uint16_t rounded(float x, uint32_t bits) { return (uint16_t)(x != x ? 0x7FC0u : (as_bits(x) + bits) >> 16); }

#endif
