"""Words of not knowing: writes contractions out, and lists the phrases that say that a question has no known answer."""

from __future__ import annotations

import re

_BARE_NEGATED = re.compile(
    r"\b(do|does|did|is|are|was|were|has|have|had|can|could|would|will|should)n[' ]?t\b|\b(ca|wo)n[' ]?t\b"
    r"|\bcan not\b"
)
_FULL = {"m": "am", "re": "are", "ve": "have", "d": "would", "ll": "will"}
_SHORT_VERB = re.compile(r"\b(i|we|you|they)'(m|re|ve|d|ll)\b")
_SHORT_FORMS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(?:no-one|noone)\b"), "no one"),
    (re.compile(r"\b(it|that|this|there|here|who|what|where|he|she|answer|truth|no one|nobody)'s\b"), r"\1 is"),
    (
        re.compile(
            r"\bits (?=(?:un|not\b|still|a mystery|anyone|anybody|impossible|hard|difficult|debat|disput"
            r"|currently))"
        ),
        "it is ",
    ),
    (re.compile(r"\bim (?=not\b|un|afraid)"), "i am "),
    (re.compile(r"\bdunno\b"), "do not know"),
    (re.compile(r"\bidk\b"), "i do not know"),
    (re.compile(r"\binfo\b"), "information"),
)


def expanded(text: str) -> str:
    """Writes the contractions of a folded text out, also those without their apostrophe.

    >>> expanded("i dunno, it isn't clear and we cant say")
    'i do not know, it is not clear and we cannot say'
    """
    text = _BARE_NEGATED.sub(_negation, text)
    text = _SHORT_VERB.sub(lambda m: f"{m[1]} {_FULL[m[2]]}", text)
    for pattern, written in _SHORT_FORMS:
        text = pattern.sub(written, text)
    return text


def _negation(match: re.Match[str]) -> str:
    verb = match[1] or {"ca": "can", "wo": "will", None: "can"}[match[2]]
    return "cannot" if verb == "can" else f"{verb} not"


_START = (
    r"^(?:(?:sorry|honestly|frankly|well|hmm+|um+|unfortunately|to be honest|regrettably|alas|so"
    r"|actually|truly|really"
    r"|i am afraid|the answer is(?: that)?|i (?:think|guess|believe|would say)(?: that)?"
    r"|my answer is(?: that)?)[,.:]?[ ]+)*"
)
_ADVERB = (
    r"(?:(?:really|just|simply|honestly|genuinely|truly|actually|sadly|frankly|absolutely|certainly|definitely) )*"
)
_FACTS = (
    r"(?:information|data|answers?|details?|evidence|records?|sources?|figures?|statistics?|facts?"
    r"|knowledge|documentation|references?|proof)"
)
_HIDDEN = (
    r"(?:(?:publicly|yet|currently|readily|freely|fully|generally|widely|reliably|officially|precisely"
    r"|exactly)[ ]+)*(?:available|known|public"
    r"|accessible|recorded|documented|on record|disclosed|revealed|given|stated|specified|mentioned"
    r"|provided|reported|published|determined"
    r"|established|discovered|clear|settled|certain|understood|knowable|answerable|found|listed"
    r"|released|solved|decided|preserved)"
)
_THEN = (
    r"(?=[ ]*(?:$|[.,;!?]|(?:in|by|to us|to anyone|to me|to science|anywhere|here|yet|at|on this|on that"
    r"|about|for|of (?:this|that|it)|to (?:answer|say|tell|know|determine|decide)|so far|as of|as yet"
    r"|either|and|or|with|until now|how|why|what|who"
    r"|whether|when|which|whom)\b))"
)
_SILENT = (
    r"(?:text|passage|question|context|article|document|story|source|paragraph|prompt|excerpt|author|book"
    r"|history|record|sources|records|texts)"
)

