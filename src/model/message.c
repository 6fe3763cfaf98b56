#include "model/message.h"

#include <stddef.h>
#include <string.h>

struct call *
message_call(const struct message *m, int nth)
{
	for (int asked = 0; asked < 2; asked++)
		for (int i = 0; i < m->ncalls; i++)
			if ((m->calls[i].approval != NULL) == asked && nth-- == 0)
				return &m->calls[i];
	return NULL;
}

int
message_after(const struct message *v, int n, int index)
{
	index++;
	for (int i = 0; i < n; i++)
		if (v[i].index == index && v[i].role == ROLE_USER)
			index++;
	return index;
}

bool
call_waits(const struct call *c)
{
	return c->result == NULL && c->approval != NULL && strcmp(c->approval, "approved") != 0;
}
