#include "demo/social.h"

#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "demo/run.h"
#include "demo/words.h"

#define ABILITIES "add task: Buy groceries - milk and bread\n" \
	"show my tasks, show pending tasks, what's done?\n" \
	"complete buy groceries, mark the first one done\n" \
	"rename buy groceries to Buy food\n" \
	"delete buy food"

/* "Friday, 2026-11-20 11:00 (Europe/Berlin)" in the instructions. */
struct social {
	regex_t	 date;
};

static void	 time_say(struct run *, const struct social *);
static bool	 date_find(const struct social *, struct run *, const char *, const char **);
static const char *name_told(struct run *);
static void	 tasks_abilities(struct run *);

struct social *
social_open(void)
{
	struct social	*s = calloc(1, sizeof *s);

	if (s == NULL)
		abort();
	if (regcomp(&s->date, "((Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day,? +)?[0-9]{4}-[0-9]{2}-[0-9]{2}"
	    "([ T,]+[0-9]{2}:[0-9]{2}(:[0-9]{2})?)?( *\\([^()]*\\)| +[A-Z][A-Za-z_+-]*(/[A-Za-z_]+)*|Z)?",
	    REG_EXTENDED) != 0) {
		free(s);
		return NULL;
	}
	return s;
}

void
social_close(struct social **sp)
{
	if (*sp == NULL)
		return;
	regfree(&(*sp)->date);
	free(*sp);
	*sp = NULL;
}

void
social_run(struct run *r, const struct social *s, const struct command *c)
{
	const char	*name;

	switch (c->kind) {
	case CMD_HELLO:
		name = name_told(r);
		run_say(r, "Hello%s%s! I'm Parley's offline demo model. I can add, show, complete, rename and "
		    "delete tasks; try \"add task: Buy groceries\".", name == NULL ? "" : ", ",
		    name == NULL ? "" : name);
		break;
	case CMD_NAME:
		run_say(r, "Nice to meet you, %s!", c->what);
		break;
	case CMD_ASK_NAME:
		if ((name = name_told(r)) != NULL)
			run_say(r, "Your name is %s.", name);
		else
			run_say(r, "You haven't told me your name in this conversation.");
		break;
	case CMD_TIME:
		time_say(r, s);
		break;
	case CMD_THANKS:
		run_say(r, "You're welcome!");
		break;
	case CMD_BYE:
		run_say(r, "Goodbye! Your tasks are kept.");
		break;
	case CMD_REOPEN:
		run_say(r, "I can't reopen a task: none of my tools does that. "
		    "You can add it again with \"add task: …\".");
		break;
	case CMD_UNCLEAR:
		run_say(r, "These two don't go together. Which one do you want for \"%s\"? "
		    "Please tell me one of them.", words_line(r->arena, c->what));
		break;
	default:
		run_say(r, "I'm Parley's offline demo model: no real language model is configured, "
		    "so I understand commands about tasks and little else.");
		tasks_abilities(r);
	}
}

void
social_lost(struct run *r, const struct social *s)
{
	(void)s;
	run_say(r, "I'm Parley's offline demo model, not a real language model, "
	    "and I didn't understand that.");
	tasks_abilities(r);
}

static void
tasks_abilities(struct run *r)
{
	if (talk_has_tool(r->talk, "add_task") || talk_has_tool(r->talk, "list_tasks"))
		run_say(r, "You can say, for example:\n" ABILITIES);
	else
		run_say(r, "I have no tools in this conversation, so I can only remember your name "
		    "and tell the date.");
}

/* The program is told the date, it does not look at a clock: the user's zone is not its own. */
static void
time_say(struct run *r, const struct social *s)
{
	const char	*date = NULL, *role;

	for (int i = 0; i < talk_count(r->talk); i++) {
		role = talk_role(r->talk, i);
		if (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0)
			(void)date_find(s, r, talk_text(r->talk, i), &date);
	}
	if (date != NULL)
		run_say(r, "It is %s.", date);
	else
		run_say(r, "I'm not told the date and time in this conversation.");
}

/* The last one in the text: examples stand before it. */
static bool
date_find(const struct social *s, struct run *r, const char *text, const char **date)
{
	regmatch_t	 m[1];
	bool		 found = false;

	while (regexec(&s->date, text, 1, m, 0) == 0) {
		*date = arena_memdup(r->arena, text + m[0].rm_so, (size_t)(m[0].rm_eo - m[0].rm_so));
		text += m[0].rm_eo;
		found = true;
	}
	return found;
}

/* From the newest message that tells it. */
static const char *
name_told(struct run *r)
{
	struct plan	 plan;

	for (int i = r->talk->at; i >= 0; i--) {
		if (strcmp(talk_role(r->talk, i), "user") != 0)
			continue;
		plan_read(r->grammar, r->arena, talk_text(r->talk, i), &plan);
		for (int k = plan.n - 1; k >= 0; k--)
			if (plan.v[k].kind == CMD_NAME)
				return plan.v[k].what;
	}
	return NULL;
}
