/* The update rule for many tensors in two passes over memory. Plain C with a plain C interface: building it needs
 * neither Python nor torch, and one build works with every version of them.
 *
 * Threads. Each tensor is divided into pieces, and the threads of a team take one piece after another from a shared
 * counter. The caller supplies the team: a function with the interface of OpenMP's GOMP_parallel, which the loader
 * finds in the OpenMP library that torch uses. So there is a single pool of threads, with torch's number of threads.
 * Without such a function the calling thread does everything. Each piece has its own sum, and these are added up in
 * order, so results do not depend on the number of threads.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "rounding.h"

#define LANES 16
#define PIECE 65536 /* elements: long enough to stream, short enough to share evenly */
#define WIDE 32 /* lanes of Σ v: enough that additions do not wait for one another, as v is read from the cache */
#define CACHED 4096 /* elements, a multiple of WIDE: few enough to still be in a near cache when they are read again */
#define GRAIN 32768 /* so many elements are not worth waking threads; torch's grain size */

enum squares { PLAIN, DECAYED, PARTS };

/* Numbers of a group. `a` multiplies the gradient (clipping, and the sign of maximize); `decay` is lr times the
 * decoupled decay. */
struct options {
    double a, lambda, decay, step, beta0, one_minus_beta2, eps, min_inertia, dampening;
};

/* The part of rule.py's Count that the elements of a tensor need, and the mean of v̂ times bias_correction2. */
struct count {
    double v_mean, least, warmed;
};

/* The places of a tensor's elements in the whole tensor, of which it may be a shard. In memory, runs of `run` elements
 * with consecutive places follow one another. The first run starts at the place `first`, and each further one `pitch`
 * after the start of the run before. Places are modulo 2^32: elements that far apart may share random words. */
struct places {
    struct keys keys;
    int64_t first, run, pitch;
};

struct passes {
    void (*squares)(const void *p, const void *g, int64_t n, double a, double lambda, double *sums, enum squares what);
    double (*step)(void *p, const void *g, void *m, void *v, void *c, int64_t first, int64_t n, const struct options *o,
                   struct count count, struct places where);
    double (*total)(const void *v, int64_t n);
};

#define ISA plain
#define TARGET
#include "variant.h"
#undef ISA
#undef TARGET

#if defined(__x86_64__)
#define ISA avx2
#define TARGET __attribute__((target("avx2")))
#include "variant.h"
#undef ISA
#undef TARGET
#define ISA avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#include "variant.h"
#undef ISA
#undef TARGET
#endif

/* Number of the best variant that this CPU can run. It can also run all lower ones. */
int adai_best_variant(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2")) return 1;
#endif
    return 0;
}

static const struct passes (*variant_passes(int variant))[2] {
#if defined(__x86_64__)
    if (variant == 2) return passes_avx512;
    if (variant == 1) return passes_avx2;
#endif
    (void)variant;
    return passes_plain;
}

typedef void team(void (*work)(void *), void *data, unsigned threads, unsigned flags);

struct crew {
    team *run;
    unsigned threads;
    int variant;
};

/* Columns with one entry for each tensor. c is 0 if the tensor no longer has a bias correction. A step count is a
 * double if wide_step, else a float. t, bias_correction2, least and warmed are rule.py's Count of this step. `narrow`
 * says that the state is in bfloat16; then `stream` is as in rounding.py, and first_place, run and pitch as in struct
 * places. */
struct tensors {
    int64_t count;
    const uint8_t *type, *wide_step, *narrow;
    const int64_t *size, *first_place, *run, *pitch;
    const uint32_t *stream;
    void *const *p, *const *g, *const *m, *const *v, *const *c, *const *step;
    const double *t, *bias_correction2, *least, *warmed;
};

/* The caller has to have the same version, which increases with any change of a struct or an argument, and sizes. */
const int64_t adai_layout[] = {4, sizeof(struct crew), sizeof(struct tensors), sizeof(struct options)};

struct job {
    const struct tensors *tensors;
    const struct passes (*passes)[2];
    const int64_t *first; /* number of each tensor's first piece; last, the number of all pieces */
    int64_t next;
    int backwards;
    void (*piece)(const struct job *job, int64_t number, int64_t tensor, int64_t offset, int64_t n);
    const struct options *options;
    enum squares what;
    double *sums;
    double v_mean;
};

/* In the order of the codes in __init__.py, as the table in variant.h. */
static const int64_t STORED_SIZE[] = {4, 8, 2, 2, 2, 2, 2, 2}, GRADIENT_SIZE[] = {4, 8, 2, 2, 4, 4, 2, 4};
static const int64_t REAL_SIZE[] = {4, 8, 4, 4, 4, 4, 4, 4};

static int64_t kept_size(const struct tensors *t, int64_t k) { return t->narrow[k] ? 2 : REAL_SIZE[t->type[k]]; }

static void *at(void *base, int64_t bytes) { return base ? (char *)base + bytes : base; }

static void squares_piece(const struct job *job, int64_t number, int64_t k, int64_t offset, int64_t n) {
    const struct tensors *t = job->tensors;
    const int type = t->type[k];
    job->passes[type][0].squares(at(t->p[k], offset * STORED_SIZE[type]), at(t->g[k], offset * GRADIENT_SIZE[type]), n,
                              job->options->a, job->options->lambda, job->sums + 3 * number, job->what);
}

