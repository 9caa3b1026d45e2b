r"""The forms of statements about options (:mod:`~carerl.grading.choice.statements`), as patterns over a text in which
every mention is one private character (:mod:`~carerl.grading.choice.options`). Each pattern has the options in its
group ``t``."""

from __future__ import annotations

import re

from .options import DENIED, MENTION

_LIST = (
    rf"{MENTION}(?:(?:[ \t]*,[ \t]*(?:and|or|nor)?|[ \t]+(?:and/or|and|or|nor)|[ \t]*[/&,]"
    rf"|\"?[ \t]*or)[ \t]*(?:maybe "
    rf"|perhaps |possibly |even |even )?[\"']?{MENTION})*"
)
_DENIED_LIST = rf"{MENTION}(?:(?:[ \t]*,[ \t]*{MENTION})*[ \t]*,?[ \t]*(?:\b(?:and|or|nor)\b|[/&])[ \t]*{MENTION})?"
ANY_CASE = re.IGNORECASE

_WRONG = (
    r"(?:wrong|incorrect|false|untrue|out\b|impossible|ruled out|eliminated|excluded|invalid|unlikely"
    r"|irrelevant|implausible"
    r"|inaccurate|inappropriate|incomplete|insufficient|too |less |least |only (?:partially|partly"
    r"|half)|partially|partly|nearly|almost"
    r"|half|the (?:wrong|incorrect|least|worst|false|second|next|opposite|exception)|an? (?:wrong|bad"
    r"|poor|weak|false|distractor))"
)
DENIALS = (
    re.compile(
        r"(?:\b(?:not(?! only)|never|neither|nor|cannot be|except(?: for)?|rather than|instead of"
        r"|other than|anything but|all but"
        r"|besides|apart from|unlike|than|without|exclud(?:e|es|ing)|eliminat(?:e|es|ed|ing)|rul(?:e|es|ed|ing) out"
        r"|discard(?:s|ed|ing)?|reject(?:s|ed|ing)?|cross(?:ed|ing)? (?:out|off)|avoid|against|compared (?:to|with)"
        r"|nothing but(?= never))|n't)[ \t]+(?:(?:the|be|just|simply|necessarily|really|actually"
        r"|exactly|it|answer|both|either)[ \t]+){0,2}"
        + _DENIED_LIST,
        ANY_CASE,
    ),
    re.compile(
        _DENIED_LIST + r"[ \t]*,?[ \t]*(?:(?:itself|both|all|each|also|clearly|obviously)[ \t]+)?"
        r"(?:(?:is|are|was|were|can|could|would|will|does|do|did|has|have|must|should|may|might|seems?)"
        r"(?:[ \t]*n't\b|[ \t]+(?:\w+[ \t]+)?not\b|not\b|[ \t]+never\b|(?:[ \t]+be"
        r"|[ \t]+being)?[ \t]+(?:\w+ly[ \t]+|also[ \t]+|just[ \t]+|all[ \t]+|both[ \t]+)?"
        + _WRONG
        + r")|fails?\b|lacks?\b|out\b)",
        ANY_CASE,
    ),
    re.compile(  # the verdict on an option, in a list of them
        rf"{MENTION}[ \t]*(?:[:.,)(\[–—→-]|=>|->)+[ \t]*(?:(?:is|was)[ \t]+)?(?:not (?:correct|right"
        rf"|true)|wrong|incorrect|false|no|nope"
        r"|out|rejected|eliminated|excluded|✗|✘|❌|too \w+)(?=[ \t]*(?:$|[.,;!)\]\n]))",
        ANY_CASE,
    ),
)  # fmt: skip
CORRECTION = re.compile(
    rf"{MENTION}[\s,.;:–—?!-]*(?:\b(?:no|nope|wait|sorry|scratch that|I mean|I meant|correction|make that"
    rf"|oops|hmm|or rather|rather"
    r"|on second thought|actually)\b[\s,.;:–—-]*)"
    r"(?:(?:no|wait|it is|it's|it should be|I mean|make that|that is|rather|actually)\b[\s,.:;–—-]*)*"
    rf"(?={MENTION})",
    ANY_CASE,
)