# Sought in a sentence with contractions written out, in lower case.
PHRASES = (
    # ours or anyone's not knowing
    _START + r"(?:(?:i|we|one|you) )?" + _ADVERB + r"(?:do not|does not|did not|cannot|could not)"
    r" (?:really |actually |possibly |honestly )?(?:know|say|tell|answer|be (?:known|determined"
    r"|answered|said|told|predicted)|predict)"
    r"(?! (?:much|everything|all|many|why (?:people|anyone|you)|about you|that \w|a lie))",
    r"(?:one|you) (?:cannot|can never|could not) (?:know|say|tell|be sure)\b(?! that \w)",
    r"(?:and|so|but)(?: simply| just)? (?:do not|cannot) (?:know|say|tell)\b",
    r"(?:i|we) will not be able to (?:answer|say|tell)\b",
    r"(?:i|we) have (?:absolutely )?no (?:access|data|records?|memory|answers?|recollection|means)\b",
    _START + r"(?:(?:i|we) )?" + _ADVERB + r"(?:have )?" + _ADVERB + r"(?:no|not (?:a|an|any|got a|got any|the)"
    r"(?: slightest| faintest| foggiest| least| single)?) (?:idea|clue|notion)\b(?! why\b)",
    r"(?:^|(?:i|we) " + _ADVERB + r")(?:do not have|have not|have not got)(?: the| an?| any)?(?: slightest"
    r"| faintest| foggiest| least| single)?(?: (?:clue|idea)|(?<=foggiest)|(?<=faintest))\b",
    r"(?:i wish|if only) (?:i|we) knew|(?:i|we) would (?:love|like) to know",
    r"(?:^|(?:i|we) (?:would )?)(?:really )?need (?:more|further|additional"
    r"|some more) (?:information|context|details?|data)",
    r"(?:more|further|additional) (?:information|context|details?|data) (?:is|are|would be) (?:needed"
    r"|required|necessary)",
    r"not even (?:\w+ )?(?:scientists|experts|science|historians|god|the \w+) knows?",
    r"(?:science|scientists|nobody|no one|experts|researchers) (?:has|have) no (?:\w+ )?answer",
    r"(?:scientists|researchers|experts|we) do not (?:yet )?(?:fully |completely |really )understand\b",
    r"(?:still|currently) (?:being |under )(?:actively )?(?:researched|studied|debated|investigated"
    r"|investigation|debate|study|research|discussion)",
    r"(?:one of )?the (?:great|greatest|biggest|oldest)(?: \w+)? myster(?:y|ies)\b(?= *(?:$|[.,;!]|of\b|in\b))",
    r"an? (?:still |long )?(?:unanswered|unresolved|unsettled) (?:question|mystery|problem|matter)",
    r"(?:none|neither)(?: of (?:them|these|which))? (?:has|have) (?:yet )?been (?:\w+ly )?(?:proven"
    r"|proved|confirmed|verified|established)",
    r"(?:is|are|remains?) (?:still )?(?:up for|open to|open for) (?:debate|interpretation|question"
    r"|discussion|speculation)",
    r"(?:outside|not within|not in|beyond) (?:of )?(?:the scope of )?(?:my|our|human) (?:knowledge"
    r"|training|expertise|capabilit\w+)",
    r"(?:my|our) (?:knowledge|training|training data) (?:does|do) not (?:cover|include|extend|contain)",
    r"(?:have to|must) wait and see",
    r"(?:i|we) (?:do not|cannot) (?:recall|remember)" + _THEN,
    _START + r"(?:not|un)(?: really| entirely| quite| at all)? ?(?:sure|certain|known|clear|stated|given"
    r"|mentioned|specified|available|documented|recorded"
    r"|public|determined|provided)(?: yet| for sure| publicly| here| in the (?:text|passage|question"
    r"|context)| at all| at this time)*[ ]*(?=$|[.,;!])",
    r"(?:no (?:man|person|human|human being|scientist|expert|historian|living person"
    r"|single person))(?: really| actually| truly)? (?:knows|can (?:know|say|tell))",
    r"(?:no one|nobody|no human)(?: really| actually| truly)? (?:has any idea|is (?:sure|certain)"
    r"|could (?:tell|possibly know)|will ever know|has the answer)",
    _START + r"who (?:knows|can (?:say|tell|know)|could (?:say|know)|is to say)[ ]*(?:for sure"
    r"|really)?[ ]*(?=[?.!]*$)",
    _START + r"(?:only )?(?:god|heaven|lord|goodness|the lord)(?: only| alone)? knows[ ]*(?=[.!?]*$|[,;])",
    _START + r"(?:that |it )?(?:beats|is beyond|escapes|eludes) me[ ]*(?=[.!?]*$|[,;])",
    _START + r"search me[ ]*(?=[.!?]*$)",
    r"your guess is as good as mine",
    r"there is (?:really |simply |just )?(?:no|not any) (?:way of (?:knowing|telling|saying"
    r"|finding out)|telling\b|knowing\b|(?:way|means) (?:for \w+ )?to (?:know|tell|find out|be (?:sure"
    r"|certain)|answer|predict))",
    r"(?:will|may|might|can) never (?:really |truly )?(?:know|find out|be (?:known|certain|sure))",
    # others' not knowing
    r"(?<!he )(?<!she )(?<!you )(?<!they )(?<!who )(?<!people )(?:do|does) (?:still )?not (?:yet "
    r"|really |actually |fully |even )*know"
    r"(?=[ ]*(?:$|[.,;!]|(?:why|how|when|whether|for sure|for certain|yet|exactly)\b))",
    r"no(?:body| one|(?: (?:living|single|human|mortal))? \w+)(?: alive| on earth)? (?:\w+ly )?knows\b",
    r"(?:no one|nobody)(?: has)?(?: ever| yet)? (?:found out|managed to|been able to|worked (?:it|this|that) out)",
    r"(?:do not (?:think|believe)|doubt)(?: that)? (?:any(?:one|body)|we|one|it|this|that|the answer"
    r"|humans)(?: (?:really|can|could|will|has|have|is|be|ever))*"
    r" (?:knows?|known|answer(?:ed)?|tell|say)\b",
    r"(?:i|we) (?:am|are) not (?:really )?familiar with|(?:i|we) have never heard of",
    _START + r"(?:do not ask me|you tell me|how (?:should|would|could) i know|(?:i|we) would not know"
    r"|no comment|i have no comment)[ ]*(?=[?.!]*$)",
    r"(?:i|we|and|but) (?:also )?do not have (?:an? |any |personal |my own )*(?:favou?rites?|feelings"
    r"|opinions?|preferences?|beliefs?|emotions|consciousness|crystal ball)\b",
    # guesses refused
    r"(?:can|could|would|will|may)(?: only| just| merely)?(?: be)? (?:guess|speculate|guessing"
    r"|speculating)(?=[ ]*(?:$|[.,;!]|about\b|as to\b))",
    r"(?:rather not|prefer not to|will not|refuse to|cannot|do not want to) (?:guess|speculate)\b",
    r"(?:it|that|this|which|answer|anything)(?: else)? (?:is|would be|remains)(?: all| just| only"
    r"| still)*(?: pure| mere)? (?:speculation|guesswork|a guess)(?=[ ]*(?:$|[.,;!]))",
    r"(?:(?:is|are|was|has been|remains) (?:long )?lost to (?:history|time)|(?:far from"
    r"|not at all) (?:clear|certain|known|settled|obvious)|up in the air)\b",
    r"(?:is|it is|^)(?: still)?(?: far| much)? ?too (?:soon|early) to (?:say|tell|know|predict)",
    r"(?:the future|history) will tell|we (?:shall|will) (?:have to )?see(?=[ ]*(?:$|[.,;!]))",
    r"(?:it|that|this|question) (?:has no|does not have an?) (?:[\w-]+ )?answers?\b",
    rf"no (?:{_FACTS}|sources?) (?:gives?|says?|states?|mentions?|tells?|records?)\b",
    r"no records? of (?:this|that|it) (?:exists?|remains?|survives?)",
    # sought and not found
    r"(?:i|we|one|you|^)(?: have| just| simply| really)* ?(?:could not|cannot|did not|do not"
    r"|was not able to|were not able to|am not able to|are not able to|(?:am|was|were|are"
    r"|been) unable to|have not been able to|failed to)"
    r" (?:seem to |really )?(?:find|locate|identify|discover|retrieve|access|verify|confirm)(?: out)?"
    r"(?: (?:an?|any|the|that|this|enough|sufficient|much|reliable|credible|specific|definite"
    r"|definitive|trustworthy|clear|good|exact|relevant|single))*"
    rf" (?:{_FACTS}|that|this|it|out|anything|something|proof|mention)\b(?! (?:better|other"
    rf"|else) )(?! (?:but|except|other|is|was)\b)",
    r"(?:i|we) (?:have )?(?:found|find|have|see|know) (?:absolutely )?nothing (?:about|on|for"
    r"|regarding|concerning) (?:this|that|it)\b",
    rf"(?:i|we) (?:have )?(?:found|have|see|saw|possess|know of) no(?: (?:reliable|credible|specific"
    rf"|relevant|such|real|definite|clear|direct|further))* {_FACTS}" + _THEN,
    rf"(?:i|we)(?: \w+)? (?:do not|lack|cannot)(?: (?:currently|actually|really|yet))?(?: (?:have"
    rf"|possess|access|hold|store))?"
    rf"(?: (?:an?|any|the|that|this|such|those|these|enough|sufficient|required|necessary"
    rf"|specific))* {_FACTS}\b(?! (?:that|to (?:suggest|doubt)))",
    r"(?:i|we) (?:am|are) not aware of (?:an?|any|the)\b(?! other)",
    # what is not there to be known
    _START + rf"(?:the |this |that )?{_FACTS} (?:not {_HIDDEN}|unavailable)[ ]*(?=$|[.,;!])",
    r"(?:is|was|are|were) never (?:\w+ly )?(?:recorded|documented|found|discovered|identified|solved"
    r"|proven|confirmed|determined|known"
    r"|disclosed|revealed|established|answered)(?=[ ]*(?:$|[.,;!]))",
    r"is an? (?:complete |total |great |big )?unknown(?=[ ]*(?:$|[.,;!]))",
    rf"(?:{_FACTS}|it|this|that|which)(?: \w+){{0,3}}? (?:is|are|was|were)(?: simply| currently| still"
    rf"| just| generally)? (?:not {_HIDDEN}|unavailable|undisclosed|undocumented|unrecorded"
    r"|undiscovered|unsolved|undecided|indeterminate|undecidable|unspecified|unpublished|inaccessible"
    r"|disputed|contested)" + _THEN,
    r"(?:is|are|was|were|remains?)(?: still| currently| simply)? (?:not (?:yet |publicly |currently "
    r"|entirely |fully )*(?:known|clear|stated|specified|mentioned|documented|recorded|disclosed"
    r"|revealed|knowable|answerable|solved)"
    r"|unsolved|undiscovered|undisclosed|undocumented|unrecorded|indeterminate|undecidable)"
    r"(?=[ ]*(?:$|[.,;!?]|(?:yet|anywhere|here|for sure|for certain|with certainty|in the (?:text"
    r"|passage|question|context|article)|to (?:us|anyone|me|science|history)|how|why|what|who|whether"
    r"|when|which)\b))",
    rf"(?:^|[,;:] ?|\b(?:there (?:is|are|exists?)|because|since|but|so"
    rf"|and) )no (?:\w+ ){{0,2}}?{_FACTS}(?: (?:is|are|exists?|was|were|has been"
    rf"|have been))?(?: currently| yet)?"
    r" (?:available|known|found|given|provided|exists?|on record|recorded|public)\b(?! (?:that|to be))",
    rf"there (?:is|are)(?: currently| simply)? (?:no|not any|too little|not enough|not sufficient"
    rf"|not much|little|very little"
    rf"|insufficient)(?! such)(?: \w+){{0,3}}? {_FACTS}(?<!records)" + _THEN,
    r"there (?:is|are) no records?(?: of (?:this|that|it))?(?=[ ]*(?:$|[.,;!]))",
    rf"no (?:such )?{_FACTS} (?:exists?|(?:is|are) (?:available|known))",
    r"no (?:known|definite|definitive|certain|clear|exact|precise|agreed) answers?(?: exists?| is known)?",
    r"(?:has|have) (?:still )?(?:not|never)(?: yet| ever)?(?: yet)? been (?:\w+ly )?(?:discovered"
    r"|found|revealed|disclosed|announced|made public|documented|recorded|solved|known|identified"
    r"|decided|worked out|figured out|explained|published|proved|proven|determined|established"
    r"|measured|counted)(?=[ ]*(?:$|[.,;!?]|(?:yet|so far|to date|as of|as yet|by (?:anyone|science"
    r"|scientists)|and|until now)\b))",
    r"(?:is|are) yet to be (?:\w+ )?(?:\w+ed|found|known|seen|proven)\b",
    rf"\b{_SILENT}(?: itself| above| given)? (?:do not|does not|did not|never"
    rf"|fails to)(?: \w+ly)? (?:say|record|state|mention|specify|tell|provide|indicate|give|reveal|contain"
    rf"|include|explain|answer|address|disclose)s?\b",
    r"(?:scientists|science|researchers|experts|historians|scholars|we|they|humans|people|physicists"
    r"|astronomers)(?: \w+)? (?:have|has) (?:not|never|yet to)(?: yet| ever)? (?:found|find|figured"
    r"|figure|worked|work|discovered|discover|determined"
    r"|determine|solved|solve|answered|answer|established|establish|settled|agreed|agree|proven|prove)\b",
    r"(?:science|scientists|researchers|experts|historians|scholars) (?:cannot|could not"
    r"|do not) (?:yet |fully |really )?(?:answer|tell|say|explain|determine|predict)\b",
    r"(?:experts|scientists|researchers|historians|scholars|philosophers|people|opinions|theologians"
    r"|sources) (?:\w+ )?(?:are not (?:sure|certain)|(?:strongly |still )?disagree|differ|vary"
    r"|are divided)\b",
    r"(?:it|this|that) cannot be (?:\w+ )?(?:known|answered|said|told|counted|determined|predicted|established"
    r"|verified|proven|ascertained)" + _THEN,
    r"(?:i|we)(?: really| just| simply| honestly| actually| currently)? (?:do not|cannot"
    r"|could not)"
    r"(?: really| actually| possibly)? (?:know|say|tell|answer|determine|be (?:sure|certain))"
    r"(?! (?:why (?:people|anyone|you)|about you|a lie))",
    r"(?:i|we) have no (?:idea|way (?:of knowing|to know)|information|knowledge)",
    r"(?:i|we)(?: am| are) (?:not (?:sure|certain|aware)|unsure|uncertain|unable to (?:answer|say"
    r"|determine|tell|provide))",
    r"(?:no ?one|nobody|none of us|no human|science (?:does not)|scientists (?:do not)"
    r"|experts (?:do not))"
    r"(?: really| actually| truly| currently| yet)? (?:knows?|can (?:know|say|tell|answer|predict)"
    r"|could (?:know|say))",
    r"(?:answer|question|it|this|that|which|outcome|result|truth)(?: \w+){0,6} (?:is|remains|are|stays)"
    r"(?: still| currently| simply| largely| entirely| completely| ultimately| as yet| inherently)?"
    r" (?:unknown|unknowable|unanswerable|undetermined|uncertain|unclear|a mystery|not (?:yet |publicly )?known|not"
    r" (?:currently )?(?:clear|certain|settled)|unresolved"
    r"|an open question|a matter of (?:opinion|debate|speculation)|subjective|debatable)(?! (?:to (?:many"
    r"|most|some|few)|for|by))",
    r"(?:is|are|remains?)(?: still| currently| simply| largely| entirely| completely| ultimately| as yet)?"
    r" (?:unknown|unknowable|undetermined|unclear|not (?:yet )?known|uncertain)"
    r"(?=\s*(?:$|[.,;!?]|to (?:science|scientists|us|anyone|humans|humanity|mankind|me|this day)\b|at"
    r" (?:this|the|present)\b"
    r"|because\b|since\b|and\b|as\b|due\b|yet\b|for (?:sure|certain)\b))",
    r"(?:is|are|seems|remains)(?: \w+)? (?:impossible|not possible|hard|difficult|too early) (?:for \w+ )?(?:to )"
    r"(?:know|say|tell|answer|determine|predict|be (?:sure|certain)|give|provide|ascertain|quantify|estimate)",
    r"(?:cannot|could not) (?:be )?(?:definitively |accurately |reliably |possibly )?"
    r"(?:known|determined?|answered|predicted?|verified|established|ascertained|said|quantified)",
    r"there(?: is| are| exists)(?: currently| really)? (?:no|not a|not any|insufficient"
    r"|not enough)(?: \w+){0,4}?"
    r" (?:answers?|consensus|evidence|information|way (?:to (?:know|tell|say|determine|answer)|of"
    r" knowing)|data|agreement|solution)",
    r"(?:insufficient|not enough|lack of) (?:information|data|evidence|context)",
    r"(?:no|not a) (?:definitive|known|clear|single|correct|right|scientific|definite|certain|objective"
    r"|universal) (?:answer|consensus)",
    r"(?:question|this) (?:is unanswerable|has no (?:\w+ )?answer|does not have an? (?:\w+ )?answer"
    r"|cannot be answered)",
    r"(?:only|just) (?:god|time) (?:knows|(?:will|can) tell)",
    r"(?:i|we)(?: \w+)? (?:do not|lack|cannot)(?: (?:yet|currently|actually|really|still))?(?: have"
    r"| access| possess)?"
    r"(?: (?:an?|any|the|enough|sufficient|necessary|required|personal|direct|real-time|specific"
    r"|up-to-date|reliable))*"
    r" (?:information|data|knowledge|access|opinions?|beliefs?|preferences?|feelings|experiences?|ability"
    r"|evidence|context|details)",
    r"(?:i|we|they(?= (?:do not|cannot) (?:know|agree)[ ]*(?:$|[.,;!]))|scientists|science|researchers"
    r"|experts|historians|scholars|philosophers|physicists|astronomers|humans|humanity)"
    r" (?:do not|does not|cannot)(?: (?:yet|currently|really|actually|still|fully))? (?:know"
    r"|agree|be (?:sure|certain))"
    r"(?! (?:why (?:people|anyone|you)|about you|much|that))",
    r"(?:may|might|will|can|could) never (?:be )?(?:known?|find out|determined?|answered)",
    r"(?:cannot|unable to|not able to|could not) (?:really |possibly )?(?:provide|give|offer"
    r"|answer|determine|say|tell)"
    r"(?: you)?(?: with)?(?: an?| any| the| that| this)?(?: \w+)? (?:answers?|response|information|opinion"
    r"|questions?|prediction)",
    r"(?:am|are) (?:not able|unable) to (?:really |possibly )?(?:answer|say|determine|tell|know|predict"
    r"|provide)",
    r"(?:scientists|experts|researchers|historians|scholars|philosophers|physicists|astronomers|people"
    r"|opinions|theologians)"
    r" (?:are|remain)(?: still| currently| deeply)? (?:unsure|uncertain|not sure|undecided|divided|in disagreement)",
    r"not (?:something|a question|a thing) (?:that |which )?(?:can|could|we can|anyone can"
    r"|i can) (?:be )?(?:known?|answer(?:ed)?"
    r"|determined?|predict(?:ed)?|say)",
    r"(?:it is|this is|that is|remains|is)(?: still| currently)? an? (?:complete |total |great "
    r"|unsolved )?(?:mystery|enigma"
    r"|open question|unsolved (?:problem|question))(?= *(?:$|[.,;!?]|to\b|in\b|why\b|how\b|what\b"
    r"|whether\b|that no))",
    r"no (?:\w+ ){0,2}consensus|(?:still|hotly|much|widely|heavily) debated|(?:subject|matter"
    r"|topic) of (?:\w+ )?(?:debate|speculation)",
    r"(?:has|have) (?:not|never)(?: yet)?(?: been)? (?:found an answer|found the answer|determined"
    r"|established|answered|settled|resolved)",
    r"any(?:one|body)'s guess",
    r"(?:it|this|that|answer|question|matter)(?:'s| is| are)(?: \w+)? (?:subjective|debatable|unanswerable)",
    r"(?:varies|differs|depends)(?: \w+)? (?:from person to person|between individuals|on (?:personal|individual"
    r"|your|one's"
    r"|each person|the individual|the person|who you ask|personal preference))",
    r"(?:has|have) (?:not|never)(?: yet)? been (?:\w+ )?(?:confirmed|proven|verified)",
    r"beyond (?:the )?(?:scope|limits|reach|realm|bounds)?(?: ?of)? ?(?:current |our |human |my "
    r"|scientific ){1,3}(?:knowledge|understanding"
    r"|capabilit\w+|ability)",
    r"(?<!not )(?:impossible|hard|difficult|too early|tough) to (?:say|know|tell|predict|determine"
    r"|answer)(?= *(?:$|[.,;!?]|for\b|with\b|what\b"
    r"|whether\b|how\b|if\b|definitively\b))",
    r"future is (?:\w+ )?(?:unpredictable|uncertain|unknown|unknowable)",
    r"(?:i|we)(?: \w+)? (?:do not|lack)(?: have)? (?:an?|the|any)(?: \w+)? answers?",
    r"time will tell|remains? to be (?:seen|determined|answered|discovered)|(?:is|are|has"
    r"|have) yet to be (?:\w+ )?(?:seen|determined"
    r"|discovered|proven|established|answered|known)",
    r"matter of (?:\w+ )?(?:opinion|preference|taste|perspective|interpretation|belief|faith)",
    r"(?:no ?one|nobody) has (?:ever |yet )?(?:found out|known|figured (?:it|this|that) out|determined|discovered"
    r"|answered|been able to)",
)
_AT_START = [p for p in PHRASES if p.startswith("^")]
_ANYWHERE = [p for p in PHRASES if not p.startswith("^")]
ABSTAINS = re.compile("|".join([*(rf"(?:{p})" for p in _AT_START), rf"\b(?:{'|'.join(_ANYWHERE)})(?!\w)"]))
# One of these is in every phrase; most texts hold none.
_CUE_WORDS = (
    "not|n't|nt |no |no-|nobody|noone|dunno|never| un|insuff|indet|inacc|impossib|hard to|difficult to|early to|"
    "soon to|tough to|lack|fail|doubt|far from|up in the|lost to|will see|shall see|tell me|classified|myster|"
    "enigma|open question|debat|disput|contest|guess|search me|beat|beyond|elude|escape|opinion|matter of|"
    "subject|time will|time can|yet to|remain|varies|vary|differ|depends|disagree|divided|speculat|future|"
    "too little|knows|idk|open to|open for|up for|like to know|love to know|wait and|how should|how would|"
    "how could|who knows|who can|who could|who is to|need more|need further|need additional|need some more|"
    "needed|required|necessary|none of|none ha|neither of|neither ha|outside|being |under |i knew|we knew"
)
_CUES = tuple(_CUE_WORDS.split("|"))


def may_abstain(text: str) -> bool:
    """Returns True if a folded text holds a word without which no phrase matches."""
    spaced = f" {text}"
    return any(cue in spaced for cue in _CUES)
