"""Inference that draws several responses to a question and elects an answer: methods, confidence and steps. Pure.

``steps`` cuts responses, in token ids; ``confidence`` says how sure a model was of a token, a step and a response so
far; ``floors`` end unsure responses in the engine. ``methods`` holds a generator a file, which yields asks and returns
branches (``base``); ``context`` is what it knows. ``drive`` runs the methods of many questions at once. ``election``
elects once the grader has read the branches. ``budgets`` compares methods at equal K and at equal tokens, and
``tree_text`` shows a question's tree.
"""
