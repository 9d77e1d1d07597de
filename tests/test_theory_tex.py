"""Formulas of the table of results as TeX."""

import re

import pytest

from adai.theory.results import RESULTS
from adai.theory.tex import markdown

FORMULAS = sorted({formula.text for result in RESULTS for _, formula in result.formulas})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # A fraction takes what touches it on the left, and one factor on the right.
        ("|H| η² T/B", r"$`\left\lvert H \right\rvert \, \eta^{2} \, \dfrac{T}{B}`$"),
        ("D/(γM)(1 - e^{-γt})²", r"$`\dfrac{D}{\gamma M} \left( 1 - e^{-\gamma t} \right)^{2}`$"),
        ("2√B/η ΔL", r"$`\dfrac{2 \sqrt{B}}{\eta} \, \Delta L`$"),
        ("4η√B|H_b|/(1-β1)", r"$`\dfrac{4 \eta \sqrt{B} \left\lvert H_{b} \right\rvert}{1 - \beta_1}`$"),
        ("β1²/((1-β1)(1+β1))", r"$`\dfrac{\beta_1^{2}}{\left( 1 - \beta_1 \right) \left( 1 + \beta_1 \right)}`$"),
        ("√(1 + s/H_a)/B", r"$`\dfrac{\sqrt{1 + \frac{s}{H_{a}}}}{B}`$"),
        ("m̂/(√v̂ + ε)", r"$`\dfrac{\hat{m}}{\sqrt{\hat{v}} + \epsilon}`$"),
        ("2/λmax(P^-½ H P^-½)", r"$`\dfrac{2}{\lambda_{\max}\left( P^{-1/2} \, H \, P^{-1/2} \right)}`$"),
        ("|det(H_a⁻¹H_b)|^{1/4}", r"$`\left\lvert \det\left( H_{a}^{-1} H_{b} \right) \right\rvert^{1/4}`$"),
        ("Uᵀ diag(|H_i|) U", r"$`U^{\top} \, \operatorname{diag}\left( \left\lvert H_{i} \right\rvert \right) \, U`$"),
        ("∫₀ᵗφ²,  φ'(0) = 1", r"$`\int_{0}^{t} \varphi^{2} , \quad \varphi' \left( 0 \right) = 1`$"),
        # Words, and the punctuation beside them, are the sentence's.
        ("unbiased: (n-1)/S", r"unbiased: $`\dfrac{n - 1}{S}`$"),
        ("ideal Adam, m_0 = 0, bias correction", r"ideal Adam, $`m_{0} = 0`$, bias correction"),
        ("D⁻¹ in eq. 43;  S_a in eqs. 34, 40-43", r"$`D^{-1}`$ in eq. 43; $`S_{a}`$ in eqs. 34, 40-43"),
        ("heavy ball (torch's momentum): η", r"heavy ball (torch's momentum): $`\eta`$"),
        ("coverage of the printed interval", "coverage of the printed interval"),
    ],
)
def test_a_formula_is_written_as_the_notation_means_it(text, expected):
    assert markdown(text) == expected


@pytest.mark.parametrize("text", FORMULAS)
def test_of_every_formula_nothing_is_left_over(text):
    shown = markdown(text)
    formulas, words = re.findall(r"\$`(.*?)`\$", shown), re.sub(r"\$`.*?`\$", "", shown)
    assert words.isascii()
    assert not re.search(r"[\\^_{}=/]", words)
    for formula in formulas:
        assert formula.isascii()
        assert "|" not in formula  # which would end a cell of a table
        assert formula.count(r"\left") == formula.count(r"\right")
        assert formula.count("{") == formula.count("}")


@pytest.mark.parametrize("text", FORMULAS)
def test_the_site_can_draw_it(text):
    convert = pytest.importorskip("latex2mathml.converter", reason="draws the site's formulas").convert
    for formula in re.findall(r"\$`(.*?)`\$", markdown(text)):
        assert "\\" not in convert(formula)
