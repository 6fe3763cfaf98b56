/*
 * tasks -- a list of tasks as list_tasks gave it: reading, searching, showing.
 *
 * A result may have been cut off on its way to the model (it is bounded); what is whole of
 * it is used, and `cut` says so.  Everything belongs to the arena.
 */
#ifndef PARLEY_DEMO_TASKS_H
#define PARLEY_DEMO_TASKS_H

#include <stdbool.h>
#include <stdint.h>

#include <json-c/json_object.h>

struct arena;
struct buf;

struct task {
	int64_t		 id;
	const char	*title;		/* one line */
	const char	*description;	/* one line, "" */
	bool		 done;
};

struct tasks {
	struct task	*v;
	int		 n;
	bool		 cut;
};

void	 tasks_read(struct tasks *, struct arena *, const char *text, json_object *json);
struct task *tasks_by_id(const struct tasks *, int64_t id);

/*
 * Those whose title is the text, else those that contain it, else those with
 * all its words; any case.  pending_first: of several equals the one that is not done.
 */
void	 tasks_match(const struct tasks *, struct arena *, const char *text, bool pending_first, struct tasks *found);

/* "Buy milk (done): 2 litres" */
void	 task_show(struct buf *, const struct task *, bool with_id);
/* One a line, bulleted or numbered. */
void	 tasks_show(struct buf *, const struct tasks *, bool numbered, bool with_ids);

/*
 * The title on the nth line (from 1, -1: the last) of a list shown in a text;
 * NULL: there is no such line.  *same counts equal lines before it.
 */
const char *shown_line(struct arena *, const char *text, int nth, int *same);
int	 shown_count(const char *text);
/* The task that such a line showed, the skip-th of equals; it may have been done since. */
struct task *tasks_by_line(const struct tasks *, struct arena *, const char *line, int skip);

#endif