_ADVERB = (
    r"(?:(?:clearly|therefore|thus|hence|then|simply|just|definitely|certainly|obviously|actually"
    r"|indeed|(?:most |very )?likely"
    r"|(?:most )?probably|surely|undoubtedly|of course|really|still|now|here|in fact|only|again"
    r"|almost certainly|without (?:a )?doubt)\b[ \t]*,?[ \t]*)*"
)
_ADJECTIVE = (
    r"(?:most[ \t]+\w+|best|correct|right|final|only|chosen|selected|picked|likely|closest|proper"
    r"|appropriate|accurate|suitable|logical"
    r"|ideal|true|valid|preferred|intended|expected|required|overall|single|obvious|remaining|sensible"
    r"|reasonable|own|unique|clear|desired)"
)
_NOUN = (
    r"(?:answer(?:[ \t]+(?:choice|option|letter))?|option|choice|letter|pick|guess|selection|response"
    r"|alternative|conclusion|solution"
    r"|result|verdict|vote|decision|candidate|match|fit|bet|money|ans\.?)"
)
_LATER = (
    r"(?:,?[ \t]+(?:then|here|therefore|to|for|of|that|which|I|we|among|in|from|would|with|by|on|fits"
    r"|works|matches|makes|remains|given|goes|left|remaining)\b[^.;:?!\n]{0,60}?)?[ \t]*,?"
)
_IS = (
    r"(?:[ \t]+(?:is|are|must be|should be|would be|will be|has to be|would have to be|can only be"
    r"|seems to be|appears to be"
    r"|must therefore be|turns out to be|goes to|seems)\b(?:[ \t]+on\b)?|'s\b|[ \t]*[:=→⇒–—][:=>]?"
    r"|[ \t]*-+>|[ \t]+-+(?=[ \t]))"
)
_BETWEEN = (
    rf"[\s\"']{{0,4}}(?:{DENIED}[\s,;:.–—-]*)*"
    r"(?:(?:but|rather|instead|it is|it's|it must be|that is|that|is|the|letter|number|option|choice"
    r"|answer|indeed|so|and|(?:first|second|third|fourth|fifth|last))\b[ \t]*,?[ \t]*)*"
)
_REASON = (
    rf"(?=[\"')\]]{{0,2}}[ \t]*(?:$|[.!,;:()–—{DENIED}-]|(?:because|since|as|for|here|due|given|but|based"
    rf"|over|and|with|from|in|on|is|would)\b))"
)
_RIGHT = r"(?:most[ \t]+\w+|best|correct|right|accurate|true)"
_RIGHT_END = (
    r"(?=[\"')]?[ \t]*(?:$|[.!,;:)–—-]|(?:answer|option|choice|one|because|since|as|here|and|given"
    r"|which|while|whereas|but|due|in this"
    r"|based|according|among|of)\b))"
)
_TARGET = rf"(?P<t>(?:both |either )?{_LIST})"
_TARGET_IS = (
    rf"{_TARGET}[ \t]*,?[ \t]*(?:(?:is|are|seems?|must be|would be|looks|appears|should be|has to be|will be)"
    r"(?:[ \t]+to[ \t]+be)?)[ \t]+"
)

