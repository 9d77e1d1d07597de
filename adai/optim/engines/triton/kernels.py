"""The kernels: two passes over memory, and the sums between them. Each launch serves any number of tensors.

A pass is cut into chunks of one tensor each; ``owner`` tells a program the tensor that its chunk belongs to, and the
table (see `adai.optim.engines.triton.table`) where that tensor lies. Chunks leave their sums behind, which one program
per
tensor adds up in order: no atomics, so that results are the same at every run. Every number that the steps of a run
change is read from the device, so that a CUDA graph can replay the launches.

Arithmetic is in REAL, the dtype of the state; sums and numbers are float64. Comparisons are written so that NaN passes
through.
"""

import torch
import triton
import triton.language as tl

from adai.optim.engines.triton import table as layout

# The table: numbers that all tensors share, as float64 bits, and then one entry per tensor.
HEAD, WIDTH = tl.constexpr(layout.HEAD), tl.constexpr(layout.WIDTH)
SIGN, L2, ONE_MINUS_BETA2, LOG_BETA2, LOG_MU_MAX = (tl.constexpr(i) for i in range(5))
EPS, BETA0, DAMPENING, DECAY, TINY, LEAST, MOST, WARM_UP = (tl.constexpr(i) for i in range(5, 13))
P, G, M, V, C, STEP, FLAGS, SIZE, FIRST = (tl.constexpr(i) for i in range(9))
# Bits of FLAGS.
KNOWN, STATE_ALIGNED = tl.constexpr(layout.KNOWN), tl.constexpr(layout.STATE_ALIGNED)
GRAD_ALIGNED = tl.constexpr(layout.GRAD_ALIGNED)

# What a chunk leaves behind: Σ g² and, as asked for, Σ g p, Σ p², and Σ (a g + λ p)².
SUMS = tl.constexpr(4)
GG, GP, PP, DECAYED_AGAIN = (tl.constexpr(i) for i in range(4))
# What there is to know of a tensor in this step: t, 1 - beta2^t, and the least that 1 - Π mu can be.
FACTS = tl.constexpr(3)

# What the first pass reads: gradients; gradients with the L2 share; both, for a clipping that is not known yet; or,
# once it is known, both again for tensors where they cancel.
PLAIN, DECAYED, PARTS, AGAIN = (tl.constexpr(i) for i in range(4))
# What the sum of a clipped gradient with its L2 share may cancel to before the three sums of PARTS are not trusted.
CANCELLED = tl.constexpr(1e-8)


@triton.jit
def _number(table, i: tl.constexpr):
    return tl.load(table + i).to(tl.float64, bitcast=True)


@triton.jit
def _place(entry, column: tl.constexpr, offset, ELEMENT: tl.constexpr, ALIGNED: tl.constexpr):
    """Where the chunk at ``offset`` begins in one of the tensor's arrays."""
    pointer = tl.load(entry + column).to(tl.pointer_type(ELEMENT)) + offset
    if ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def _one_minus_exp(x):
    """1 - exp(x) for x <= 0 to all digits, as -expm1 (W. Kahan's way: the errors of exp and log cancel)."""
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
        return tl.div_rn(x, y)  # the operator is an approximation in float32


@triton.jit
def _lerp(start, end, w):
    """start + w (end - start), exactly `end` at w = 1."""
    way = end - start
    return tl.where(w < 0.5, start + w * way, end - (1 - w) * way)


@triton.jit
def _count(entry, COUNTED: tl.constexpr):
    """The step t that is being made."""
    if COUNTED:
        t = tl.load(tl.load(entry + STEP).to(tl.pointer_type(tl.float32))).to(tl.float64) + 1
    else:
        t = tl.load(entry + STEP).to(tl.float64, bitcast=True)
    return t


@triton.jit
def _combined(table, sums, a):
    """Σ (a g + λ p)² of a tensor from its Σ g², Σ g p and Σ p², and whether these cancel too far to be trusted."""
    decay = _number(table, L2)
    own, penalty = a * a * tl.load(sums + GG), decay * decay * tl.load(sums + PP)
    combined = own + 2 * a * decay * tl.load(sums + GP) + penalty
    return combined, combined < (own + penalty) * CANCELLED


