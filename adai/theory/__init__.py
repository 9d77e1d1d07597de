"""The paper's mathematics (Xie et al., arXiv 2006.15815): printed formula, correct statement, exact answer.

::

    dynamics   mass, damping and diffusion from learning rate, momentum and batch size      eqs. 1-10
    saddle     mean squared displacement from a saddle point, as drift and diffusion        Theorems 2.1, 3.1, eq. 12
    escape     mean escape time from a minimum, as prefactor and exponent                   eq. 11, Theorem 3.2
    exact      displacement without approximation: covariance recursions, the motion with inertia
    passage    first-passage times in one dimension without approximation
    parabolas  the landscape on which the assumptions of the escape theory hold exactly
    styblinski the test function of Appendix E under Gaussian samples
    stability  how large the learning rate may be, for each optimizer                       not in the paper
    damping    momentum as a damped spring: which directions ring, which creep              not in the paper
    estimate   escape rates from measured times, with intervals                             eqs. 71, 72
    record     what the record of a result holds
    results    one record for each numbered result, erratum included, and for ours: the table of all of the above
    page       docs/theory.md, made of that table
    fixtures   values by name, to be compared with what the functions give

All functions take numbers or arrays that broadcast against each other, compute in float64, and raise ValueError where a
symbol is out of its bounds (`adai.theory.symbols`). Needs numpy and scipy alone.
"""
