"""What reports say of a finding: that it is there, where, how large, since when.

Phrases are written as in terms.py.
"""

NORMAL = (
  "(normal|unremarkable|clear|sharp|intact|within normal limits|preserved)",
  "not (enlarged|widened|increased|blunted)",
  "(non|un) enlarged",
  "well (aerated|expanded)",
  "within [the] limits of normal",
  "[(at|near|on)] [the] (top|upper) [(limit|limits)] [of] normal [in size]",
  "[(at|near)] top normal limits",
)
ABNORMAL = (
  "(enlarged|enlargement|widened|widening|dilated|prominent|blunted|blunting)",
  "(prominence|engorged|engorgement|indistinct|indistinctness|distended)",
  "enlarged in size",
)
BORDERLINE = ("(borderline|borderline (enlarged|in size|enlargement))",)

NO = (
  "(no|without|not|nor|neither|lack of|absence of|absent|negative for|free of)",
  "(no|without) [(definite|convincing|radiographic|new)] (evidence|signs|sign) [of]",
  "(clear of|rather than|instead of|resolution without|excludes)",
  "(rules out|unlikely)",
)
NOT_SEEN = (
  "[(is|are|was|were)] not [(clearly|definitely)] "
  "(seen|visualized|identified|present|evident|appreciated|detected|demonstrated)",
  "(is|are) (absent|excluded)",
  "(is|are|appears) [(felt|thought|considered)] [to be] (unlikely|doubtful)",
  "(has|have) been (excluded|ruled out)",
  "(is|are) ruled out",
  "(may|might|could) not be "
  "(seen|visualized|identified|evident|appreciated|detected|demonstrated)",
)
# What is looked for, asked about or told of the past is not thereby seen.
SOUGHT = (
  "(evaluate|evaluating|evaluation|assess|assessing|assessment) (for|of)",
  "(limits|limiting) [the] (evaluation|assessment) (for|of)",
  "(history of|hx of|[to] rule out)",
  "if [there is] [(further|continued|persistent|any|high)] [clinical] "
  "(concern|suspicion) (for|of)",
  "(evaluate|correlate) [clinically] (for|with)",
)
# What is seen may be what follows.
SUGGESTED = (
  "(may|might|could) [(also)] (represent|reflect|be|indicate|suggest) [due to]",
  "(concerning|suspicious|worrisome) for",
  "(concern|suspicion) (for|of)",
  "(suggesting|suggestive of|suggests|suggest)",
  "(raises the possibility of|differential includes)",
)
UNCERTAIN = (
  *SUGGESTED,
  "(possible|possibly|potential|potentially|questionable|question of|suspected)",
  "(question|questioned|suspect|suspects|suspicious|conceivably|indeterminate)",
  "(may|might|could)",
  "[(is|are)] (favored|preferred|more likely) (over|than)",
  "(suggestion of|suspicion of|differential (diagnosis|considerations) [(is|are)])",
  "differential [(diagnosis|considerations)] (includes|include)",
  "(cannot|can not) [(entirely|completely)] (exclude|rule out)",
  "(possibility of|equivocal)",
)
UNCERTAIN_AFTER = (
  "(cannot|can not) be [(entirely|completely)] (excluded|ruled out)",
  "(is|are) [(also)] (possible|suspected|questionable|questioned|not excluded)",
  "(not|is not|are not) [(entirely|completely)] excluded",
  "(is|are) (difficult|hard) to exclude",
  "may be present",
  "(is|are) [(also)] [a] [(diagnostic|possible)] "
  "(consideration|considerations|concern|possibility)",
)
# What is seen is taken for what follows.
TAKEN_FOR = (
  "(consistent|compatible|in keeping) with",
  "(representing|represents|represent|reflecting|reflects|reflect|indicating)",
  "(due|secondary|attributable|attributed|related) to",
  "(likely|probable|probably|presumed|presumably|most likely)",
  "because of",
)

