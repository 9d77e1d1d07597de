"""The paper's mathematics (Xie et al., arXiv 2006.15815): printed formulas, correct statements, exact answers.

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
    record     the fields of a result's record
    results    one record for each numbered result, with its erratum, and for our own results
    page       generates docs/theory.md from these records
    fixtures   named values, to be compared with the results of the functions

All functions take numbers or arrays that broadcast against each other, compute in float64, and raise ValueError if a
symbol is out of its bounds (`adai.theory.symbols`). The package needs only numpy and scipy.
"""
