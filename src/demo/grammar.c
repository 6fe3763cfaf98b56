#include "demo/grammar.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"

#define TASK	"(tasks?|to-?dos?|items?|reminders?|entry|entries|(to-?do|task) items?)"
#define LIST	"(to-?do |task |shopping )?(lists?|tasks|to-?dos)"
#define DONE	"(done|complete|completed|finished|checked off|ticked off)"
#define NOTE	"(description|desc|details)"
#define VERB	"(complete|finish|delete|remove|keep|add|rename)"

static const char *const patterns[PAT_RULES] = {
	[PAT_POLITE] = "^(please|pls|kindly|hey|hi|hello|ok|okay|alright|well|so|now|also|then|and|just|"
	    "great|thanks|thank you|yes|(first|next|finally),|parley|(could|can|would|will) you|"
	    "i(' ?d| would)? (want|like|need)( you)? to|i have to|let's|let us|go ahead and|"
	    "help me( to)?)[,!.: ]+([^ ].*)$",
	[PAT_LIST_SUFFIX] = "^(add|put|write|create) .+( (to|on|onto|in|into) (my|the|our) " LIST ")$",
	[PAT_BREAK] = "([.;!?]? *\n+ *([-*•] *)?|; *|[.!?] +|,? +and +then +|,? +then +|"
	    ",? +after that,? +|,? +and +(also +|finally +)?|, +| & )",
	[PAT_STRONG_BREAK] = "^([.;!?]|.*\n|.*then |.*after that)",
	[PAT_EXPLICIT] = "\\<" TASK "\\>|\\<list\\>|^(mark|tick|check) .* (done|complete|completed|finished|off)$|"
	    "\\<(what's|what is) (left|done)|^(complete|delete|remove|rename|finish) (it|that|them|\"|“|„)|"
	    "^(show|list) (me )?(all|everything|them|it)",
	[PAT_LIST_BARE] = "^((show|list|display)( me)?( again)?|((show|list|display|view|see|print|get|give|check)"
	    "( me)? )?((all|only|just|of|my|the|me|pending|open|remaining|outstanding|unfinished|incomplete|"
	    "uncompleted|active|not|yet|completed|done|finished|current|whole|full|and|or|todo|to-do|"
	    "task) )*(tasks|to-?dos|list|lists|all|everything|items|them|pending|open|remaining|completed|"
	    "done|finished)( (ones|tasks|list|again|only))?)$",
	[PAT_LIST_VERB] = "^(show|list|display|view|see|print|give me|tell me|read)"
	    "\\>.*\\<(" TASK "|list|left|pending|ids?)\\>",
	[PAT_LIST_ASKED] = "^(what|what's|whats|which|how many|do i|did i|are there|is|have i|anything|any)\\>"
	    ".*\\<(" TASK "|list|left|pending|done|complete|completed|finish|finished|remaining|remains|"
	    "outstanding|open|to do|due|ids?)\\>",
	[PAT_PENDING] = "\\<(pending|open|left|remaining|remains|outstanding|undone|unfinished|incomplete|uncompleted|"
	    "active|have to do|need to do|must do|should i do|still to do|to do next|"
	    "not (yet )?(been )?" DONE "|n't (yet )?(been )?" DONE "|have not " DONE ")\\>|"
	    "(haven't|isn't|aren't) (yet )?" DONE "|(what is|what's) (still )?(to do|due)",
	[PAT_COMPLETED] = "\\<(completed?|done|finish|finished)\\>",
	[PAT_ALL_WORD] = "\\<(all|everything)\\>",
	[PAT_IDS] = "\\<(ids?|identifiers?|task numbers?)\\>",
	[PAT_TITLE_LEAD] = "^( +(in|to|on|into) (my|the|our) " LIST ")?( *[:,–—-]+ *| +(called|named|titled|"
	    "labell?ed|saying|that says|which says|with( the)? title( of)?|title|for me to|to|for|of)[: ]+| +)?(.*)$",
	[PAT_DESCRIPTION] = " *[,;.(–—-]* *\\<(description|desc|details|notes?)( is)? *[:=] *|"
	    "[ ,]+with( a| the)? (description|details)( of)?[: ]+| +(-|--|–|—) +",
	[PAT_DESCRIPTION_LEAD] = "^( *[,;.(–—-]*( and)?( with)?( a| the)? *" NOTE "( of| is)?[ :=–—-]+| *[,:–—-]+ *| +(as|to) .*|"
	    " *[.!)]*$)(.*)$",
	[PAT_SEVERAL] = "^(add|create|make)( me)?( the| these| following| two| three| four| five| six| [2-6]| new)*"
	    " (tasks|to-?dos|items|reminders)( to (my|the) " LIST ")?( called| named)? *(: *| +)(.*[^ ].*)$",
	[PAT_SEVERAL_QUOTED] = "^(add|create|make)( me)?( the| these| new)*( tasks?:?)? *([\"“].*[\"”](,? and |, *)[\"“].*)$",
	[PAT_ITEM_BREAK] = " *\n+ *([-*•] *|[0-9]+[.)] +)?| *; *|,? +and +| *, +",
	[PAT_NO] = "^(n|no|nope|nah|never|don't|do not|cancel|stop|keep it|keep them|none|neither|never ?mind|"
	    "forget it|not now|wait|nein|leave it)"
	    "([ ,.!]+(no|thanks|thank you|please|don't|do not|keep (it|them)|delete (it|them)|do it|cancel|"
	    "of them|mind|leave it|stop))*[ .!]*$",
	[PAT_EVERY] = "^((all|each|both|every one|everyone|everything)( of (them|these|those|it|my tasks|the tasks))?|"
	    "(all |all the |all my |all of my |the |my |every )((remaining|open|pending|unfinished|completed|done|"
	    "finished) )?(tasks|to-?dos|items|list|task|ones)|them all|them both|them|"
	    "((remaining|open|pending|unfinished|completed|done|finished) )(tasks|ones|items))$",
	[PAT_ORDINAL] = "^(the )?((task |item |option |number |no\\.? ?|nr\\.? ?|id |task id |with id |#|task number |task no\\.? |"
	    "task #)*([0-9]{1,9})|(first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|"
	    "1st|2nd|3rd|[4-9]th|10th|one|two|three)( one| task| item| entry)?)( (on|in|from|of) (the|my) " LIST ")?"
	    "([ ,.!)]+please)?[ .!)]*$",
	[PAT_IT] = "^(it|that|this|that one|this one|that task|this task|the task|the same|the new one|the new task|"
	    "the last added( one| task)?|the one i just added)$",
};