CHANGES = {
  "new": (
    "(new|newly|newly developed|newly placed|newly seen)",
    "(has|have) [newly] (developed|appeared)",
    "(interval|new) (development|appearance|placement|insertion) [of]",
    "(has|have) been (placed|inserted)",
    "(placement|insertion|development) of",
    "(was|were) not (seen|present) (previously|before|on the prior study)",
  ),
  "larger": (
    "(increased|increase|increasing|larger|bigger|worse|worsened|worsening)",
    "(enlarging|progressed|progressing|progressive|progression|greater|grown)",
    "(growing|expanded|expanding|accumulated|accumulation|deteriorated)",
    "more (pronounced|prominent|extensive|confluent|severe|conspicuous|apparent)",
    "increased in (size|extent)",
  ),
  "smaller": (
    "(decreased|decrease|decreasing|smaller|less|improved|improving|improvement)",
    "(diminished|diminishing|reduced|reduction|regressed|resolving|shrunk|better)",
    "(partial|partially|near complete|nearly|all but|almost completely|almost) "
    "(resolution|resolved|cleared)",
    "less (pronounced|prominent|extensive|confluent|severe|conspicuous|apparent)",
    "partial [interval] (clearing|resolution) [of]",
    "decreased in (size|extent)",
  ),
  "resolved": (
    "[(completely|entirely|now)] (resolved|cleared|disappeared)",
    "[(complete|interval)] (resolution|clearing) [of]",
    "no longer [(is|are|be)] "
    "[(seen|visualized|present|evident|identified|apparent|visible|in place)]",
  ),
  "unchanged": (
    "(unchanged|stable|persistent|persists|persist|persisting|constant|similar)",
    "(remain|remains|redemonstrated|static)",
    "(again|still) (seen|noted|demonstrated|identified|present|is|are)",
    "(as before|the same|chronic)",
    "(no|without) [(significant|relevant|appreciable|substantial|definite|interval"
    "|significant interval)] (change|increase|decrease|progression|improvement) "
    "[in]",
    "(not|has not|have not) [(significantly|substantially|appreciably)] changed",
    "[(little|minimal)] (interval|overall) change",
  ),
}
EARLIER = (
  "(previous|previously|prior|former|earlier) "
  "[(seen|noted|described|identified|demonstrated|reported|visualized)]",
)
REMOVAL = ("[(has|have)] [been] (removed|withdrawn)", "[interval] removal [of]")

SIDES = {
  ("left",): ("left [(sided|side)]", "leftward"),
  ("right",): ("right [(sided|side)]", "rightward"),
  ("left", "right"): (
    "(bilateral|bilaterally|in both lungs|both sides|both hemithoraces)",
    "(left|right) (greater|more|larger|worse|less|smaller) than [the] (right|left)",
    "right > left",
    "left > right",
  ),
}
# (sides or (), location)
PLACES = {
  ((), "upper"): (
    "upper [(lobe|lung|zone|field)] [zone]",
    "[lung] (apex|apical|apices)",
    "suprahilar",
  ),
  ((), "middle"): (
    "(middle|mid) [(lobe|lung|zone|field)] [zone]",
    "midlung",
    "perihilar",
  ),
  ((), "lower"): (
    "lower [(lobe|lung|zone|field)] [zone]",
    "[lung] (base|basilar|basal)",
    "infrahilar",
  ),
  (("left",), "lower"): ("retrocardiac", "lll"),
  (("left",), "upper"): ("lul",),
  (("left",), "middle"): ("(lingula|lingular)",),
  (("right",), "upper"): ("rul",),
  (("right",), "middle"): ("rml",),
  (("right",), "lower"): ("rll",),
  (("left", "right"), "lower"): (
    "(bibasilar|bibasal|bases|lung bases|both [lung] bases|both lower lobes)",
  ),
  (("left", "right"), "upper"): ("(biapical|both apices|both upper lobes)",),
}
GRADES = {
  "mild": (
    "(mild|mildly|small|minimal|minimally|tiny|trace|slight|slightly|subtle)",
    "(faint|minor|minute|low grade|small sized|borderline mild|nondisplaced)",
  ),
  "moderate": (
    "(moderate|moderately|moderate sized|medium sized)",
    "(small|mild|mildly) to (moderate|moderately)",
  ),
  "severe": (
    "(severe|severely|large|marked|markedly|massive|massively|extensive|gross)",
    "(substantial|dense|huge|moderate to large|moderate to severe)",
    "(moderately to severely|large sized)",
  ),
}

AND, OR = ("and", "plus"), ("or", "versus", "vs")
BE = ("(is|are|was|were|be|been|has|have|had|appears|appear|shows|show)",)
EXISTENCE = ("there (is|are|was|were|remains|has been|have been) [also]",)
WITH = ("(with|associated with|accompanied by|in addition|as well as|along with)",)
BREAKS = ("(but|however|although|though|while|whereas|otherwise|except|yet)",)
ARTICLES = ("a", "an")
# What joins and turns the words of a clause, by the kind of a matcher.Mark.
GRAMMAR = {
  "no": NO,
  "sought": SOUGHT,
  "removal": REMOVAL,
  "not_seen": NOT_SEEN,
  "uncertain_after": UNCERTAIN_AFTER,
  "earlier": EARLIER,
  "and": AND,
  "or": OR,
  "comma": (",",),
  "be": BE,
  "existence": EXISTENCE,
  "with": WITH,
  "break": BREAKS,
  "article": ARTICLES,
}
# Words that would mislead: sides of vessels and chambers, and what is no finding.
IGNORED = (
  "(right|left) (atrium|atrial|ventricle|ventricular|heart|main|mainstem|main stem)",
  "(right|left) (brachiocephalic|innominate|shoulder|arm|upper quadrant) [vein]",
  "(right|left) (heart border|hilum|hilar|lateral|anterior oblique)",
  "new york",
  "(upper|middle|lower) (abdomen|abdominal|thoracic)",
  "mass effect",
  "(less|greater|more) than [(before|previously)]",
  "than (before|previously|on the prior study)",
  "lower (svc|superior vena cava)",
  "mid (svc|trachea|esophagus|clavicular)",
  "heart border",
)
