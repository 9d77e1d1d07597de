"""The kernels: two passes over memory, and the sums between them. Each launch processes any number of tensors.

Each tensor is divided into chunks. ``owner`` contains the tensor of each chunk. Chunks store their sums, and one
program for each tensor adds these up in order, without atomics, so that results are the same in every run. Every number
that changes from step to step can be read from the device, so that a CUDA graph can replay the launches.

The kernels read (see `adai.optim.engines.triton.table`):

- ``table``, a row of 11 words per tensor: 0 to 3 the addresses of p, m, v and c, 4 that of the step count (COUNTED),
  5 the number of elements, 6 the first chunk; for what is rounded stochastically, as in `adai.optim.engines.rounding`:
  7 the stream, 8 the first place, 9 the length of a run of places (RUNS), 10 the distance between runs;
- ``grads``, the address of each gradient; ``counts``, each step count when it was sent, which was ``later`` steps ago;
- ``numbers`` of the group: 0 sign, 1 L2 penalty, 2 1 - beta2, 3 log beta2, 4 log(1 - eps), 5 eps, 6 beta0,
  7 dampening, 8 decoupled decay, 9 the smallest normal number, 10 the smallest number, 11 1 - min_inertia,
  12 warmup_steps + 1;
- ``clip``, a factor of the gradients; ``lr`` and ``lr_at``, whose product is the learning rate.

The kernels write for each other:

- ``chunk_sums`` and ``tensor_sums``, rows of 4: 0 Σ g² and, depending on WHAT, 1 Σ g p, 2 Σ p², 3 Σ (a g + λ p)²;
- ``v_sums``, Σ v of each chunk, and ``v_steps``, the step to which the sums of a tensor belong, -1 for none;
- ``facts``, rows of 4: 0 the count t of this step, 1 1 - beta2^t, 2 the lower bound of 1 - Π mu, 3 the number of
  elements, or 0 if this is the tensor's first step (WHAT "before");
- ``hats``, Σ v̂ of each tensor;
- the numbers of `mean` and `previous`.

WHAT says which sums the first pass computes: "plain" of gradients; "decayed" of gradients with the L2 penalty's part;
"parts" of both parts separately, while the factor of clipping is not known; "again" of both together once it is known,
for tensors in which the parts cancel; "before" of no gradients, because only v̂ of the step before is asked for.

Arithmetic is in REAL, float32 or float64; sums and numbers are float64. m, v and c are stored as KEPT, which is REAL or
bfloat16; Σ v is that of the stored numbers. Comparisons are written so that NaN passes through.

NOTE Indices are literals, because at each launch Triton compares every global that a kernel uses, which takes a
microsecond for each. And lr is passed as the bits of a float64, because Triton converts numbers to float32.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def _place(address, offset, ELEMENT: tl.constexpr, EACH: tl.constexpr):
    """A pointer to the start of the chunk at ``offset`` in an array, from where on EACH elements are accessed at once.

    EACH is the same for all arrays of a kernel, 16 bytes of the largest elements, and the address has to be a multiple.
    If threads had other elements in some arrays, they would exchange them through shared memory.
    """
    pointer = address.to(tl.pointer_type(ELEMENT)) + offset
    if EACH > 1:
        pointer = tl.multiple_of(pointer, EACH * pointer.dtype.element_ty.primitive_bitwidth // 8)
    return pointer


@triton.jit
def _one_minus_exp(x):
    """1 - exp(x) for x <= 0 to full precision, as -expm1. W. Kahan's method: the errors of exp and log cancel."""
    u = tl.exp(x)
    between = (u < 1) & (u > 0)
    u_inside, x_inside = tl.where(between, u, 0.5), tl.where(between, x, -1.0)
    return tl.where(between, (1 - u_inside) * x_inside / tl.log(u_inside), tl.where(u < 1, 1.0, -x))


@triton.jit
def _power(x, y):
    """x^y for x >= 0, in float64."""
    positive = x != 0
    power = tl.exp(y * tl.log(tl.where(positive, x, 1.0).to(tl.float64)))
    return tl.where(positive, power, tl.where(y == 0, 1.0, 0.0))