STRONG = (
    re.compile(
        rf"(?:(?<!\w)(?:(?:the|my|our|your|a|an|this)[ \t]+)?(?:{_ADJECTIVE}(?:[ \t]+and[ \t]+"
        rf"|,?[ \t]+))*(?<!\w)(?:{_NOUN}|(?<=only )one|(?<=correct )one|(?<=right )one|(?<=best )one)"
        rf"|(?<!\w)(?:correct|best|right|final|selected|chosen)(?=[ \t]*[:=])"
        r"|\bthe[ \t]+(?:best|correct|right)(?=[ \t]+(?:is|would be|must be)\b)"
        r"|\b(?:the one|what)(?=[ \t]+(?:that |which )?(?:fits|works|matches|makes|remains)\b))(?!\w)"
        rf"{_LATER}[\"']?{_IS}[ \t]*{_ADVERB}{_BETWEEN}{_TARGET}",
        ANY_CASE,
    ),
    re.compile(
        rf"{_TARGET_IS}{_ADVERB}"
        rf"(?:(?:the|my|our)[ \t]+(?:(?:{_ADJECTIVE}(?:[ \t]+and[ \t]+|,?[ \t]+))+(?:{_NOUN}|one)\b"
        rf"|(?:answer|choice|pick|guess|selection|solution)\b(?![ \t]+to (?:an?|another)\b))"
        rf"|the[ \t]+one\b(?=[ \t]*(?:$|[.!]))|it(?=[ \t]*(?:$|[.!]))|what I (?:would |'d "
        rf"|will )?(?:choose|pick|go with|say|select)\b)",
        ANY_CASE,
    ),
    re.compile(
        r"\b(?:I|we)\b(?:'(?:d|ll|m|ve))?(?:[ \t]+(?:would have|would|will|am|have|do|shall|can|must|should))*[ \t]+"
        rf"{_ADVERB}(?:to[ \t]+)?(?:choose|chose|choosing|pick|picked|picking|select|selected"
        rf"|selecting|go|going|opt|opting|say|said|guess|think|believe"
        rf"|lean|leaning|conclude|settle|answer|vote|suggest|suspect|bet|take|meant?|get)"
        rf"(?:[ \t]+(?:with|for|on|to|towards?|that|upon))?[ \t]*:?[ \t]*(?:(?:the|it|is|it's|must be"
        rf"|should be|would be|correct|right|best|answer|option|choice"
        rf"|letter)\b[ \t]*)*{_TARGET}{_REASON}",
        ANY_CASE,
    ),
    re.compile(rf"(?:^|[,;:][ \t]*(?:so|then)?[ \t]*)(?:(?:let's|let us|let me)[ \t]+)?(?:choos(?:e|ing)|pick(?:ing)?"
        rf"|select(?:ing)?|go(?:ing)? with|mark|circle)[ \t]+{_TARGET}{_REASON}", ANY_CASE),
    re.compile(
        r"\b(?:it|that)(?:'s|[ \t]+(?:is|must be|has to be|should be|would be|will be|can only be"
        r"|leaves(?: us)?(?: with)?))[ \t]+"
        rf"{_ADVERB}(?:only |just |with )?{_TARGET}{_REASON}",
        ANY_CASE,
    ),
    re.compile(rf"^(?:so[ \t]+|then[ \t]+)?(?:must|should|has to|would)[ \t]+be[ \t]+{_TARGET}{_REASON}", ANY_CASE),
    re.compile(rf"\b(?:leaves|leaving)(?:[ \t]+us)?(?:[ \t]+with)?(?:[ \t]+only"
        rf"|[ \t]+just)?[ \t]+{_TARGET}{_REASON}", ANY_CASE),
    re.compile(rf"(?:^|[,;.–—][ \t]*|\band[ \t]+)(?:so|hence|thus|therefore"
        rf"|consequently)[,:]?[ \t]+{_ADVERB}(?:it (?:is|must be)[ \t]+)?{_TARGET}(?=[\"')]?[ \t]*(?:$"
        rf"|[.!,;)]))", ANY_CASE),
    re.compile(rf"{DENIED}[ \t]*[,;–—.-]+[ \t]*(?:but[ \t]+)?{_TARGET}(?:[ \t]+is)?(?=[ \t]*(?:$|[.!]))", ANY_CASE),
    re.compile(rf"{DENIED}[^.;!?\ue000-\uefff]{{0,40}}[,;–—-]+[ \t]*(?:but[ \t]+)?{_TARGET}[ \t]+is(?=[ \t]*(?:$"
        rf"|[.!]))", ANY_CASE),
    re.compile(rf"^(?:by|from|since|given|using|as|because|after)\b[^.;?!]*(?<!{MENTION}),[ \t]*{_TARGET}(?=[ \t]*(?:$"
        rf"|[.!]))", ANY_CASE),
    re.compile(rf"{_TARGET}[ \t]+it[ \t]+(?:is|must be)(?=[ \t]*(?:$|[.!,;]))", ANY_CASE),
)  # fmt: skip
WEAK = (
    re.compile(
        rf"{_TARGET_IS}{_ADVERB}(?:the[ \t]+)?{_RIGHT}\b{_RIGHT_END}",
        ANY_CASE,
    ),
    re.compile(rf"{_TARGET}[ \t]+remains(?=[ \t]*(?:$|[.!]))", ANY_CASE),
    re.compile(rf"{_TARGET}[ \t]+(?:fits?|matches|works?|makes)[ \t]+(?:the[ \t]+)?(?:best|(?:most[ \t]+)?sense"
        rf"|most)\b", ANY_CASE),
    re.compile(
        rf"\bonly[ \t]+{_TARGET}[ \t]+(?:is|fits|works|remains|makes sense|satisfies|applies|holds"
        rf"|matches|can|would|seems)\b",
        ANY_CASE,
    ),
    re.compile(
        rf"\b(?:this|that|which|it)(?:[ \t]+(?:is|corresponds to|matches|points to|leads to|means"
        rf"|leaves|indicates|suggests|gives))[ \t]+{_ADVERB}(?:only "
        rf"|us with )?{_TARGET}(?=[\"')]?[ \t]*(?:$|[.!;)]))",
        ANY_CASE,
    ),
)  # fmt: skip
# What stands directly beside an option in every form above: sentences without it are not looked at further.
NEAR = re.compile(
    r"(?:^|[^\w\s]|\b(?:is|are|be|s|to|on|seems|clearly|therefore|thus|hence|then|simply|just"
    r"|definitely|certainly|obviously"
    r"|actually|indeed|likely|probably|surely|undoubtedly|course|really|still|now|here|fact|only|again"
    r"|doubt|but|rather"
    r"|instead|it|that|the|letter|number|option|choice|answer|so|and|first|second|third|fourth|fifth"
    r"|last|choose|chose"
    r"|choosing|pick|picked|picking|select|selected|selecting|go|going|opt|opting|say|said|guess|think|believe|lean"
    r"|leaning|conclude|settle|vote|suggest|suspect|bet|take|meant?|get|with|for|towards?|upon|correct"
    r"|right|best|mark"
    r"|circle|us|leaves|leaving|consequently|both|either|matches|means|indicates|suggests|gives|as))[ \t]*[\"'(]*"
    rf"{MENTION}|{MENTION}[\"')]*[ \t]*,?[ \t]*(?:is|are|seems?|must|would|looks|appears|should|has"
    rf"|will|it|fits?|works?"
    r"|match(?:es)?|makes?|remains?)\b",
    ANY_CASE,
)
LEAD = re.compile(
    r"(?:(?:so|thus|hence|therefore|then|accordingly|consequently|in conclusion|to conclude|overall"
    r"|finally|ultimately|in summary|in short"
    r"|well|ok(?:ay)?|sure|yes|clearly|obviously|definitely|surely|certainly|(?:most "
    r"|very )?(?:probably|likely)|maybe|perhaps|possibly|my bad"
    r"|sorry|no|nope|correction|actually|the|my|it is|it's|just|q\.?e\.?d\.?)\b[,:.!]?[ \t]*"
    r"|[=-]*[>→⇒∴•◦·][ \t>]*|[-–—*+][ \t]+|\d{1,2}[.)][ \t]+"
    rf"|{DENIED}[\s,;:.–—-]*(?:but\b|and\b|so\b)?[ \t]*|{MENTION}:[ \t]*(?={MENTION}[ \t]*[.!]?$)"
    rf"|[^\w\s!¬~≠✗✘❌?\ue000-\uf8ff]+[ \t]*)*",
    ANY_CASE,
)
STARTS = re.compile(rf"(?P<t>{_LIST})(?P<mark>[\"'\])}}>]*[.):,;!…\]]*)[ \t]*(?P<rest>.*)$", ANY_CASE)
GUESSED = re.compile(r"maybe|perhaps|possibly", ANY_CASE)
CONNECTED = re.compile(
    r"\b(?:so|thus|hence|therefore|then|consequently|conclusion|conclude|finally|ultimately|it is|it's"
    r"|sure|yes|definitely|certainly|clearly|surely|likely|probably)\b|[=>→⇒∴]",
    ANY_CASE,
)