const struct rule grammar_rules[] = {
	{ CMD_HELLO, "^(hi|hello|hey|hallo|howdy|greetings|good (morning|afternoon|evening|day))"
	    "( there| parley| all| everybody)?[ !.,:)]*$", 0, 0 },
	{ CMD_THANKS, "^(thanks?|thank you|thx|cheers|great|perfect|nice|cool|awesome|wonderful|good job|well done|"
	    "very good|ok|okay)([ ,!.]+(thanks?|thank you|a lot|so much|very much|parley|job|work|for .{1,30}|great))*"
	    "[ !.:)]*$", 0, 0 },
	{ CMD_BYE, "^(bye|goodbye|good bye|bye bye|good night|see you|see you later|ciao|tschüss)[ !.]*$", 0, 0 },
	{ CMD_HELP, "^(help|help me|commands?|what (can|do) (you|i) (do|say|ask)( here)?|what are you( able to do)?|"
	    "who are you|are you .*|how (do|can|does) (i|you|this|it) .*|"
	    "what do you (do|know|understand))[ ?.!]*$", 0, 0 },
	{ CMD_ASK_NAME, "^(what's|what is|do you (still )?(know|remember)|tell me|say|remember|and what's|and what is)"
	    "( what)? my name( is)?( again)?[ ?.!]*$|^who am i[ ?.!]*$|^what (did i say )?(is|was) my name.*$", 0, 0 },
	{ CMD_NAME, "^((remember( that)?|note that|by the way,?|fyi,?) )?(my name is|my name's|i am called|i'm called|"
	    "call me|you can call me|the name is|the name's) +(.+)$", 5, 0 },
	{ CMD_NAME, "^(i am|i'm) +(.+)$", 2, 0 },
	{ CMD_TIME, "^(what|which|tell|do you know|today|give)\\>.*\\<(time|date|day|weekday|month is it|year is it|today is|is today)\\>"
	    "[^:]*$|^(time|date|the time|the date|today)[ ?.!]*$|^what's today[ ?.!]*$", 0, 0 },

	{ CMD_UNCLEAR, "^" VERB ",? (and|but|or) (also )?(don't |do not |not )?" VERB " (.+)$", 6, 0 },
	{ CMD_UNCLEAR, "^(mark|set) (.+) (as )?" DONE " (and|but|or) (as )?(not " DONE "|pending|open|incomplete)$", 2, 0 },
	{ CMD_REOPEN, "^(mark|set|change|put) (.+) (as|to|back to) (not (yet )?" DONE "|undone|incomplete|pending|open|"
	    "unfinished|uncompleted|active|to do|todo)$", 2, 0 },
	{ CMD_REOPEN, "^(reopen|re-open|uncomplete|unmark|untick|uncheck|unfinish|undo)[: ]+(.+)$", 2, 0 },

	{ CMD_DESCRIBE, "^(change|update|set|edit|rewrite|replace|add|make|give)( the| a)? " NOTE
	    " (of|for|to|on) (.+)$", 5, 0 },
	{ CMD_DESCRIBE, "^(change|update|set|edit|rewrite) (.+)('s)? " NOTE " (to|as|with)[: ]+(.+)$", 2, 6 },
	{ CMD_DESCRIBE, "^(add|set|put)( the| a)? " NOTE "[: ]+(.+) (to|for|on) (.+)$", 6, 4 },
	{ CMD_RENAME, "^(rename|retitle|edit)(( a| the| my)? task)?$", 0, 0 },
	{ CMD_RENAME, "^(rename|retitle|change|update|edit|modify|reword)( the)?( (title|name|text|wording))?( of)? +"
	    "(.+)$", 6, 0 },

	{ CMD_COMPLETE, "^(complete|finish|(check|tick) off|mark( as)? (done|complete|completed))(( a| the| my)? task)?$", 0, 0 },
	{ CMD_COMPLETE, "^(mark|set|flag|check|tick|change|put|make)( off)?( the status of)? (.+) (as|to|to be|as being)"
	    "( a)? " DONE "( task)?$", 4, 0 },
	{ CMD_COMPLETE, "^(mark|set|check|tick|cross|strike|get|make) (.+) (" DONE "|off)( my list| the list)?$", 2, 0 },
	{ CMD_COMPLETE, "^(mark|set)( as)? " DONE "[: ]+(.+)$", 4, 0 },
	{ CMD_COMPLETE, "^(complete|finish|(check|tick|cross|strike|mark) off|close|accomplish|resolve)[: ]+(.+)$", 3, 0 },
	{ CMD_COMPLETE, "^((i'm|i am|we're|we are) )?(all )?(done|finished) with[: ]+(.+)$", 5, 0 },
	{ CMD_COMPLETE, "^((i've|i have|i|we|we've|we have) )?(just |already )?(completed|finished|accomplished|did)[: ]+(.+)$",
	    5, 0 },
	{ CMD_COMPLETE, "^done[: ]+(.+)$", 1, 0 },

	{ CMD_DELETE, "^(delete|remove|erase)(( a| the| my)? task)?$", 0, 0 },
	{ CMD_DELETE, "^(delete|remove|erase|drop|get rid of|throw away|discard|trash|cancel (the )?task|clear)[: ]+"
	    "(.+)$", 3, 0 },

	{ CMD_ADD, "^(add|create|make|insert|write|put)( me)?(( a| an| another| one| one more| the| this| my)"
	    "( new| second| third| next| following)?| new)? " TASK "\\>(.*)$", 8, 0 },
	{ CMD_ADD, "^new " TASK "\\>(.*)$", 3, 0 },
	{ CMD_NONE, "^(remember|note) (that|my|me|i|it|this)\\>.*$", 0, 0 },
	{ CMD_ADD, "^(remember|remind me|don't forget|do not forget|don't let me forget|note|note down|write down|jot down)"
	    "( that i (need|have|want))?( to)?[: ]+(.+)$", 5, 0 },
	{ CMD_ADD, "^" TASK " *: *(.+)$", 3, 0 },
	{ CMD_ADD, "^(add|create)[: ]+(.+)$", 2, 0 },
	{ CMD_ADD, "^(add|create|new)$", 0, 0 },

	{ CMD_COMPLETE, "^(.+) (is|are|was|were|has been) (now |already |all )?" DONE "( now| already)?$", 1, 0 },
};
const size_t grammar_nrules = sizeof grammar_rules / sizeof grammar_rules[0];