@triton.jit
def _divide(x, y):
    if x.dtype == tl.float64:
        return x / y
    else:
        return tl.div_rn(x, y)  # in float32 the operator is an approximation


@triton.jit
def _lerp(start, end, w):
    """start + w (end - start), which is exactly `end` at w = 1."""
    way = end - start
    return tl.where(w < 0.5, start + w * way, end - (1 - w) * way)


@triton.jit
def _finished(x):
    x ^= x >> 15
    x *= 0x846CA68B
    return x ^ x >> 16


@triton.jit
def _mixed(x):
    x ^= x >> 16
    x *= 0x7FEB352D
    return _finished(x)


@triton.jit
def _keys(entry, t):
    """What determines a tensor's random words in step t, together with an element's place; see rounding.py."""
    stream, step = tl.load(entry + 7).to(tl.uint32), t.to(tl.int64).to(tl.uint32)
    return _mixed(stream + step), _mixed(_mixed(stream) + step)


@triton.jit
def _shard(entry, offset, RUNS: tl.constexpr):
    """Where a chunk is in the whole tensor: the place of its first run, how far along that it begins, and 9 and 10."""
    first, run, pitch = tl.load(entry + 8), tl.load(entry + 9), tl.load(entry + 10)
    along = tl.full([], 0, tl.int64)
    if RUNS:
        first, along = first + offset // run * pitch, offset % run
    else:
        first += offset
    return first.to(tl.uint32), along.to(tl.uint32), run.to(tl.uint32), pitch.to(tl.uint32)


@triton.jit
def _places(at, first, along, run, pitch, RUNS: tl.constexpr):
    """The places modulo 2^32 of elements ``at`` of a chunk."""
    index = at.to(tl.uint32)
    if RUNS:
        index += along
        index = index // run * pitch + index % run
    return first + index


@triton.jit
def _random_words(places, first_key, second_key):
    x = places ^ first_key
    x ^= x >> 16
    x *= 0x7FEB352D
    return _finished(x ^ second_key)


@triton.jit
def _next_words(words):
    """Further random words, for a third rounding."""
    return words * 0x9E3779B1


@triton.jit
def _stored(x, bits, ROUNDED: tl.constexpr):
    """x as an array of its type stores it or, if ROUNDED, as bfloat16, to which 16 random bits round it."""
    if ROUNDED:
        cut = (x.to(tl.uint32, bitcast=True) + bits) >> 16
        cut = tl.where(x == x, cut, 0x7FC0)  # noqa: PLR0124  (nan)
        return cut.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        return x


@triton.jit
def _counted(entry):
    """The step count in the state, on the device."""
    return tl.load(tl.load(entry + 4).to(tl.pointer_type(tl.float32))).to(tl.float64)


@triton.jit
def _combined(numbers, sums, a):
    """Σ (a g + λ p)² of a tensor from its Σ g², Σ g p and Σ p², and whether these cancel so far that it is inexact."""
    decay = tl.load(numbers + 1)
    own, penalty = a * a * tl.load(sums), decay * decay * tl.load(sums + 2)
    combined = own + 2 * a * decay * tl.load(sums + 1) + penalty
    return combined, combined < (own + penalty) * 1e-8


@triton.jit
def _add_squares(p, g, n, a, decay, out, WHAT: tl.constexpr, REAL: tl.constexpr, BLOCK: tl.constexpr,
                 MASKED: tl.constexpr):  # fmt: skip
    gg, gp, pp = tl.full([BLOCK], 0, tl.float64), tl.full([BLOCK], 0, tl.float64), tl.full([BLOCK], 0, tl.float64)
    for i in range(0, n, BLOCK):
        at = i + tl.arange(0, BLOCK)
        inside = at < n if MASKED else None
        x = tl.load(g + at, mask=inside).to(REAL)
        if WHAT != "plain":
            y = tl.load(p + at, mask=inside).to(REAL)
            if WHAT == "parts":
                y = tl.where(inside, y, 0).to(tl.float64) if MASKED else y.to(tl.float64)
                pp += y * y
            else:
                x = a * x + decay * y
        x = tl.where(inside, x, 0).to(tl.float64) if MASKED else x.to(tl.float64)
        gg += x * x
        if WHAT == "parts":
            gp += x * y
    tl.store(out + (3 if WHAT == "again" else 0), tl.sum(gg, 0))
    if WHAT == "parts":
        tl.store(out + 1, tl.sum(gp, 0))
        tl.store(out + 2, tl.sum(pp, 0))


