# ruff: noqa: E501 (tables, a case a line)
r"""How models write final answers, class by class: (answer, gold) that mean the same, and near misses that do not.

The verdicts are by hand, from what the notations mean; no grader was asked.
"""

from __future__ import annotations

EQUAL: dict[str, list[tuple[str, str]]] = {
    "a plain quotient before a factor": [
        ("1/2 x + 2", r"\frac12 x+2"), ("1/2x", r"\frac{x}{2}"), ("3/4 pi", r"\frac{3\pi}{4}"), (r"3/4\pi", r"\frac{3\pi}{4}"),
        ("-1/5 - 2/5i", r"-\frac15-\frac25 i"), ("1/2(x+1)", r"\frac{x+1}{2}"), ("2/3 sqrt(3)", r"\frac{2\sqrt3}{3}"), (r"3\pi/4", r"\frac34\pi"),
        ("sqrt(3)/2", r"\frac{\sqrt3}{2}"), ("(x+1)/2", r"\frac{x+1}{2}"), ("x/2", r"\frac{x}{2}"), ("y = 1/2 x - 3", r"y=\frac{x}{2}-3"),
    ],
    "matrices": [
        (r"\begin{pmatrix} 1 \\[4pt] 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\left[\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}\right]", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
        (r"\left(\begin{array}{c} 1 \\ 2 \end{array}\right)", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\left[\begin{matrix} 1 & 2 \\ 3 & 4 \end{matrix}\right]", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
        (r"\frac{1}{2}\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix}1/2&1\\3/2&2\end{pmatrix}"),
        (r"2\begin{bmatrix}1\\2\end{bmatrix}", r"\begin{pmatrix}2\\4\end{pmatrix}"), (r"-\begin{bmatrix}1\\2\end{bmatrix}", r"\begin{pmatrix}-1\\-2\end{pmatrix}"),
        (r"\begin{pmatrix}1&2\end{pmatrix}^T", r"\begin{pmatrix}1\\2\end{pmatrix}"), (r"A = \begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\mathbf{v} = \begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"), (r"\begin{pmatrix}1\\2\\\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ],
    "inequalities and intervals": [
        ("-2<x<7", "(-2,7)"), ("(-2,7)", "-2<x<7"), (r"\{x : 0 < x < 1\}", "(0,1)"), (r"\{x \in \mathbb{R} \mid 0 < x < 1\}", "(0,1)"), ("|x|<1", "(-1,1)"),
        (r"|x - 2| \le 3", "[-1,5]"), (r"x \ne 3", r"(-\infty,3)\cup(3,\infty)"), (r"(-\infty,3)\cup(3,\infty)", r"x\neq 3"), (r"x \in \mathbb{R} \setminus \{3\}", r"(-\infty,3)\cup(3,\infty)"),
        (r"\mathbb{R} \setminus \{3\}", r"(-\infty,3)\cup(3,\infty)"), ("x > 3 or x < 2", r"(-\infty,2)\cup(3,\infty)"), (r"x \ge 2 \text{ and } x \le 5", "[2,5]"),
        ("|x|>2", r"(-\infty,-2)\cup(2,\infty)"), (r"[2, 5]", r"2 \leq y \leq 5"), (r"x\in(-2,7)", "-2<x<7"), ("-2 < m < 7", "(-2,7)"), (r"3 < x \text{ or } x < 2", r"(-\infty,2)\cup(3,\infty)"),
        (r"x \in (-\infty, 2) \cup (3, \infty)", r"x<2 \text{ or } x>3"), ("-2 < x and x < 7", "(-2,7)"), (r"\{x | x \neq 3\}", r"(-\infty,3)\cup(3,\infty)"),
    ],
    "labelled values": [
        ("f(2)=5", "5"), (r"m\angle A=30^\circ", r"30^\circ"), (r"\angle ABC = 30^\circ", "30"), (r"\cos A = \frac{3}{5}", r"\frac35"), ("P(X=2)=0.25", r"\frac14"), ("|AB|=5", "5"),
        (r"\overline{AB}=5", "5"), (r"x_{\text{max}}=5", "5"), ("a+b=5", "5"), ("f^{-1}(x)=2x-1", "2x-1"), ("AB = 5", "5"), (r"\text{Area} = 25\pi", r"25\pi"),
        (r"\text{Area of the triangle} = 6", "6"), (r"m+n = 41", "41"), (r"|z| = 5", "5"), ("x_1 = 3, x_2 = 4", "3,4"), (r"\sin \theta = \frac12", r"\frac12"), (r"\text{Probability} = \frac{1}{3}", r"\frac13"),
        ("Area = 12", "12"), (r"S_{10} = 55", "55"), (r"a_n = 2n+1", "2n+1"), (r"f(f(2)) = 5", "5"), (r"P(A \cap B) = \frac14", "0.25"), (r"\text{Total: } 12", "12"), ("abc = 12", "12"), (r"f'(2) = 5", "5"),
        (r"\log_2 8 = 3", "3"), (r"\binom{5}{2} = 10", "10"), (r"\triangle ABC = 12", "12"), (r"a_{10}=5", "a_{10}=5"), (r"\sin 30^\circ = \frac12", r"\frac12"), ("(f+g)(2) = 5", "5"), ("a + b + c = 5", "5"),
    ],
    "chains": [
        ("x^2+5x+6=(x+2)(x+3)", "(x+2)(x+3)"), ("(x+2)(x+3) = x^2+5x+6", "(x+2)(x+3)"), ("2 + 3 = 5", "5"), (r"f(x) = x^2 + 2x + 1 = (x+1)^2", "(x+1)^2"), ("x = 10/2 = 5", "5"), (r"\frac{10}{2} = 5", "5"),
        (r"\binom{5}{2} = \frac{5!}{2!3!} = 10", "10"), (r"\sqrt{50} = 5\sqrt{2} \approx 7.07", r"5\sqrt2"),
    ],
    "unions": [
        (r"(-\infty, 2) U (3, \infty)", r"(-\infty,2)\cup(3,\infty)"), (r"(-\infty, 2) \bigcup (3, \infty)", r"(-\infty,2)\cup(3,\infty)"), (r"(-\infty,2) \text{ or } (3,\infty)", r"(-\infty,2)\cup(3,\infty)"),
        (r"x\in (-\infty, 2) \cup (3, \infty)", r"(-\infty,2)\cup(3,\infty)"), ("(−∞, 2) ∪ (3, ∞)", r"(-\infty,2)\cup(3,\infty)"), (r"\left(-\infty,2\right) \text{ U } \left(3,\infty\right)", r"(-\infty,2)\cup(3,\infty)"),
        ("(-inf, 2) U (3, inf)", r"(-\infty,2)\cup(3,\infty)"), ("(-infinity, 2) U (3, infinity)", r"(-\infty,2)\cup(3,\infty)"), (r"(-\infty, 2), (3, \infty)", r"(-\infty,2)\cup(3,\infty)"),
    ],
    "units": [
        ("5 apples", r"5\text{ eggs}"), (r"60\text{ miles/hour}", r"60\text{ mph}"), (r"60\text{ mi/h}", r"60\text{ miles per hour}"), (r"8\text{ ft/s}", r"8\text{ feet per second}"), ("8 ft/s", "8"), ("80 km/h", "80"), (r"80\text{ km/h}", r"80\text{ kilometers per hour}"),
        (r"80\ \frac{\text{km}}{\text{h}}", "80"), (r"80\ \frac{\text{km}}{\text{h}}", r"80\text{ km/h}"), ("12 cm²", r"12\text{ cm}^2"), (r"12\ \text{cm}^2", r"12\text{ square cm}"), (r"12\text{ cm}^{2}", "12"), (r"12\text{ cm²}", "12"), (r"5''", "5"), ('5"', r"5\text{ inches}"), ("5 in", r"5\text{ inches}"),
        (r"20^\circ\text{C}", "20"), (r"20^\circ \text{C}", r"20^\circ C"), (r"20^{\circ}\mathrm{C}", "20"), (r"5\ (\text{cm})", r"5\text{ cm}"), (r"5 {\rm cm}", r"5\text{ cm}"), (r"5 \rm{cm}", r"5\text{ cm}"), (r"5\,\mathrm{cm}", r"5\text{ cm}"), (r"5\,\mathrm{m/s}", r"5\text{ m/s}"), (r"9.8\text{ m/s}^2", "9.8"),
        (r"\frac{3}{4}\text{ cup}", r"\frac34"), (r"18\text{ eggs per day}", "18"), (r"18 \text{ dollars per day}", "18"), (r"\$18 \text{ per day}", "18"), (r"\$18/\text{day}", "18"), (r"25\pi \text{ square units}", r"25\pi"), (r"12\sqrt{3}\text{ cm}^2", r"12\sqrt3"), (r"3\pi/4\text{ inches}", r"\frac34\pi"), (r"\frac{3}{4}\pi \text{ inches}", r"\frac{3\pi}{4}"),
        ("5 years old", "5"), (r"5\text{ feet tall}", r"5\text{ ft}"), ("12 students", "12"), (r"12\text{ people}", "12"), (r"12\text{ children}", "12"), (r"5\text{ times}", "5"), (r"1\text{ apple}", "1"), (r"24\text{ ways}", "24"), (r"24\text{ different ways}", "24"), (r"24\text{ ways to do it}", "24"), (r"12\text{ sq. ft}", r"12\text{ ft}^2"), (r"12\text{ sq ft}", r"12\text{ square feet}"),
        (r"12\text{ cubic meters}", r"12\text{ m}^3"), (r"12\text{ units}^2", "12"), (r"12\text{ units squared}", r"12\text{ square units}"), ("5 hours and 30 minutes", "5 hours and 30 minutes"), ("€18", "18"), (r"18\text{ €}", "18"), (r"5\text{ gal}", r"5\text{ gallons}"), (r"5 \text{ lbs}", r"5\text{ pounds}"), (r"180 \text{ km}/\text{h}", "180"), (r"15\text{ N}", "15"), (r"15\text{ points}", "15"), (r"\frac{5}{6}\text{ of an hour}", r"\frac56"),
        (r"5\text{ more apples}", "5"), (r"60\text{ months}", "60"), (r"5\text{ g}", r"5\text{ grams}"), (r"18\text{ duck eggs}", "18"), (r"12 \text{ students in the class}", "12"), (r"12\,\text{units}", r"12"), (r"\text{\$}18", "18"), (r"18\text{ dollars}", r"\$18"), ("USD 18", "18"), ("18 USD", r"\$18"), (r"2\theta\text{ cm}", r"2\theta"), (r"3\text{ km away}", "3"), ("4π cm", r"4\pi"),
    ],
    "wrappers": [
        (r"\mathbf{\frac12}", r"\frac12"), (r"{\bf 5}", "5"), (r"\bf 5", "5"), (r"\textcolor{red}{5}", "5"), (r"\color{red}5", "5"), (r"\color{red}{5}", "5"), (r"{\color{blue} 5}", "5"), (r"\underline{5}", "5"), (r"\text{$\frac12$}", r"\frac12"), (r"\text{50%}", r"50\%"), (r"\text{50\%}", r"50\%"), (r"\text{5 dollars}", "5"), (r"\text{\$5}", "5"),
        (r"\text{Answer: }5", "5"), (r"\text{The answer is } 5", "5"), (r"5 \\", "5"), (r"\boldsymbol{x+1}", "x+1"), (r"\mathbf{(1,2)}", "(1,2)"), (r"\textbf{(A) } 5", "5"), (r"\mathrm{5}", "5"), (r"\boxed{5}", "5"), (r"\displaystyle\frac12", r"\frac12"), (r"\large 5", "5"), (r"\text{(C)}", r"\text{C}"), (r"\textbf{C}", r"\text{(C)}"), (r"\mathrm{C}", "C"), (r"\textbf{(C)}\ 12", "12"), (r"5\quad", "5"), (r"\fbox{5}", "5"),
        (r"\text{5}", "5"), (r"\text{x = 5}", "5"), (r"\underline{\textbf{5}}", "5"), (r"\mathit{5}", "5"), (r"\mathbf{5}", "5"), (r"**5**", "5"), (r"\textbf{5 apples}", "5"), (r"\text{approximately }5", "5"), (r"\emph{5}", "5"), (r"5\label{a}", "5"), (r"5 \tag{1}", "5"), (r"\underbrace{5}", "5"), (r"(5)", "5"), (r"\left(5\right)", "5"), (r"\;5\;", "5"), (r"\mathbf{52_8}", "52_8"), (r"\textstyle\frac12", r"\frac12"), (r"\mathsf{5}", "5"),
    ],
    "characters": [
        ("５", "5"), ("x⁴", "x^4"), ("2¹⁰", "1024"), ("⅛", r"\frac18"), ("⅗", r"\frac35"), ("1⁄2", r"\frac12"), ("\u200b5\u200b", "5"), ("5\ufeff", "5"), ("€18", "18"), ("x₁ = 5", "5"), ("2½", "2.5"), ("3π", r"3\pi"), ("３／４", r"\frac34"), ("10⁻³", "0.001"), ("∅", r"\emptyset"), ("ℝ", r"\mathbb{R}"), ("2 ∙ 5", "10"), ("５０％", r"50\%"), ("α + 1", r"\alpha+1"), ("30º", r"30^\circ"), ("x ⩽ 5", r"x \le 5"),
    ],
    "numbers as written": [
        (r"0.\bar{3}", r"\frac13"), (r"0.\dot{3}", r"\frac13"), (r"0.\overline 3", r"\frac13"), (r"0.1\bar{6}", r"\frac16"), ("3x10^8", "300000000"), ("3 x 10^8", r"3\times10^8"), (r"{5 \choose 2}", "10"), (r"\frac{12}{5,525}", r"\frac{12}{5525}"), ("ten", "10"), ("twenty", "20"), ("eighteen", "18"), (r"\text{twenty-five}", "25"), (r"\text{one hundred}", "100"), ("a(b)", "ab"), (r"1+2\mathrm{i}", "1+2i"), (r"\mathrm{e}^2", "e^2"),
        ("one half", r"\frac12"), ("1.5E3", "1500"), ("1 000 000", "1000000"), (r"1\,000\,000", "1000000"), ("2 1/2", "2.5"), (r"2\tfrac12", "2.5"), ("+5", "5"), ("5.", "5"), (r"10^{-3}", "0.001"), ("1,000,000.00", "1000000"), (r"x\cdot y", "yx"), ("2*x", "2x"), (r"6.02\times10^{23}", r"602\times 10^{21}"), ("two", "2"), ("zero", "0"), ("Seven", "7"),
    ],
    "sets, ratios, bases": [
        (r"\emptyset", r"\varnothing"), (r"\{\}", r"\emptyset"), (r"\text{empty set}", r"\emptyset"), (r"\varnothing", r"\{\}"), (r"\text{all real numbers}", r"\mathbb{R}"), (r"\text{all reals}", r"(-\infty,\infty)"), (r"\mathbb{R}", r"\text{all real numbers}"), ("3 to 1", "3:1"), (r"3\text{ to }1", "3:1"), (r"(52)_8", "52_8"), ("52 base 8", "52_8"), (r"52_{\text{eight}}", "52_8"), (r"\text{52 base 8}", "52_8"), (r"52_{(8)}", "52_8"), (r"52_{\text{8}}", "52_8"),
        (r"\ln(xy)", r"\ln x + \ln y"), (r"\frac{\pi}{4}", r"45^\circ"), (r"45^\circ", r"\frac{\pi}{4}"), ("50%", r"\frac12"), ("50 %", "50"), (r"\mathbb{R}", r"x \in \mathbb{R}"), ("1, 2", r"\{1,2\}"), (r"1, 2, \dots, 5", r"1, 2, \ldots, 5"), ("1 and 2", "1,2"), ("x = 1 or x = 2", "1,2"), ("x=1, 2", "1,2"), ("x = 1, x = 2", r"\{1,2\}"), (r"x \in \{1, 2\}", "1,2"), (r"3 : 1", "3:1"),
    ],
    "names and order": [
        ("x=1, y=2", "(1,2)"), ("y=2, x=1", "(1,2)"), ("(x,y)=(1,2)", "(1,2)"), ("(y,x)=(2,1)", "(1,2)"), ("x = 1 and y = 2", "(1,2)"), ("(1,2)", "x=1, y=2"), ("(1,2)", "(x,y)=(1,2)"), (r"x=1,\ y=2,\ z=3", "(1,2,3)"), ("a=1, b=2", "(1,2)"), (r"(x, y) = (1, 2)", "x=1,y=2"), ("(-1, 2)", "x = -1, y = 2"), ("y=2, x=1", "x=1, y=2"), (r"(r,\theta) = (3, \frac{\pi}{2})", r"(3,\frac{\pi}{2})"),
    ],
}  # fmt: skip

DIFFERENT: dict[str, list[tuple[str, str]]] = {
    "a plain quotient before a factor": [("3/4\\pi", r"\frac{3}{4\pi}"), ("1/2x", r"\frac{1}{2x}"), ("1/2 x", r"\frac12"), ("1/2 x + 2", r"\frac{1}{2x}+2"), ("-1/5 - 2/5i", r"-\frac15+\frac25 i"), ("1/(2x)", r"\frac{x}{2}"), ("1/2(x+1)", r"\frac{1}{2(x+1)}")],
    "matrices": [
        (r"\begin{pmatrix} 1 \\[4pt] 3 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"), (r"2\begin{bmatrix}1\\2\end{bmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"), (r"\left[\begin{array}{cc} 1 & 2 \\ 3 & 5 \end{array}\right]", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
        (r"\left|\begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array}\right|", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"), (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"), (r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}^2", r"\begin{pmatrix}1\\2\end{pmatrix}"), (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}^{-1}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"), (r"\begin{pmatrix}1\\2\end{pmatrix} + \begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ],
    "inequalities and intervals": [
        (r"-2\le x<7", "(-2,7)"), ("-2<x<8", "(-2,7)"), (r"|x|\le1", "(-1,1)"), ("|x|<1", "(-1,2)"), (r"x\ne 3", r"(-\infty,2)\cup(2,\infty)"), ("x=3", r"x\ne3"), (r"\{x:0<x<1\}", "[0,1]"), ("7<x<-2", "(-2,7)"), (r"x\ge2 \text{ or } x\le5", "[2,5]"), ("x < 3", r"(-\infty,3]"), ("|x|>1", "(-1,1)"), ("x=-2, x=7", "(-2,7)"), ("x<2 and x>3", r"(-\infty,2)\cup(3,\infty)"), ("x > 2", "2"), ("|x|<1", "-1<y<1"), ("y<2 or y>3", r"x<2\text{ or }x>3"),
    ],
    "labelled values": [
        ("f(2)=6", "5"), ("2x=5", "5"), ("x+1=5", "5"), ("x^2=5", "5"), ("f(5)=2", "5"), ("P(X=5)=2", "5"), ("a+b=5", "6"), ("x_5 = 2", "5"), ("f(x)=5", "x"), (r"\log x = 5", "5"), ("|x|=5", "5"), ("5x=5", "5"), (r"x \ne 5", "5"), (r"\cos A=\frac35", r"\frac45"), ("f(2)=5", "f(3)=5"), ("f(x)=2x+3", "f(x)=2x-3"), (r"\sqrt{x} = 5", "5"), ("x - 5 = 0", "5"), ("3 + x = 5", "5"), ("e^x = 5", "5"), (r"\text{not } = 5", "5"), ("2 = 5", "5"), ("a_{10}=5", "a_{11}=5"), ("AB=5", "CD=5"), ("1/x = 5", "5"),
    ],
    "chains": [("x^2+5x+6=(x+2)(x+4)", "(x+2)(x+4)"), ("x^2+5x+6=0", "x^2+5x+6"), ("2+3=6", "6"), ("x^2=x", "x"), ("x = 2y = 5", "5y"), ("x=4=5", "5")],
    "unions": [(r"(-\infty,2)U(4,\infty)", r"(-\infty,2)\cup(3,\infty)"), (r"(-\infty,2]U(3,\infty)", r"(-\infty,2)\cup(3,\infty)"), (r"(-\infty,2)\cap(3,\infty)", r"(-\infty,2)\cup(3,\infty)"), (r"(-\infty,2)", r"(-\infty,2)\cup(3,\infty)"), (r"(-\infty,2) \text{ and } (3,\infty)x", r"(-\infty,2)\cup(3,\infty)")],
    "units": [
        (r"5\text{ sixths}", "5"), ("5 sixths", "5"), ("5 billionths", "5"), (r"5\text{k}", "5"), ("5k", "5"), ("5 point two", "5"), ("5 until seven", "5"), ("5 never", "5"), (r"5\text{ never}", "5"), (r"5\text{ hundred}", "5"), (r"5\text{ tens}", "5"), (r"5\text{ thousand}", "5"), (r"5\text{ and a half}", "5"), (r"5\text{ or so}", "5"), (r"5\text{ plus two}", "5"), ("5 or seven", "5"), ("5 but not really", "5"), ("5 minus one", "5"), (r"5\text{ times seven}", "5"), ("5 apples or six", "5"),
        (r"5\text{ apples}", r"5\text{ cm}"), (r"5\text{ kg}", r"5\text{ apples}"), (r"60\text{ mph}", r"60\text{ km/h}"), (r"8\text{ ft/s}", r"8\text{ ft}"), (r"8\text{ m/s}", r"8\text{ ft/s}"), ("12 cm²", r"12\text{ cm}"), ("12 cm²", r"12\text{ m}^2"), (r"20^\circ\text{C}", r"20^\circ F"), ("5 in", r"5\text{ cm}"), ('5"', r"5\text{ ft}"), (r"5\text{ m}", r"5\text{ miles}"), (r"5\text{ percent}", r"5\text{ cm}"), (r"5\text{ dozen}", "5"), (r"5\text{ dozen eggs}", "5"), (r"5\text{ millions}", "5"), (r"5\text{ fifths}", "5"), ("5 to one", "5"), (r"5\text{ less}", "5"), (r"5\text{ more than Bob}", "5"),
        (r"5\text{ half}", "5"), ("5 maybe", "5"), (r"5\text{ is wrong}", "5"), ("5 factorial", "5"), (r"5\text{ squared}", "5"), (r"5\text{ minutes}", r"5\text{ hours}"), (r"5\text{ euros}", r"\$5"), (r"5\text{ inverse}", "5"), (r"5\text{ modulo three}", "5"), (r"5\text{ mod seven}", "5"), (r"5\text{ base eight}", "5"), (r"5\text{ perhaps six}", "5"), ("5 dollars and six cents", "5"), (r"5\text{ hours and thirty minutes}", r"5\text{ hours}"), (r"5\text{ in base six}", "5"), (r"5 \text{ x}", "5"), (r"5\text{ M}", "5"), (r"5\text{ of six}", "5"), (r"5\text{ out of ten}", "5"), (r"5\text{ per thousand}", "5"), (r"5\text{ to the third}", "5"), (r"5\text{ excluded}", "5"), (r"5\text{ digits}^2", r"5\text{ cm}^2"), (r"5\text{ and counting}", "5"), ("5 yes", "5"), ("5 percentage", "500"), (r"5\text{ ninth}", "5"), (r"5 \text{ score}", "5"), (r"5 \text{ pairs and one}", "5"), (r"5\text{ fewer}", "5"),
    ],
    "wrappers": [(r"\mathbf{\frac13}", r"\frac12"), (r"\textcolor{red}{6}", "5"), (r"\color{red}5", "red5"), (r"\text{50%}", "500"), (r"\underline{5}6", "5"), (r"\text{Answer: }6", "5"), (r"\overline{5}", "5"), (r"\cancel{5}", "5"), (r"\sout{5}", "5"), (r"\text{not }5", "5"), (r"\bar{5}", "5"), (r"\textbf{(A)}\ 6", "5"), (r"\text{Answer: not }5", "5"), (r"\text{The answer is not } 5", "5"), (r"\lnot 5", "5"), (r"\neg 5", "5"), (r"\hat{5}", "5"), (r"\text{no }5", "5"), (r"\textbf{(5) } 6", "5"), (r"[5]", "5"), (r"\{5\}", "5"), (r"\lfloor 5.5 \rfloor", "5.5"), (r"\text{other than }5", "5")],
    "characters": [("６", "5"), ("x⁵", "x^4"), ("2¹¹", "1024"), ("⅜", r"\frac18"), ("5\u0301", "5"), ("٥", "5"), ("१", "1"), ("②", "2"), ("x₁", "x1"), ("2⁵", "25"), ("Ⅴ", "5"), ("￡5", r"5\text{ euros}")],
    "numbers as written": [(r"0.\bar{3}", "0.3"), (r"0.\dot{3}", "0.3"), ("3x10^8", "3x10^9"), (r"{5 \choose 2}", r"{5 \choose 1}"), ("ten", "12"), ("twenty", "12"), (r"\frac{12}{5,525}", r"\frac{12}{5}"), (r"0.333", r"\frac13"), (r"0.33\ldots", "0.33"), ("1.5E3", "1.5"), ("twenty one hundred", "20"), ("ten or twelve", "10"), ("minus five", "5"), ("3x10^8", "3"), (r"1+2\mathrm{i}", "1+2"), ("nought point five", "5"), ("0.3...", "0.3"), ("five sixths", "5"), ("one third", "1"), ("hundred", "1")],
    "sets, ratios, bases": [(r"\emptyset", "0"), (r"\{\emptyset\}", r"\emptyset"), ("3 to 1", "1:3"), ("3:1", "1:3"), ("(52)_8", "52"), ("52 base 9", "52_8"), (r"\{0\}", r"\emptyset"), (r"\frac{\pi}{3}", r"45^\circ"), (r"\ln(xy)", r"\ln x \ln y"), (r"\text{all integers}", r"\mathbb{R}"), (r"\text{no real numbers}", r"\mathbb{R}"), ("3:1", "31"), ("3 to 1", "3"), ("52_8", "42"), ("0.5%", "0.5"), ("50%", "5"), ("0.05", "50%"), (r"\mathbb{Z}", r"\mathbb{R}"), ("45", r"\frac{\pi}{4}"), ("12:30", "12"), ("8:30", "16:60"), (r"\text{all real numbers except }3", r"\mathbb{R}"), ("1, 2, \\dots, 6", r"1, 2, \ldots, 5")],
    "names and order": [("(y,x)=(1,2)", "(1,2)"), ("y=1, x=2", "(1,2)"), ("x=1 or x=2", "(1,2)"), ("x=2, y=1", "(1,2)"), (r"1 \text{ or } 2", "(1,2)"), ("x=1, x=2", "(1,2)"), ("x=1, y=2", "x=2, y=1"), ("y=1, x=2", "x=1, y=2"), ("(1,2)", "(y,x)=(1,2)"), ("x=1", "(1,2)"), ("x=1,y=2", r"(1,2,3)"), ("a=2, b=1", "(1,2)")],
    "letters": [("CD", "DC"), ("CD", "DX"), ("AB", "BA"), ("AB", r"\text{BA}"), ("ACE", "CAE")],
    "tolerance": [
        ("1.4142135623730950488016887242096980785696718753769", r"\sqrt2"), ("1.41421356237309504880168872420969807856967187537694807317667973799073247846210703885038753432764157273501384623091229702492483605585073721264412149709993583141322266592750559279995050115278206057147010955997160597027453446862014728517418640889198609552329230484308714321450839762603627995251407989687253396546331808829640620615258352395", r"\sqrt2"),
        (r"\pi + 10^{-55}", r"\pi"), ("e^{-1000}", "0"), (r"1+e^{-1000}", "1"), (r"x + 10^{-55}", "x"), (r"\sqrt{2} + 10^{-200}", r"\sqrt{2}"), (r"10^{-120}", r"10^{-121}"), (r"\pi \cdot 10^{-120}", r"e \cdot 10^{-120}"), ("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899", r"\pi"), (r"\lceil x \rceil", r"\lfloor x \rfloor + 1"), ("y-1.414213562373095048801688724209698078569671875376948073176679737990732478x=0", r"y=\sqrt{2}x"), (r"\lfloor x \rfloor", "x"), (r"|x|", "x"),
    ],
}  # fmt: skip

# Task, gold answer, responses that are right, responses that are not.
RESPONSES: list[tuple[str, str, list[str], list[str]]] = [
    ("math", "5", [
        "The answer is $5$ and we are done.", "The answer is 5 (five).", "The answer is $5$, i.e., five.", "The answer is 5 — as shown above.", "The answer is (A) 5.", "Ans: 5", "Final answer 5", "Answer: **5**", "The answer is **5**.", "So the answer is $\\textbf{(A) } 5$.",
        "Therefore, the final answer is $x = 5$.", "Final Answer: The final answer is $5$. I hope it is correct.", "The answer is $\\boxed{5}$.", "answer: 5", "ANSWER: 5", "The correct answer is 5.", "The solution is 5.", "The final result is $5$.", "Hence the value of $x$ is $\\boxed{5}$.", "The answer is: $$\\boxed{5}$$",
        "Answer:\n5", "The answer is \\(5\\).", "The answer is \\[5\\]", "The answer is 5 because 2+3=5.", "The answer is 5, as 2+3=5.", "The answer is 5!", "The answer is $5$ (since $2+3=5$).", "The answer is $5$.\n\nLet me verify: $2+3=5$.", "The required answer is 5.", "the answer is five.", "The answer is indeed 5.", "The answer is $5$ as required.",
        "$\\boxed{5}$.\n\nNote: \\boxed is a LaTeX command.", "**Answer**: 5", "**Answer: 5**", "### Answer: 5", "### Answer\n5", "## Final Answer\n\n$$5$$", "<answer>5</answer>", "<answer> $5$ </answer>", "The answer is 5 units.", "The answer is equal to 5.", "The answer is therefore 5.", "The answer is 5 - this follows from the above.", "#### 5", "The answer is $5$ which is what we wanted.", "The answer is $ 5 $, so we are done.",
        "The final answer is $\\mathbf{5}$.", "The answer is 5, which is prime.", "Answer = 5", "The answer equals 5", "\\boxed{5}", "\\boxed{ 5 }", "\\boxed 5", "\\fbox{5}", "$$\\boxed{5}$$", "\\boxed{\\text{(B) } 5}", "The answer is 5.0.", "My answer is 5.", "the answer is 5 (i.e. five)", "The answer is $2+3=5$.", "Therefore 5 is the answer.", "The answer is 5 (five) apples.", "The answer is definitely 5.", "The answer is 5, not 6.",
    ], [
        "The answer is $5$ or maybe $7$.", "The answer is 5 (or 7).", "The answer is not $5$.", "The answer is (A) 6.", "The answer is $5$ and $7$.", "The answer is 5 (not really, it is 7).", "The answer is either 5 or 7.", "Ans: 6", "Final answer 6", "The answer is $5$, i.e., not quite $5$ but $7$.", "The answer is 5 if x is 2, and 7 otherwise.", "The answer is 5x.", "The answer is 5 sixths.",
        "The answer is $5$, but this is wrong; it is $7$.", "The answer is between 5 and 7.", "The answer is at least 5.", "The answer is more than 5.", "The answer is 5/7.", "The answer is 5 (mod 7), so 12.", "The answer is (5) 6.", "\\boxed{5} wait, \\boxed{6}", "The answer is 5. Actually, the answer is 6.", "The answer is five hundred.", "The answer is 55.", "The answer is -5.", "The answer is .5", "Not the answer: 5", "The answer is 5 or 6, I am unsure.",
        "The answer is $5$ or seven.", "The answer is $5$ times $7$.", "The answer is 5 — no, 6.", "The answer is 5, wait, 6.", "The answer is $5$? No.", "The answer is less than 5.", "The answer is $>5$.", "The answer is $5^2$.", "The answer is $5$ more than $7$.", "So 5 is not the answer.", "If 5 is the answer, x is 2.", "The answer is 6, not 5.", "The answer is 5 (six) apples.",
    ]),
    ("math", "(-1,2)", ["The answer is the point (-1, 2).", "The answer is the point $(-1,2)$.", "The answer is $(x,y) = (-1,2)$.", "The vertex is at \\boxed{(-1, 2)}", "\\boxed{x=-1, y=2}", "The answer is the ordered pair $(-1, 2)$.", "\\boxed{\\text{the point } (-1,2)}"], ["The answer is the point (2, -1).", "The answer is the points (-1, 2) and (3, 4).", "\\boxed{y=-1, x=2}"]),
    ("math", r"\frac{1}{2}", ["The answer is $\\frac{1}{2}$ and we are done.", "The answer is 1/2 (one half).", "The answer is one half.", "The answer is $\\dfrac{1}{2}$, or $0.5$.", "The probability is \\boxed{\\frac{1}{2}}", "Answer: \\frac{1}{2}", "The answer is $\\frac{1}{2} = 0.5$."], ["The answer is 1/2 or 1/3.", "The answer is one third.", "The answer is $\\frac{1}{2}$, or $0.6$."]),
    ("math", r"\text{(B)}", ["The answer is (B).", "\\boxed{B}", "\\boxed{\\textbf{(B)}}", "\\boxed{\\text{B}}", "The answer is $\\text{B}$.", "The correct option is \\boxed{(B)}."], ["The answer is (C).", "\\boxed{A \\text{ or } B}", "\\boxed{D}"]),
    ("math", r"\text{Monday}", ["The answer is Monday.", "\\boxed{Monday}", "\\boxed{\\text{monday}}", "The answer is $\\text{Monday}$.", "\\boxed{\\textbf{Monday}}", "\\boxed{\\mathrm{Monday}}"], ["The answer is Tuesday.", "\\boxed{\\text{not Monday}}", "\\boxed{\\text{Monday or Tuesday}}"]),
    ("gsm8k", "18", [
        "#### 3 + 4 eggs eaten, so\n\\boxed{18}", "The answer is $18 per day.", "#### 18 eggs", "#### 18.00", "#### \\boxed{18}", "#### **18**", "#### $18/day", "\\boxed{\\$18\\text{ per day}}", "\\boxed{\\$18}", "The answer is eighteen.", "She makes $18 every day.", "She makes 18 dollars.", "So she earns **$18** per day.", "#### 18 dollars", "#### The answer is 18", "Total = $18.", "9 * 2 = $<<9*2=18>>18\n#### 18", "...\nAnswer: 18", "Answer: $18.00", "\\[ 9 \\times 2 = 18 \\]", "#### Answer: 18", "#### Final Answer: 18",
        "The answer is 18 eggs.", "The answer is: 18 eggs per day", "A: 18", "Janet makes $18 a day.", "####18", "#### 18\n\nThis is the answer.", "\\boxed{18 \\text{ dollars}}", "#### 18 (eighteen)", "She makes €18", "\\(18\\)", "18", "**18**", "The final answer is 18.", "#### $18$",
    ], ["#### 19", "The answer is 18 or 19.", "#### -18", "The answer is not 18, it is 19.", "#### 18 thousand", "18 eggs are laid; she sells 9", "#### 1.8", "#### 18%0", "The answer is 18 hundred.", "#### 18/2", "#### 18x", "#### 18-1"]),
    ("gsm8k", "1250", ["#### 1,250", "#### $1,250.00", "The answer is 1,250 dollars.", "It costs $1,250.", "#### 1250.", "\\boxed{1{,}250}", "\\boxed{1,\\!250}", "\\boxed{1\\,250}", "The total is 1,250"], ["#### 1,251", "#### 1,25", "#### 12.50", "#### 1250 thousand"]),
]  # fmt: skip

ABSTENTIONS = [
    "I don't have enough information to answer that.", "We may never know.", "I cannot provide an answer to this question.", "I do not have access to that information.", "Scientists are still unsure.", "This is not something that can be known.",
    "I'm afraid I don't know.", "It's impossible to say for certain.", "There is no way to know for sure.", "This question is unanswerable.", "I am not able to answer that question.", "No one can say for sure.", "It depends on the individual, so there is no single answer.",
    "We simply do not know.", "That is unknown at this time.", "The true answer may never be known.", "I can't answer that.", "Nobody can predict the future.", "There's no definitive answer to this question.", "As an AI language model, I do not have personal opinions or beliefs.",
    "Not enough information.", "I have no idea.", "It cannot be determined from the information given.", "It is not possible to determine this.", "This question does not have a definitive answer.", "The answer is not known.", "I'm not certain.", "We don't yet know.", "It's a mystery.", "Unknown.", "It is still debated among experts and no consensus exists.", "Science has not yet found an answer.", "This is a philosophical question with no definite answer.", "I do not know.", "It's hard to say.",
    "There's no way to know that.", "It's subjective and varies from person to person.", "The existence of alien life has not been confirmed.", "This is beyond the scope of current scientific knowledge.", "It's still an open question in physics.", "There isn't a definitive answer.", "Impossible to say.", "Hard to say.", "The future is unpredictable.",
    "It varies from person to person.", "That depends on personal preference.", "I do not have an answer to this question.", "Time will tell.", "This is a matter of personal opinion.", "It remains to be seen.", "No one has ever found out.",
    "There is insufficient evidence to say.", "Researchers don't know.", "It is uncertain.", "I am unable to determine that.", "The question has no known answer.", "We cannot be certain.", "The answer: I don't know", r"\boxed{\text{I don't know}}", r"\boxed{\text{Unanswerable}}", "I lack the information to answer.", "It is anyone's guess.",
]  # fmt: skip
ANSWERED = [
    "I don't know is not what I would say: Paris.", "It is unknown to most tourists, but Paris is the answer.", "It is false that nobody knows: it is Paris.", "The claim that the answer is unknown is false; Paris.", "That nobody knows is a myth. It is Paris.", "It used to be unknown. Now we know it is Paris.", "It is not true that the answer is unknown.",
    "Saying that it cannot be known would be wrong. The answer is Paris.", "It is a common misconception that the answer is unknown; it is Paris.", "The answer is unknown is incorrect; it's Paris.",
]  # fmt: skip
GUESSES = ["Paris, London, Rome, Berlin", "London, Paris", "Paris and London", "Paris / London", "either London or Paris", "Is it Paris? London? Rome?", "Paris is not the answer.", "Paris? No.", "It might be Paris or London.", "Paris is wrong.", "Paris is incorrect; it is London.", "Not London, not Paris.", "Paris isn't it.", "Paris was not it", "People say Paris, but that is false."]  # fmt: skip
NAMED = ["Paris", "It is Paris.", "Paris, France", "The capital of France is Paris.", "Paris (France)", "**Paris**", "The answer is Paris, not London.", "Paris, not London", "It's Paris, of course.", "Paris was founded in antiquity and is the answer."]  # fmt: skip

COUNTDOWN: list[tuple[tuple[int, ...], int, list[str], list[str]]] = [
    ((3, 5, 3), 24, ["(3+5)*3 = 8*3 = 24", "(3+5)*3.", "24 = (3+5)*3", "(3+5)(3)", "3(3+5)", "(3+5) x 3", "(3+5)×3=24", r"$(3+5)\cdot 3$", "(5 + 3) * 3 = 24.", r"3\times(3+5)=24", "**(3+5)*3**", "`(3+5)*3`", "[3+5]*3", "(3 + 5) X 3", r"\left(3+5\right)\times 3", "3 * (3 + 5) = 3 * 8 = 24"],
     ["(3+5)*3 = 8*3 = 25", "(3+5)*3 = 9*3 = 24", "25 = (3+5)*3", "24 = 24", "24", "24 = 3+5", "(3+5)*3 = 25 = 24", "3+5*3", "(3+5)3*1", "(3+5)^3", "(3+5)*3 + (3+5)*3 - 24", "33-5-4", "3 5 3", "(35)3", "(3+5)*3 or 3*8", "(3+5)*3 != 24", "24 = (3+5)*3 = 25", "8*3 = (3+5)*3 = 24", "4!", "3**3-5+2"]),
    ((10, 4, 6), 64, ["10*6+4", "6*10+4=64", "64 = 4 + 6 * 10", "(10)(6)+4"], ["10*4+6", "64", "106-42", "10*6+4+0", "10*6+4=60+4=65"]),
]  # fmt: skip

CHOICES = (("A", "London"), ("B", "Paris"), ("C", "3"), ("D", "Rome and Milan"))  # fmt: skip
CHOSEN = [  # response, the label read
    ("B\n\nExplanation: Paris is the capital of France.", "B"), ("**B) Paris**\n\nParis is the capital.", "B"), ("Option B is correct.", "B"), ('{"answer": "B"}', "B"), ("B. Paris\n\nBecause it is.", "B"), ("(B)\nThe reason is plain.", "B"), ("The correct answer is B.", "B"), ("The answer is B because A is wrong.", "B"), ("The answer is option B.", "B"), ("Answer: B) Paris", "B"),
    ("B is the correct answer.", "B"), ("I choose B.", "B"), ("The best answer is (B).", "B"), ("Answer: **B**", "B"), ("The correct option is B.", "B"), ("The correct choice is (B) Paris.", "B"), ("<answer>B</answer>", "B"), (r"\boxed{\text{B}}", "B"), (r"\boxed{\textbf{(B)}}", "B"), (r"$\boxed{B}$", "B"), ("Therefore, the answer is (B).", "B"), ("**Answer:** B", "B"), ("### Answer\nB", "B"), ("B: Paris", "B"), ("B - Paris", "B"), ("Paris (B)", "B"),
    ("Answer: Paris (B)", "B"), ("The answer is D.", "D"), ("Answer: Rome and Milan", "D"), ("Option (B)", "B"), ("Choice B", "B"), ("[B]", "B"), ("b)", "B"), ("The answer is Paris, because it is the capital.", "B"), ('{"choice": "B"}', "B"), ("Final answer: B", "B"), ("The answer is B, not A.", "B"), ("A is wrong. B is correct.", "B"), ("**B**. Paris", "B"), ("(B) Paris\n(A) is wrong because it is in England.", "B"), ("My choice is B", "B"), ("Choose B", "B"), ("I think it's B.", "B"), ("It's B.", "B"),
]  # fmt: skip
NOT_CHOSEN = ["Answer: London (B)", "Answer: B. London", "Answer: B (3)", "B. London", "B (3)", "B) London", "(B) Rome and Milan", "The answer is B or A.", "Option B is incorrect.", "Option B is not correct.", "B is wrong.", "A and B", "Answer: A/B", "The answer is A.", "B\nA", "Answer: B, A", "not B", '{"answer": "A"}', "Option A is correct, not B.", "B is the wrong answer.", "Neither A nor B.", "Answer: anything but B", "B is definitely not the correct answer.", "Options A and B are correct.", "I don't choose B."]  # fmt: skip