@triton.jit
def _add_squares(p, g, n, a, decay, out, WHAT: tl.constexpr, REAL: tl.constexpr, BLOCK: tl.constexpr,
                 MASKED: tl.constexpr):  # fmt: skip
    gg, gp, pp = tl.full([BLOCK], 0, tl.float64), tl.full([BLOCK], 0, tl.float64), tl.full([BLOCK], 0, tl.float64)
    for i in range(0, n, BLOCK):
        at = i + tl.arange(0, BLOCK)
        inside = at < n if MASKED else None
        x = tl.load(g + at, mask=inside).to(REAL)
        if WHAT != PLAIN:
            y = tl.load(p + at, mask=inside).to(REAL)
            if WHAT == PARTS:
                y = tl.where(inside, y, 0).to(tl.float64) if MASKED else y.to(tl.float64)
                pp += y * y
            else:
                x = a * x + decay * y
        x = tl.where(inside, x, 0).to(tl.float64) if MASKED else x.to(tl.float64)
        gg += x * x
        if WHAT == PARTS:
            gp += x * y
    tl.store(out + (DECAYED_AGAIN if WHAT == AGAIN else GG), tl.sum(gg, 0))
    if WHAT == PARTS:
        tl.store(out + GP, tl.sum(gp, 0))
        tl.store(out + PP, tl.sum(pp, 0))


@triton.jit
def read(table, owner, chunk_sums, tensor_sums, v_sums, v_steps, clip, WHAT: tl.constexpr, COUNTED: tl.constexpr,
         PARAM: tl.constexpr, GRAD: tl.constexpr, REAL: tl.constexpr, CHUNK: tl.constexpr,
         BLOCK: tl.constexpr):  # fmt: skip
    """The first pass, one program per chunk: Σ of squares; Σ v too where ``v_sums`` has not that of the step before."""
    chunk = tl.program_id(0).to(tl.int64)
    k = tl.load(owner + chunk).to(tl.int64)
    a, decay = _number(table, SIGN) * tl.load(clip), _number(table, L2)
    if WHAT == AGAIN:
        _, cancelled = _combined(table, tensor_sums + k * SUMS, a)
        if not cancelled:
            return
    entry, out = table + HEAD + k * WIDTH, chunk_sums + chunk * SUMS
    offset = (chunk - tl.load(entry + FIRST)) * CHUNK
    n = tl.minimum(tl.load(entry + SIZE) - offset, CHUNK).to(tl.int32)
    flags = tl.load(entry + FLAGS)
    wide = (flags & GRAD_ALIGNED) != 0
    if WHAT != PLAIN:
        wide = wide & ((flags & STATE_ALIGNED) != 0)
    if (n == CHUNK) & wide:  # without a mask loads are wide
        p, g = _place(entry, P, offset, PARAM, True), _place(entry, G, offset, GRAD, True)
        _add_squares(p, g, CHUNK, a.to(REAL), decay.to(REAL), out, WHAT, REAL, BLOCK, False)
    else:
        p, g = _place(entry, P, offset, PARAM, False), _place(entry, G, offset, GRAD, False)
        _add_squares(p, g, n, a.to(REAL), decay.to(REAL), out, WHAT, REAL, BLOCK, True)
    if WHAT != AGAIN:  # noqa: SIM102 -- the one is known when it is compiled, the other when it runs
        if ((flags & KNOWN) == 0) | (tl.load(v_steps + k) != _count(entry, COUNTED) - 1):
            v, total = _place(entry, V, offset, REAL, False), tl.full([BLOCK], 0, tl.float64)
            for i in range(0, n, BLOCK):
                at = i + tl.arange(0, BLOCK)
                total += tl.load(v + at, mask=at < n, other=0).to(tl.float64)
            tl.store(v_sums + chunk, tl.sum(total, 0))


@triton.jit
def _added_up(chunk_sums, chunks, column: tl.constexpr, BLOCK: tl.constexpr, COLUMNS: tl.constexpr = SUMS):
    total = tl.full([BLOCK], 0, tl.float64)
    for i in range(0, chunks, BLOCK):
        at = i + tl.arange(0, BLOCK)
        total += tl.load(chunk_sums + at.to(tl.int64) * COLUMNS + column, mask=at < chunks, other=0)
    return tl.sum(total, 0)


