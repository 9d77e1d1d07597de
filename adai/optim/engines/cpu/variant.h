/* Includes tensor.h for every element type, for the instruction set ISA with the function attribute TARGET. */
#define NAME_(x, type, isa) x##_##type##_##isa
#define NAME__(x, type, isa) NAME_(x, type, isa)
#define NAME(x) NAME__(x, TYPE, ISA)

#define REAL float
#define POW powf
#define TINY FLT_MIN
#define LEAST (FLT_MIN * FLT_EPSILON)

#define TYPE float32
#define STORED float
#define LOAD(x) (x)
#define STORE(x, bits) (x)
#define GRADIENT STORED
#define LOAD_GRADIENT LOAD
#include "states.h"
#undef TYPE
#undef STORED
#undef LOAD
#undef STORE

#define TYPE bfloat16
#define STORED uint16_t
#define LOAD(x) from_bfloat16(x)
#define STORE(x, bits) to_bfloat16(x)
#include "states.h"
#undef TYPE
#undef GRADIENT
#undef LOAD_GRADIENT

#define TYPE bfloat16_wide
#define GRADIENT REAL
#define LOAD_GRADIENT(x) (x)
#include "states.h"
#undef TYPE
#undef STORE

#define TYPE bfloat16_rounded_wide
#define STORE(x, bits) rounded(x, bits)
#include "states.h"
#undef TYPE
#undef GRADIENT
#undef LOAD_GRADIENT

#define TYPE bfloat16_rounded
#define GRADIENT STORED
#define LOAD_GRADIENT LOAD
#include "states.h"
#undef TYPE
#undef GRADIENT
#undef LOAD_GRADIENT
#undef LOAD
#undef STORE

#define TYPE float16_wide
#define GRADIENT REAL
#define LOAD_GRADIENT(x) (x)
#define LOAD(x) from_float16(x)
#define STORE(x, bits) to_float16(x)
#include "states.h"
#undef TYPE
#undef GRADIENT
#undef LOAD_GRADIENT

#define TYPE float16
#define GRADIENT STORED
#define LOAD_GRADIENT LOAD
#include "states.h"
#undef TYPE
#undef STORED
#undef LOAD
#undef STORE

#undef REAL
#undef POW
#undef TINY
#undef LEAST

#define REAL double
#define POW pow
#define TINY DBL_MIN
#define LEAST (DBL_MIN * DBL_EPSILON)

#define TYPE float64
#define STORED double
#define LOAD(x) (x)
#define STORE(x, bits) (x)
#define REAL_STATE_ONLY
#include "states.h"
#undef REAL_STATE_ONLY
#undef TYPE
#undef STORED
#undef LOAD
#undef STORE
#undef GRADIENT
#undef LOAD_GRADIENT

#undef REAL
#undef POW
#undef TINY
#undef LEAST

#define PASSES_(isa) passes_##isa
#define PASSES(isa) PASSES_(isa)
#define PASSES_OF_(type, isa) {squares_##type##_##isa, step_##type##_##isa, total_##type##_##isa}
#define PASSES_OF(type, isa) PASSES_OF_(type, isa)
#define BOTH(type, isa) {PASSES_OF(type, isa), PASSES_OF(type##_narrow, isa)}
/* In the order of the codes in __init__.py. Each entry is for state in REAL, and for state in bfloat16. */
static const struct passes PASSES(ISA)[][2] = {
    BOTH(float32, ISA), {PASSES_OF(float64, ISA)}, BOTH(bfloat16, ISA),
    BOTH(float16, ISA), BOTH(bfloat16_wide, ISA), BOTH(float16_wide, ISA),
    BOTH(bfloat16_rounded, ISA), BOTH(bfloat16_rounded_wide, ISA)};
#undef PASSES_
#undef PASSES
#undef PASSES_OF_
#undef PASSES_OF
#undef BOTH
#undef NAME_
#undef NAME__
#undef NAME
