/* The two passes over a piece of one tensor. Included once for every instruction set and every element type, with
 *
 *   TARGET         the instruction set, as a function attribute
 *   NAME(x)        x with both in its name
 *   STORED         type of the parameter in memory
 *   LOAD, STORE    from it to REAL and back
 *   GRADIENT       type of the gradient in memory: STORED or REAL
 *   LOAD_GRADIENT  from it to REAL
 *   REAL           type of the state, and of all arithmetic
 *   POW            of REAL, and its smallest positive numbers: TINY (normal) and LEAST
 *
 * The loops are written for the compiler to vectorise. No result depends on the width of the vectors: every element
 * is computed alone, and sums run in LANES separate lanes whatever the hardware has.
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

/* Adds to sums[0] Σ g², or Σ (a g + λ p)² where DECAYED, or where PARTS also Σ g p and Σ p² to sums[1] and sums[2].
 * A core reads one stream of memory at half the speed of several, so it goes through four quarters side by side. */
INLINE TARGET void NAME(add_squares)(const STORED *restrict p, const GRADIENT *restrict g, int64_t n, REAL a, REAL lambda,
                                     double *restrict sums, const enum squares what) {
    double gg[LANES] = {0}, gp[LANES] = {0}, pp[LANES] = {0};
    const int64_t quarter = n / (4 * LANES) * LANES;
    for (int64_t i = 0; i < quarter; i += LANES)
        for (int64_t k = i; k < 4 * quarter; k += quarter)
            NAME(add_squares_at)(p + k, g + k, LANES, a, lambda, gg, gp, pp, what);
    /* Into the sums themselves: a lane that is addressed by a variable would not stay in a register above. */
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

/* start + w (end - start), exactly `end` at w = 1. */
INLINE TARGET REAL NAME(lerp)(REAL start, REAL end, REAL w) {
    REAL way = end - start;
    return w < (REAL)0.5 ? start + w * way : end - ((REAL)1 - w) * way;
}

/* rule.py's second_moment and update. Comparisons are written so that NaN passes through. */
INLINE TARGET void NAME(move)(STORED *restrict p, const GRADIENT *restrict g, REAL *restrict m, REAL *restrict v,
                              REAL *restrict c, int64_t n, const struct options *o, struct count count,
                              const int decayed, const int corrected, const int dampened) {
    const REAL a = (REAL)o->a, lambda = (REAL)o->lambda;
    const REAL shrink = (REAL)(1 - o->decay * count.warmed), step = (REAL)(o->step * count.warmed);
    const REAL beta0 = (REAL)o->beta0, one_minus_beta2 = (REAL)o->one_minus_beta2, eps = (REAL)o->eps;
    const REAL exponent = (REAL)(1 / (3 - 2 * o->dampening)), dampening = (REAL)o->dampening, one = 1;
    const REAL most = (REAL)(1 - o->min_inertia);
    const REAL mean = (REAL)count.v_mean < LEAST ? LEAST : (REAL)count.v_mean, least_c = (REAL)count.least;
    for (int64_t i = 0; i < n; i++) {
        REAL theta = LOAD(p[i]), x = a * LOAD_GRADIENT(g[i]);
        if (decayed) x += lambda * theta;
        v[i] = NAME(lerp)(v[i], x * x, one_minus_beta2);
        REAL w = v[i] / mean;
        if (dampened) w = POW(w, exponent);
        w *= beta0;
        w = w < eps ? eps : w;
        w = w > most ? most : w;
        m[i] = dampened ? (one - w) * m[i] + POW(w, dampening) * x : NAME(lerp)(m[i], x, w);
        REAL m_hat = m[i];
        if (corrected) {
            REAL c_i = NAME(lerp)(c[i], one, w);
            c[i] = c_i < least_c ? least_c : c_i;
            m_hat /= c[i] < TINY ? TINY : c[i];
        }
        p[i] = STORE(theta * shrink - step * m_hat);
    }
}

/* Adds to the lanes Σ v. A sum may be taken in parts, all but the last of whole WIDE: the additions are the same. */
INLINE TARGET void NAME(add_up)(const REAL *v, int64_t n, double *restrict lanes) {
    double sums[WIDE];
    const int64_t whole = n / WIDE * WIDE;
    for (int j = 0; j < WIDE; j++) sums[j] = lanes[j];
    for (int64_t i = 0; i < whole; i += WIDE)
        for (int j = 0; j < WIDE; j++) sums[j] += v[i + j];
    for (int j = 0; j < WIDE; j++) lanes[j] = sums[j];
    for (int64_t i = whole; i < n; i++) lanes[i - whole] += v[i];
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

/* Returns Σ v as `total` would afterwards: v is added up while it is in the cache. */
static TARGET double NAME(step)(void *p_, const void *g_, void *m_, void *v_, void *c_, int64_t n,
                                const struct options *o, struct count count) {
    const int kind = (o->lambda != 0) | (c_ != 0) << 1 | (o->dampening != 1) << 2;
    double lanes[WIDE] = {0};
    for (int64_t i = 0; i < n; i += CACHED) {
        const int64_t k = n - i < CACHED ? n - i : CACHED;
        STORED *p = (STORED *)p_ + i;
        const GRADIENT *g = (const GRADIENT *)g_ + i;
        REAL *m = (REAL *)m_ + i, *v = (REAL *)v_ + i, *c = c_ ? (REAL *)c_ + i : 0;
        switch (kind) {
            case 0: NAME(move)(p, g, m, v, c, k, o, count, 0, 0, 0); break;
            case 1: NAME(move)(p, g, m, v, c, k, o, count, 1, 0, 0); break;
            case 2: NAME(move)(p, g, m, v, c, k, o, count, 0, 1, 0); break;
            case 3: NAME(move)(p, g, m, v, c, k, o, count, 1, 1, 0); break;
            case 4: NAME(move)(p, g, m, v, c, k, o, count, 0, 0, 1); break;
            case 5: NAME(move)(p, g, m, v, c, k, o, count, 1, 0, 1); break;
            case 6: NAME(move)(p, g, m, v, c, k, o, count, 0, 1, 1); break;
            case 7: NAME(move)(p, g, m, v, c, k, o, count, 1, 1, 1); break;
        }
        NAME(add_up)(v, k, lanes);
    }
    return NAME(sum_of)(lanes);
}