struct grammar {
	regex_t	 re[PAT_RULES + sizeof grammar_rules / sizeof grammar_rules[0]];
	int	 n;		/* compiled */
};

static int	 pattern_compile(regex_t *, const char *);

struct grammar *
grammar_open(void)
{
	struct grammar	*g = calloc(1, sizeof *g);
	const char	*p;

	if (g == NULL)
		abort();
	for (; g->n < PAT_RULES + (int)grammar_nrules; g->n++) {
		p = g->n < PAT_RULES ? patterns[g->n] : grammar_rules[g->n - PAT_RULES].pattern;
		if (pattern_compile(&g->re[g->n], p) != 0) {
			grammar_close(&g);
			return NULL;
		}
	}
	return g;
}

void
grammar_close(struct grammar **gp)
{
	if (*gp == NULL)
		return;
	while ((*gp)->n > 0)
		regfree(&(*gp)->re[--(*gp)->n]);
	free(*gp);
	*gp = NULL;
}

static int
pattern_compile(regex_t *re, const char *pattern)
{
	struct buf	 b = { 0 };
	int		 status;

	for (; *pattern != '\0'; pattern++)
		if (*pattern == '\'')
			buf_str(&b, "['’]*");
		else
			buf_char(&b, *pattern);
	status = regcomp(re, buf_text(&b), REG_EXTENDED | REG_ICASE);
	buf_free(&b);
	return status;
}

bool
grammar_match(const struct grammar *g, int pattern, const char *text, struct span *spans)
{
	regmatch_t	 m[PATTERN_GROUPS];

	if (regexec(&g->re[pattern], text, PATTERN_GROUPS, m, 0) != 0)
		return false;
	for (int i = 0; spans != NULL && i < PATTERN_GROUPS; i++)
		spans[i] = (struct span){ (int)m[i].rm_so, (int)m[i].rm_eo };
	return true;
}

char *
span_text(struct arena *a, const char *text, struct span s)
{
	return s.from < 0 ? arena_strdup(a, "") : arena_memdup(a, text + s.from, (size_t)(s.to - s.from));
}