UNASSERTED = re.compile(
    r"(?:^(?:according to|in the (?:view|opinion) of) (?!me\b|us\b)[^\ue000-\uf8ff]*\Z"
    r"|\b(?:first|initial|previous|earlier|original|student's|second|other)[ \t]+\Z"
    r"|(?:\b(?:(?:could|might|may|can) (?:be )?(?:argued?|said|claimed?)|you'd|the \w+ says?|if|unless"
    r"|whether|suppose|supposing|assum\w+|why|when|not|never|doubt|den(?:y|ies)"
    r"|unlikely|wrong|false|untrue|incorrect|myth"
    r"|cannot|hardly|(?:some|many|most|others?|people|students?|everyone|they|he|she|you"
    r"|one)(?: \w+)? (?:say|says|said|think|thinks|thought"
    r"|believe|believes|claim|claims|would|might|may|could|choose|chose|pick|picked)|textbook|teacher"
    r"|at first|initially|I first|tempt\w+"
    r"|I (?:had )?thought|originally|previously|used to|was going to|claim|said|least|worst|second"
    r"|wrongly|mistakenly|falsely)\b|n't\b)"
    r"[^,;:–—]*\Z)",
    ANY_CASE,
)
IN_MATCH = re.compile(
    r"\b(?:not|never|wrong|incorrect|worst|least|fails?|false|unlikely|except|excluded|ruled out"
    r"|eliminated)\b|n't\b|second[ -]best",
    ANY_CASE,
)
CONDITION = re.compile(r"[\"')\]]?[ \t]*(?:only[ \t]+)?(?:if|unless|provided|when)\b", ANY_CASE)
TAKEN_BACK = re.compile(
    r"^(?:(?:no|nope|wait|hmm+|oops|scratch that|correction|sorry|never mind)(?=[ \t]*(?:[,.!;:–—-]|$|wait\b|no\b))"
    r"|(?:but |actually,? )?(?:that|this|it)(?:'s| is| was) (?:not (?:right|correct|true)|wrong|incorrect|false))",
    ANY_CASE,
)
RETRACTED_BEHIND = re.compile(
    r"\b(?:but|which|and)[ \t]+(?:that|this|it)?(?:'s|[ \t]*(?:is|was|would be"
    r"|turns out))[ \t]*(?:n't\b|(?:not|wrong|false"
    r"|incorrect)\b)",
    ANY_CASE,
)
OPEN = (
    re.compile(
        rf"(?P<t>{MENTION}[ \t]*,?[ \t]*(?:that is|i\.?e\.?|namely|in other words)[,:]?[ \t]+{MENTION})", ANY_CASE
    ),
    re.compile(rf"(?:^|[,;(–—-][ \t]*)(?:or|and|but)?[ \t]*(?:maybe|perhaps|possibly|alternatively|or|otherwise"
        rf"|unless)\b[ ,]*(?:even[ \t]+)?(?P<t>{MENTION})", ANY_CASE),
    re.compile(rf"\b(?:could|might|may)(?:[ \t]+(?:also|well|just as well))*[ \t]+be[ \t]+(?P<t>{MENTION})", ANY_CASE),
    re.compile(
        rf"(?P<t>{MENTION})[ \t]+(?:(?:is|are|would be)[ \t]+(?:just as|equally|also|as (?:good|likely"
        rf"|plausible|correct|well)|too\b|possible|plausible|another|correct too|right too)"
        r"|(?:could|might|may)(?:[ \t]+(?:also|well))*[ \t]+be[ \t]+(?:correct|right|possible"
        r"|the (?:answer|right|correct)|true))",
        ANY_CASE,
    ),
    re.compile(rf"\b(?:so|as)[ \t]+(?:is|does)[ \t]+(?P<t>{MENTION})", ANY_CASE),
    re.compile(rf"\b(?:and|or)[ \t]+(?:maybe[ \t]+|perhaps[ \t]+|possibly[ \t]+)?(?P<t>{MENTION})[ \t]+(?:too|as well"
        rf"|also)\b", ANY_CASE),
)  # fmt: skip
TURN = re.compile(
    r"\b(?:but|so|however|therefore|hence|thus|wait|no|actually|correction|conclusion|finally|yet|still"
    r"|instead)\b",
    ANY_CASE,
)
SENTENCES = re.compile(r"(?<=[.!?;])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bvs\.)(?<!\b\d\.)[ \t]+")
