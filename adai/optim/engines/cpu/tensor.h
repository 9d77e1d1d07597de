/* The two passes over a piece of one tensor. Included once for every instruction set and every element type, with the
 * macros
 *
 *   TARGET         the instruction set, as a function attribute
 *   NAME(x)        x with the instruction set and the element type in its name
 *   STORED         type of the parameter in memory
 *   LOAD, STORE    converts STORED to REAL and back
 *   GRADIENT       type of the gradient in memory: STORED or REAL
 *   LOAD_GRADIENT  converts GRADIENT to REAL
 *   KEPT           type of the state in memory: REAL, or uint16_t for bfloat16
 *   LOAD_KEPT      converts KEPT to REAL
 *   KEEP           converts REAL to KEPT, given 16 random bits
 *   REAL           type of all arithmetic
 *   POW            the power function of REAL
 *   TINY, LEAST    the smallest positive normal number of REAL, and the smallest positive number
 *
 * The compiler vectorizes the loops. Results do not depend on the width of the vectors: every element is computed
 * separately, and sums always have LANES separate lanes.
 */

INLINE TARGET void NAME(add_squares_at)(const STORED *restrict p, const GRADIENT *restrict g, int64_t n, REAL a,
                                        REAL lambda, double *restrict gg, double *restrict gp, double *restrict pp,
                                        const enum squares what) {
    for (int j = 0; j < n; j++) {
        REAL x = LOAD_GRADIENT(g[j]);
        if (what == DECAYED) x = a * x + lambda * LOAD(p[j]);
        gg[j] += (double)x * x;
        if (what == PARTS) {
            REAL y = LOAD(p[j]);
            gp[j] += (double)x * y;
            pp[j] += (double)y * y;
        }
    }
}

/* Adds Σ g² to sums[0], or Σ (a g + λ p)² if DECAYED. If PARTS, also adds Σ g p to sums[1] and Σ p² to sums[2].
 * A core reads a single stream of memory at half the speed of several, so this reads four quarters side by side. */
INLINE TARGET void NAME(add_squares)(const STORED *restrict p, const GRADIENT *restrict g, int64_t n, REAL a, REAL lambda,
                                     double *restrict sums, const enum squares what) {
    double gg[LANES] = {0}, gp[LANES] = {0}, pp[LANES] = {0};
    const int64_t quarter = n / (4 * LANES) * LANES;
    for (int64_t i = 0; i < quarter; i += LANES)
        for (int64_t k = i; k < 4 * quarter; k += quarter)
            NAME(add_squares_at)(p + k, g + k, LANES, a, lambda, gg, gp, pp, what);
    /* Adds to the sums directly: if a variable indexed the lanes here, they would not stay in registers above. */
    for (int64_t i = 4 * quarter; i < n; i++)
        NAME(add_squares_at)(p + i, g + i, 1, a, lambda, sums, sums + 1, sums + 2, what);
    for (int j = 0; j < LANES; j++) {
        sums[0] += gg[j];
        if (what == PARTS) {
            sums[1] += gp[j];
            sums[2] += pp[j];
        }
    }
}

static TARGET void NAME(squares)(const void *p, const void *g, int64_t n, double a, double lambda, double *sums,
                                 enum squares what) {
    switch (what) {
        case PLAIN: NAME(add_squares)(p, g, n, (REAL)a, (REAL)lambda, sums, PLAIN); break;
        case DECAYED: NAME(add_squares)(p, g, n, (REAL)a, (REAL)lambda, sums, DECAYED); break;
        case PARTS: NAME(add_squares)(p, g, n, (REAL)a, (REAL)lambda, sums, PARTS); break;
    }
}

/* start + w (end - start), which is exactly `end` at w = 1. */
INLINE TARGET REAL NAME(lerp)(REAL start, REAL end, REAL w) {
    REAL way = end - start;
    return w < (REAL)0.5 ? start + w * way : end - ((REAL)1 - w) * way;
}

/* second_moment and update of rule.py. Comparisons are written so that NaN passes through. `place` is the place of the
 * first element in the whole tensor. */