@triton.jit
def read(table, grads, numbers, owner, chunk_sums, tensor_sums, v_sums, v_steps, clip, WHAT: tl.constexpr,
         COUNTED: tl.constexpr, PARAM: tl.constexpr, GRAD: tl.constexpr, REAL: tl.constexpr, KEPT: tl.constexpr,
         EACH: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """The first pass, one program per chunk: sums of squares, and Σ v if ``v_sums`` is not from the step before."""
    chunk = tl.program_id(0).to(tl.int64)
    k = tl.load(owner + chunk).to(tl.int64)
    a, decay = tl.load(numbers) * tl.load(clip), tl.load(numbers + 1)
    if WHAT == "again":
        _, cancelled = _combined(numbers, tensor_sums + k * 4, a)
        if not cancelled:
            return
    entry, out = table + k * 11, chunk_sums + chunk * 4
    offset = (chunk - tl.load(entry + 6)) * CHUNK
    n = tl.minimum(tl.load(entry + 5) - offset, CHUNK).to(tl.int32)
    if WHAT != "before":
        p_at, g_at = tl.load(entry), tl.load(grads + k)
        odd = g_at if WHAT == "plain" else g_at | p_at
        if (n == CHUNK) & (odd % 16 == 0):  # loads are wide without a mask
            p, g = _place(p_at, offset, PARAM, EACH), _place(g_at, offset, GRAD, EACH)
            _add_squares(p, g, CHUNK, a.to(REAL), decay.to(REAL), out, WHAT, REAL, BLOCK, False)
        else:
            p, g = _place(p_at, offset, PARAM, 1), _place(g_at, offset, GRAD, 1)
            _add_squares(p, g, n, a.to(REAL), decay.to(REAL), out, WHAT, REAL, BLOCK, True)
    if WHAT != "again":
        # The host knows whether v has been written to, except by steps that a graph has replayed.
        known = tl.load(v_steps + k)
        if (known != _counted(entry)) if COUNTED else (known < 0):
            v, total = _place(tl.load(entry + 2), offset, KEPT, 1), tl.full([BLOCK], 0, tl.float64)
            for i in range(0, n, BLOCK):
                at = i + tl.arange(0, BLOCK)
                total += tl.load(v + at, mask=at < n, other=0).to(REAL).to(tl.float64)
            tl.store(v_sums + chunk, tl.sum(total, 0))


@triton.jit
def _added_up(numbers, n, BLOCK: tl.constexpr, COLUMNS: tl.constexpr):
    """The sum of a column, in order."""
    total = tl.full([BLOCK], 0, tl.float64)
    for i in range(0, n, BLOCK):
        at = i + tl.arange(0, BLOCK)
        total += tl.load(numbers + at.to(tl.int64) * COLUMNS, mask=at < n, other=0)
    return tl.sum(total, 0)


@triton.jit
def collect(table, chunk_sums, tensor_sums, WHAT: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr):
    """One program per tensor: adds up the sums of its chunks for the gradient norm."""
    k = tl.program_id(0).to(tl.int64)
    entry, sums = table + k * 11, tensor_sums + k * 4
    mine = chunk_sums + tl.load(entry + 6) * 4
    chunks = tl.cdiv(tl.load(entry + 5), CHUNK).to(tl.int32)
    tl.store(sums, _added_up(mine, chunks, BLOCK, 4))
    if WHAT == "parts":
        tl.store(sums + 1, _added_up(mine + 1, chunks, BLOCK, 4))
        tl.store(sums + 2, _added_up(mine + 2, chunks, BLOCK, 4))


@triton.jit(do_not_specialize=["later"])
def accumulate(table, numbers, counts, later: tl.int64, chunk_sums, tensor_sums, v_sums, facts, hats, clip,
               WHAT: tl.constexpr, COUNTED: tl.constexpr, REAL: tl.constexpr, CHUNK: tl.constexpr,
               BLOCK: tl.constexpr):  # fmt: skip
    """One program per tensor: its facts, and Σ v̂ of this step or, with WHAT "before", of the step before."""
    k = tl.program_id(0).to(tl.int64)
    entry = table + k * 11
    chunks = tl.cdiv(tl.load(entry + 5), CHUNK).to(tl.int32)
    v_sum = _added_up(v_sums + tl.load(entry + 6), chunks, BLOCK, 1)
    if COUNTED:
        t = _counted(entry) + 1
    else:
        t = tl.load(counts + k) + later
    bias_correction2 = _one_minus_exp(t * tl.load(numbers + 3))
    out = facts + k * 4
    tl.store(out, t)
    tl.store(out + 1, bias_correction2)
    tl.store(out + 2, _one_minus_exp(t * tl.load(numbers + 4)))

    if WHAT == "before":
        moved = t > 1
        hat = v_sum / _one_minus_exp(tl.where(moved, t - 1, 1.0) * tl.load(numbers + 3))
        tl.store(hats + k, tl.where(moved, hat, 0.0))
        tl.store(out + 3, tl.where(moved, tl.load(entry + 5), 0).to(tl.float64))
    else:
        mine = chunk_sums + tl.load(entry + 6) * 4
        a = tl.load(numbers) * tl.load(clip)
        if WHAT == "parts":
            squares, cancelled = _combined(numbers, tensor_sums + k * 4, a)
            if cancelled:
                squares = _added_up(mine + 3, chunks, BLOCK, 4)
        else:
            squares = _added_up(mine, chunks, BLOCK, 4)
            if WHAT == "plain":
                squares = a * a * squares
        tl.store(hats + k, _next_v_sum(numbers, v_sum, squares, REAL) / bias_correction2)


@triton.jit
def _next_v_sum(numbers, v_sum, squares, REAL: tl.constexpr):
    """Σ v of this step from that of the step before and Σ g²."""
    b = tl.load(numbers + 2).to(REAL).to(tl.float64)  # as in the second pass
    return (1 - b) * v_sum + b * squares


@triton.jit(do_not_specialize=["tensors", "elements"])
def mean(hats, tensors: tl.int64, elements: tl.int64, before, out, BLOCK: tl.constexpr):
    """One program: the mean of v̂ as in `adai.optim.shared.mean.gated`, where ``before`` is the sum of earlier batches.

    ``out`` has 8 places, of which 0, 2 and 4 are used: the sum so far, the mean (or 1 if it is 0), and whether the mean
    is not 0.
    """
    total = tl.load(before) + _added_up(hats, tensors, BLOCK, 1)
    tl.store(out, total)
    _store_mean(total, tl.maximum(elements, 1).to(tl.float64), out)


@triton.jit
def _store_mean(total, elements, out):
    v_mean = total / elements
    alive = v_mean != 0
    tl.store(out + 2, tl.where(alive, v_mean, 1.0))
    tl.store(out + 4, tl.where(alive, 1.0, 0.0))


@triton.jit(do_not_specialize=["tensors", "limit"])
def factor(sums, tensors: tl.int64, before, limit: tl.int64, unscale, out, COLUMNS: tl.constexpr, BLOCK: tl.constexpr):
    """One program: the factor of `adai.optim.shared.mean.clip_factor`; ``before`` is the sum of earlier batches.

    ``limit`` is the norm to clip to, as the bits of a float64. ``out`` gets the sum so far at 0 and the factor at 2.
    """
    total, scale = tl.load(before) + _added_up(sums, tensors, BLOCK, COLUMNS), tl.load(unscale)
    clip = limit.to(tl.int64).to(tl.float64, bitcast=True) * (1 / (tl.sqrt(total) * scale + 1e-6))
    tl.store(out, total)
    tl.store(out + 2, tl.where(clip > 1, 1.0, clip) * scale)


@triton.jit(do_not_specialize=["tensors", "chunks"])
def previous(table, grads, numbers, owner, v_sums, facts, hats, clip, tensors: tl.int64, chunks: tl.int64, before, out,
             SUMS: tl.constexpr, OWN: tl.constexpr, DECAYS: tl.constexpr, PARAM: tl.constexpr, GRAD: tl.constexpr,
             REAL: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """One program: the mean of v̂ of the step before or, if that is 0 or there was none, of this step.

    A single part does this in one launch. Of several, each adds its sums (SUMS), and then each takes part in the mean
    of this step (OWN), which is slow, but rarely needed. Neither needs the host.

    ``out`` is as in `mean`, and has beside it the number of elements so far at 1, and at 6 and 7 both of this step.
    ``before`` has the sum of v̂ and the number of elements of earlier parts.
    """
    if SUMS:
        total, elements = tl.load(before), tl.load(before + 1)
        total += _added_up(hats, tensors, BLOCK, 1)
        elements += _added_up(facts + 3, tensors, BLOCK, 4)
        tl.store(out, total)
        tl.store(out + 1, elements)
        tl.store(out + 6, 0.0)
        tl.store(out + 7, 0.0)
        _store_mean(total, tl.maximum(elements, 1.0), out)
    else:
        total = tl.load(out)
    if OWN:  # noqa: SIM102  (one is a constant)
        if total == 0:
            own, there = tl.full([], 0, tl.float64), tl.full([], 0, tl.float64)
            if not SUMS:
                own, there = tl.load(out + 6), tl.load(out + 7)
            for chunk in range(0, chunks):
                k = tl.load(owner + chunk).to(tl.int64)
                entry = table + k * 11
                offset = (chunk - tl.load(entry + 6)) * CHUNK
                n = tl.minimum(tl.load(entry + 5) - offset, CHUNK).to(tl.int32)
                squares = _own_squares(entry, tl.load(grads + k), offset, n, numbers, clip, DECAYS, PARAM, GRAD, REAL,
                                       BLOCK)  # fmt: skip
                own += _next_v_sum(numbers, tl.load(v_sums + chunk), squares, REAL) / tl.load(facts + k * 4 + 1)
                there += n.to(tl.float64)
            tl.store(out + 6, own)
            tl.store(out + 7, there)
            _store_mean(own, tl.maximum(there, 1.0), out)


@triton.jit
def _own_squares(entry, g_at, offset, n, numbers, clip, DECAYS: tl.constexpr, PARAM: tl.constexpr, GRAD: tl.constexpr,
                 REAL: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Σ g² over a chunk, where g is clipped and has the L2 penalty's part."""
    p, g = _place(tl.load(entry), offset, PARAM, 1), _place(g_at, offset, GRAD, 1)
    a, decay = (tl.load(numbers) * tl.load(clip)).to(REAL), tl.load(numbers + 1).to(REAL)
    squares = tl.full([BLOCK], 0, tl.float64)
    for i in range(0, n, BLOCK):
        at = i + tl.arange(0, BLOCK)
        x = a * tl.load(g + at, mask=at < n, other=0).to(REAL)
        if DECAYS:
            x += decay * tl.load(p + at, mask=at < n, other=0).to(REAL)
        squares += x.to(tl.float64) * x.to(tl.float64)
    return tl.sum(squares, 0)


@triton.jit
def _move(entry, g_at, offset, n, t, a, decay, shrink, step, mean, least_c, numbers, CORRECTED: tl.constexpr,
          DECAYS: tl.constexpr, DAMPENED: tl.constexpr, ROUNDED: tl.constexpr, RUNS: tl.constexpr, PARAM: tl.constexpr,
          GRAD: tl.constexpr, REAL: tl.constexpr, KEPT: tl.constexpr, BLOCK: tl.constexpr, MASKED: tl.constexpr,
          EACH: tl.constexpr, EACH_GRAD: tl.constexpr):  # fmt: skip
    """second_moment and update of rule.py; returns the new Σ v, added up in the same order as in `read`."""
    p, g = _place(tl.load(entry), offset, PARAM, EACH), _place(g_at, offset, GRAD, EACH_GRAD)
    m, v = _place(tl.load(entry + 1), offset, KEPT, EACH), _place(tl.load(entry + 2), offset, KEPT, EACH)
    c = _place(tl.load(entry + 3), offset, KEPT, EACH)
    total = tl.full([BLOCK], 0, tl.float64)
    b, eps, beta0 = tl.load(numbers + 2).to(REAL), tl.load(numbers + 5).to(REAL), tl.load(numbers + 6).to(REAL)
    dampening, tiny, most = tl.load(numbers + 7), tl.load(numbers + 9).to(REAL), tl.load(numbers + 11).to(REAL)
    first_key, second_key = _keys(entry, t)
    first, along, run, pitch = _shard(entry, offset, RUNS)
    for i in range(0, n, BLOCK):
        at = i + tl.arange(0, BLOCK)
        inside = at < n if MASKED else None
        # Where nothing is rounded, the compiler drops this.
        words = _random_words(_places(at, first, along, run, pitch, RUNS), first_key, second_key)
        theta = tl.load(p + at, mask=inside).to(REAL)
        x = a * tl.load(g + at, mask=inside).to(REAL)
        if DECAYS:
            x += decay * theta
        v_i = _lerp(tl.load(v + at, mask=inside).to(REAL), x * x, b)
        stored = _stored(v_i, words >> 16, KEPT != REAL)
        tl.store(v + at, stored, mask=inside)
        stored = stored.to(REAL)
        total += tl.where(inside, stored, 0).to(tl.float64) if MASKED else stored.to(tl.float64)
        w = _divide(v_i, mean)
        if DAMPENED:
            w = _power(w, 1 / (3 - 2 * dampening)).to(REAL)
        w = beta0 * w
        w = tl.where(w < eps, eps, w)
        w = tl.where(w > most, most, w).to(REAL)
        m_i = tl.load(m + at, mask=inside).to(REAL)
        if DAMPENED:
            m_i = (1 - w) * m_i + _power(w, dampening).to(REAL) * x
        else:
            m_i = _lerp(m_i, x, w)
        tl.store(m + at, _stored(m_i, words & 0xFFFF, KEPT != REAL), mask=inside)
        words = _next_words(words)
        if CORRECTED:
            c_i = _lerp(tl.load(c + at, mask=inside).to(REAL), 1.0, w)
            if KEPT == REAL:  # bfloat16 needs no lower bound, see narrow.py
                c_i = tl.where(c_i < least_c, least_c, c_i)
            tl.store(c + at, _stored(c_i, words >> 16, KEPT != REAL), mask=inside)
            m_i = _divide(m_i, tl.where(c_i < tiny, tiny, c_i))
        moved = theta * shrink - step * m_i
        if ROUNDED:
            tl.store(p + at, _stored(moved, _next_words(words) >> 16, True), mask=inside)
        else:
            tl.store(p + at, moved.to(p.dtype.element_ty), mask=inside)
    return tl.sum(total, 0)


@triton.jit(do_not_specialize=["lr"])
def step(table, grads, numbers, owner, v_sums, v_steps, facts, clip, lr: tl.int64, lr_at, v_mean, alive,
         CORRECTED: tl.constexpr, DECAYS: tl.constexpr, DAMPENED: tl.constexpr, ROUNDED: tl.constexpr,
         RUNS: tl.constexpr, COUNTED: tl.constexpr, PARAM: tl.constexpr, GRAD: tl.constexpr, REAL: tl.constexpr,
         KEPT: tl.constexpr, EACH: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """The second pass, one program per chunk: reads and writes everything once, or nothing if ``alive`` is 0."""
    if tl.load(alive) == 0:
        return
    chunk = tl.program_id(0).to(tl.int64)
    k = tl.load(owner + chunk).to(tl.int64)
    entry, fact, g_at = table + k * 11, facts + k * 4, tl.load(grads + k)
    first = tl.load(entry + 6)
    offset = (chunk - first) * CHUNK
    n = tl.minimum(tl.load(entry + 5) - offset, CHUNK).to(tl.int32)

    a, decay = tl.load(numbers) * tl.load(clip), tl.load(numbers + 1)
    rate = lr.to(tl.int64).to(tl.float64, bitcast=True) * tl.load(lr_at)
    t = tl.load(fact)
    rate *= tl.minimum(t / tl.load(numbers + 12), 1.0)
    dampening, least = tl.load(numbers + 7), tl.load(numbers + 10).to(REAL)
    length = rate
    if DAMPENED:
        length = rate * _power(tl.load(numbers + 6), 1 - dampening)
    shrink = (1 - rate * tl.load(numbers + 8)).to(REAL)
    mean = (tl.load(v_mean) * tl.load(fact + 1)).to(REAL)
    mean = tl.where(mean < least, least, mean)
    least_c = tl.load(fact + 2).to(REAL)

    a, decay, length = a.to(REAL), decay.to(REAL), length.to(REAL)
    # A gradient may have any address, for example in a bucket of DistributedDataParallel. The other accesses are wide
    # even then, except with DAMPENED, because three copies of the powers would need more registers than there are.
    odd = tl.load(entry) | tl.load(entry + 1) | tl.load(entry + 2) | tl.load(entry + 3)
    odd_grad = g_at % 16 != 0
    narrow = (n < CHUNK) | (odd % 16 != 0)
    if DAMPENED:
        narrow = narrow | odd_grad
    if narrow:
        total = _move(entry, g_at, offset, n, t, a, decay, shrink, length, mean, least_c, numbers, CORRECTED,
                      DECAYS, DAMPENED, ROUNDED, RUNS, PARAM, GRAD, REAL, KEPT, BLOCK, True, 1, 1)  # fmt: skip
    elif DAMPENED:
        total = _move(entry, g_at, offset, CHUNK, t, a, decay, shrink, length, mean, least_c, numbers, CORRECTED,
                      DECAYS, DAMPENED, ROUNDED, RUNS, PARAM, GRAD, REAL, KEPT, BLOCK, False, EACH, EACH)  # fmt: skip
    elif odd_grad:
        total = _move(entry, g_at, offset, CHUNK, t, a, decay, shrink, length, mean, least_c, numbers, CORRECTED,
                      DECAYS, DAMPENED, ROUNDED, RUNS, PARAM, GRAD, REAL, KEPT, BLOCK, False, EACH, 1)  # fmt: skip
    else:
        total = _move(entry, g_at, offset, CHUNK, t, a, decay, shrink, length, mean, least_c, numbers, CORRECTED,
                      DECAYS, DAMPENED, ROUNDED, RUNS, PARAM, GRAD, REAL, KEPT, BLOCK, False, EACH, EACH)  # fmt: skip
    tl.store(v_sums + chunk, total)
    # Read these again, because registers are scarce until here.
    k = tl.load(owner + chunk).to(tl.int64)
    entry = table + k * 11
    if chunk == tl.load(entry + 6):  # one program per tensor; no other program reads these in this launch
        t = tl.load(facts + k * 4)
        tl.store(v_steps + k, t)
        if COUNTED:
            tl.store(tl.load(entry + 4).to(tl.pointer_type(tl.float32)), t.to(tl.float32))


@triton.jit
def probe(address, ELEMENT: tl.constexpr):
    """Tests whether kernels can be compiled and run here. Triton 3.1 cannot: it does not take types as arguments."""
    tl.store(_place(tl.load(address), 0, ELEMENT, 4), 1.0)


INTERPRETED = not isinstance(probe, triton.JITFunction)
"""Whether kernels run in Triton's interpreter on the CPU, which cannot access the memory of a GPU."""
TYPES = {torch.float32: tl.float32, torch.float64: tl.float64, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
