# ruff: noqa: E501 (tables, a case a line)
r"""Notations in which people and models write an answer, kind by kind: what is right, and near misses that are not.

The verdicts are by hand. ``ANSWERS``: (gold, contents of a box that are right, contents that are wrong). ``RESPONSES``:
(task, gold, responses that are right, responses that are wrong).
"""

from __future__ import annotations

ANSWERS: dict[str, list[tuple[str, list[str], list[str]]]] = {
    "decimals of doubles": [
        (r"\frac{1}{12}", ["0.0833333333333333", "0.08333333333333333", "8.333333333333333e-02"], ["0.0833333333333334", "-0.0833333333333333", "0.08333333333333", "0.0833"]),
        (r"\frac{2}{3}", ["0.6666666666666666", "0.6666666666666667", "0.666666666666667"], ["0.666666666666666", "0.6666666666666668", "0.66666666666667", "0.6666667"]),
        (r"\frac13", ["0.3333333333333333", "0.33333333333333331"], ["0.3333333333333334", "0.33333333333333", "0.33333333333333333333"]),
        (r"\frac{101}{198}", ["0.51010101010101"], ["0.5101010101010", "0.51010101010102"]),  # a double whose shortest form has 14 digits
        (r"\sqrt{2}", ["1.4142135623730951", "1.414213562373095", "1.41421356237310"], ["1.4142135623731", "1.41421356237309", "1.4142135623730950488016887", "1.414213562373096"]),
        (r"\pi", ["3.141592653589793", "3.14159265358979"], ["3.1415926535897", "3.14", "3.141592653589794"]),
        ("0.1", ["0.10000000000000001", "0.1000000000000000"], ["0.10000000000000002", "0.1000000000000001"]),
        ("0.3", [], ["0.30000000000000004"]),  # 0.1 + 0.2 in doubles, which is not the double nearest to 0.3
        ("5", ["5.000000000000000"], ["5.000000000000001", "4.999999999999999"]),
        ("1+10^{-20}", [], ["1", "1.0"]),
        (r"\left(\frac13, 2\right)", ["(0.3333333333333333, 2)"], ["(0.333, 2)"]),
        (r"\frac13\text{ cm}", [r"0.3333333333333333\text{ cm}"], [r"0.3333333333333333\text{ m}"]),
    ],
    "thousands in expressions": [
        ("1000, 2000", ["1,000, 2,000", r"1,000 \text{ and } 2,000", "1,000 or 2,000", r"\{1,000; 2,000\}", "1,000,2,000"], ["1,000, 2,001", "1,00, 2,000", "1, 000, 2, 000"]),
        ("[1000, 2000]", ["[1,000, 2,000]"], ["[1,000, 2,000)"]), ("(1000, 2000)", ["(1,000, 2,000)"], ["(2,000, 1,000)"]),
        ("x=1234", ["x=1,234"], ["x=1,235", "y=1,234", "x=12,34"]), ("x>1000", ["x>1,000", r"(1,000, \infty)"], ["x>1,0000", r"x\ge1,000"]),
        (r"1500\pi", [r"1,500\pi"], [r"1, 500\pi", r"15,00\pi", "1,500"]), ("1000:2000", ["1,000:2,000"], ["1,000:2,001"]), ("1500+200i", ["1,500+200i"], ["1,500-200i"]),
        ("1/1500", ["1/1,500", r"\frac{1}{1,500}"], ["1/1,501"]), ("5000", [r"5,000=5\cdot10^3"], [r"5,000=5\cdot10^2"]), (r"\$1500 \text{ and } \$2500", [r"\$1,500 \text{ and } \$2,500"], [r"\$1,500"]),
        (r"1,500\pi", [r"1500\pi"], [r"1,501\pi"]), ("1234", [], ["(1,234)", "1, 234"]), ("(1,234)", [], ["(1234)"]), ("2,3,125", ["2, 3, 125"], ["2, 3125"]), ("2, 3125", [], ["2,3,125"]),
    ],
    "ornaments": [
        ("42", [r"42\checkmark", r"42\ .", r"\ 42\ .\ ", r"\implies 42", r"\Rightarrow 42", r"\therefore x = 42", "⇒ 42", r"\pmb{42}", r"\rule{0pt}{1em}42", r"\mathstrut42", r"\underbrace{42}_{\text{total}}", '"42"', "'42'", "``42''", r"\text{``42''}", "__42__",
                r"42\,(\text{exact})", "42 (exact)", r"42 \text{ (since } 6\cdot7=42)", r"42, \text{ because } 6\cdot 7=42", "42 (since 6*7=42)", "forty-two (42)", "42 (forty-two)", r"\text{Hence } 42", r"\text{Therefore, } 42", r"42 \text{ ✓}", r"\smash{42}", r"\raisebox{2pt}{42}", "<b>42</b>", "42</s>"],
               [r"42 (\text{or } 43)", "42 (43)", r"42\ (\text{rejected})", r"42\,(\text{not exact})", r"42\ (\text{mod } 50)", "forty-three (42)", "forty-two (43)", "42'", r"\neg 42", r"\cancel{42}", r"41 \Rightarrow 42", r"43 \text{ (since } 6\cdot7=42)", r"42 \text{ if } x>0", "42(x)", r"\Rightarrow 43"]),
        ("10", ["10 (exact)"], ["10 (binary)", "10 (twice)", "10 (guess)"]), ("1", [], [r"1\ (\text{rejected})", r"1 (\text{guess})"]), ("0.3", [], ["0.3 (repeating)", r"0.3\ (\text{recurring})", "0.3 (approx)"]),
        ("42", [r"\begin{align}42\end{align}", r"\begin{equation*}42\end{equation*}", r"\begin{matrix}42\end{matrix}", r"\begin{split}42\end{split}", r"\begin{aligned}x&=6\cdot 7\\&=42\end{aligned}", r"\begin{array}{c}42\end{array}", r"\begin{gathered}42\end{gathered}"],
               [r"\begin{align}41\end{align}", r"\begin{matrix}42\\43\end{matrix}", r"\begin{matrix}42&43\end{matrix}", r"\begin{aligned}x&=42\\y&=43\end{aligned}", r"\begin{aligned}x&=6\cdot 8\\&=42\end{aligned}"]),
        ("(1,2)", [r"\begin{aligned}x&=1\\y&=2\end{aligned}", r"\therefore (1,2)"], [r"\begin{aligned}x&=2\\y&=1\end{aligned}"]),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", [r"\begin{matrix}1\\2\end{matrix}", r"\begin{aligned}\begin{pmatrix}1\\2\end{pmatrix}\end{aligned}"], [r"\begin{matrix}2\\1\end{matrix}"]),
    ],
    "units": [
        ("18", [r"18 \text{ [cm]}", "18 [cm]", r"18\,\mathrm{[m]}", r"\SI{18}{cm}", r"\qty{18}{\centi\metre}", r"18\ \si{cm}", r"\unit[18]{cm}", "18 kJ"], ["[18]", "18 [0]", r"\SI{19}{cm}"]),
        (r"18\text{ cm}", ["18 [cm]", r"\SI{18}{\centi\metre}"], ["18 [m]", r"\SI{18}{m}"]),
        (r"18\text{ cm}^2", [r"18\text{ cm}\textsuperscript{2}", r"18\text{ cm\textsuperscript{2}}", r"18\text{ cm$^2$}", r"18\mathrm{cm}^\text{2}"], [r"18\text{ cm}\textsuperscript{3}", r"18\text{ cm$^3$}"]),
        ("90", [r"90^\text{o}", "90^{o}", "90^o", r"90^{\mathrm{o}}", r"90\textdegree", "90˚", r"90{}^\circ"], ["91^{o}", "90^{0}"]), ("x^2", [], ["x^o"]), ("25", [r"25\degreeCelsius", r"25\,\text{°C}", "25℃"], []),
        (r"\$32.50", [r"\mathdollar 32.50", r"\textdollar 32.50", r"{\$}32.50", r"\text{US\$}32.50", r"\text{USD } 32.50"], [r"\pounds 32.50", r"\mathdollar 32.05"]), ("5", [r"\pounds 5", r"\texteuro 5"], []), (r"\$5", [], [r"\texteuro 5"]),
        (r"5:00 \text{ p.m.}", ["5 p.m.", "5 PM", r"5\text{ p.m.}"], ["5 a.m.", "5", "6 p.m."]), (r"5:30 \text{ p.m.}", [], ["5 p.m."]), (r"9\text{ a.m.}", ["9:00 a.m."], ["9:30 a.m."]),
        ("1.5", [r"1.5 \mu m", r"1.5\,\mu\text{m}", "1.5 μm", r"1.5\ \text{µm}"], []), (r"1.5\text{ m}", [], [r"1.5\,\mu\text{m}"]), (r"\mu m", [r"m\mu"], [r"\mu"]), ("5", [r"5\ \Omega", r"5\,\text{k}\Omega"], []),
        (r"9.8\text{ m/s}^2", [r"9.8\ \text{m}\cdot\text{s}^{-2}", r"9.8\ \text{m s}^{-2}"], [r"9.8\ \text{m s}^{-1}", r"9.8\text{ m}"]),
    ],
    "symbols": [
        (r"\tan x + C", [r"\tan x + c", r"C + \tan x", r"\tan x + \text{constant}", r"\tan x + K"], [r"\tan x", r"\tan x + d", r"\tan x + 2c", r"\tan x + cx", r"\cot x + c"]), (r"\frac{x^2}{2} + c", [r"\frac12 x^2 + C"], []),
        ("a+C", [], ["a+c"]), ("a+b+c", [], ["a+b+C"]), ("C", [], ["c"]), ("O(n^2)", [r"\mathcal{O}(n^2)"], [r"\mathcal{O}(n^3)"]),
        ("ABC_{16}", [r"\text{ABC}_{16}", "abc_{16}", r"\texttt{ABC}_{16}"], [r"\text{ABD}_{16}", r"\text{ABC}_{15}", "ABC"]), ("A_{12}", [], ["A_{13}"]), ("a_{11}", [], ["a_{12}", "11"]),
        (r"\infty", [r"\text{infinity}", r"+\infty"], [r"-\infty"]), (r"\binom{5}{2}", ["{}_5C_2", "^5C_2"], ["{}_5C_1"]), (r"\mathbb{Z}", [r"\Z", r"\mathbf{Z}"], [r"\N"]), (r"\log_{10} 5", [r"\lg 5"], [r"\ln 5"]),
    ],
    "relations and their right sides": [
        ("a^2 + b = 0", ["b + a^2 = 0", "a^2 = -b"], ["0", "b = 0"]), ("x+y=5", ["y+x=5"], ["5"]), ("x^2+y^2=13", [], ["13"]), ("xy=12", [], ["12"]), (r"\frac{a}{b} = 3", [], ["3"]), ("m+n=41", [], ["41"]), (r"\tan \theta = 2\theta", [], [r"2\theta"]),
        ("a = 2, b = 3", ["2, 3", "b=3, a=2", "(2,3)"], ["3, 2", "a=3, b=2"]), (r"p=1 \text{ and } q=2", [r"1 \text{ and } 2"], [r"2 \text{ and } 1"]),
        ("x=5", ["5"], ["6"]), ("f(x)=x^2", ["x^2"], []), ("AB=5", ["5"], []), (r"\angle ABC=30^\circ", ["30"], []), ("41", ["m+n=41"], []), (r"\cos A = \frac35", ["0.6"], []),
        ("S_1:S_2 = 7:32", ["7:32", "S_1:S_2=7:32"], ["32:7", "7", "S_2:S_1 = 7:32"]), ("7:32", ["S_1:S_2 = 7:32"], ["7:33"]), ("a:b:c = 3:4:5", ["3:4:5"], ["5:4:3"]),
    ],
    "lists in another order": [
        ("1:2, 2:3", ["2:3, 1:2"], ["1:2, 3:2"]), ("12:30, 1:45", [r"1:45 \text{ and } 12:30"], ["12:30"]), ("x=1,2", ["x=2, x=1", "2, 1"], ["y=2, x=1", "x=1, y=2", "x=1,3"]), ("(x,y)=(1,2),(3,4)", ["(x,y)=(3,4),(1,2)", "(3,4), (1,2)"], ["(x,y)=(2,1),(3,4)", "(1,2)"]),
        (r"a=1,b=2\text{ or }a=2,b=1", [r"a=2,b=1\text{ or }a=1,b=2", "(2,1), (1,2)"], [r"a=1,b=1\text{ or }a=2,b=2"]), (r"x=1 \quad x=2", ["x=2, x=1", r"x=2 \\ x=1"], [r"x=1 \quad x=3"]), (r"\{1, \text{ and } 2\}", [r"\{2,1\}"], []),
    ],
}  # fmt: skip

