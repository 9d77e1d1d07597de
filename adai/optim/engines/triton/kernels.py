"""The kernels: two passes over memory, and the sums between them. Each launch processes any number of tensors.

Each tensor is divided into chunks. ``owner`` contains the tensor of each chunk. Chunks store their sums, and one
program for each tensor adds these up in order, without atomics, so that results are the same in every run. Every number
that changes from step to step can be read from the device, so that a CUDA graph can replay the launches.

The kernels read (see `adai.optim.engines.triton.table`):

- ``table``, a row of 7 words per tensor: 0 to 3 the addresses of p, m, v and c, 4 that of the step count (COUNTED),
  5 the number of elements, 6 the first chunk;
- ``grads``, the address of each gradient; ``counts``, each step count when it was sent, which was ``later`` steps ago;
- ``numbers`` of the group: 0 sign, 1 L2 penalty, 2 1 - beta2, 3 log beta2, 4 log(1 - eps), 5 eps, 6 beta0,
  7 dampening, 8 decoupled decay, 9 the smallest normal number, 10 the smallest number, 11 1 - min_inertia,
  12 warmup_steps + 1;
- ``clip``, a factor of the gradients; ``lr`` and ``lr_at``, whose product is the learning rate.

The kernels write for each other:

- ``chunk_sums`` and ``tensor_sums``, rows of 4: 0 Σ g² and, depending on WHAT, 1 Σ g p, 2 Σ p², 3 Σ (a g + λ p)²;
- ``v_sums``, Σ v of each chunk, and ``v_steps``, the step to which the sums of a tensor belong, -1 for none;
- ``facts``, rows of 3: 0 the count t of this step, 1 1 - beta2^t, 2 the lower bound of 1 - Π mu;
- ``hats``, Σ v̂ of each tensor.

WHAT says which sums the first pass computes: "plain" of gradients; "decayed" of gradients with the L2 penalty's part;
"parts" of both parts separately, while the factor of clipping is not known; "again" of both together once it is known,
for tensors in which the parts cancel.

Arithmetic is in REAL, the dtype of the state; sums and numbers are float64. Comparisons are written so that NaN passes
through.

NOTE Indices are literals, because at each launch Triton compares every global that a kernel uses, which takes a
microsecond for each. And lr is passed as the bits of a float64, because Triton converts numbers to float32.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def _place(address, offset, ELEMENT: tl.constexpr, ALIGNED: tl.constexpr):
    """A pointer to the start of the chunk at ``offset`` in an array."""
    pointer = address.to(tl.pointer_type(ELEMENT)) + offset
    if ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
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
         COUNTED: tl.constexpr, PARAM: tl.constexpr, GRAD: tl.constexpr, REAL: tl.constexpr, CHUNK: tl.constexpr,
         BLOCK: tl.constexpr):  # fmt: skip
    """The first pass, one program per chunk: sums of squares, and Σ v if ``v_sums`` is not from the step before."""
    chunk = tl.program_id(0).to(tl.int64)
    k = tl.load(owner + chunk).to(tl.int64)
    a, decay = tl.load(numbers) * tl.load(clip), tl.load(numbers + 1)
    if WHAT == "again":
        _, cancelled = _combined(numbers, tensor_sums + k * 4, a)
        if not cancelled:
            return
    entry, out = table + k * 7, chunk_sums + chunk * 4
    offset = (chunk - tl.load(entry + 6)) * CHUNK
    n = tl.minimum(tl.load(entry + 5) - offset, CHUNK).to(tl.int32)
    p_at, g_at = tl.load(entry), tl.load(grads + k)
    odd = g_at if WHAT == "plain" else g_at | p_at
    if (n == CHUNK) & (odd % 16 == 0):  # loads are wide without a mask
        p, g = _place(p_at, offset, PARAM, True), _place(g_at, offset, GRAD, True)
        _add_squares(p, g, CHUNK, a.to(REAL), decay.to(REAL), out, WHAT, REAL, BLOCK, False)
    else:
        p, g = _place(p_at, offset, PARAM, False), _place(g_at, offset, GRAD, False)
        _add_squares(p, g, n, a.to(REAL), decay.to(REAL), out, WHAT, REAL, BLOCK, True)
    if WHAT != "again":
        # The host knows whether v has been written to, except by steps that a graph has replayed.
        known = tl.load(v_steps + k)
        if (known != _counted(entry)) if COUNTED else (known < 0):
            v, total = _place(tl.load(entry + 2), offset, REAL, False), tl.full([BLOCK], 0, tl.float64)
            for i in range(0, n, BLOCK):
                at = i + tl.arange(0, BLOCK)
                total += tl.load(v + at, mask=at < n, other=0).to(tl.float64)
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
    entry, sums = table + k * 7, tensor_sums + k * 4
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
    """One program per tensor: Σ v̂ of this step."""
    k = tl.program_id(0).to(tl.int64)
    entry = table + k * 7
    mine = chunk_sums + tl.load(entry + 6) * 4
    chunks = tl.cdiv(tl.load(entry + 5), CHUNK).to(tl.int32)
    a = tl.load(numbers) * tl.load(clip)
    if WHAT == "parts":
        squares, cancelled = _combined(numbers, tensor_sums + k * 4, a)
        if cancelled:
            squares = _added_up(mine + 3, chunks, BLOCK, 4)
    else:
        squares = _added_up(mine, chunks, BLOCK, 4)
        if WHAT == "plain":
            squares = a * a * squares

    before = _added_up(v_sums + tl.load(entry + 6), chunks, BLOCK, 1)
    b = tl.load(numbers + 2).to(REAL).to(tl.float64)  # as in the second pass
    if COUNTED:
        t = _counted(entry) + 1
    else:
        t = tl.load(counts + k) + later
    bias_correction2 = _one_minus_exp(t * tl.load(numbers + 3))
    out = facts + k * 3
    tl.store(out, t)
    tl.store(out + 1, bias_correction2)
    tl.store(out + 2, _one_minus_exp(t * tl.load(numbers + 4)))
    tl.store(hats + k, ((1 - b) * before + b * squares) / bias_correction2)


@triton.jit(do_not_specialize=["tensors", "elements"])
def mean(hats, tensors: tl.int64, elements: tl.int64, before, out, BLOCK: tl.constexpr):
    """One program: the mean of v̂ as in `adai.optim.shared.mean.gated`, where ``before`` is the sum of earlier batches.

    ``out`` has 6 places, of which 0, 2 and 4 are used: the sum so far, the mean (or 1 if it is 0), and whether the mean
    is not 0.
    """
    total = tl.load(before) + _added_up(hats, tensors, BLOCK, 1)
    v_mean = total / tl.maximum(elements, 1).to(tl.float64)
    alive = v_mean != 0
    tl.store(out, total)
    tl.store(out + 2, tl.where(alive, v_mean, 1.0))
    tl.store(out + 4, tl.where(alive, 1.0, 0.0))


@triton.jit
def _move(entry, g_at, offset, n, a, decay, shrink, step, mean, least_c, numbers, CORRECTED: tl.constexpr,
          DECAYS: tl.constexpr, DAMPENED: tl.constexpr, PARAM: tl.constexpr, GRAD: tl.constexpr, REAL: tl.constexpr,
          BLOCK: tl.constexpr, MASKED: tl.constexpr, ALIGNED: tl.constexpr, WIDE_GRAD: tl.constexpr):  # fmt: skip
    """second_moment and update of rule.py; returns the new Σ v, added up in the same order as in `read`."""
    p, g = _place(tl.load(entry), offset, PARAM, ALIGNED), _place(g_at, offset, GRAD, WIDE_GRAD)
    m, v = _place(tl.load(entry + 1), offset, REAL, ALIGNED), _place(tl.load(entry + 2), offset, REAL, ALIGNED)
    c = _place(tl.load(entry + 3), offset, REAL, ALIGNED)
    total = tl.full([BLOCK], 0, tl.float64)
    b, eps, beta0 = tl.load(numbers + 2).to(REAL), tl.load(numbers + 5).to(REAL), tl.load(numbers + 6).to(REAL)
    dampening, tiny, most = tl.load(numbers + 7), tl.load(numbers + 9).to(REAL), tl.load(numbers + 11).to(REAL)
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


@triton.jit(do_not_specialize=["lr"])
def step(table, grads, numbers, owner, v_sums, v_steps, facts, clip, lr: tl.int64, lr_at, v_mean, alive,
         CORRECTED: tl.constexpr, DECAYS: tl.constexpr, DAMPENED: tl.constexpr, COUNTED: tl.constexpr,
         PARAM: tl.constexpr, GRAD: tl.constexpr, REAL: tl.constexpr, CHUNK: tl.constexpr,
         BLOCK: tl.constexpr):  # fmt: skip
    """The second pass, one program per chunk: reads and writes everything once, or nothing if ``alive`` is 0."""
    if tl.load(alive) == 0:
        return
    chunk = tl.program_id(0).to(tl.int64)
    k = tl.load(owner + chunk).to(tl.int64)
    entry, fact, g_at = table + k * 7, facts + k * 3, tl.load(grads + k)
    first = tl.load(entry + 6)
    offset = (chunk - first) * CHUNK
    n = tl.minimum(tl.load(entry + 5) - offset, CHUNK).to(tl.int32)

    a, decay = tl.load(numbers) * tl.load(clip), tl.load(numbers + 1)
    rate = lr.to(tl.int64).to(tl.float64, bitcast=True) * tl.load(lr_at)
    rate *= tl.minimum(tl.load(fact) / tl.load(numbers + 12), 1.0)
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
        total = _move(entry, g_at, offset, n, a, decay, shrink, length, mean, least_c, numbers, CORRECTED, DECAYS,
                      DAMPENED, PARAM, GRAD, REAL, BLOCK, True, False, False)  # fmt: skip
    elif DAMPENED:
        total = _move(entry, g_at, offset, CHUNK, a, decay, shrink, length, mean, least_c, numbers, CORRECTED, DECAYS,
                      DAMPENED, PARAM, GRAD, REAL, BLOCK, False, True, True)  # fmt: skip
    elif odd_grad:
        total = _move(entry, g_at, offset, CHUNK, a, decay, shrink, length, mean, least_c, numbers, CORRECTED, DECAYS,
                      DAMPENED, PARAM, GRAD, REAL, BLOCK, False, True, False)  # fmt: skip
    else:
        total = _move(entry, g_at, offset, CHUNK, a, decay, shrink, length, mean, least_c, numbers, CORRECTED, DECAYS,
                      DAMPENED, PARAM, GRAD, REAL, BLOCK, False, True, True)  # fmt: skip
    tl.store(v_sums + chunk, total)
    # Read these again, because registers are scarce until here.
    k = tl.load(owner + chunk).to(tl.int64)
    entry = table + k * 7
    if chunk == tl.load(entry + 6):  # one program per tensor; no other program reads these in this launch
        t = tl.load(facts + k * 3)
        tl.store(v_steps + k, t)
        if COUNTED:
            tl.store(tl.load(entry + 4).to(tl.pointer_type(tl.float32)), t.to(tl.float32))


@triton.jit
def probe(address, ELEMENT: tl.constexpr):
    """Tests whether kernels can be compiled and run here. Triton 3.1 cannot: it does not take types as arguments."""
    tl.store(_place(tl.load(address), 0, ELEMENT, True), 1.0)


INTERPRETED = not isinstance(probe, triton.JITFunction)
"""Whether kernels run in Triton's interpreter on the CPU, which cannot access the memory of a GPU."""
TYPES = {torch.float32: tl.float32, torch.float64: tl.float64, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
