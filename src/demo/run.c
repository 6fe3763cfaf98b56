#include "demo/run.h"

#include <stdarg.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "demo/answer.h"
#include "demo/words.h"

void
run_say(struct run *r, const char *fmt, ...)
{
	va_list	 ap;

	if (r->out->n > 0)
		buf_char(r->out, '\n');
	va_start(ap, fmt);
	buf_str(r->out, arena_vprintf(r->arena, fmt, ap));
	va_end(ap);
}

enum went
run_call(struct run *r, const char *tool, const char *arguments, struct result *result)
{
	*result = (struct result){ .text = "" };
	if (!talk_has_tool(r->talk, tool)) {
		run_say(r, "I can't do that here: I have no tool for it (it would be called %s).", tool);
		return WENT_STOP;
	}
	if (talk_call(r->talk, tool, arguments, result) == 0) {
		r->began = true;
		return WENT_ON;
	}
	/* Between two commands the user hears how far it is. */
	if (!r->began && r->out->n > 0)
		r->talk->answer->text = buf_text(r->out);
	return WENT_CALL;
}

enum went
run_list(struct run *r)
{
	struct result	 result;
	enum went	 went;

	if (r->listed)
		return WENT_ON;
	went = run_call(r, "list_tasks", "{\"status\":\"all\"}", &result);
	if (went != WENT_ON)
		return went;
	if (result.error != NULL) {
		explain(r, "look at your tasks", &result);
		return WENT_STOP;
	}
	tasks_read(&r->tasks, r->arena, result.text, result.json);
	r->listed = true;
	return WENT_ON;
}

void
explain(struct run *r, const char *doing, const struct result *result)
{
	const char	*e = words_fold(r->arena, result->error == NULL ? "" : result->error);

	if (strstr(e, "255") != NULL)
		run_say(r, "I couldn't %s: a title can have at most 255 characters. "
		    "Please give me a shorter one.", doing);
	else if (strstr(e, "description") != NULL)
		run_say(r, "I couldn't %s: a description can have at most 5,000 characters. "
		    "Please shorten it.", doing);
	else if (strstr(e, "title") != NULL)
		run_say(r, "I couldn't %s: a task needs a title. Please tell me one.", doing);
	else if (strstr(e, "no task") != NULL || strstr(e, "not found") != NULL)
		run_say(r, "I couldn't %s: there is no such task any more. "
		    "Say \"show my tasks\" to see what there is.", doing);
	else if (strstr(e, "denied") != NULL)
		run_say(r, "I couldn't %s: I may only touch your own tasks.", doing);
	else if (strstr(e, "nothing to") != NULL)
		run_say(r, "I couldn't %s: there is nothing to change. "
		    "Tell me the new title or description.", doing);
	else if (strstr(e, "unknown") != NULL)
		run_say(r, "I tried to %s, but I don't know whether it worked. "
		    "Say \"show my tasks\" to see how things stand.", doing);
	else if (strstr(e, "time") != NULL || strstr(e, "took") != NULL)
		run_say(r, "I couldn't %s: it took too long. Please try again in a moment.", doing);
	else
		run_say(r, "I couldn't %s: something went wrong with the task list. "
		    "Please try again in a moment.", doing);
}