static void step_piece(const struct job *job, int64_t number, int64_t k, int64_t offset, int64_t n) {
    const struct tensors *t = job->tensors;
    const int type = t->type[k];
    const int64_t kept = offset * kept_size(t, k);
    const struct count count = {job->v_mean * t->bias_correction2[k], t->least[k], t->warmed[k]};
    const struct places where = {keys_of(t->stream[k], t->t[k]), t->first_place[k], t->run[k], t->pitch[k]};
    job->sums[number] = job->passes[type][t->narrow[k]].step(
        at(t->p[k], offset * STORED_SIZE[type]), at(t->g[k], offset * GRADIENT_SIZE[type]), at(t->m[k], kept),
        at(t->v[k], kept), at(t->c[k], kept), offset, n, job->options, count, where);
}

static void total_piece(const struct job *job, int64_t number, int64_t k, int64_t offset, int64_t n) {
    const struct tensors *t = job->tensors;
    const void *v = at(t->v[k], offset * kept_size(t, k));
    job->sums[number] = job->passes[t->type[k]][t->narrow[k]].total(v, n);
}

static void work(void *data) {
    struct job *job = data;
    const int64_t count = job->tensors->count, *first = job->first;
    for (;;) {
        int64_t number = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
        if (number >= first[count]) return;
        if (job->backwards) number = first[count] - 1 - number;
        int64_t low = 0, high = count; /* first[low] <= number < first[high] */
        while (high - low > 1) {
            int64_t middle = (low + high) / 2;
            if (first[middle] <= number) low = middle;
            else high = middle;
        }
        int64_t offset = (number - first[low]) * PIECE, rest = job->tensors->size[low] - offset;
        job->piece(job, number, low, offset, rest < PIECE ? rest : PIECE);
    }
}

static int64_t *first_pieces(const struct tensors *t) {
    int64_t *first = malloc((t->count + 1) * sizeof *first);
    if (!first) return 0;
    first[0] = 0;
    for (int64_t k = 0; k < t->count; k++) first[k + 1] = first[k] + (t->size[k] + PIECE - 1) / PIECE;
    return first;
}

static void run(struct job *job, const struct crew *crew) {
    int64_t elements = 0;
    for (int64_t k = 0; k < job->tensors->count; k++) elements += job->tensors->size[k];
    if (crew->run && crew->threads > 1 && elements > GRAIN) crew->run(work, job, crew->threads, 0);
    else work(job);
}

/* Carries out a job, and adds up the sums of its pieces, `width` for each tensor. Sets the job's passes, first and
 * sums. Returns 0, or 1 if memory ran out. */
static int add_up_pieces(struct job *job, const struct crew *crew, int width, double *sums) {
    const struct tensors *t = job->tensors;
    int64_t *first = first_pieces(t);
    double *pieces = first ? calloc(width * first[t->count] + 1, sizeof *pieces) : 0;
    if (!pieces) {
        free(first);
        return 1;
    }
    job->passes = variant_passes(crew->variant);
    job->first = first;
    job->sums = pieces;
    run(job, crew);
    for (int64_t k = 0; k < t->count; k++)
        for (int part = 0; part < width; part++) {
            double sum = 0;
            for (int64_t i = first[k]; i < first[k + 1]; i++) sum += pieces[width * i + part];
            sums[width * k + part] = sum;
        }
    free(pieces);
    free(first);
    return 0;
}

/* sums: three for each tensor, see add_squares. */
int adai_squares(const struct crew *crew, const struct tensors *tensors, const struct options *options, int what,
                 double *sums) {
    struct job job = {.tensors = tensors, .piece = squares_piece, .options = options, .what = what};
    return add_up_pieces(&job, crew, 3, sums);
}

/* sums: the current Σ v of each tensor. */
int adai_totals(const struct crew *crew, const struct tensors *tensors, double *sums) {
    struct job job = {.tensors = tensors, .piece = total_piece};
    return add_up_pieces(&job, crew, 1, sums);
}

/* Returns Σ v̂ of this step, given Σ g² of each tensor and its Σ v before the step. 1 - beta2 has the precision of the
 * state, as in the second pass. */
double adai_accumulate(const struct tensors *tensors, const struct options *options, const double *squares,
                       const double *sums) {
    double total = 0;
    for (int64_t k = 0; k < tensors->count; k++) {
        double b = options->one_minus_beta2;
        if (REAL_SIZE[tensors->type[k]] == sizeof(float)) b = (float)b;
        total += ((1 - b) * sums[k] + b * squares[k]) / tensors->bias_correction2[k];
    }
    return total;
}

/* The second pass, which also increments the step counts. v_mean: mean of v̂. sums: receives Σ v of each tensor after
 * the step. */
int adai_step(const struct crew *crew, const struct tensors *tensors, const struct options *options, double v_mean,
              double *sums) {
    /* Backwards, because the gradients that were read last are still in the cache. */
    struct job job = {.tensors = tensors, .backwards = 1, .piece = step_piece, .options = options, .v_mean = v_mean};
    if (add_up_pieces(&job, crew, 1, sums)) return 1;
    for (int64_t k = 0; k < tensors->count; k++) {
        if (tensors->wide_step[k]) *(double *)tensors->step[k] += 1;
        else *(float *)tensors->step[k] += 1;
    }
    return 0;
}