INLINE TARGET void NAME(move)(STORED *restrict p, const GRADIENT *restrict g, KEPT *restrict m, KEPT *restrict v,
                              KEPT *restrict c, int64_t n, const struct options *o, struct count count,
                              const uint32_t place, const struct keys keys, const int decayed, const int corrected,
                              const int dampened) {
    const REAL a = (REAL)o->a, lambda = (REAL)o->lambda;
    const REAL shrink = (REAL)(1 - o->decay * count.warmed), step = (REAL)(o->step * count.warmed);
    const REAL beta0 = (REAL)o->beta0, one_minus_beta2 = (REAL)o->one_minus_beta2, eps = (REAL)o->eps;
    const REAL exponent = (REAL)(1 / (3 - 2 * o->dampening)), dampening = (REAL)o->dampening, one = 1;
    const REAL most = (REAL)(1 - o->min_inertia);
    const REAL mean = (REAL)count.v_mean < LEAST ? LEAST : (REAL)count.v_mean, least_c = (REAL)count.least;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t word = random_word(place + (uint32_t)i, keys);
        (void)word; /* not used if neither KEEP nor STORE rounds stochastically */
        REAL theta = LOAD(p[i]), x = a * LOAD_GRADIENT(g[i]);
        if (decayed) x += lambda * theta;
        REAL v_i = NAME(lerp)(LOAD_KEPT(v[i]), x * x, one_minus_beta2);
        v[i] = KEEP(v_i, word >> 16);
        REAL w = v_i / mean;
        if (dampened) w = POW(w, exponent);
        w *= beta0;
        w = w < eps ? eps : w;
        w = w > most ? most : w;
        REAL m_i = LOAD_KEPT(m[i]);
        m_i = dampened ? (one - w) * m_i + POW(w, dampening) * x : NAME(lerp)(m_i, x, w);
        m[i] = KEEP(m_i, word & 0xFFFFu);
        if (corrected) {
            REAL c_i = NAME(lerp)(LOAD_KEPT(c[i]), one, w);
            c_i = c_i < least_c ? least_c : c_i;
            c[i] = KEEP(c_i, next_word(word) >> 16);
            m_i /= c_i < TINY ? TINY : c_i;
        }
        p[i] = STORE(theta * shrink - step * m_i, next_word(next_word(word)) >> 16);
    }
}

/* Adds Σ v to the lanes. A sum in parts has the same additions if all parts but the last are multiples of WIDE. */
INLINE TARGET void NAME(add_up)(const KEPT *v, int64_t n, double *restrict lanes) {
    double sums[WIDE];
    const int64_t whole = n / WIDE * WIDE;
    for (int j = 0; j < WIDE; j++) sums[j] = lanes[j];
    for (int64_t i = 0; i < whole; i += WIDE)
        for (int j = 0; j < WIDE; j++) sums[j] += LOAD_KEPT(v[i + j]);
    for (int j = 0; j < WIDE; j++) lanes[j] = sums[j];
    for (int64_t i = whole; i < n; i++) lanes[i - whole] += LOAD_KEPT(v[i]);
}

INLINE TARGET double NAME(sum_of)(const double *lanes) {
    double sum = 0;
    for (int j = 0; j < WIDE; j++) sum += lanes[j];
    return sum;
}

static TARGET double NAME(total)(const void *v, int64_t n) {
    double lanes[WIDE] = {0};
    NAME(add_up)(v, n, lanes);
    return NAME(sum_of)(lanes);
}

/* Updates elements whose places are consecutive. */
INLINE TARGET void NAME(move_run)(STORED *p, const GRADIENT *g, KEPT *m, KEPT *v, KEPT *c, int64_t n,
                                  const struct options *o, struct count count, uint32_t place, struct keys keys) {
    switch ((o->lambda != 0) | (c != 0) << 1 | (o->dampening != 1) << 2) {
        case 0: NAME(move)(p, g, m, v, c, n, o, count, place, keys, 0, 0, 0); break;
        case 1: NAME(move)(p, g, m, v, c, n, o, count, place, keys, 1, 0, 0); break;
        case 2: NAME(move)(p, g, m, v, c, n, o, count, place, keys, 0, 1, 0); break;
        case 3: NAME(move)(p, g, m, v, c, n, o, count, place, keys, 1, 1, 0); break;
        case 4: NAME(move)(p, g, m, v, c, n, o, count, place, keys, 0, 0, 1); break;
        case 5: NAME(move)(p, g, m, v, c, n, o, count, place, keys, 1, 0, 1); break;
        case 6: NAME(move)(p, g, m, v, c, n, o, count, place, keys, 0, 1, 1); break;
        case 7: NAME(move)(p, g, m, v, c, n, o, count, place, keys, 1, 1, 1); break;
    }
}

/* Updates a piece that starts at the element `first` of the tensor. Returns the same Σ v as `total` would afterwards,
 * but adds v up while it is in the cache. */
static TARGET double NAME(step)(void *p_, const void *g_, void *m_, void *v_, void *c_, int64_t first, int64_t n,
                                const struct options *o, struct count count, struct places where) {
    double lanes[WIDE] = {0};
    for (int64_t i = 0; i < n; i += CACHED) {
        const int64_t end = n - i < CACHED ? n : i + CACHED;
        KEPT *m = m_, *v = v_, *c = c_;
        for (int64_t j = i, rest; j < end; j += rest) {
            const int64_t run = (first + j) / where.run, along = (first + j) % where.run;
            rest = where.run - along < end - j ? where.run - along : end - j;
            NAME(move_run)((STORED *)p_ + j, (const GRADIENT *)g_ + j, m + j, v + j, c ? c + j : 0, rest, o, count,
                           (uint32_t)(where.first + run * where.pitch + along), where.keys);
        }
        NAME(add_up)(v + i, end - i, lanes);
    }
    return NAME(sum_of)(lanes);
}