RESPONSES: list[tuple[str, str, list[str], list[str]]] = [
    ("math", "42", [
        "So the answer is\n\\begin{align}42\\end{align}", "The answer is\n\\begin{equation}\n42\n\\end{equation}", "The answer is\n\\begin{align*}\nx &= 6\\cdot7 \\\\\n&= 42\n\\end{align*}", "The answer is $$\\begin{aligned}42\\end{aligned}$$",
        "\\framebox{42}", "$\\framebox{42}$", "\\framebox[2cm][c]{42}", "\\fcolorbox{red}{white}{42}", "\\bbox[yellow]{42}", "The answer is forty-two (42).", "The answer is：42。", "Answer：４２", "\\boxed｛42｝", "Final Answer:\n\n> 42", "**42** is the answer.", "\\boxed{42}</s>",
    ], ["\\framebox{43}", "The answer is forty-two (43).", "The answer is\n\\begin{align}41\\end{align}", "Answer：４３", "The answer is > 42"]),
    ("math", "34", [
        "Final Answer: The largest $n$ is 34.", "**Final Answer**: The largest value of $n$ is $34$.", "Answer: The sum of the digits equals 34.", "Final Answer: The total is \\$34.", "Final answer: Her age is 34 years.", "Final Answer: The largest $n$ is 34, since 35 fails.", "Answer: The 10th term is 34.",
    ], [
        "Final Answer: The largest $n$ is not 34.", "Final Answer: The largest $n$ is 34 or 35.", "Final Answer: The largest $n$ is at least 34.", "Final Answer: If $n$ is 34, the sum is 35.", "Final Answer: $n$ is 34 and $m$ is 35.", "Final Answer: Neither is 34.", "Final Answer: It is false that $n$ is 34.",
        "Final Answer: The largest $n$ is 34 times 2.", "Final Answer: The largest $n$ is 3.",
    ]),
    ("math", "-5", ["\\boxed{﹣5}", "\\boxed{－5}", "\\boxed{‒5}"], ["\\boxed{－６}", "\\boxed{5}"]),
    ("math", "(1,2)", ["\\boxed{（1，2）}"], ["\\boxed{（2，1）}"]), ("math", r"50\%", ["\\boxed{50％}", "\\boxed{50﹪}"], ["\\boxed{51％}"]), ("math", "1 \\text{ or } 9", ["\\boxed{9} or \\boxed{1}"], ["\\boxed{9}"]),
    ("gsm8k", "29", [
        "29</s>", "#### 29</s>", "#### 29<eos>", "#### 29<|im_end|>\n</s>", "#### 29<end_of_turn>", "29<｜end▁of▁sentence｜>", "#### 29 [/INST]", "<s> #### 29 </s>", "####▁29", "#### Ġ29", "So she has 20+9=<<20+9=29>>29", "#### <<20+9=29>>29", "#### 29<<20+9=29>>", "\\boxed{#### 29}", "#### 29 ####", "＃＃＃＃ ２９",
    ], ["29<s>30", "#### 29</s>\n#### 30", "#### 30</s>", "#### <<20+9=29>>28", "#### 28<extra_id_29>", "29<30", "#### -29</s>"]),
    ("gsm8k", "1250", ["＃＃＃＃ 1，250"], ["＃＃＃＃ 1，251"]),
]  # fmt: skip