@triton.jit
def collect(table, chunk_sums, tensor_sums, WHAT: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr):
    """One program per tensor: adds up what its chunks found in a pass for the gradient norm."""
    k = tl.program_id(0).to(tl.int64)
    entry, sums = table + HEAD + k * WIDTH, tensor_sums + k * SUMS
    mine = chunk_sums + tl.load(entry + FIRST) * SUMS
    chunks = tl.cdiv(tl.load(entry + SIZE), CHUNK).to(tl.int32)
    tl.store(sums + GG, _added_up(mine, chunks, GG, BLOCK))
    if WHAT == PARTS:
        tl.store(sums + GP, _added_up(mine, chunks, GP, BLOCK))
        tl.store(sums + PP, _added_up(mine, chunks, PP, BLOCK))


@triton.jit
def accumulate(table, chunk_sums, tensor_sums, v_sums, facts, hats, clip, WHAT: tl.constexpr, COUNTED: tl.constexpr,
               REAL: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """One program per tensor: Σ v̂ of this step."""
    k = tl.program_id(0).to(tl.int64)
    entry = table + HEAD + k * WIDTH
    mine = chunk_sums + tl.load(entry + FIRST) * SUMS
    chunks = tl.cdiv(tl.load(entry + SIZE), CHUNK).to(tl.int32)
    a = _number(table, SIGN) * tl.load(clip)
    if WHAT == PARTS:
        squares, cancelled = _combined(table, tensor_sums + k * SUMS, a)
        if cancelled:
            squares = _added_up(mine, chunks, DECAYED_AGAIN, BLOCK)
    else:
        squares = _added_up(mine, chunks, GG, BLOCK)
        if WHAT == PLAIN:
            squares = a * a * squares

    before = _added_up(v_sums + tl.load(entry + FIRST), chunks, 0, BLOCK, 1)
    b = _number(table, ONE_MINUS_BETA2).to(REAL).to(tl.float64)  # as the second pass has it
    t = _count(entry, COUNTED)
    bias_correction2 = _one_minus_exp(t * _number(table, LOG_BETA2))
    out = facts + k * FACTS
    tl.store(out, t)
    tl.store(out + 1, bias_correction2)
    tl.store(out + 2, _one_minus_exp(t * _number(table, LOG_MU_MAX)))
    tl.store(hats + k, ((1 - b) * before + b * squares) / bias_correction2)


@triton.jit
def _move(entry, offset, n, a, decay, shrink, step, mean, least_c, table, CORRECTED: tl.constexpr,
          DECAYS: tl.constexpr, DAMPENED: tl.constexpr, PARAM: tl.constexpr, GRAD: tl.constexpr, REAL: tl.constexpr,
          BLOCK: tl.constexpr, MASKED: tl.constexpr, ALIGNED: tl.constexpr, WIDE_GRAD: tl.constexpr):  # fmt: skip
    """rule.py's second_moment and update; Σ v afterwards, added up as `read` would."""
    p, g = _place(entry, P, offset, PARAM, ALIGNED), _place(entry, G, offset, GRAD, WIDE_GRAD)
    m, v = _place(entry, M, offset, REAL, ALIGNED), _place(entry, V, offset, REAL, ALIGNED)
    c = _place(entry, C, offset, REAL, ALIGNED)
    total = tl.full([BLOCK], 0, tl.float64)
    b, eps, beta0 = _number(table, ONE_MINUS_BETA2).to(REAL), _number(table, EPS).to(REAL), _number(table, BETA0)
    beta0, tiny, dampening = beta0.to(REAL), _number(table, TINY).to(REAL), _number(table, DAMPENING)
    most = _number(table, MOST).to(REAL)
    for i in range(0, n, BLOCK):
        at = i + tl.arange(0, BLOCK)
        inside = at < n if MASKED else None
        theta = tl.load(p + at, mask=inside).to(REAL)
        x = a * tl.load(g + at, mask=inside).to(REAL)
        if DECAYS:
            x += decay * theta
        v_i = _lerp(tl.load(v + at, mask=inside), x * x, b)
        tl.store(v + at, v_i, mask=inside)
        total += tl.where(inside, v_i, 0).to(tl.float64) if MASKED else v_i.to(tl.float64)
        w = _divide(v_i, mean)
        if DAMPENED:
            w = _power(w, 1 / (3 - 2 * dampening)).to(REAL)
        w = beta0 * w
        w = tl.where(w < eps, eps, w)
        w = tl.where(w > most, most, w).to(REAL)
        m_i = tl.load(m + at, mask=inside)
        if DAMPENED:
            m_i = (1 - w) * m_i + _power(w, dampening).to(REAL) * x
        else:
            m_i = _lerp(m_i, x, w)
        tl.store(m + at, m_i, mask=inside)
        if CORRECTED:
            c_i = _lerp(tl.load(c + at, mask=inside), 1.0, w)
            c_i = tl.where(c_i < least_c, least_c, c_i)
            tl.store(c + at, c_i, mask=inside)
            m_i = _divide(m_i, tl.where(c_i < tiny, tiny, c_i))
        tl.store(p + at, (theta * shrink - step * m_i).to(p.dtype.element_ty), mask=inside)
    return tl.sum(total, 0)


@triton.jit
def step(table, owner, v_sums, v_steps, facts, clip, lr, v_mean, alive, CORRECTED: tl.constexpr, DECAYS: tl.constexpr,
         DAMPENED: tl.constexpr, COUNTED: tl.constexpr, PARAM: tl.constexpr, GRAD: tl.constexpr, REAL: tl.constexpr,
         CHUNK: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """The second pass, one program per chunk: everything is read and written once, or nothing if not ``alive``."""
    if tl.load(alive) == 0:
        return
    chunk = tl.program_id(0).to(tl.int64)
    k = tl.load(owner + chunk).to(tl.int64)
    entry, fact = table + HEAD + k * WIDTH, facts + k * FACTS
    first = tl.load(entry + FIRST)
    offset = (chunk - first) * CHUNK
    n = tl.minimum(tl.load(entry + SIZE) - offset, CHUNK).to(tl.int32)

    a, decay = _number(table, SIGN) * tl.load(clip), _number(table, L2)
    rate = tl.load(lr) * tl.minimum(tl.load(fact) / _number(table, WARM_UP), 1.0)
    dampening, least = _number(table, DAMPENING), _number(table, LEAST).to(REAL)
    length = rate
    if DAMPENED:
        length = rate * _power(_number(table, BETA0), 1 - dampening)
    shrink = (1 - rate * _number(table, DECAY)).to(REAL)
    mean = (tl.load(v_mean) * tl.load(fact + 1)).to(REAL)
    mean = tl.where(mean < least, least, mean)
    least_c = tl.load(fact + 2).to(REAL)

    a, decay, length = a.to(REAL), decay.to(REAL), length.to(REAL)
    # A gradient may lie anywhere, in a bucket of DistributedDataParallel say; the rest is wide all the same. Where
    # powers are taken it is not, because three copies of them need more registers than there are.
    flags = tl.load(entry + FLAGS)
    odd_grad = (flags & GRAD_ALIGNED) == 0
    narrow = (n < CHUNK) | ((flags & STATE_ALIGNED) == 0)
    if DAMPENED:
        narrow = narrow | odd_grad
    if narrow:
        total = _move(entry, offset, n, a, decay, shrink, length, mean, least_c, table, CORRECTED, DECAYS, DAMPENED,
                      PARAM, GRAD, REAL, BLOCK, True, False, False)  # fmt: skip
    elif DAMPENED:
        total = _move(entry, offset, CHUNK, a, decay, shrink, length, mean, least_c, table, CORRECTED, DECAYS, DAMPENED,
                      PARAM, GRAD, REAL, BLOCK, False, True, True)  # fmt: skip
    elif odd_grad:
        total = _move(entry, offset, CHUNK, a, decay, shrink, length, mean, least_c, table, CORRECTED, DECAYS, DAMPENED,
                      PARAM, GRAD, REAL, BLOCK, False, True, False)  # fmt: skip
    else:
        total = _move(entry, offset, CHUNK, a, decay, shrink, length, mean, least_c, table, CORRECTED, DECAYS, DAMPENED,
                      PARAM, GRAD, REAL, BLOCK, False, True, True)  # fmt: skip
    tl.store(v_sums + chunk, total)
    if chunk == first:  # one program per tensor; no other reads these in this launch
        t = tl.load(fact)
        tl.store(v_steps + k, t)
        if COUNTED:
            tl.store(tl.load(entry + STEP).to(tl.pointer_type(tl.float32)), t.to(tl.float32))


@triton.jit
def probe(address, ELEMENT: tl.constexpr):
    """Does nothing of use: whether kernels can be compiled and run here. Triton 3.1 cannot: its types take no types."""
    tl.store(_place(address, 0, 0, ELEMENT, True), 1.0)


INTERPRETED = not isinstance(probe, triton.JITFunction)
"""Whether these run on the CPU, in Triton's interpreter, where the addresses of a GPU mean nothing."""
TYPES = {torch.float32: tl.float32, torch.float64: tl.float64, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
