/* Includes tensor.h for state in REAL and, unless REAL_STATE_ONLY, for state in bfloat16. */
#define KEPT REAL
#define LOAD_KEPT(x) (x)
#define KEEP(x, bits) (x)
#include "tensor.h"
#undef KEPT
#undef LOAD_KEPT
#undef KEEP

#ifndef REAL_STATE_ONLY
#undef NAME
#define NARROW_(x, type, isa) x##_##type##_narrow_##isa
#define NARROW(x, type, isa) NARROW_(x, type, isa)
#define NAME(x) NARROW(x, TYPE, ISA)
#define KEPT uint16_t
#define LOAD_KEPT(x) from_bfloat16(x)
#define KEEP(x, bits) rounded(x, bits)
#include "tensor.h"
#undef KEPT
#undef LOAD_KEPT
#undef KEEP
#undef NARROW_
#undef NARROW
#undef NAME
#define NAME(x) NAME__(x, TYPE, ISA)
#endif