COUNTDOWN: list[tuple[tuple[int, ...], int, list[str], list[str]]] = [
    ((4, 6, 1), 24, [
        r"\frac{6}{\frac{1}{4}}", r"\dfrac{6}{\dfrac{1}{4}} = 24", r"6\div\frac14", "（4*6）*1", "４×６×１", "（4＊6）÷1＝24", "4 ✕ 6 ✖ 1", r"\begin{aligned}(4 \times 6)\times 1 &= 24\end{aligned}", r"\{4 \times 6\} \times 1", r"$(4 \times 6) \times 1 = 24$ ✓", r"\bigl(4*6\bigr)*1", r"\text{(4*6)*1}", r"4\times6\times1\checkmark",
    ], [r"\frac{6}{\frac{4}{1}}", "（4*6）", "（4*6）*1*1", "（4＊6）＊1＝25", r"\frac{24}{1}", r"\frac{6}{\frac{1}{4}", "4:6:1", "４６－２２"]),
    ((8, 3, 8, 3), 24, [r"\frac{8}{3-\frac{8}{3}}"], [r"\frac{8}{3-\frac{3}{8}}"]),
]  # fmt: skip

CHOICES = (("A", "iron"), ("B", "gold"), ("C", "tin（锡）"), ("D", "lead"))
CHOSEN = [  # response, label
    ("Answer：D", "D"), ("The answer is Ｄ.", "D"), ("The answer is (Ｄ)", "D"), ("Ｃ", "C"), ("（Ｃ）", "C"), ("Ｂ．gold", "B"), ("The answer is （Ｂ）。", "B"), ("\\boxed{Ｂ}", "B"), ("Answer：gold", "B"), ("tin（锡）", "C"), ("tin(锡)", "C"),
]  # fmt: skip
